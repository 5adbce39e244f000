//! One program header: what it loads, and whether it makes sense by itself.

use std::ops::Range;

use ::elf::abi::{PF_R, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use ::elf::segment::ProgramHeader;

use super::super::address::{PAGE, is_canonical};
use super::super::error::ImageError;
use super::{Access, Segment};

/// The segment that row `index` loads; `None` for a row that takes no memory, such as a note.
pub(super) fn read(
    index: usize,
    row: &ProgramHeader,
    file_len: usize,
) -> Result<Option<Segment>, ImageError> {
    match row.p_type {
        PT_INTERP => Err(ImageError::Dynamic {
            index,
            kind: "PT_INTERP",
        }),
        PT_DYNAMIC => Err(ImageError::Dynamic {
            index,
            kind: "PT_DYNAMIC",
        }),
        PT_LOAD => load(index, row, file_len),
        _ => Ok(None),
    }
}

fn load(index: usize, row: &ProgramHeader, file_len: usize) -> Result<Option<Segment>, ImageError> {
    let file = file_range(index, row, file_len)?;
    check_lengths(index, row)?;
    check_addresses(index, row)?;
    let flags = access(index, row)?;
    let (virt, phys, mem_len) = (row.p_vaddr, row.p_paddr, row.p_memsz);
    Ok((mem_len > 0).then_some(Segment {
        index,
        virt,
        phys,
        file,
        mem_len,
        flags,
    }))
}

fn file_range(
    index: usize,
    row: &ProgramHeader,
    file_len: usize,
) -> Result<Range<usize>, ImageError> {
    let (offset, len) = (row.p_offset, row.p_filesz);
    let start = usize::try_from(offset).ok();
    let end = offset
        .checked_add(len)
        .and_then(|end| usize::try_from(end).ok());
    match (start, end) {
        (Some(start), Some(end)) if end <= file_len => Ok(start..end),
        _ => Err(ImageError::SegmentFileRange {
            index,
            offset,
            len,
            file_len,
        }),
    }
}

fn check_lengths(index: usize, row: &ProgramHeader) -> Result<(), ImageError> {
    let (file_len, mem_len) = (row.p_filesz, row.p_memsz);
    if file_len > mem_len {
        return Err(ImageError::FileExceedsMemory {
            index,
            file_len,
            mem_len,
        });
    }
    check_end(index, "p_vaddr", row.p_vaddr, mem_len)?;
    check_end(index, "p_paddr", row.p_paddr, mem_len)
}

fn check_end(
    index: usize,
    field: &'static str,
    address: u64,
    mem_len: u64,
) -> Result<(), ImageError> {
    match address.checked_add(mem_len) {
        Some(_) => Ok(()),
        None => Err(ImageError::AddressOverflow {
            index,
            field,
            address,
            mem_len,
        }),
    }
}

fn check_addresses(index: usize, row: &ProgramHeader) -> Result<(), ImageError> {
    let (virt, phys, align, mem_len) = (row.p_vaddr, row.p_paddr, row.p_align, row.p_memsz);
    if !is_range_canonical(virt, mem_len) {
        return Err(ImageError::NonCanonical {
            index,
            virt,
            mem_len,
        });
    }
    // gABI, program header: 0 and 1 both mean "no alignment".
    if align != 0 && !align.is_power_of_two() {
        return Err(ImageError::Align { index, align });
    }
    if virt % PAGE != phys % PAGE {
        return Err(ImageError::Misaligned { index, virt, phys });
    }
    Ok(())
}

/// Both ends canonical and in the same half, so that the hole is not between them.
fn is_range_canonical(start: u64, len: u64) -> bool {
    let last = start.saturating_add(len.saturating_sub(1));
    is_canonical(start) && is_canonical(last) && start >> 63 == last >> 63
}

fn access(index: usize, row: &ProgramHeader) -> Result<Access, ImageError> {
    let has = |bit| row.p_flags & bit != 0;
    let flags = Access {
        read: has(PF_R),
        write: has(PF_W),
        execute: has(PF_X),
    };
    if flags.write && flags.execute {
        return Err(ImageError::WritableCode {
            index,
            virt: row.p_vaddr,
            flags,
        });
    }
    Ok(flags)
}
