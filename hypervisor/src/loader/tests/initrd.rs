//! Where an initramfs goes, and when it does not fit.

use proptest::prelude::*;

use crate::loader::ImageError;
use crate::loader::initrd::{MIN_FREE, check};

const KERNEL_END: u64 = 0x20_0123;
const MEMORY: u64 = 64 << 20;

#[test]
fn initramfs_goes_to_the_top_page() {
    let place = check(5000, MEMORY, KERNEL_END).unwrap();
    assert_eq!((place.start, place.len), (MEMORY - 0x2000, 5000));
    assert_eq!(place.range(), MEMORY - 0x2000..MEMORY - 0x2000 + 5000);
}

#[test]
fn empty_initramfs_is_refused() {
    let error = check(0, MEMORY, KERNEL_END).unwrap_err();
    assert_eq!(error, ImageError::InitrdEmpty);
    assert!(error.to_string().contains("empty"));
}

#[test]
fn largest_that_fits_leaves_the_free_room() {
    let largest = MEMORY - 0x20_1000 - MIN_FREE;
    assert_eq!(
        check(largest, MEMORY, KERNEL_END).unwrap().start,
        0x20_1000 + MIN_FREE
    );
    let error = check(largest + 1, MEMORY, KERNEL_END).unwrap_err();
    let ImageError::InitrdTooLarge {
        needed, available, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((needed, available), (MEMORY + 0x1000, MEMORY));
    let text = error.to_string();
    assert!(
        text.contains("at least 65 MiB (--mem)") && text.contains("67108864"),
        "{text}"
    );
}

#[test]
fn part_of_a_page_at_the_end_of_memory_is_not_used() {
    assert_eq!(
        check(1, MEMORY + 0xfff, KERNEL_END).unwrap().start,
        MEMORY - 0x1000
    );
}

proptest! {
    #[test]
    fn placement_is_sound_for_any_numbers(len: u64, memory: u64, kernel_end: u64) {
        sound(len, memory, kernel_end)?;
    }

    #[test]
    fn placement_is_sound_for_likely_numbers(
        len in 0u64..1 << 30, memory in 0u64..1 << 32, kernel_end in 0u64..1 << 26,
    ) {
        sound(len, memory, kernel_end)?;
    }
}

fn sound(len: u64, memory: u64, kernel_end: u64) -> Result<(), TestCaseError> {
    let Ok(place) = check(len, memory, kernel_end) else {
        return Ok(());
    };
    prop_assert!(place.start % 4096 == 0 && place.len == len && len > 0);
    prop_assert!(u128::from(place.start) + u128::from(len) <= u128::from(memory));
    prop_assert!(u128::from(place.start) >= u128::from(kernel_end) + u128::from(MIN_FREE));
    Ok(())
}
