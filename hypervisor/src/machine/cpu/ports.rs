//! Who may touch a port: IOPL and the I/O map of the TSS (SDM vol. 1, 19.5).

use super::{Cpu, Exception, Linear, Refusal, Registers};

/// Offset in the task-state segment: where its I/O map is.
const MAP_BASE: u64 = 0x66;

impl Cpu {
    /// Check an access of `width` bytes.
    ///
    /// # Errors
    /// #GP(0) above IOPL where the I/O map does not permit every byte; faults of reading the map.
    pub fn check_port(
        &self,
        regs: &Registers,
        memory: &mut dyn Linear,
        port: u16,
        width: u8,
    ) -> Result<(), Refusal> {
        if self.cpl <= regs.iopl() {
            return Ok(());
        }
        let limit = u64::from(self.tr.limit);
        let refused = Exception::protection(0);
        if !self.tr.is_usable() || MAP_BASE + 1 > limit {
            return Err(refused.into());
        }
        let map = self.tss_half(memory, MAP_BASE)?;
        // The processor reads two bytes, so that an access may straddle one's end.
        let offset = u64::from(map) + u64::from(port / 8);
        if offset + 1 > limit {
            return Err(refused.into());
        }
        let mask = (1_u16 << width) - 1;
        if self.tss_half(memory, offset)? >> (port % 8) & mask != 0 {
            return Err(refused.into());
        }
        Ok(())
    }

    fn tss_half(&self, memory: &mut dyn Linear, offset: u64) -> Result<u16, Refusal> {
        let mut bytes = [0; 2];
        let at = self.tr.base.wrapping_add(offset);
        memory.read(self, at, &mut bytes, false)?;
        Ok(u16::from_le_bytes(bytes))
    }
}
