//! Decoded instructions by their address. Called for each trap, so a hit must cost little.

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};

use crate::machine::cpu::{Cpu, Exception, Linear, Refusal};

/// Most bytes of an instruction (SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;
const PAGE: u64 = 4096;
/// Sites that are remembered; a kernel has a few hundred that trap.
const SLOTS: usize = 1024;

/// One decoded instruction, and the bytes that it was decoded from.
#[derive(Clone, Copy, Debug)]
struct Site {
    rip: u64,
    is_64_bit: bool,
    len: u8,
    bytes: [u8; LONGEST],
    instruction: Instruction,
}

/// The sites that trapped lately. Each use compares the bytes, so the guest may change its code.
#[derive(Debug)]
pub struct Sites {
    slots: Box<[Option<Box<Site>>]>,
}

impl Default for Sites {
    fn default() -> Self {
        Self::new()
    }
}

impl Sites {
    /// No site is known.
    pub fn new() -> Self {
        let slots = std::iter::repeat_with(|| None).take(SLOTS).collect();
        Self { slots }
    }

    /// The instruction at `rip` in the guest's code segment. Bytes that are no instruction give an
    /// invalid one, which [`super::emulate`] turns into #UD.
    ///
    /// # Errors
    /// Of fetching the bytes; #GP(0) for an instruction longer than 15 bytes.
    pub fn decode(
        &mut self,
        cpu: &Cpu,
        memory: &mut dyn Linear,
        rip: u64,
    ) -> Result<&Instruction, Refusal> {
        let is_64_bit = cpu.is_64_bit();
        let at = if is_64_bit {
            rip
        } else {
            cpu.cs.base.wrapping_add(rip) & 0xffff_ffff
        };
        let number = slot_of(rip);
        let Some(slot) = self.slots.get_mut(number) else {
            return Err(Refusal::Unsupported("an instruction without a slot"));
        };
        let known = match slot {
            Some(site) if site.rip == rip && site.is_64_bit == is_64_bit && site.len > 0 => {
                let mut bytes = [0; LONGEST];
                let len = usize::from(site.len);
                let now = bytes.get_mut(..len).unwrap_or_default();
                memory.fetch(cpu, at, now, cpu.is_user())?;
                site.bytes.get(..len) == Some(&*now)
            }
            _ => false,
        };
        if !known {
            let site = fetch(cpu, memory, rip, at)?;
            *slot = Some(Box::new(site));
        }
        let missing = Refusal::Unsupported("an instruction without a slot");
        slot.as_ref().map(|site| &site.instruction).ok_or(missing)
    }
}

/// A site's slot: neighbours in code get slots of their own.
fn slot_of(rip: u64) -> usize {
    let mixed = rip ^ rip >> 10 ^ rip >> 20;
    mixed as usize % SLOTS
}

/// Fetch and decode; the next page is touched only if the instruction reaches into it.
fn fetch(cpu: &Cpu, memory: &mut dyn Linear, rip: u64, at: u64) -> Result<Site, Refusal> {
    let is_64_bit = cpu.is_64_bit();
    let mut bytes = [0; LONGEST];
    let in_page = (PAGE - at % PAGE).min(LONGEST as u64) as usize;
    let (first, second) = bytes.split_at_mut(in_page);
    memory.fetch(cpu, at, first, cpu.is_user())?;
    let mut decoded = decode(first, is_64_bit, rip);
    if decoded.1 == DecoderError::NoMoreBytes && !second.is_empty() {
        let next = at.wrapping_add(in_page as u64);
        memory.fetch(cpu, next, second, cpu.is_user())?;
        decoded = decode(&bytes, is_64_bit, rip);
    }
    let (instruction, error) = decoded;
    // What takes all 15 bytes and is none would have gone on.
    let is_too_long = instruction.is_invalid() && instruction.len() == LONGEST;
    if error == DecoderError::NoMoreBytes || is_too_long {
        return Err(Exception::protection(0).into());
    }
    Ok(Site {
        rip,
        is_64_bit,
        len: if instruction.is_invalid() {
            0
        } else {
            instruction.len() as u8
        },
        bytes,
        instruction,
    })
}

fn decode(bytes: &[u8], is_64_bit: bool, rip: u64) -> (Instruction, DecoderError) {
    let bits = if is_64_bit { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (instruction, decoder.last_error())
}
