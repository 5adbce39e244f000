//! The guest's linear memory, as the verbs need it, and the addresses that lead there.

use super::{Cpu, Exception, Refusal, Registers, SegmentName, registers};

/// Linear memory, read and written through the guest's page tables.
///
/// `user` says whether the access has the rights of CPL 3. Accesses to descriptor tables and the
/// TSS have not, whatever the level (SDM vol. 3, 4.6.1). An implementation takes root, WP and NXE
/// from `cpu`, and sets accessed and dirty bits as the processor does.
///
/// Each method does the whole access or none of it: a fault in the second page leaves the first
/// as it was.
///
/// # Errors
/// Of every method: #PF with error code and address; #GP(0) where a byte's address is not
/// canonical; [`Refusal::Unsupported`] for memory that is a device.
pub trait Linear {
    /// Read bytes.
    fn read(&mut self, cpu: &Cpu, at: u64, into: &mut [u8], user: bool) -> Result<(), Refusal>;

    /// Write bytes.
    fn write(&mut self, cpu: &Cpu, at: u64, from: &[u8], user: bool) -> Result<(), Refusal>;

    /// Fail as [`Self::write`] would, and write nothing.
    fn check_write(&mut self, cpu: &Cpu, at: u64, len: usize, user: bool) -> Result<(), Refusal>;

    /// Read bytes to execute them.
    fn fetch(&mut self, cpu: &Cpu, at: u64, into: &mut [u8], user: bool) -> Result<(), Refusal>;
}

/// Whether an address is one of the 48-bit ones that four levels of tables translate.
pub fn is_canonical(at: u64) -> bool {
    ((at << 16) as i64 >> 16) as u64 == at
}

/// An address as an instruction's operand gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment that the instruction uses.
    pub segment: SegmentName,
    /// The effective address.
    pub offset: u64,
}

impl Cpu {
    /// Read an unsigned number of 1, 2, 4 or 8 bytes at an operand's address.
    ///
    /// # Errors
    /// #GP(0) or #SS(0) for the segment's sake, and those of [`Linear`].
    pub fn read(&self, memory: &mut dyn Linear, place: Place, len: usize) -> Result<u64, Refusal> {
        let mut bytes = [0; 8];
        if let Some(into) = bytes.get_mut(..len) {
            self.read_bytes(memory, place, into)?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// Read bytes at an operand's address.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_bytes(
        &self,
        memory: &mut dyn Linear,
        place: Place,
        into: &mut [u8],
    ) -> Result<(), Refusal> {
        let at = self.linear(place, into.len(), false)?;
        memory.read(self, at, into, self.is_user())
    }

    /// Write bytes at an operand's address.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn write_bytes(
        &self,
        memory: &mut dyn Linear,
        place: Place,
        from: &[u8],
    ) -> Result<(), Refusal> {
        let at = self.linear(place, from.len(), true)?;
        memory.write(self, at, from, self.is_user())
    }

    /// The linear address of `len` bytes (SDM vol. 3, 3.3.7 and 3.4.4; vol. 3, 5.3).
    ///
    /// # Errors
    /// #SS(0) for the stack segment and #GP(0) for the others: not canonical, outside the limit, or
    /// not permitted by the segment.
    pub fn linear(&self, place: Place, len: usize, write: bool) -> Result<u64, Exception> {
        let Place { segment, offset } = place;
        let vector = match segment {
            SegmentName::Ss => Exception::STACK,
            _ => Exception::PROTECTION,
        };
        let refused = Exception::with_error(vector, 0);
        let len = len as u64;
        let cached = self.segment(segment);
        if self.is_64_bit() {
            let base = match segment {
                SegmentName::Fs | SegmentName::Gs => cached.base,
                _ => 0,
            };
            let first = base.wrapping_add(offset);
            let last = first.wrapping_add(len.max(1) - 1);
            return if is_canonical(first) && is_canonical(last) {
                Ok(first)
            } else {
                Err(refused)
            };
        }
        let rights = cached.attributes;
        let permitted = if write {
            rights.is_writable()
        } else {
            rights.is_readable()
        };
        if !cached.is_usable() || !permitted || !cached.covers(offset, len) {
            return Err(refused);
        }
        Ok(cached.base.wrapping_add(offset) & 0xffff_ffff)
    }

    /// The word of `size` bytes that lies `above` bytes above the top of the stack.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn peek(
        &self,
        regs: &Registers,
        memory: &mut dyn Linear,
        above: u64,
        size: usize,
    ) -> Result<u64, Refusal> {
        let offset = self.stack_offset(regs.general[registers::RSP].wrapping_add(above));
        let segment = SegmentName::Ss;
        self.read(memory, Place { segment, offset }, size)
    }

    /// The first `N` words of `size` bytes on the stack, in one access.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn peek_words<const N: usize>(
        &self,
        regs: &Registers,
        memory: &mut dyn Linear,
        size: usize,
    ) -> Result<[u64; N], Refusal> {
        let offset = self.stack_offset(regs.general[registers::RSP]);
        let segment = SegmentName::Ss;
        let mut bytes = [0; 40];
        let frame = bytes.get_mut(..N * size).unwrap_or_default();
        self.read_bytes(memory, Place { segment, offset }, frame)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(frame.chunks_exact(size)) {
            let mut whole = [0; 8];
            for (to, from) in whole.iter_mut().zip(bytes) {
                *to = *from;
            }
            *word = u64::from_le_bytes(whole);
        }
        Ok(words)
    }

    /// Write below the top of the stack; answers where the stack pointer would be then.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn store_below(
        &self,
        regs: &Registers,
        memory: &mut dyn Linear,
        bytes: &[u8],
    ) -> Result<u64, Refusal> {
        let top = regs.general[registers::RSP].wrapping_sub(bytes.len() as u64);
        let offset = self.stack_offset(top);
        let segment = SegmentName::Ss;
        self.write_bytes(memory, Place { segment, offset }, bytes)?;
        Ok(offset)
    }

    /// Push a word of `size` bytes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn push(
        &self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        value: u64,
        size: usize,
    ) -> Result<(), Refusal> {
        let bytes = value.to_le_bytes();
        let bytes = bytes.get(..size).unwrap_or(&bytes);
        regs.general[registers::RSP] = self.store_below(regs, memory, bytes)?;
        Ok(())
    }

    /// A stack pointer as the stack segment's width has it.
    pub(super) fn stack_offset(&self, pointer: u64) -> u64 {
        if self.is_64_bit() {
            pointer
        } else if self.ss.attributes.is_32() {
            pointer & 0xffff_ffff
        } else {
            pointer & 0xffff
        }
    }
}
