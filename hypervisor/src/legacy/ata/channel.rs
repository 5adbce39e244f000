//! A channel: one cable, one or two drives, one interrupt (ATA/ATAPI-6, 9.16). Both drives hear each write;
//! the one that the device register names answers.

use super::{Ata, SECOND, Sectors, register};

/// A channel.
#[derive(Debug)]
pub struct Channel {
    first: Ata,
    second: Option<Ata>,
}

impl Channel {
    /// A channel with its drives, switched on.
    pub fn new(first: Box<dyn Sectors>, second: Option<Box<dyn Sectors>>) -> Self {
        Self {
            first: Ata::new(first, false),
            second: second.map(|sectors| Ata::new(sectors, true)),
        }
    }

    /// Whether the interrupt line is raised.
    pub fn interrupt(&self) -> bool {
        self.drives().any(Ata::interrupt)
    }

    /// Read a register of the command block, 0 to 7; the data register by words or double words.
    pub fn read(&mut self, offset: u16, into: &mut [u8]) {
        match (self.selected(), offset) {
            (Some(drive), _) => drive.read(offset, into),
            (None, register::DATA) => into.fill(0xff),
            // The first drive answers for a second that is not there: no status, and its own registers.
            (None, register::STATUS) => into.fill(0),
            (None, _) => self.first.read(offset, into),
        }
    }

    /// Write a register of the command block.
    pub fn write(&mut self, offset: u16, from: &[u8]) {
        self.drives_mut()
            .for_each(|drive| drive.write(offset, from));
    }

    /// Read the alternate status.
    pub fn read_control(&mut self, into: &mut [u8]) {
        match self.selected() {
            Some(drive) => drive.read_control(into),
            None => into.fill(0),
        }
    }

    /// Write the device control register.
    pub fn write_control(&mut self, from: &[u8]) {
        self.drives_mut()
            .for_each(|drive| drive.write_control(from));
    }

    fn drives(&self) -> impl Iterator<Item = &Ata> {
        [Some(&self.first), self.second.as_ref()]
            .into_iter()
            .flatten()
    }

    fn drives_mut(&mut self) -> impl Iterator<Item = &mut Ata> {
        [Some(&mut self.first), self.second.as_mut()]
            .into_iter()
            .flatten()
    }

    /// The drive that is selected, if it is there.
    fn selected(&mut self) -> Option<&mut Ata> {
        match self.first.device & SECOND {
            0 => Some(&mut self.first),
            _ => self.second.as_mut(),
        }
    }

    /// How many bytes the drives hold for data on its way.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.drives().map(|drive| drive.block.len()).sum()
    }
}
