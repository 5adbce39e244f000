//! Descriptors are read from their tables and marked there. Called by the verbs that load segments.

use super::{Attributes, Cpu, Descriptor, Exception, Linear, Refusal, Selector};

/// Type bit of a code or data descriptor: it was loaded.
const ACCESSED: u16 = 1;
/// Type bit of a task-state descriptor: it is in use.
const BUSY: u16 = 2;

/// A descriptor and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub descriptor: Descriptor,
    at: u64,
}

impl Found {
    pub fn attributes(&self) -> Attributes {
        self.descriptor.attributes()
    }
}

impl Cpu {
    /// The descriptor of a selector that is not null.
    ///
    /// # Errors
    /// An exception of `vector` with the selector as its code: outside the table. Faults of the
    /// table's memory.
    pub(super) fn find(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
        vector: u8,
    ) -> Result<Found, Refusal> {
        let refused = Exception::with_error(vector, selector.error());
        self.find_or(memory, selector)?
            .ok_or_else(|| refused.into())
    }

    /// The descriptor of a selector; `None` if there is none: a null selector, or outside its table.
    ///
    /// # Errors
    /// Faults of the table's memory.
    pub(super) fn find_or(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
    ) -> Result<Option<Found>, Refusal> {
        let (base, limit) = if selector.is_local() {
            if !self.ldtr.is_usable() {
                return Ok(None);
            }
            (self.ldtr.base, u64::from(self.ldtr.limit))
        } else {
            (self.gdtr.base, u64::from(self.gdtr.limit))
        };
        if selector.is_null() || selector.offset() + 7 > limit {
            return Ok(None);
        }
        let at = base.wrapping_add(selector.offset());
        let low = self.table_word(memory, at)?;
        let mut descriptor = Descriptor { low, high: 0 };
        if !descriptor.attributes().is_memory() {
            // SDM vol. 3, 3.5.2: system descriptors have 16 bytes in long mode.
            if selector.offset() + 15 > limit {
                return Ok(None);
            }
            descriptor.high = self.table_word(memory, at.wrapping_add(8))?;
        }
        Ok(Some(Found { descriptor, at }))
    }

    /// Set a code or data descriptor's accessed bit (SDM vol. 3, 3.4.5.1); the descriptor with it.
    ///
    /// # Errors
    /// Faults of the table's memory.
    pub(super) fn mark_accessed(
        &self,
        memory: &mut dyn Linear,
        found: Found,
    ) -> Result<Descriptor, Refusal> {
        self.mark(memory, found, ACCESSED)
    }

    /// Set a task-state descriptor's busy bit (SDM vol. 2, LTR); the descriptor with it.
    ///
    /// # Errors
    /// Faults of the table's memory.
    pub(super) fn mark_busy(
        &self,
        memory: &mut dyn Linear,
        found: Found,
    ) -> Result<Descriptor, Refusal> {
        self.mark(memory, found, BUSY)
    }

    fn mark(&self, memory: &mut dyn Linear, found: Found, bit: u16) -> Result<Descriptor, Refusal> {
        let mut descriptor = found.descriptor;
        let rights = descriptor.attributes();
        if rights.0 & bit == 0 {
            let marked = (rights.0 | bit) as u8;
            memory.write(self, found.at.wrapping_add(5), &[marked], false)?;
            descriptor.low |= u64::from(bit) << 40;
        }
        Ok(descriptor)
    }

    /// A word of a descriptor table or of the TSS, read with the processor's own rights.
    ///
    /// # Errors
    /// Those of [`Linear`].
    pub(super) fn table_word(&self, memory: &mut dyn Linear, at: u64) -> Result<u64, Refusal> {
        let mut bytes = [0; 8];
        memory.read(self, at, &mut bytes, false)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A gate of the interrupt descriptor table, read likewise.
    ///
    /// # Errors
    /// Those of [`Linear`].
    pub(super) fn table_pair(
        &self,
        memory: &mut dyn Linear,
        at: u64,
    ) -> Result<Descriptor, Refusal> {
        let mut bytes = [0; 16];
        memory.read(self, at, &mut bytes, false)?;
        let whole = u128::from_le_bytes(bytes);
        let (low, high) = (whole as u64, (whole >> 64) as u64);
        Ok(Descriptor { low, high })
    }
}
