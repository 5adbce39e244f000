//! The report of an exception that nobody expected, and the end that follows. Called by `trap`, on
//! a stack of its own.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::arch::frame::TrapFrame;
use crate::arch::{Place, backtrace, frame_pointer};
use crate::trap::PAGE_FAULT;
use crate::{console, hooks, mm, power, println, sched, status};

/// The vector of the double fault.
const DOUBLE_FAULT: u64 = 8;

/// How many reports have begun.
static REPORTS: AtomicU8 = AtomicU8::new(0);

/// Begin a report: the console takes no locks from here on. A report about a report is cut short,
/// and a third one ends at once, with `status`.
pub(crate) fn begin(status: u8) {
    hooks::irq_disable();
    console::enter_report();
    match REPORTS.fetch_add(1, Ordering::Relaxed) {
        0 => {}
        1 => {
            println!("\nkernel: the report itself failed");
            power::off(status);
        }
        _ => hooks::power_off(status),
    }
}

/// Report an exception, and power off.
pub extern "sysv64" fn report(frame: &TrapFrame) -> ! {
    // Read first: a page fault within the report would change it.
    let address = hooks::fault_address();
    begin(status::FAULT);
    println!("\nkernel fault: {}", Cause { frame, address });
    print_place();
    print_registers(frame);
    println!("backtrace:");
    println!("  at {}", Place(frame.rip));
    backtrace(frame.rbp, |at| println!("  at {}", Place(at)));
    power::off(status::FAULT)
}

/// Say which thread of which image it was.
pub(crate) fn print_place() {
    let (thread, image) = (sched::current(), hooks::image_name());
    let name = sched::current_name().unwrap_or("name unknown");
    println!("  in {thread} ({name}) of the {image} image");
}

/// Print the callers of this function.
#[inline(always)]
pub(crate) fn print_backtrace() {
    println!("backtrace:");
    backtrace(frame_pointer(), |at| println!("  at {}", Place(at)));
}

fn print_registers(frame: &TrapFrame) {
    let f = frame;
    let rows = [
        [("rax", f.rax), ("rbx", f.rbx), ("rcx", f.rcx)],
        [("rdx", f.rdx), ("rsi", f.rsi), ("rdi", f.rdi)],
        [("rbp", f.rbp), ("rsp", f.rsp), ("rip", f.rip)],
        [("r8 ", f.r8), ("r9 ", f.r9), ("r10", f.r10)],
        [("r11", f.r11), ("r12", f.r12), ("r13", f.r13)],
        [("r14", f.r14), ("r15", f.r15), ("flg", f.rflags)],
    ];
    for [(a, a_is), (b, b_is), (c, c_is)] in rows {
        println!("  {a} {a_is:016x}  {b} {b_is:016x}  {c} {c_is:016x}");
    }
    println!(
        "  cs {:#x}  ss {:#x}  error code {:#x}",
        f.cs, f.ss, f.error
    );
}

/// What happened, in words.
struct Cause<'a> {
    frame: &'a TrapFrame,
    address: u64,
}

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vector, rip) = (self.frame.vector, self.frame.rip);
        let is_page_fault = vector == u64::from(PAGE_FAULT);
        write!(f, "{} at {rip:#018x}", Name(vector))?;
        if is_page_fault {
            let (tried, why) = page_fault(self.frame.error);
            write!(f, "\n  {tried} {:#018x}: {why}", self.address)?;
        }
        // Where the frame of a page fault finds no stack either, it becomes a double fault; the
        // first fault's address remains.
        let is_double = vector == DOUBLE_FAULT;
        if (is_page_fault || is_double) && mm::stacks::is_guard(self.address) {
            f.write_str("\n  the stack of the thread is full")?;
        }
        Ok(())
    }
}

/// The exceptions' names (SDM vol. 3, table 6-1).
const NAMES: [(&str, &str); 22] = [
    ("divide error", "#DE"),
    ("debug exception", "#DB"),
    ("non-maskable interrupt", "NMI"),
    ("breakpoint", "#BP"),
    ("overflow", "#OF"),
    ("bound range exceeded", "#BR"),
    ("invalid opcode", "#UD"),
    ("device not available", "#NM"),
    ("double fault", "#DF"),
    ("coprocessor segment overrun", "vector 9"),
    ("invalid TSS", "#TS"),
    ("segment not present", "#NP"),
    ("stack-segment fault", "#SS"),
    ("general protection fault", "#GP"),
    ("page fault", "#PF"),
    ("reserved exception", "vector 15"),
    ("x87 floating-point error", "#MF"),
    ("alignment check", "#AC"),
    ("machine check", "#MC"),
    ("SIMD floating-point exception", "#XM"),
    ("virtualization exception", "#VE"),
    ("control protection exception", "#CP"),
];

/// A vector's name.
struct Name(u64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = usize::try_from(self.0).ok().and_then(|at| NAMES.get(at));
        match known {
            Some((name, short)) => write!(f, "{name} ({short})"),
            None => write!(f, "unknown event {}", self.0),
        }
    }
}

/// What a page fault's error code says (SDM vol. 3, 4.7): what was tried, and why it failed.
fn page_fault(error: u64) -> (&'static str, &'static str) {
    let has = |bit: u32| error & (1 << bit) != 0;
    let tried = match (has(4), has(1)) {
        (true, _) => "executing",
        (_, true) => "writing",
        _ => "reading",
    };
    let why = match (has(3), has(0)) {
        (true, _) => "a page-table entry has a reserved bit set",
        (_, true) => "the page forbids it",
        _ => "nothing is mapped there",
    };
    (tried, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn cause(vector: u64, error: u64, address: u64) -> std::string::String {
        let frame = TrapFrame {
            vector,
            error,
            rip: 0xffff_ffff_8020_1000,
            ..TrapFrame::default()
        };
        let frame = &frame;
        format!("{}", Cause { frame, address })
    }

    #[test]
    fn a_page_fault_says_what_was_tried_and_where() {
        let expected = "page fault (#PF) at 0xffffffff80201000\n  \
            reading 0x0000000000000008: nothing is mapped there";
        assert_eq!(cause(14, 0, 8), expected);
        assert!(cause(14, 0b11, 8).contains("writing 0x0000000000000008: the page forbids it"));
        assert!(cause(14, 0b1_0001, 8).contains("executing 0x0000000000000008"));
        for vector in [8, 14] {
            let full = "stack of the thread is full";
            assert!(cause(vector, 2, mm::STACKS + 8).contains(full));
        }
    }

    #[test]
    fn every_event_has_a_name() {
        assert_eq!(cause(0, 0, 0), "divide error (#DE) at 0xffffffff80201000");
        assert_eq!(NAMES[21].1, "#CP");
        assert!(cause(64, 0, 0).starts_with("unknown event 64"));
        assert!(cause(u64::MAX, 0, 0).starts_with("unknown event"));
    }
}
