//! The trapped devices: accesses to their registers in any order and width, most of them such that
//! something comes of it. They have no memory of the guest's, and no threads: what they may do wrong is to
//! panic, to ask more of the host than there is, to say what they must not, and to be of no use afterwards.

mod ata;
mod clocks;
mod ioapic;
mod ne2000;

pub use ata::{Ata, OUTCOMES as ATA_OUTCOMES};
pub use clocks::{Clocks, OUTCOMES as CLOCKS_OUTCOMES};
pub use ioapic::{Apic, OUTCOMES as IOAPIC_OUTCOMES};
pub use ne2000::{Card, OUTCOMES as NE2000_OUTCOMES};

use std::fmt::{self, Display, Formatter};

use fastrand::Rng;

use crate::random::Choose;

/// The most steps of a case.
const STEPS: u32 = 200;

/// One thing that is done to a device. A case is a list of them, made before any is done.
enum Step {
    /// A read of so many bytes.
    Read { at: u64, len: usize },
    /// A write.
    Write { at: u64, bytes: Vec<u8> },
    /// Something that comes from elsewhere, with two numbers.
    Event {
        what: &'static str,
        first: u64,
        second: u64,
    },
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Step::Read { at, len } => write!(f, "{at:#x}: {len} bytes are read"),
            Step::Write { at, bytes } if bytes.len() > 16 => {
                write!(f, "{at:#x} <- {} bytes", bytes.len())
            }
            Step::Write { at, bytes } => write!(f, "{at:#x} <- {bytes:02x?}"),
            Step::Event {
                what,
                first,
                second,
            } => write!(f, "{what} {first:#x} {second:#x}"),
        }
    }
}

/// A write of one byte.
fn byte(at: u64, value: u8) -> Step {
    let bytes = vec![value];
    Step::Write { at, bytes }
}

/// A few bytes.
fn bytes(rng: &mut Rng, widths: &[usize]) -> Vec<u8> {
    let len = rng.one_of(widths);
    (0..len).map(|_| rng.u8(..)).collect()
}

/// The steps of a case.
fn steps(rng: &mut Rng, mut add: impl FnMut(&mut Rng, &mut Vec<Step>)) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..1 + rng.u32(..STEPS) {
        add(rng, &mut steps);
    }
    steps
}

/// Steps in words.
fn show(steps: &[Step]) -> String {
    let lines: Vec<String> = steps.iter().map(Step::to_string).collect();
    lines.join("\n")
}
