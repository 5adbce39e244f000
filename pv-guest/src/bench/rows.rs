//! What is measured: a row each. The host's half (bench/src/micro/rows.rs) says what each is compared
//! with, and bench/CLAIMS.md what follows from it.

use core::hint::black_box;

use hypercall_abi::types::PAGE_SIZE;
use hypercall_abi::{Frame, Vector, layout};

use super::Missing;
use super::meter::Meter;
use crate::arch::raise;
use crate::hooks::{self, NullCall, Privileged};
use crate::mm::{self, Access, Entry};
use crate::time::{self, MICROSECOND, MILLISECOND};
use crate::trap::{self, Resume};
use crate::{boot, irq};

/// A row.
pub struct Row {
    /// Its name, the same on both sides.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// Whether it writes to the console.
    pub prints: bool,
    /// Take the samples.
    pub measure: fn(&mut Meter) -> Result<(), Missing>,
}

/// Every row, in the order of a report.
pub const ALL: &[Row] = &[
    row("empty_loop", "a turn of an empty loop", empty_loop),
    row(
        "clock_read",
        "the kernel's clock, in nanoseconds",
        clock_read,
    ),
    row("irq_off_on", "interrupts off, and on again", irq_off_on),
    row(
        "load_root",
        "another page-table root, of two in turn",
        load_root,
    ),
    row(
        "invalidate_page",
        "forget one page's translation",
        invalidate_page,
    ),
    row(
        "null_monitor",
        "a tier-1 call that does nothing",
        null_monitor,
    ),
    row(
        "null_machine",
        "a tier-2 call that does nothing",
        null_machine,
    ),
    row(
        "null_batch",
        "one of 64 batched calls that do nothing",
        null_batch,
    ),
    printing("console_byte", "a byte for the console", console_byte),
    printing("console_64", "64 bytes for the console", console_64),
    printing(
        "console_line",
        "64 bytes that end a line, sent on at once",
        console_line,
    ),
    row("divide_error", "#DE, handled and skipped", divide_error),
    row("breakpoint", "#BP, handled", breakpoint),
    row(
        "general_protection",
        "#GP, handled and skipped",
        general_protection,
    ),
    row(
        "page_remap",
        "a page mapped elsewhere, flushed and touched",
        page_remap,
    ),
    row(
        "table_write",
        "an entry of a page table stored, invalidated, touched",
        table_write,
    ),
    row(
        "hidden_fault",
        "a mapped page touched for the first time",
        hidden_fault,
    ),
    row("timer_arm", "the one-shot timer armed", timer_arm),
    row(
        "timer_interrupt",
        "from the deadline, out of a spin, to the kernel",
        timer_interrupt,
    ),
    row(
        "idle_wake",
        "from the deadline, out of idle, to the kernel",
        idle_wake,
    ),
    row("cli", "CLI, and a NOP", |meter| {
        privileged(meter, Privileged::Cli)
    }),
    row("sti", "STI, interrupts being on, and a NOP", |meter| {
        privileged(meter, Privileged::Sti)
    }),
    row("cli_sti", "CLI and STI, and a NOP behind each", |meter| {
        privileged(meter, Privileged::CliSti)
    }),
    row("pushf", "PUSHF, and a NOP", |meter| {
        privileged(meter, Privileged::PushFlags)
    }),
    row("popf", "POPF, and a NOP", |meter| {
        privileged(meter, Privileged::PopFlags)
    }),
    row("cr0_read", "MOV from CR0", |meter| {
        privileged(meter, Privileged::ReadCr0)
    }),
    row("cr0_write", "MOV to CR0, the same value", |meter| {
        privileged(meter, Privileged::WriteCr0)
    }),
    row("cr2_read", "MOV from CR2", |meter| {
        privileged(meter, Privileged::ReadCr2)
    }),
    row("cr3_read", "MOV from CR3", |meter| {
        privileged(meter, Privileged::ReadCr3)
    }),
    row("cr3_write", "MOV to CR3, the same root", |meter| {
        privileged(meter, Privileged::WriteCr3)
    }),
    row("cr4_read", "MOV from CR4", |meter| {
        privileged(meter, Privileged::ReadCr4)
    }),
    row("cr4_write", "MOV to CR4, the same value", |meter| {
        privileged(meter, Privileged::WriteCr4)
    }),
    row("cr8_read", "MOV from CR8", |meter| {
        privileged(meter, Privileged::ReadCr8)
    }),
    row("cr8_write", "MOV to CR8, the same value", |meter| {
        privileged(meter, Privileged::WriteCr8)
    }),
    row("dr_read", "MOV from DR7", |meter| {
        privileged(meter, Privileged::ReadDr7)
    }),
    row("dr_write", "MOV to DR7, the same value", |meter| {
        privileged(meter, Privileged::WriteDr7)
    }),
    row("lgdt", "LGDT, the same table", |meter| {
        privileged(meter, Privileged::LoadGdt)
    }),
    row("lidt", "LIDT, the same table", |meter| {
        privileged(meter, Privileged::LoadIdt)
    }),
    row("lldt", "LLDT, of no table", |meter| {
        privileged(meter, Privileged::LoadLdt)
    }),
    row("ltr", "LTR, and a store that makes it available", |meter| {
        privileged(meter, Privileged::LoadTask)
    }),
    row("clts", "CLTS", |meter| {
        privileged(meter, Privileged::ClearTaskSwitched)
    }),
    row("rdmsr", "RDMSR of KERNEL_GS_BASE", |meter| {
        privileged(meter, Privileged::ReadMsr)
    }),
    row("wrmsr", "WRMSR of KERNEL_GS_BASE", |meter| {
        privileged(meter, Privileged::WriteMsr)
    }),
    row("swapgs", "SWAPGS twice", |meter| {
        privileged(meter, Privileged::SwapGsTwice)
    }),
    row("cpuid", "CPUID of leaf 0", |meter| {
        privileged(meter, Privileged::Cpuid)
    }),
    row("port_in", "IN from the UART's line status", |meter| {
        privileged(meter, Privileged::PortIn)
    }),
    row("port_out", "OUT to the UART's scratch register", |meter| {
        privileged(meter, Privileged::PortOut)
    }),
    row("wbinvd", "WBINVD", |meter| {
        privileged(meter, Privileged::WriteBack)
    }),
    row("segment_read", "MOV from DS", |meter| {
        privileged(meter, Privileged::ReadSegment)
    }),
    row("iretq", "IRETQ to the next instruction", |meter| {
        privileged(meter, Privileged::Iret)
    }),
];

