//! The trapped devices: accesses to their registers in any order and width, most of them such that
//! something comes of it. They have no memory of the guest's, and no threads: what they may do wrong is to
//! panic, to ask more of the host than there is, to say what they must not, and to be of no use afterwards.

mod ata;
mod ioapic;
mod ne2000;

pub use ata::{Ata, OUTCOMES as ATA_OUTCOMES};
pub use ioapic::{Apic, OUTCOMES as IOAPIC_OUTCOMES};
pub use ne2000::{Card, OUTCOMES as NE2000_OUTCOMES};

use fastrand::Rng;

use crate::random::Choose;

/// The most steps of a case.
const STEPS: u32 = 200;

/// A few bytes.
fn bytes(rng: &mut Rng, widths: &[usize]) -> Vec<u8> {
    let len = rng.one_of(widths);
    (0..len).map(|_| rng.u8(..)).collect()
}
