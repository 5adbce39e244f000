//! One case after the other.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::fmt::Write;

use case_runner::{Case, SIZE, place, values};
use hypercall_abi::boot::{BootInfo, Range};

use crate::console::Line;
use crate::state::{self, State};
use crate::{machine, memory, x86};

/// The status of a kernel in which an event came out of turn.
const OUT_OF_TURN: u8 = 3;
/// RFLAGS.RF: manuals leave it open in part, and QEMU does not set it.
const RF: u64 = 1 << 16;
/// Names of the general registers by number.
const GENERAL: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// What is known of the case that runs.
struct Running {
    cases: Range,
    number: u64,
    /// The start: general registers, flags, all others.
    registers: [u64; 16],
    frame: [u64; 5],
    state: Option<State>,
}

struct OneCpu(UnsafeCell<Running>);
// SAFETY: there is one processor and no event comes while the kernel itself runs: interrupts are off,
// and an exception is found by `state`, which `ended` takes before it does anything else.
unsafe impl Sync for OneCpu {}

static RUNNING: OneCpu = OneCpu(UnsafeCell::new(Running {
    cases: Range { start: 0, len: 0 },
    number: 0,
    registers: [0; 16],
    frame: [0; 5],
    state: None,
}));

unsafe extern "C" {
    static saved: [u64; 16];
}

/// Run the first case that the command line names, and with its end the others.
pub fn first(boot: &BootInfo) -> ! {
    // SAFETY: see `OneCpu`.
    let running = unsafe { &mut *RUNNING.0.get() };
    running.cases = boot.initrd;
    let line = memory::bytes(boot.command_line);
    running.number = line.iter().fold(0, |number, digit| {
        number * 10 + u64::from(digit.wrapping_sub(b'0'))
    });
    enter(running)
}

/// Called by entry.S, on the kernel's own stack, with what the stack of the event has.
pub extern "C" fn ended(frame: *const u64) -> ! {
    // SAFETY: see `OneCpu`.
    let running = unsafe { &mut *RUNNING.0.get() };
    // SAFETY: the entry has pushed the vector upon the processor's frame of at least five words.
    let word = |number: usize| unsafe { frame.add(number).read_volatile() };
    // On the stack that is for events alone, its height tells whether there is an error code.
    let has_error = frame as u64 == place::EVENTS_END - 7 * 8;
    let (vector, behind) = (word(0) & 0xff, usize::from(has_error));
    let Some(before) = running.state.take() else {
        let rip = word(1 + behind);
        crate::console::line(format_args!("event {vector:x} out of turn at {rip:x}"));
        crate::power_off(OUT_OF_TURN);
    };
    // Before anything else faults or is changed.
    let now = State::read();
    let mut line = Line::new();
    let _ = write!(line, "{} #{vector:x}", running.number);
    if has_error {
        let _ = write!(line, " error={:x}", word(1));
    }
    for (number, name) in GENERAL.into_iter().enumerate() {
        let after = match number {
            4 => word(4 + behind),
            // SAFETY: entry.S has just filled it, and nothing else writes it.
            _ => unsafe { (&raw const saved[number]).read_volatile() },
        };
        state::write_change(&mut line, name, running.registers[number], after);
    }
    let [_, cs, flags, _, ss] = running.frame;
    let rip = word(1 + behind);
    let _ = write!(line, " rip={rip:x}");
    state::write_change(&mut line, "cs", cs, word(2 + behind));
    state::write_change(&mut line, "rflags", flags & !RF, word(3 + behind) & !RF);
    state::write_change(&mut line, "ss", ss, word(5 + behind));
    now.write_changes(&before, &mut line);
    state::write_memory(&mut line);
    let _ = writeln!(line);
    line.send();
    running.number += 1;
    enter(running)
}

/// The case whose turn it is.
fn case_of(running: &Running) -> Option<Case> {
    let cases = memory::bytes(running.cases);
    let at = usize::try_from(running.number).ok()?.checked_mul(SIZE)?;
    Case::from_bytes(cases.get(at..at + SIZE)?)
}

/// Set the state of the case whose turn it is, and enter it.
fn enter(running: &mut Running) -> ! {
    let Some(case) = case_of(running) else {
        crate::console::line(format_args!("end {}", running.number));
        crate::power_off(0);
    };
    fill(&case);
    machine::restore(case.level);
    let [ss, ds, es, fs, gs] = case.selectors;
    x86::set_ds(ds.into());
    x86::set_es(es.into());
    x86::set_fs(fs.into());
    x86::set_gs(gs.into());
    machine::reset_msrs();
    running.registers = case.registers.map(values::value);
    running.registers[4] = place::RSP;
    let cs = match case.level {
        3 => place::USER_CODE,
        _ => place::KERNEL_CODE,
    };
    running.frame = [
        place::CODE,
        cs.into(),
        case.rflags.into(),
        place::RSP,
        ss.into(),
    ];
    running.state = Some(State::read());
    // SAFETY: both arrays are static; the code and its selectors are there.
    unsafe {
        asm!("jmp enter_case", in("rdi") &running.registers, in("rsi") &running.frame,
            options(noreturn))
    }
}

/// Write the case's instructions and stack into what its pages start with.
fn fill(case: &Case) {
    let code = machine::start_of(place::CODE);
    let mut bytes = [0xcc; case_runner::MAX_CODE];
    let instructions = case.instructions();
    bytes[..instructions.len()].copy_from_slice(instructions);
    for (at, word) in (code..).step_by(8).zip(bytes.chunks_exact(8)) {
        let mut whole = [0; 8];
        whole.copy_from_slice(word);
        memory::write(at, u64::from_le_bytes(whole));
    }
    let stack = machine::start_of(place::STACK) + (place::RSP - place::STACK);
    for (at, index) in (stack..).step_by(8).zip(case.stack) {
        memory::write(at, values::value(index));
    }
}
