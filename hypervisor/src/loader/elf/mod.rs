//! Plans how an ELF64 kernel image is laid into guest memory, or says what is wrong with it.
//! Called by vm before there is a guest. Copies nothing; reads no symbols (see `symbols`).

mod header;
mod layout;
mod segment;

use std::fmt;
use std::ops::Range;

use super::error::ImageError;

pub use header::MAX_SEGMENTS;

/// A validated image. Made by [`plan`] alone, which guarantees: at least one segment; every
/// `file` range inside the image; no two segments overlapping, virtually or physically, or sharing
/// a page with different permissions; `entry` in an executable segment; nothing both writable and
/// executable; no address that overflows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The virtual address of the first instruction (`e_entry`).
    pub entry: u64,
    /// What to load, in the order of the program header table.
    pub segments: Vec<Segment>,
}

/// One `PT_LOAD` row that takes memory: copy `file` to `phys`, then zeros up to `mem_len`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// Its row in the program header table, from 0, for messages.
    pub index: usize,
    /// Where the kernel expects it (`p_vaddr`); congruent with `phys` modulo 4 KiB.
    pub virt: u64,
    /// The guest-physical address it is loaded at (`p_paddr`).
    pub phys: u64,
    /// Its bytes in the image; at most `mem_len` of them, perhaps none.
    pub file: Range<usize>,
    /// Bytes it takes in memory (`p_memsz`), at least 1.
    pub mem_len: u64,
    /// What the kernel may do with its pages (`p_flags`).
    pub flags: Access,
}

/// What may be done with a page; shown as `r-x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Reading is allowed (`PF_R`).
    pub read: bool,
    /// Writing is allowed (`PF_W`).
    pub write: bool,
    /// Executing is allowed (`PF_X`).
    pub execute: bool,
}

/// Validates all that loading will rely on, and returns where everything goes.
///
/// # Errors
/// The first fault found, in the order of the file: ELF header, program headers, their layout.
pub fn plan(image: &[u8]) -> Result<Plan, ImageError> {
    let header = header::read(image)?;
    let rows = header::program_headers(image, &header)?;
    let mut segments = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        segments.extend(segment::read(index, &row, image.len())?);
    }
    layout::check(&segments, rows.len(), header.e_entry)?;
    Ok(Plan {
        entry: header.e_entry,
        segments,
    })
}

impl Plan {
    /// From the lowest to past the highest guest-physical address that is loaded.
    pub fn phys_range(&self) -> Range<u64> {
        let ranges = self.segments.iter().map(Segment::phys_range);
        ranges
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0)
    }

    /// Checks that every segment lies in RAM, taken to be `0..memory_bytes`, and outside all
    /// `reserved` guest-physical ranges.
    ///
    /// # Errors
    /// [`ImageError::OutsideMemory`] or [`ImageError::Reserved`], of the first segment at fault.
    pub fn check_fits(&self, memory_bytes: u64, reserved: &[Range<u64>]) -> Result<(), ImageError> {
        self.segments
            .iter()
            .try_for_each(|segment| segment.check_fits(memory_bytes, reserved))
    }
}

impl Segment {
    /// The guest-physical addresses that it takes.
    pub fn phys_range(&self) -> Range<u64> {
        self.phys..self.phys.saturating_add(self.mem_len)
    }

    /// The virtual addresses that it takes.
    pub fn virt_range(&self) -> Range<u64> {
        self.virt..self.virt.saturating_add(self.mem_len)
    }

    fn check_fits(&self, memory: u64, reserved: &[Range<u64>]) -> Result<(), ImageError> {
        let (index, range) = (self.index, self.phys_range());
        if range.end > memory {
            return Err(ImageError::OutsideMemory {
                index,
                range,
                memory,
            });
        }
        match reserved.iter().find(|kept| layout::overlap(kept, &range)) {
            Some(kept) => Err(ImageError::Reserved {
                index,
                range,
                reserved: kept.clone(),
            }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |is_allowed, letter| if is_allowed { letter } else { '-' };
        let [r, w, x] = [
            letter(self.read, 'r'),
            letter(self.write, 'w'),
            letter(self.execute, 'x'),
        ];
        write!(out, "{r}{w}{x}")
    }
}