const fn row(
    name: &'static str,
    about: &'static str,
    measure: fn(&mut Meter) -> Result<(), Missing>,
) -> Row {
    Row {
        name,
        about,
        prints: false,
        measure,
    }
}

const fn printing(
    name: &'static str,
    about: &'static str,
    measure: fn(&mut Meter) -> Result<(), Missing>,
) -> Row {
    Row {
        name,
        about,
        prints: true,
        measure,
    }
}

/// What a turn of an unrolled loop repeats: where the kernel's own instructions are interpreted,
/// the loop's would weigh as much as what is measured. The floor does the same.
const UNROLLED: u64 = 16;

macro_rules! unrolled {
    ($body:expr) => {
        unrolled!(@4 unrolled!(@4 $body))
    };
    (@4 $body:expr) => {{
        $body;
        $body;
        $body;
        $body;
    }};
}

fn empty_loop(meter: &mut Meter) -> Result<(), Missing> {
    meter.turns(1, &mut |turns| {
        for _ in 0..turns {
            black_box(());
        }
    });
    Ok(())
}

fn clock_read(meter: &mut Meter) -> Result<(), Missing> {
    meter.turns(1, &mut |turns| {
        for _ in 0..turns {
            black_box(time::now_ns());
        }
    });
    Ok(())
}

fn irq_off_on(meter: &mut Meter) -> Result<(), Missing> {
    meter.turns(UNROLLED, &mut |turns| {
        for _ in 0..turns {
            unrolled!({
                hooks::irq_disable();
                hooks::irq_enable();
            });
        }
    });
    Ok(())
}

fn load_root(meter: &mut Meter) -> Result<(), Missing> {
    let other = mm::Root::new().map_err(|_| Missing::Failed("no frame for a second root"))?;
    let (one, two) = (mm::root(), other.phys());
    meter.turns(2 * UNROLLED, &mut |turns| {
        for _ in 0..turns {
            unrolled!({
                hooks::load_root(two);
                hooks::load_root(one);
            });
        }
    });
    Ok(())
}

fn invalidate_page(meter: &mut Meter) -> Result<(), Missing> {
    meter.turns(UNROLLED, &mut |turns| {
        for _ in 0..turns {
            unrolled!(hooks::invalidate_page(mm::SCRATCH));
        }
    });
    Ok(())
}

fn null_monitor(meter: &mut Meter) -> Result<(), Missing> {
    null_call(meter, 1, || hooks::null_call(NullCall::Monitor))
}

fn null_machine(meter: &mut Meter) -> Result<(), Missing> {
    null_call(meter, 1, || hooks::null_call(NullCall::Machine))
}

fn null_batch(meter: &mut Meter) -> Result<(), Missing> {
    null_call(meter, 64, || hooks::null_call(NullCall::Batch64))
}

