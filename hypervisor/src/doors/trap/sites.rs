//! Decoded instructions by their address. Called for each trap, so a hit must cost little.

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};

use crate::machine::cpu::{Cpu, Exception, Linear, Refusal};

/// Most bytes of an instruction (SDM vol. 2, 2.3.11).
const LONGEST: usize = 15;
const PAGE: u64 = 4096;
/// Sites that are remembered; a kernel has a few hundred that trap.
const SLOTS: usize = 1024;

/// One decoded instruction, and the bytes that it was decoded from: what a use that need not compare them reads is in
/// one line of the processor's cache, for after an exit little is there.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Site {
    rip: u64,
    /// As long as the code is as old as this, the bytes cannot have changed.
    sure_at: u64,
    instruction: Instruction,
    is_64_bit: bool,
    len: u8,
    bytes: [u8; LONGEST],
}

/// The sites that trapped lately. A use compares the bytes, so the guest may change its code; or whoever calls knows
/// that it did not ([`Sites::hold`]).
#[derive(Debug)]
pub struct Sites {
    /// Where in `known` each slot's site is, counted from one.
    slots: Box<[u16; SLOTS]>,
    /// As few pages as can be: each is one more to be found after an exit.
    known: Vec<Site>,
}

impl Default for Sites {
    fn default() -> Self {
        Self::new()
    }
}

impl Sites {
    /// No site is known.
    pub fn new() -> Self {
        Self {
            slots: Box::new([0; SLOTS]),
            known: Vec::new(),
        }
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
    ) -> Result<Instruction, Refusal> {
        let is_64_bit = cpu.is_64_bit();
        let at = if is_64_bit {
            rip
        } else {
            cpu.cs.base.wrapping_add(rip) & 0xffff_ffff
        };
        if let Some(site) = self.of(rip)
            && site.is_64_bit == is_64_bit
            && site.len > 0
        {
            let mut bytes = [0; LONGEST];
            let len = usize::from(site.len);
            let now = bytes.get_mut(..len).unwrap_or_default();
            memory.fetch(cpu, at, now, cpu.is_user())?;
            if site.bytes.get(..len) == Some(&*now) {
                return Ok(site.instruction);
            }
        }
        let site = fetch(cpu, memory, rip, at)?;
        self.put(site);
        Ok(site.instruction)
    }

    /// The instruction at `rip` in 64-bit mode, if it was held for code that is as old.
    pub fn held(&self, rip: u64, age: u64) -> Option<Instruction> {
        let site = self.of(rip)?;
        (site.sure_at == age).then_some(site.instruction)
    }

    /// The instruction that was decoded last at `rip` stays the same as long as the code is as old as this, and is
    /// executed in 64-bit mode. `age` is not 0.
    pub fn hold(&mut self, rip: u64, age: u64) {
        let number = self.number_of(rip);
        if let Some(site) = number.and_then(|number| self.known.get_mut(number))
            && site.rip == rip
            && site.is_64_bit
            && site.len > 0
        {
            site.sure_at = age;
        }
    }

    fn of(&self, rip: u64) -> Option<&Site> {
        let site = self.known.get(self.number_of(rip)?)?;
        (site.rip == rip).then_some(site)
    }

    /// Which site has the slot of an address.
    fn number_of(&self, rip: u64) -> Option<usize> {
        let number = self.slots.get(slot_of(rip))?;
        usize::from(*number).checked_sub(1)
    }

    /// Remember a site, in place of the one that has its slot.
    fn put(&mut self, site: Site) {
        let number = self.number_of(site.rip);
        if let Some(known) = number.and_then(|number| self.known.get_mut(number)) {
            *known = site;
        } else if let Some(slot) = self.slots.get_mut(slot_of(site.rip)) {
            self.known.push(site);
            // There are no more of them than slots.
            *slot = self.known.len() as u16;
        }
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
        sure_at: 0,
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
