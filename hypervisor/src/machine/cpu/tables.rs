//! The registers that say where descriptor tables are: GDTR, IDTR, LDTR, TR (SDM vol. 3, 2.4).

use super::segment::system;
use super::{Cpu, Exception, Linear, Place, Refusal, Segment, Selector, Table, is_canonical};

impl Cpu {
    /// LGDT from an operand's place.
    ///
    /// # Errors
    /// #GP(0) above CPL 0, and for a base that is not canonical; faults of reading the operand.
    pub fn load_gdt(&mut self, memory: &mut dyn Linear, place: Place) -> Result<(), Refusal> {
        self.gdtr = self.read_table(memory, place)?;
        Ok(())
    }

    /// LIDT from an operand's place.
    ///
    /// # Errors
    /// As [`Self::load_gdt`].
    pub fn load_idt(&mut self, memory: &mut dyn Linear, place: Place) -> Result<(), Refusal> {
        self.idtr = self.read_table(memory, place)?;
        Ok(())
    }

    fn read_table(&self, memory: &mut dyn Linear, place: Place) -> Result<Table, Refusal> {
        self.require_kernel()?;
        // CPL 0 is 64-bit code here: a limit of two bytes and a base of eight.
        let mut bytes = [0; 10];
        self.read_bytes(memory, place, &mut bytes)?;
        let [low, high, base @ ..] = bytes;
        let base = u64::from_le_bytes(base);
        if !is_canonical(base) {
            return Err(Exception::protection(0).into());
        }
        let limit = u16::from_le_bytes([low, high]);
        Ok(Table { base, limit })
    }

    /// SGDT or SIDT: `table` to an operand's place, at any level.
    ///
    /// # Errors
    /// Faults of writing the operand.
    pub fn store_table(
        &self,
        memory: &mut dyn Linear,
        table: Table,
        place: Place,
    ) -> Result<(), Refusal> {
        let mut bytes = [0; 10];
        let (limit, base) = bytes.split_at_mut(2);
        limit.copy_from_slice(&table.limit.to_le_bytes());
        base.copy_from_slice(&table.base.to_le_bytes());
        let len = if self.is_64_bit() { 10 } else { 6 };
        self.write_bytes(memory, place, bytes.get(..len).unwrap_or(&bytes))
    }

    /// LLDT; a null selector leaves no local table.
    ///
    /// # Errors
    /// #GP(0) above CPL 0; #GP, #NP with the selector; faults of the table's memory.
    pub fn load_ldt(&mut self, memory: &mut dyn Linear, selector: Selector) -> Result<(), Refusal> {
        self.require_kernel()?;
        self.ldtr = if selector.is_null() {
            Segment::null(selector)
        } else {
            self.system_segment(memory, selector, system::LDT)?.0
        };
        Ok(())
    }

    /// LTR; the descriptor becomes busy.
    ///
    /// # Errors
    /// #GP(0) above CPL 0 and for a null selector; #GP, #NP with the selector; faults of the table's
    /// memory.
    pub fn load_task(
        &mut self,
        memory: &mut dyn Linear,
        selector: Selector,
    ) -> Result<(), Refusal> {
        self.require_kernel()?;
        if selector.is_null() {
            return Err(Exception::protection(0).into());
        }
        let (_, found) = self.system_segment(memory, selector, system::TSS)?;
        self.tr = self.mark_busy(memory, found)?.segment(selector);
        Ok(())
    }

    fn system_segment(
        &self,
        memory: &mut dyn Linear,
        selector: Selector,
        kind: u8,
    ) -> Result<(Segment, super::descriptor::Found), Refusal> {
        let refused = Exception::protection(selector.error());
        if selector.is_local() {
            return Err(refused.into());
        }
        let found = self.find(memory, selector, Exception::PROTECTION)?;
        let rights = found.attributes();
        if rights.is_memory() || rights.kind() != kind {
            return Err(refused.into());
        }
        if !rights.is_present() {
            return Err(Exception::with_error(Exception::NOT_PRESENT, selector.error()).into());
        }
        let segment = found.descriptor.segment(selector);
        if !is_canonical(segment.base) {
            return Err(refused.into());
        }
        Ok((segment, found))
    }
}
