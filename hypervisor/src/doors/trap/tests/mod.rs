//! Each instruction by its bytes (of GNU as) on the processor of `machine::cpu`'s tests.
#![allow(unused_must_use, reason = "there is no real processor to follow")]

mod bus;
mod classes;
mod port;
mod property;
mod sites;
mod system;
mod transfer;

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::{Stop, emulate};
use crate::machine::cpu::tests::guest::Guest;
use crate::machine::cpu::{Changes, Effect, Exception};
use bus::Bus;

/// A guest and what its ports lead to.
struct Run {
    guest: Guest,
    bus: Bus,
}

impl Run {
    fn new(guest: Guest) -> Self {
        Self {
            guest,
            bus: Bus::default(),
        }
    }

    fn kernel() -> Self {
        Self::new(Guest::new())
    }

    fn user() -> Self {
        Self::new(Guest::user())
    }

    fn decode(&self, bytes: &[u8]) -> Instruction {
        let bits = if self.guest.cpu.is_64_bit() { 64 } else { 32 };
        Decoder::with_ip(bits, bytes, self.guest.regs.rip, DecoderOptions::NONE).decode()
    }

    /// Emulate what the bytes are.
    fn step(&mut self, bytes: &[u8]) -> Result<Effect, Stop> {
        let instruction = self.decode(bytes);
        let Guest { cpu, regs, memory } = &mut self.guest;
        emulate(&instruction, cpu, regs, memory, &mut self.bus, &cpuid)
    }

    /// Emulate, and see that RIP is behind the instruction.
    fn next(&mut self, bytes: &[u8]) -> Effect {
        let next = self.guest.regs.rip + bytes.len() as u64;
        let effect = self.step(bytes).unwrap();
        assert_eq!(self.guest.regs.rip, next, "{bytes:02x?}");
        effect
    }

    /// Emulate, and see that nothing but the exception came of it.
    fn refused(&mut self, bytes: &[u8]) -> Exception {
        let before = self.guest.clone();
        let answer = self.step(bytes);
        assert_eq!(
            (&self.guest.cpu, &self.guest.regs),
            (&before.cpu, &before.regs)
        );
        match answer {
            Err(Stop::Exception(exception)) => exception,
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }

    fn set(&mut self, number: usize, value: u64) {
        self.guest.regs.general[number] = value;
    }

    fn get(&self, number: usize) -> u64 {
        self.guest.regs.general[number]
    }
}

/// A processor whose leaves say their own names.
fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    [leaf, subleaf, 0x1111_1111, 0x2222_2222]
}

const NONE: Effect = Effect::NONE;

fn changed(changes: Changes) -> Effect {
    changes.into()
}
