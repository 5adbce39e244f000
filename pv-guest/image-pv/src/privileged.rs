//! What this image does in place of a privileged instruction, for the benchmark. Called by the hooks.

use core::hint::black_box;

use pv_guest::hooks::{self, Privileged};
use pv_guest::mm;

/// The value that it writes, or 0; `None` where no hook is in its place.
pub fn operand(which: Privileged) -> Option<u64> {
    match which {
        Privileged::Cli
        | Privileged::Sti
        | Privileged::CliSti
        | Privileged::PushFlags
        | Privileged::ReadCr2 => Some(0),
        Privileged::WriteCr3 => Some(mm::root()),
        _ => None,
    }
}

/// Call the hook.
pub fn execute(which: Privileged, operand: u64, turns: u64) {
    match which {
        Privileged::Cli => repeat(turns, hooks::irq_disable),
        Privileged::Sti => repeat(turns, hooks::irq_enable),
        Privileged::CliSti => repeat(turns, || {
            hooks::irq_disable();
            hooks::irq_enable();
        }),
        Privileged::PushFlags => repeat(turns, || {
            black_box(hooks::irq_is_enabled());
        }),
        Privileged::ReadCr2 => repeat(turns, || {
            black_box(hooks::fault_address());
        }),
        Privileged::WriteCr3 => repeat(turns, || hooks::load_root(operand)),
        // `operand` has none for the others.
        _ => {}
    }
}

/// As often in a turn as [`Privileged::per_turn`] says, without a loop.
#[inline(always)]
fn repeat(turns: u64, once: impl Fn()) {
    let four = || {
        once();
        once();
        once();
        once();
    };
    for _ in 0..turns {
        four();
        four();
        four();
        four();
    }
}
