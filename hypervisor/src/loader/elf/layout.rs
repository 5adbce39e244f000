//! The segments together: no overlap, no page with two masters, and an entry that is code.
//! Pairs are compared one by one; `MAX_SEGMENTS` bounds them to about two thousand.

use std::ops::Range;

use super::super::address::{PAGE, pages};
use super::super::error::ImageError;
use super::Segment;

/// Checks what no segment shows by itself. `count` is the number of program headers.
pub(super) fn check(segments: &[Segment], count: usize, entry: u64) -> Result<(), ImageError> {
    if segments.is_empty() {
        return Err(ImageError::NothingToLoad { count });
    }
    let mut rest = segments.iter();
    while let Some(first) = rest.next() {
        rest.clone()
            .try_for_each(|second| check_pair(first, second))?;
    }
    let is_code = |s: &Segment| s.flags.execute && s.virt_range().contains(&entry);
    segments
        .iter()
        .any(is_code)
        .then_some(())
        .ok_or(ImageError::Entry { entry })
}

/// Whether the ranges have an address in common; an empty one has none.
pub(super) fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

fn check_pair(first: &Segment, second: &Segment) -> Result<(), ImageError> {
    check_overlap("p_vaddr", first, second, Segment::virt_range)?;
    check_overlap("p_paddr", first, second, Segment::phys_range)?;
    check_permissions("p_vaddr", first, second, |segment| segment.virt)?;
    // Also where only the memory is shared: through the writable alias, code could be changed.
    check_permissions("p_paddr", first, second, |segment| segment.phys)?;
    check_frame(first, second)
}

fn check_overlap(
    field: &'static str,
    first: &Segment,
    second: &Segment,
    range: fn(&Segment) -> Range<u64>,
) -> Result<(), ImageError> {
    let (first_range, second_range) = (range(first), range(second));
    if overlap(&first_range, &second_range) {
        let (first, second) = (first.index, second.index);
        return Err(ImageError::Overlap {
            field,
            first,
            second,
            first_range,
            second_range,
        });
    }
    Ok(())
}

fn check_permissions(
    field: &'static str,
    first: &Segment,
    second: &Segment,
    start: fn(&Segment) -> u64,
) -> Result<(), ImageError> {
    let (first_flags, second_flags) = (first.flags, second.flags);
    match shared_page(first, second, start) {
        Some(page) if first_flags != second_flags => {
            let (first, second) = (first.index, second.index);
            Err(ImageError::SharedPage {
                field,
                page,
                first,
                second,
                first_flags,
                second_flags,
            })
        }
        _ => Ok(()),
    }
}

/// One virtual page is one frame: segments that share it must agree where it is.
fn check_frame(first: &Segment, second: &Segment) -> Result<(), ImageError> {
    let shift = |segment: &Segment| segment.virt.wrapping_sub(segment.phys);
    match shared_page(first, second, |segment| segment.virt) {
        Some(page) if shift(first) != shift(second) => Err(ImageError::SplitPage {
            page,
            first: first.index,
            second: second.index,
        }),
        _ => Ok(()),
    }
}

/// The address of the first page that both touch.
fn shared_page(first: &Segment, second: &Segment, start: fn(&Segment) -> u64) -> Option<u64> {
    let a = pages(start(first), first.mem_len)?;
    let b = pages(start(second), second.mem_len)?;
    let page = *a.start().max(b.start());
    (page <= *a.end().min(b.end())).then(|| page.saturating_mul(PAGE))
}