#[inline(always)]
fn null_call(meter: &mut Meter, operations: u64, call: impl Fn() -> bool) -> Result<(), Missing> {
    if !call() {
        return Err(Missing::Absent);
    }
    let mut is_answered = true;
    meter.turns(operations, &mut |turns| {
        for _ in 0..turns {
            is_answered &= call();
        }
    });
    match is_answered {
        true => Ok(()),
        false => Err(Missing::Failed("a call was refused")),
    }
}

/// What is printed: nothing that a terminal shows much of.
const BYTES: [u8; 64] = [b'.'; 64];
const LINE: [u8; 64] = {
    let mut line = BYTES;
    line[63] = b'\n';
    line
};

fn console_byte(meter: &mut Meter) -> Result<(), Missing> {
    console(meter, UNROLLED, || unrolled!(hooks::console_write(b".")))
}

fn console_64(meter: &mut Meter) -> Result<(), Missing> {
    console(meter, 1, || hooks::console_write(&BYTES))
}

fn console_line(meter: &mut Meter) -> Result<(), Missing> {
    console(meter, 1, || hooks::console_write(&LINE))
}

/// All that a sample wrote is on its way when the sample ends.
#[inline(always)]
fn console(meter: &mut Meter, operations: u64, write: impl Fn()) -> Result<(), Missing> {
    meter.turns(operations, &mut |turns| {
        for _ in 0..turns {
            write();
        }
        hooks::console_flush();
    });
    hooks::console_write(b"\n");
    Ok(())
}

fn divide_error(meter: &mut Meter) -> Result<(), Missing> {
    const VECTOR: u8 = 0;
    let expected = trap::expect(VECTOR, Resume::Skip(raise::DIVIDE_LENGTH));
    let expected = expected.ok_or(Missing::Failed("another exception is expected"))?;
    let mut wanted = 0;
    meter.turns(1, &mut |turns| {
        wanted += turns;
        for _ in 0..turns {
            raise::divide_error();
        }
    });
    arrived(expected.count() == wanted)
}

fn breakpoint(meter: &mut Meter) -> Result<(), Missing> {
    let before = trap::breakpoints();
    let mut wanted = 0;
    meter.turns(1, &mut |turns| {
        wanted += turns;
        for _ in 0..turns {
            raise::breakpoint();
        }
    });
    arrived(trap::breakpoints().wrapping_sub(before) == wanted)
}

fn general_protection(meter: &mut Meter) -> Result<(), Missing> {
    const VECTOR: u8 = 13;
    let expected = trap::expect(VECTOR, Resume::Skip(raise::READ_LENGTH));
    let expected = expected.ok_or(Missing::Failed("another exception is expected"))?;
    let mut wanted = 0;
    meter.turns(1, &mut |turns| {
        wanted += turns;
        for _ in 0..turns {
            raise::read(raise::NOT_CANONICAL);
        }
    });
    arrived(expected.count() == wanted)
}

fn arrived(all: bool) -> Result<(), Missing> {
    match all {
        true => Ok(()),
        false => Err(Missing::Failed("not every exception arrived")),
    }
}

fn page_remap(meter: &mut Meter) -> Result<(), Missing> {
    let no_frame = Missing::Failed("no frame is left");
    let one = mm::frames::take_zeroed().ok_or(no_frame)?;
    let Some(two) = mm::frames::take_zeroed() else {
        mm::frames::put(one);
        return Err(no_frame);
    };
    let at = mm::SCRATCH;
    let mut is_mapped = mm::map(at, one, Access::Write).is_ok();
    meter.turns(2, &mut |turns| {
        for _ in 0..turns {
            for frame in [two, one] {
                mm::unmap(at);
                is_mapped &= mm::map(at, frame, Access::Write).is_ok();
                if is_mapped {
                    raise::read(at);
                }
            }
        }
    });
    mm::unmap(at);
    mm::frames::put(one);
    mm::frames::put(two);
    match is_mapped {
        true => Ok(()),
        false => Err(Missing::Failed("the page could not be mapped")),
    }
}

/// Pages in the benchmark's part of the address space, all of one frame; unmapped when this is dropped. They lie
/// apart: where the processor walks other tables than the kernel's, a fault may fill those around as well.
struct Pages {
    frame: Frame,
    count: u64,
}

impl Pages {
    fn map(count: u64) -> Result<Self, Missing> {
        let frame = mm::frames::take_zeroed().ok_or(Missing::Failed("no frame is left"))?;
        let pages = Self { frame, count };
        let map = |at| mm::map(at, frame, Access::Write).is_ok();
        match pages.addresses().all(map) {
            true => Ok(pages),
            false => Err(Missing::Failed("a page could not be mapped")),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.count).map(|index| mm::SCRATCH + index * APART)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for at in self.addresses() {
            mm::unmap(at);
        }
        mm::frames::put(self.frame);
    }
}

