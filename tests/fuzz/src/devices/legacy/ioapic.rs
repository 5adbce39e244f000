//! The I/O APIC: registers, lines, and ends of interrupts.

use fastrand::Rng;
use hypervisor::legacy::{IoApic, Message};

use super::{Step, bytes, show, steps};
use crate::random::Choose;
use crate::tally::Tally;
use crate::target::Target;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &["an edge", "a level", "a level after its end"];

/// An I/O APIC.
pub struct Apic;

/// Bits of an entry.
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;

/// The low half of a pin's entry.
fn entry(apic: &mut IoApic, pin: usize) -> u32 {
    apic.write(0, &(0x10 + 2 * pin as u32).to_le_bytes());
    let mut low = [0; 4];
    apic.read(0x10, &mut low);
    u32::from_le_bytes(low)
}

/// What is sent has to be an interrupt's message (SDM vol. 3, 11.11).
fn check(messages: impl IntoIterator<Item = Message>) -> Result<(), String> {
    for Message { address, data } in messages {
        let is_address = address & 0xfff0_0003 == 0xfee0_0000;
        let is_data = data & !0xc7ff == 0 && data & 0xff >= 16 && matches!(data >> 8 & 7, 0 | 1);
        if !is_address || !is_data {
            return Err(format!("a message {address:#x}, {data:#x} is sent"));
        }
    }
    Ok(())
}

/// Events: a pin's line is raised or lowered; an interrupt of a vector ends.
const LINE: &str = "a line is set";
const END: &str = "an interrupt ends";

/// A write of a 32-bit register.
fn word(at: u64, value: u32) -> Step {
    Step::Write {
        at,
        bytes: value.to_le_bytes().into(),
    }
}

/// One step of a driver that may be wrong, of a device, or of a processor.
fn step(rng: &mut Rng, steps: &mut Vec<Step>) {
    let pin = rng.u32(..30);
    match rng.u32(..8) {
        0..3 => {
            // An entry, mostly of an interrupt.
            let (vector, odd) = (rng.u32(0x10..0x60), rng.u32(..));
            let flags = [0, 0, LEVEL, LEVEL, MASKED, LEVEL | MASKED, 1 << 8, odd];
            let half = rng.u32(..8).saturating_sub(6);
            steps.push(word(0, 0x10 + 2 * pin + half));
            steps.push(word(0x10, vector | rng.one_of(&flags)));
        }
        3..6 => steps.push(Step::Event {
            what: LINE,
            first: pin.into(),
            second: rng.u64(..2),
        }),
        6 => steps.push(Step::Event {
            what: END,
            first: rng.u64(0x10..0x60),
            second: 0,
        }),
        _ => {
            let (small, any) = (rng.u64(..0x50), rng.u64(..));
            let at = rng.one_of(&[0, 0x10, 0x40, small, any]);
            let bytes = bytes(rng, &[0, 1, 2, 4, 4, 4, 8]);
            steps.push(match rng.bool() {
                true => Step::Write { at, bytes },
                false => Step::Read {
                    at,
                    len: bytes.len(),
                },
            });
        }
    }
}

/// Do it, and check what is sent.
fn apply(apic: &mut IoApic, step: &Step, tally: &mut Tally) -> Result<(), String> {
    match step {
        Step::Write { at, bytes } => check(apic.write(*at, bytes)),
        Step::Read { at, len } => {
            apic.read(*at, &mut vec![0; *len]);
            check(apic.level_pins().map(|(_, message)| message))
        }
        Step::Event {
            what: END, first, ..
        } => {
            let sent = apic.end(*first as u8);
            if !sent.is_empty() {
                tally.reached("a level after its end");
            }
            check(sent)
        }
        Step::Event { first, second, .. } => {
            let pin = *first as usize;
            let low = if pin < 24 { entry(apic, pin) } else { MASKED };
            let sent = apic.set_line(pin, *second != 0);
            if sent.is_some() && low & MASKED != 0 {
                return Err(format!("pin {pin} is masked, and sends {sent:?}"));
            }
            if sent.is_some() {
                tally.reached(if low & LEVEL == 0 {
                    "an edge"
                } else {
                    "a level"
                });
            }
            check(sent)
        }
    }
}

impl Target for Apic {
    fn case(&mut self, mut rng: Rng, tally: &mut Tally) -> Result<(), String> {
        let mut apic = IoApic::default();
        for step in steps(&mut rng, step) {
            tally.operations += 1;
            apply(&mut apic, &step, tally)?;
        }
        // An edge of a pin that is set up afresh has to come through.
        apic.set_line(5, false);
        for (index, value) in [(0x1au32, MASKED), (0x1b, 3 << 24), (0x1a, 0x41u32)] {
            apic.write(0, &index.to_le_bytes());
            apic.write(0x10, &value.to_le_bytes());
        }
        let wanted = Message {
            address: 0xfee0_3000,
            data: 0x41,
        };
        match apic.set_line(5, true) {
            Some(sent) if sent == wanted => Ok(()),
            other => Err(format!("instead of {wanted:?}, pin 5 sends {other:?}")),
        }
    }

    fn show(&mut self, mut rng: Rng) -> String {
        show(&steps(&mut rng, step))
    }
}
