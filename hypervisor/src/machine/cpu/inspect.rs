//! LAR, LSL, VERR and VERW: what a descriptor permits (SDM vol. 2, each; vol. 3, 5.10).

use super::segment::system;
use super::{Cpu, Linear, Refusal, Selector};

/// What is asked of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// LAR: the access rights.
    Rights,
    /// LSL: the limit, in bytes.
    Limit,
    /// VERR: may it be read?
    Read,
    /// VERW: may it be written?
    Write,
}

/// The bits of a descriptor's second word that LAR shows.
const SHOWN: u64 = 0x00f0_ff00;

impl Cpu {
    /// Ask about a selector. `Some` sets ZF; its number is LAR's or LSL's result, and 0 for VERR and
    /// VERW.
    ///
    /// # Errors
    /// Faults of the table's memory.
    pub fn inspect(
        &self,
        memory: &mut dyn Linear,
        inspection: Inspection,
        selector: Selector,
    ) -> Result<Option<u64>, Refusal> {
        let Some(found) = self.find_or(memory, selector)? else {
            return Ok(None);
        };
        let rights = found.attributes();
        let of_system = |kinds: &[u8]| kinds.contains(&rights.kind());
        let answers = match inspection {
            Inspection::Rights => {
                rights.is_memory()
                    || of_system(&[
                        system::LDT,
                        system::TSS,
                        system::BUSY_TSS,
                        system::CALL_GATE,
                    ])
            }
            Inspection::Limit => {
                rights.is_memory() || of_system(&[system::LDT, system::TSS, system::BUSY_TSS])
            }
            Inspection::Read => rights.is_readable(),
            Inspection::Write => rights.is_writable(),
        };
        let level = rights.dpl();
        let visible = rights.is_conforming() || (level >= self.cpl && level >= selector.rpl());
        if !answers || !visible {
            return Ok(None);
        }
        Ok(Some(match inspection {
            Inspection::Rights => found.descriptor.low >> 32 & SHOWN,
            Inspection::Limit => u64::from(found.descriptor.limit()),
            Inspection::Read | Inspection::Write => 0,
        }))
    }
}
