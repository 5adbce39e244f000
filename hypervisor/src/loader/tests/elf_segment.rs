//! Each field of a program header, wrong.

use super::builder::{BASE, R, RWX, RX, Row, image, kernel_rows, load};
use crate::loader::ImageError;
use crate::loader::elf::{Plan, plan};

/// Plans a good kernel whose second row is changed.
fn with(change: impl FnOnce(&mut Row)) -> Result<Plan, ImageError> {
    let mut rows = kernel_rows();
    change(&mut rows[1]);
    plan(&image(BASE + 0x10_0010, &rows))
}

fn refused(change: impl FnOnce(&mut Row)) -> ImageError {
    with(change).unwrap_err()
}

#[test]
fn dynamic_linking_is_refused() {
    assert_eq!(
        refused(|row| row.kind = 3),
        ImageError::Dynamic {
            index: 1,
            kind: "PT_INTERP"
        }
    );
    let dynamic = refused(|row| row.kind = 2);
    assert_eq!(
        dynamic,
        ImageError::Dynamic {
            index: 1,
            kind: "PT_DYNAMIC"
        }
    );
    assert!(dynamic.to_string().contains("dynamically linked"));
}

#[test]
fn rows_that_load_nothing_are_passed_over() {
    let plan = with(|row| {
        *row = Row {
            kind: 0x6474_e551,
            flags: RWX,
            ..row.clone()
        }
    })
    .unwrap();
    assert_eq!(
        plan.segments.iter().map(|s| s.index).collect::<Vec<_>>(),
        [0, 2]
    );
    let plan = with(|row| (row.file_len, row.mem_len) = (0, 0)).unwrap();
    assert_eq!(plan.segments.len(), 2);
}

#[test]
fn file_range_must_be_inside_the_file() {
    let file_len = image(0, &kernel_rows()).len();
    let end = file_len as u64;
    let ranges = [
        (end, 1),
        (end - 63, 64),
        (u64::MAX, 64),
        (u64::MAX - 63, 64),
        (0, end + 1),
    ];
    for (offset, len) in ranges {
        let error = refused(|row| (row.offset, row.file_len) = (offset, len));
        assert_eq!(
            error,
            ImageError::SegmentFileRange {
                index: 1,
                offset,
                len,
                file_len
            }
        );
    }
    let plan = with(|row| row.offset = end - 64).unwrap();
    assert_eq!(plan.segments[1].file, file_len - 64..file_len);
}

#[test]
fn segment_of_zeros_alone_is_accepted() {
    let plan = with(|row| row.file_len = 0).unwrap();
    assert!(plan.segments[1].file.is_empty());
}

#[test]
fn file_must_not_exceed_memory() {
    let expected = ImageError::FileExceedsMemory {
        index: 1,
        file_len: 64,
        mem_len: 63,
    };
    assert_eq!(refused(|row| row.mem_len = 63), expected);
}

#[test]
fn addresses_must_not_overflow() {
    let mem_len = u64::MAX;
    let address = BASE + 0x10_2000;
    let virt = refused(|row| row.mem_len = mem_len);
    assert_eq!(
        virt,
        ImageError::AddressOverflow {
            index: 1,
            field: "p_vaddr",
            address,
            mem_len
        }
    );
    let (address, mem_len) = (u64::MAX - 0xfff, 0x1000);
    let phys = refused(|row| (row.phys, row.mem_len) = (address, mem_len));
    assert_eq!(
        phys,
        ImageError::AddressOverflow {
            index: 1,
            field: "p_paddr",
            address,
            mem_len
        }
    );
    with(|row| (row.phys, row.mem_len) = (address, mem_len - 1)).unwrap();
}

#[test]
fn virtual_addresses_must_be_canonical() {
    let hole = 0x8000_0000_0000u64;
    for (virt, mem_len) in [
        (hole, 64),
        (hole - 0x1000, 0x1001),
        (0x1000, !hole),
        (!hole << 1, 64),
    ] {
        let error = refused(|row| (row.virt, row.mem_len) = (virt, mem_len));
        assert_eq!(
            error,
            ImageError::NonCanonical {
                index: 1,
                virt,
                mem_len
            }
        );
    }
    for (virt, mem_len) in [(hole - 0x1000, 0x1000), (0, 64), (!(hole - 1), 64)] {
        with(|row| (row.virt, row.mem_len) = (virt, mem_len)).unwrap();
    }
}

#[test]
fn alignment_must_be_a_power_of_two() {
    assert_eq!(
        refused(|row| row.align = 4097),
        ImageError::Align {
            index: 1,
            align: 4097
        }
    );
    for align in [0, 1, 1 << 63] {
        with(|row| row.align = align).unwrap();
    }
}

#[test]
fn virtual_and_physical_offsets_in_the_page_must_agree() {
    let (virt, phys) = (BASE + 0x10_2000, 0x10_2008);
    assert_eq!(
        refused(|row| row.phys = phys),
        ImageError::Misaligned {
            index: 1,
            virt,
            phys
        }
    );
}

#[test]
fn writable_code_is_refused() {
    let error = refused(|row| row.flags = RWX);
    assert!(matches!(error, ImageError::WritableCode { index: 1, .. }));
    assert!(error.to_string().contains("rwx"), "{error}");
}

#[test]
fn image_that_loads_nothing_is_refused() {
    let note = Row {
        kind: 4,
        ..load(R, 0, 64)
    };
    let error = plan(&image(0, &[note])).unwrap_err();
    assert_eq!(error, ImageError::NothingToLoad { count: 1 });
    let empty = Row {
        file_len: 0,
        ..load(RX, 0, 0)
    };
    assert_eq!(
        plan(&image(BASE, &[empty])).unwrap_err(),
        ImageError::NothingToLoad { count: 1 }
    );
}
