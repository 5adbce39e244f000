//! The I/O APIC: registers, lines, and ends of interrupts.

use fastrand::Rng;
use hypervisor::legacy::{IoApic, Message};

use super::{STEPS, bytes};
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

impl Apic {
    fn step(rng: &mut Rng, apic: &mut IoApic, tally: &mut Tally) -> Result<(), String> {
        let pin = rng.usize(..30);
        match rng.u32(..8) {
            0..3 => {
                // An entry, mostly of an interrupt.
                let (vector, odd) = (rng.u32(0x10..0x60), rng.u32(..));
                let flags = rng.one_of(&[0, 0, LEVEL, LEVEL, MASKED, LEVEL | MASKED, 1 << 8, odd]);
                let half = rng.u32(..8).saturating_sub(6);
                apic.write(0, &(0x10 + 2 * pin as u32 + half).to_le_bytes());
                check(apic.write(0x10, &(vector | flags).to_le_bytes()))
            }
            3..6 => {
                let low = if pin < 24 { entry(apic, pin) } else { MASKED };
                let sent = apic.set_line(pin, rng.bool());
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
            6 => {
                let sent = apic.end(rng.u8(0x10..0x60));
                if !sent.is_empty() {
                    tally.reached("a level after its end");
                }
                check(sent)
            }
            _ => {
                let (small, any) = (rng.u64(..0x50), rng.u64(..));
                let offset = rng.one_of(&[0, 0x10, 0x40, small, any]);
                let mut some = bytes(rng, &[0, 1, 2, 4, 4, 4, 8]);
                match rng.bool() {
                    true => check(apic.write(offset, &some)),
                    false => {
                        apic.read(offset, &mut some);
                        check(apic.level_pins().map(|(_, message)| message))
                    }
                }
            }
        }
    }
}

impl Target for Apic {
    fn case(&mut self, mut rng: Rng, tally: &mut Tally) -> Result<(), String> {
        let mut apic = IoApic::default();
        for _ in 0..1 + rng.u32(..STEPS) {
            tally.operations += 1;
            Apic::step(&mut rng, &mut apic, tally)?;
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

    fn show(&mut self, _: Rng) -> String {
        "accesses to the registers of an I/O APIC, by the case's numbers".into()
    }
}
