//! What is measured: a row each. The host's half (bench/src/micro/rows.rs) says what each is compared
//! with, and bench/CLAIMS.md what follows from it.

use core::hint::black_box;

use hypercall_abi::{Vector, layout};

use super::Missing;
use super::meter::Meter;
use crate::arch::raise;
use crate::hooks::{self, NullCall};
use crate::mm::{self, Access};
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
        "page_remap",
        "a page mapped elsewhere, flushed and touched",
        page_remap,
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
