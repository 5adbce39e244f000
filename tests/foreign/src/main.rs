//! A small kernel that was not shaped for Paravane: what it does, any x86-64 hypervisor must bear.
//!
//! It has its own GDT, IDT, TSS and page tables, processes in ring 3 with an address space each,
//! system calls by SYSCALL and by `int 0x80`, and preemption by the local APIC's timer. It writes
//! all that it sees of the processor to the UART, a fact or an event a line, and nothing that a run
//! could change. `tests/tests/foreign.rs` compares these lines between modes. Of Paravane it knows
//! the entry (`hypercall_abi::boot`), the UART and the port that switches the machine off.
//!
//! In walking order: `x86` (the instructions), `cell`, `console`, `segments` (GDT, TSS), `frame`,
//! `trap` (IDT, entries), `own_events`, `apic`, `memory` (frames), `paging`, `checks` (facts at
//! CPL 0), `programs`, `process`, `scheduler`, `syscall`.
//!
//! A word `skip=NAME,NAME` of the command line leaves out checks and programs, where a platform is
//! known not to be able to do them. The word `lines` at its start has the kernel try the I/O APIC
//! (`lines`) instead of everything else, and the word `queues` the queue of a virtio disk (`queues`).
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate runtime as _;

#[allow(unsafe_code)]
mod apic;
#[allow(unsafe_code)]
mod cell;
#[allow(unsafe_code)]
mod checks;
mod console;
mod frame;
#[allow(unsafe_code)]
mod lines;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod own_events;
#[allow(unsafe_code)]
mod paging;
mod process;
#[allow(unsafe_code)]
mod programs;
#[allow(unsafe_code)]
#[path = "../../guests/src/queues.rs"]
mod queues;
mod scheduler;
#[allow(unsafe_code)]
mod segments;
mod syscall;
#[allow(unsafe_code)]
mod trap;
#[allow(unsafe_code)]
mod x86;

use core::panic::PanicInfo;

use hypercall_abi::boot::{BootInfo, ElfNote, ImageKind};
use hypercall_abi::layout::POWER_PORT;

/// The status of a kernel whose checks did not all hold.
const FAILED: u8 = 1;
/// The status of a kernel that panicked.
const PANICKED: u8 = 2;

/// What this image expects of its hypervisor.
#[used]
#[allow(unsafe_code)]
#[unsafe(link_section = ".note.paravane")]
static NOTE: ElfNote = ElfNote::new(ImageKind::Native, 0);

/// Called by `entry.S`, on the boot stack and the hypervisor's page tables, interrupts off.
extern "C" fn start(boot: *const BootInfo) -> ! {
    console::init();
    let boot = memory::boot_information(boot);
    if boot.check().is_err() {
        panic!("the hypervisor handed over no boot information of this version");
    }
    memory::init(&boot);
    paging::init(&boot);
    let skipped = Skipped(memory::command_line(&boot));
    segments::init();
    trap::init();
    apic::init(boot.apic_timer_hz);
    if memory::command_line(&boot).starts_with("lines") {
        lines::run();
        finish();
    }
    if memory::command_line(&boot).starts_with("queues") {
        hostile_queues(&boot);
        finish();
    }
    checks::run(skipped);
    scheduler::run(skipped)
}

/// Drive the first device's queue badly, in memory above the frames that anybody has taken.
fn hostile_queues(boot: &BootInfo) {
    const MEMORY: u64 = 10 << 20;
    let rights = paging::WRITE | paging::NO_EXECUTE | paging::UNCACHED;
    paging::kernel().map(paging::SCRATCH, hypercall_abi::layout::DEVICES_PHYS, rights);
    x86::invalidate(paging::SCRATCH);
    queues::run(queues::Place {
        registers: paging::SCRATCH,
        memory: paging::DIRECT_MAP + MEMORY,
        phys: MEMORY,
        end: boot.memory[0].end(),
    });
}

/// The names of the checks and programs to leave out.
#[derive(Clone, Copy)]
pub struct Skipped(&'static str);

impl Skipped {
    /// Whether to leave this one out.
    pub fn has(self, name: &str) -> bool {
        self.0
            .split(' ')
            .filter_map(|word| word.strip_prefix("skip="))
            .flat_map(|names| names.split(','))
            .any(|skipped| skipped == name)
    }
}

/// Switch the machine off: with status 0 when every check held.
pub fn finish() -> ! {
    let failures = checks::failures();
    println!("end {failures} checks failed");
    power_off(if failures == 0 { 0 } else { FAILED })
}

fn power_off(status: u8) -> ! {
    loop {
        x86::out32(POWER_PORT, u32::from(status));
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    x86::cli();
    println!("panic {info}");
    power_off(PANICKED)
}