/// Bytes from a page to the next: 8 of them use one page table.
const APART: u64 = 64 * PAGE_SIZE;
const NO_ENTRY: Missing = Missing::Failed("a page has no entry");

fn table_write(meter: &mut Meter) -> Result<(), Missing> {
    let pages = Pages::map(1)?;
    let entry = Entry::of(mm::SCRATCH).ok_or(NO_ENTRY)?;
    let other = mm::frames::take_zeroed().ok_or(Missing::Failed("no frame is left"))?;
    meter.turns(2, &mut |turns| {
        for _ in 0..turns {
            for frame in [other, pages.frame] {
                entry.point_to(frame);
                hooks::invalidate_page(mm::SCRATCH);
                raise::read(mm::SCRATCH);
            }
        }
    });
    mm::frames::put(other);
    Ok(())
}

/// How many pages `hidden_fault` touches behind one load of the root.
const TOUCHED: u64 = 64;

/// An access that the kernel's tables allow, and that is the first ever: no entry says that it was accessed, so nobody
/// fills it ahead. Where the processor walks other tables than the kernel's, those have nothing there yet.
fn hidden_fault(meter: &mut Meter) -> Result<(), Missing> {
    let pages = Pages::map(TOUCHED)?;
    let mut entries = [const { None }; TOUCHED as usize];
    for (entry, at) in entries.iter_mut().zip(pages.addresses()) {
        *entry = Some(Entry::of(at).ok_or(NO_ENTRY)?);
    }
    let set_present = |is_present| {
        for entry in entries.iter().flatten() {
            entry.set_present(is_present);
        }
    };
    let root = mm::root();
    meter.turns(TOUCHED, &mut |turns| {
        for _ in 0..turns {
            set_present(false);
            hooks::load_root(root);
            // What was not present is in no cache, so nothing is to be invalidated (SDM vol. 3, 4.10.4.3).
            set_present(true);
            for at in pages.addresses() {
                raise::read(at);
            }
        }
    });
    Ok(())
}

/// An instruction alone, or the hook in its place.
fn privileged(meter: &mut Meter, which: Privileged) -> Result<(), Missing> {
    let operand = hooks::privileged_operand(which).ok_or(Missing::Absent)?;
    meter.turns(which.per_turn(), &mut |turns| {
        hooks::privileged(which, operand, turns);
    });
    Ok(())
}

/// How far ahead `timer_interrupt` sets its deadline: as the floor does, bench/src/floor/rows.rs.
const SPIN_DELAY_NS: u32 = 100 * MICROSECOND as u32;
/// How far ahead `idle_wake` sets its deadline: as the floor does.
const IDLE_DELAY_NS: u32 = MILLISECOND as u32;
/// How long a deadline may be overdue before it counts as lost.
const LOST_NS: u64 = 2_000 * MILLISECOND;
/// Too far ahead to fire while it is measured how long arming takes.
const NEVER_NS: u32 = u32::MAX;

fn timer_arm(meter: &mut Meter) -> Result<(), Missing> {
    meter.turns(1, &mut |turns| {
        for _ in 0..turns {
            hooks::arm_timer(NEVER_NS);
        }
    });
    settle()
}

/// The scheduler believes the timer to be as it left it. An interrupt makes that good: it arms
/// anew whatever it needs.
fn settle() -> Result<(), Missing> {
    match after_deadline(MICROSECOND as u32, || ()) {
        Some(_) => Ok(()),
        None => Err(Missing::Failed("the timer did not fire")),
    }
}

fn timer_interrupt(meter: &mut Meter) -> Result<(), Missing> {
    meter.moments(&mut || after_deadline(SPIN_DELAY_NS, || ()))
}

fn idle_wake(meter: &mut Meter) -> Result<(), Missing> {
    meter.moments(&mut || {
        let _held = crate::sync::hold_interrupts();
        after_deadline(IDLE_DELAY_NS, hooks::idle)
    })
}

/// Arm the timer, wait for its interrupt, and say how many ticks after the deadline it reached the
/// kernel. `wait` is called until it was handled.
#[inline(always)]
fn after_deadline(delay_ns: u32, wait: impl Fn()) -> Option<u64> {
    let timer = Vector::new(layout::TIMER_VECTOR)?;
    let khz = boot::info()?.tsc_khz;
    let delay = u64::from(delay_ns).saturating_mul(khz) / MILLISECOND;
    let lost = delay.saturating_add(LOST_NS.saturating_mul(khz) / MILLISECOND);
    let before = irq::count(timer);
    let start = hooks::ticks();
    hooks::arm_timer(delay_ns);
    loop {
        wait();
        if irq::count(timer) != before {
            let took = irq::arrived_at().wrapping_sub(start);
            return Some(took.saturating_sub(delay).max(1));
        }
        if hooks::ticks().wrapping_sub(start) > lost {
            return None;
        }
    }
}
