//! Segments that are good one by one, and wrong together.

use super::builder::{BASE, R, RW, RX, Row, image, load};
use crate::loader::ImageError;
use crate::loader::elf::plan;

/// The error of an image with a page of text at 1 MiB and these rows.
fn refused(rows: &[Row]) -> ImageError {
    plan(&with_text(rows)).unwrap_err()
}

fn with_text(rows: &[Row]) -> Vec<u8> {
    let text = load(RX, 0x10_0000, 0x1000);
    image(BASE + 0x10_0000, &[&[text], rows].concat())
}

#[test]
fn virtual_overlap_is_refused() {
    let second = Row {
        virt: BASE + 0x10_0000,
        ..load(RX, 0x20_0000, 0x40)
    };
    let error = refused(&[second]);
    let ImageError::Overlap {
        field,
        first,
        second,
        first_range,
        second_range,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((field, first, second), ("p_vaddr", 0, 1));
    assert_eq!(first_range, BASE + 0x10_0000..BASE + 0x10_1000);
    assert_eq!(second_range, BASE + 0x10_0000..BASE + 0x10_0040);
}

#[test]
fn physical_overlap_is_refused_in_either_order() {
    let inside = Row {
        phys: 0x10_0000,
        ..load(RX, 0x20_0000, 0x40)
    };
    let around = Row {
        phys: 0xf_f000,
        ..load(RX, 0x20_0000, 0x10_0000)
    };
    for second in [inside, around] {
        let error = refused(&[second]);
        assert!(
            matches!(
                error,
                ImageError::Overlap {
                    field: "p_paddr",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn overlap_is_found_between_segments_far_apart_in_the_table() {
    let rows = [
        load(R, 0x20_0000, 64),
        load(RW, 0x30_0000, 0x2000),
        load(RW, 0x30_1000, 64),
    ];
    let error = refused(&rows);
    assert!(
        matches!(
            error,
            ImageError::Overlap {
                first: 2,
                second: 3,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn neighbours_may_touch() {
    plan(&with_text(&[
        load(R, 0x10_1000, 0x1000),
        load(RW, 0xf_f000, 0x1000),
    ]))
    .unwrap();
}

#[test]
fn page_with_two_permissions_is_refused() {
    let error = refused(&[load(R, 0x20_0000, 0x40), load(RW, 0x20_0ff0, 0x40)]);
    let ImageError::SharedPage {
        field,
        page,
        first,
        second,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (field, page, first, second),
        ("p_vaddr", BASE + 0x20_0000, 1, 2)
    );
}

#[test]
fn page_with_two_permissions_is_refused_through_an_alias() {
    let alias = Row {
        virt: BASE + 0x50_0800,
        ..load(RW, 0x20_0800, 0x40)
    };
    let error = refused(&[load(R, 0x20_0000, 0x40), alias]);
    assert!(matches!(
        error,
        ImageError::SharedPage {
            field: "p_paddr",
            page: 0x20_0000,
            ..
        }
    ));
    assert!(error.to_string().contains("(r--) and 2 (rw-)"), "{error}");
}

#[test]
fn page_with_one_permission_may_be_shared() {
    plan(&with_text(&[
        load(RW, 0x20_0000, 0x40),
        load(RW, 0x20_0040, 0x40),
    ]))
    .unwrap();
}

#[test]
fn page_over_two_frames_is_refused() {
    let elsewhere = Row {
        virt: BASE + 0x20_0800,
        ..load(RW, 0x30_0800, 0x40)
    };
    let error = refused(&[load(RW, 0x20_0000, 0x40), elsewhere]);
    assert_eq!(
        error,
        ImageError::SplitPage {
            page: BASE + 0x20_0000,
            first: 1,
            second: 2
        }
    );
}

#[test]
fn entry_must_be_code() {
    let rows = [load(RX, 0x10_0000, 0x100), load(RW, 0x10_1000, 0x100)];
    for offset in [0, 0xf_ffff, 0x10_0100, 0x10_1000] {
        let entry = BASE + offset;
        assert_eq!(
            plan(&image(entry, &rows)).unwrap_err(),
            ImageError::Entry { entry }
        );
    }
    plan(&image(BASE + 0x10_00ff, &rows)).unwrap();
}
