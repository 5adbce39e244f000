//! A good image against a guest's memory.

use super::builder::{BASE, RX, Row, image, kernel, load};
use crate::loader::ImageError;
use crate::loader::elf::plan;

#[test]
fn kernel_fits_up_to_the_last_byte() {
    let plan = plan(&kernel()).unwrap();
    plan.check_fits(0x10_5010, &[0..0x10_0000, 0x10_5010..u64::MAX])
        .unwrap();
}

#[test]
fn segment_past_the_end_of_memory_is_refused_with_the_mend() {
    let plan = plan(&kernel()).unwrap();
    let error = plan.check_fits(0x10_500f, &[]).unwrap_err();
    let range = 0x10_3010..0x10_5010;
    assert_eq!(
        error,
        ImageError::OutsideMemory {
            index: 2,
            range,
            memory: 0x10_500f
        }
    );
    assert!(error.to_string().contains("--mem"), "{error}");
}

#[test]
fn segment_in_a_reserved_range_is_refused() {
    let plan = plan(&kernel()).unwrap();
    let error = plan
        .check_fits(1 << 30, &[0..0x1000, 0x10_203f..0x10_2040])
        .unwrap_err();
    let (range, reserved) = (0x10_2000..0x10_2040, 0x10_203f..0x10_2040);
    assert_eq!(
        error,
        ImageError::Reserved {
            index: 1,
            range,
            reserved
        }
    );
}

#[test]
fn empty_reserved_range_is_no_obstacle() {
    let plan = plan(&kernel()).unwrap();
    plan.check_fits(1 << 30, &[0..0x1000, 0x10_2010..0x10_2010])
        .unwrap();
}

#[test]
fn size_that_no_memory_has_is_refused() {
    let huge = Row {
        virt: 0,
        phys: 0,
        mem_len: 1 << 46,
        ..load(RX, 0, 64)
    };
    let plan = plan(&image(0x10, &[huge])).unwrap();
    assert!(plan.check_fits(1 << 40, &[]).is_err());
    assert!(plan.segments[0].virt < BASE);
}
