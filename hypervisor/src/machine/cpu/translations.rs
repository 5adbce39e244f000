//! INVLPG and INVPCID: translations are forgotten (SDM vol. 3, 4.10.4.1).

use super::{Changes, Cpu, Effect, Exception, Linear, Place, Refusal, is_canonical};

impl Cpu {
    /// INVLPG of an operand's address. One that is not canonical does nothing (SDM vol. 2).
    ///
    /// # Errors
    /// #GP(0) above CPL 0.
    pub fn invalidate_page(&self, place: Place) -> Result<Effect, Exception> {
        self.require_kernel()?;
        Ok(self
            .linear(place, 1, false)
            .map_or(Effect::NONE, Effect::page))
    }

    /// INVPCID with its descriptor's place. There are no process contexts but 0.
    ///
    /// # Errors
    /// #GP(0) above CPL 0, for an unknown type, for reserved bits, another context, or an address
    /// that is not canonical; faults of reading the descriptor.
    pub fn invalidate_context(
        &self,
        memory: &mut dyn Linear,
        kind: u64,
        place: Place,
    ) -> Result<Effect, Refusal> {
        self.require_kernel()?;
        let mut bytes = [0; 16];
        self.read_bytes(memory, place, &mut bytes)?;
        let descriptor = u128::from_le_bytes(bytes);
        let (context, at) = (descriptor as u64, (descriptor >> 64) as u64);
        let valid = match kind {
            0 => context == 0 && is_canonical(at),
            1 => context == 0,
            2 | 3 => context >> 12 == 0,
            _ => false,
        };
        match kind {
            _ if !valid => Err(Exception::protection(0).into()),
            0 => Ok(Effect::page(at)),
            _ => Ok(Changes::ALL_PAGES.into()),
        }
    }
}
