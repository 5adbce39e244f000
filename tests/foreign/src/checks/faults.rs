//! Exceptions that the kernel itself raises.

use super::{check, check_fault};
use crate::own_events::attempt;
use crate::paging::{self, NO_EXECUTE, PRESENT, SCRATCH, USER, WRITE};
use crate::{memory, own_events, x86};

const TOPIC: &str = "fault";
/// An MSR that no processor has.
const NO_MSR: u32 = 0x4000_1234;
/// An address whose upper bits are no copies of bit 47.
const NOT_CANONICAL: u64 = 1 << 60;
/// An address in the kernel's image that is not writable.
const KERNEL_TEXT: u64 = hypercall_abi::layout::KERNEL_BASE + 0x10_0000;

pub fn run() {
    let caught =
        attempt!("div {zero:e}", zero = in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _);
    check_fault(TOPIC, "divide by zero", caught, 0, 0);
    check_fault(TOPIC, "ud2", attempt!("ud2"), 6, 0);
    pages();
    let caught = attempt!("mov {value}, [{at}]", value = out(reg) _, at = in(reg) NOT_CANONICAL);
    check_fault(TOPIC, "read of no canonical address", caught, 13, 0);
    let caught = attempt!("rdmsr", in("ecx") NO_MSR, out("eax") _, out("edx") _);
    check_fault(TOPIC, "rdmsr of no MSR", caught, 13, 0);
    let caught = attempt!("wrmsr", in("ecx") NO_MSR, in("eax") 0, in("edx") 0);
    check_fault(TOPIC, "wrmsr of no MSR", caught, 13, 0);
    let caught = attempt!("mov cr4, {value}", value = in(reg) x86::cr4() | 1 << 31);
    check_fault(TOPIC, "mov cr4 with a reserved bit", caught, 13, 0);
    let caught = attempt!("mov cr0, {value}", value = in(reg) x86::cr0() & !1);
    check_fault(
        TOPIC,
        "mov cr0 with paging and no protection",
        caught,
        13,
        0,
    );
    check("control", "cr0 after all", x86::cr0(), 0x8005_0033);
}

/// A page fault that cannot be delivered, as there is no stack: a double fault, whose stack is its own.
pub fn double() {
    // SDM vol. 3, 6.15: the saved address of a double fault is undefined.
    let caught = own_events::attempt_without_stack(SCRATCH).map(|caught| own_events::Caught {
        rip_offset: 0,
        ..caught
    });
    check_fault("double", "push without a stack", caught, 8, 0);
    let is_emergency = caught.is_some_and(|caught| caught.is_emergency);
    check("double", "on the emergency stack", is_emergency.into(), 1);
}

fn pages() {
    let caught = attempt!("mov {value}, [{at}]", value = out(reg) _, at = in(reg) 8u64);
    check_fault(TOPIC, "read near null", caught, 14, 0);
    let caught = attempt!("mov byte ptr [{at}], 0", at = in(reg) 16u64);
    check_fault(TOPIC, "write near null", caught, 14, 2);
    let caught = attempt!("mov byte ptr [{at}], 0", at = in(reg) KERNEL_TEXT);
    check_fault(TOPIC, "write to the kernel's code", caught, 14, 3);
    let frame = memory::take();
    paging::kernel().map(SCRATCH, frame, WRITE | NO_EXECUTE);
    // The saved RIP is the target, so the distance to it is checked, not 0.
    let caught = attempt!("jmp {at}", at = in(reg) SCRATCH).map(|caught| own_events::Caught {
        rip_offset: u64::from(caught.address != Some(SCRATCH)),
        ..caught
    });
    check_fault(TOPIC, "jump to data", caught, 14, 0x11);
    user_page(frame);
    memory::write(paging::kernel().leaf(SCRATCH), 0);
    x86::invalidate(SCRATCH);
    memory::give(frame);
}

/// Without SMAP the kernel may use a user's page.
fn user_page(frame: u64) {
    const AT: u64 = 0x40_0000;
    let space = paging::Space::new();
    space.map(AT, frame, USER | WRITE | PRESENT | NO_EXECUTE);
    space.load();
    let caught = attempt!("mov qword ptr [{at}], 7", at = in(reg) AT);
    check(
        TOPIC,
        "write to a user's page: exceptions",
        caught.is_some().into(),
        0,
    );
    check(TOPIC, "user's frame", memory::read(frame), 7);
    paging::kernel().load();
    let caught = attempt!("mov qword ptr [{at}], 8", at = in(reg) AT);
    check_fault(TOPIC, "the same in another space", caught, 14, 2);
    memory::write(space.leaf(AT), 0);
    space.give();
}
