//! Files that are not ELF.

use crate::loader::elf::plan;
use crate::loader::{Format, ImageError};

fn found(file: &[u8]) -> (Format, String) {
    let error = plan(file).unwrap_err();
    let text = error.to_string();
    match error {
        ImageError::NotElf { found } => (found, text),
        other => panic!("{other}"),
    }
}

fn sector(at: usize, magic: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x9000];
    file[at..at + magic.len()].copy_from_slice(magic);
    file
}

#[test]
fn bzimage_is_recognized_before_pe_and_boot_sector() {
    let mut file = sector(0x1fe, b"\x55\xaa");
    file[..2].copy_from_slice(b"MZ");
    assert_eq!(found(&file).0, Format::Pe);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    let (format, text) = found(&file);
    assert_eq!(format, Format::BzImage);
    assert!(
        text.contains("bzImage") && text.contains("ELF64") && text.contains("vmlinux"),
        "{text}"
    );
}

#[test]
fn compressed_files_name_their_compressor() {
    let magics: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    for (magic, name) in magics.into_iter().zip(["gzip", "bzip2", "xz", "zstd"]) {
        let (format, text) = found(magic);
        assert_eq!(format, Format::Compressed(name));
        assert!(
            text.contains(name) && text.contains("unpack it first"),
            "{text}"
        );
    }
}

#[test]
fn every_other_format_has_its_advice() {
    assert_eq!(found(b"070701000").0, Format::Cpio);
    assert_eq!(found(&sector(0x8001, b"CD001")).0, Format::Iso);
    assert_eq!(found(&sector(0x1fe, b"\x55\xaa")).0, Format::Disk);
    assert_eq!(found(b"\xcf\xfa\xed\xfe").0, Format::MachO);
    assert_eq!(found(b"!<arch>\n").0, Format::Archive);
    let (format, text) = found(b"#!/bin/sh\n");
    assert_eq!(format, Format::Script);
    assert!(text.starts_with("this is a script, not an ELF64"), "{text}");
}

#[test]
fn unknown_file_shows_its_first_bytes() {
    let (format, text) = found(b"\x1b[2");
    assert_eq!(
        format,
        Format::Unknown {
            magic: [0x1b, b'[', b'2', 0]
        }
    );
    assert!(text.contains("1b 5b 32 00"), "{text}");
}
