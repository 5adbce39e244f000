//! Debug registers (SDM vol. 3, 17.2).

use super::{Changes, Cpu, Effect, Exception, cr4};

/// DR6: bits that read as 1.
pub(super) const DR6_FIXED: u64 = 0xffff_0ff0;
/// DR6: bits that a program may write: B0 to B3, BD, BS, BT.
const DR6_WRITABLE: u64 = 0xe00f;
/// DR6.BD: a debug register was touched while DR7.GD was set.
const DETECTED: u64 = 1 << 13;
/// DR7: the bit that reads as 1.
pub(super) const DR7_FIXED: u64 = 1 << 10;
/// DR7: bits that a program may write. RTM, bit 11, does not exist here.
const DR7_WRITABLE: u64 = 0xffff_23ff;
/// DR7.GD.
const GENERAL_DETECT: u64 = 1 << 13;

impl Cpu {
    /// MOV from a debug register.
    ///
    /// # Errors
    /// #UD for DR4 and DR5 with CR4.DE, and above 7; #GP(0) above CPL 0; #DB, with BD set in DR6,
    /// while DR7.GD is set.
    pub fn read_debug(&mut self, number: u8) -> Result<u64, Exception> {
        let number = self.debug_number(number)?;
        Ok(match number {
            6 => self.dr6,
            7 => self.dr7,
            _ => self
                .breakpoints
                .get(usize::from(number))
                .copied()
                .unwrap_or(0),
        })
    }

    /// MOV to a debug register.
    ///
    /// # Errors
    /// As [`Self::read_debug`]; #GP(0) for the upper half of DR6 and DR7.
    pub fn write_debug(&mut self, number: u8, value: u64) -> Result<Effect, Exception> {
        let number = self.debug_number(number)?;
        if number >= 6 && value >> 32 != 0 {
            return Err(Exception::protection(0));
        }
        match number {
            6 => self.dr6 = value & DR6_WRITABLE | DR6_FIXED,
            7 => self.dr7 = value & DR7_WRITABLE | DR7_FIXED,
            _ => {
                if let Some(breakpoint) = self.breakpoints.get_mut(usize::from(number)) {
                    *breakpoint = value;
                }
            }
        }
        Ok(Changes::DEBUG.into())
    }

    /// The register that a number means, when it may be touched.
    fn debug_number(&mut self, number: u8) -> Result<u8, Exception> {
        let number = match number {
            0..=3 | 6 | 7 => number,
            4 | 5 if self.cr4 & cr4::DE == 0 => number + 2,
            _ => return Err(Exception::invalid_opcode()),
        };
        self.require_kernel()?;
        if self.dr7 & GENERAL_DETECT != 0 {
            self.dr6 |= DETECTED;
            return Err(Exception::plain(Exception::DEBUG));
        }
        Ok(number)
    }
}
