//! Each field of the ELF header, wrong.

use super::builder::{BASE, HEADER_LEN, RX, image, kernel, load, put};
use crate::loader::elf::{MAX_SEGMENTS, plan};
use crate::loader::{FileError, ImageError};

/// The error of a good kernel with `bytes` put over its header.
fn with(at: usize, bytes: &[u8]) -> ImageError {
    let mut image = kernel();
    put(&mut image, at, bytes);
    plan(&image).unwrap_err()
}

fn says(error: &ImageError, words: &[&str]) {
    let text = error.to_string();
    words
        .iter()
        .for_each(|word| assert!(text.contains(word), "{word:?} is not in {text:?}"));
}

#[test]
fn good_kernel_is_planned_as_it_says() {
    let plan = plan(&kernel()).unwrap();
    assert_eq!(plan.entry, BASE + 0x10_0010);
    assert_eq!(plan.phys_range(), 0x10_0000..0x10_5010);
    let data = &plan.segments[2];
    assert_eq!(
        (data.index, data.file.clone(), data.mem_len),
        (2, 0..64, 0x2000)
    );
    assert_eq!((data.virt, data.phys), (BASE + 0x10_3010, 0x10_3010));
    let flags: Vec<_> = plan.segments.iter().map(|s| s.flags.to_string()).collect();
    assert_eq!(flags, ["r-x", "r--", "rw-"]);
}

#[test]
fn empty_file_is_refused() {
    let error = plan(&[]).unwrap_err();
    assert_eq!(error, ImageError::Empty);
    says(&error, &["empty", "ELF64"]);
}

#[test]
fn header_cut_short_is_refused_at_every_length() {
    for len in 4..HEADER_LEN {
        let error = plan(&kernel()[..len]).unwrap_err();
        assert_eq!(
            error,
            ImageError::HeaderCutShort {
                len,
                need: HEADER_LEN
            }
        );
    }
}

#[test]
fn other_class_and_byte_order_are_refused() {
    let class = with(4, &[1]);
    assert_eq!(class, ImageError::Class { found: 1 });
    says(&class, &["EI_CLASS is 1 (32-bit)"]);
    let order = with(5, &[2]);
    assert_eq!(order, ImageError::ByteOrder { found: 2 });
    says(&order, &["EI_DATA is 2 (big-endian)"]);
    says(&with(5, &[9]), &["EI_DATA is 9, and"]);
}

#[test]
fn other_versions_are_refused() {
    assert_eq!(
        with(6, &[0]),
        ImageError::Version {
            field: "EI_VERSION",
            found: 0
        }
    );
    assert_eq!(
        with(20, &[7, 1]),
        ImageError::Version {
            field: "e_version",
            found: 0x107
        }
    );
}

#[test]
fn types_that_are_not_linked_statically_are_refused_with_the_mend() {
    says(&with(16, &[3]), &["e_type is 3", "-no-pie"]);
    says(&with(16, &[1]), &["e_type is 1", "not linked"]);
    says(&with(16, &[4]), &["core dump"]);
    assert_eq!(with(16, &[0, 0xff]), ImageError::Type { found: 0xff00 });
}

#[test]
fn other_machines_are_refused() {
    assert_eq!(with(18, &[183]), ImageError::Machine { found: 183 });
}

#[test]
fn header_sizes_must_be_elf64s() {
    let ehsize = ImageError::HeaderSize {
        field: "e_ehsize",
        found: 52,
        expected: 64,
    };
    assert_eq!(with(52, &[52]), ehsize);
    let phentsize = ImageError::HeaderSize {
        field: "e_phentsize",
        found: 32,
        expected: 56,
    };
    assert_eq!(with(54, &[32]), phentsize);
}

#[test]
fn segment_count_is_bounded() {
    assert_eq!(with(56, &[0, 0]), ImageError::NoSegments);
    let limit = MAX_SEGMENTS;
    assert_eq!(
        with(56, &[65, 0]),
        ImageError::TooManySegments { found: 65, limit }
    );
    // PN_XNUM: the count would be in a section header.
    assert_eq!(
        with(56, &[0xff, 0xff]),
        ImageError::TooManySegments {
            found: 0xffff,
            limit
        }
    );
    let rows: Vec<_> = (0..64)
        .map(|row| load(RX, 0x10_0000 + row * 0x1000, 0x1000))
        .collect();
    assert_eq!(
        plan(&image(BASE + 0x10_0000, &rows))
            .unwrap()
            .segments
            .len(),
        64
    );
}

#[test]
fn segment_table_must_be_inside_the_file() {
    let len = kernel().len();
    for offset in [len as u64 - 100, len as u64, u64::MAX - 8, u64::MAX] {
        let expected = ImageError::SegmentTable {
            offset,
            len: 168,
            file_len: len,
        };
        assert_eq!(with(32, &offset.to_le_bytes()), expected);
    }
    let inside = ImageError::SegmentTableInHeader {
        offset: 63,
        header_len: HEADER_LEN,
    };
    assert_eq!(with(32, &63u64.to_le_bytes()), inside);
}

#[test]
fn file_error_is_one_sentence_with_the_name() {
    let error: FileError = with(18, &[183]).in_file("boot/vmlinux");
    let text = error.to_string();
    assert_eq!(
        text,
        "boot/vmlinux: e_machine is 183, and 62 (x86-64) is needed"
    );
    assert!(std::error::Error::source(&error).is_none());
}
