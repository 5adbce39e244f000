//! What can be wrong with a guest image. Every error names the field at fault and carries its
//! values; [`FileError`] adds the file's name, which the readers of bytes do not know.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use ::elf::abi::{ELFCLASS32, ELFDATA2MSB, ET_CORE, ET_DYN, ET_REL};

use super::elf::Access;
use super::format::Format;

/// Why an image was refused. `index` is always a row of the program header table, from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(
    missing_docs,
    reason = "a message says what its fields are, just above them"
)]
pub enum ImageError {
    /// The file holds no bytes.
    #[error("the file is empty: an ELF64 x86-64 kernel image is needed")]
    Empty,
    /// The file does not begin with ELF's magic number.
    #[error("this is {found}, not an ELF64 x86-64 kernel image; {}", .found.mend())]
    NotElf { found: Format },
    /// The file ends inside the ELF header.
    #[error("the ELF header needs {need} bytes and the file has {len}: it was cut short")]
    HeaderCutShort { len: usize, need: usize },
    /// `EI_CLASS` is not `ELFCLASS64`.
    #[error("EI_CLASS is {found}{}, and 2 (64-bit) is needed", class_note(*found))]
    Class { found: u8 },
    /// `EI_DATA` is not `ELFDATA2LSB`.
    #[error("EI_DATA is {found}{}, and 1 (little-endian) is needed", order_note(*found))]
    ByteOrder { found: u8 },
    /// `EI_VERSION` or `e_version` is not 1.
    #[error("{field} is {found}, and 1 is the only version of ELF")]
    Version { field: &'static str, found: u32 },
    /// `e_type` is not `ET_EXEC`.
    #[error("e_type is {found} ({}), and 2 (a static executable) is needed", type_name(*found))]
    Type { found: u16 },
    /// `e_machine` is not `EM_X86_64`.
    #[error("e_machine is {found}, and 62 (x86-64) is needed")]
    Machine { found: u16 },
    /// `e_ehsize` or `e_phentsize` is not the size that ELF64 defines.
    #[error("{field} is {found} bytes, and ELF64 defines {expected}")]
    HeaderSize {
        field: &'static str,
        found: u16,
        expected: u16,
    },
    /// `e_phnum` is 0.
    #[error("e_phnum is 0: there are no segments to load (is this an object file?)")]
    NoSegments,
    /// `e_phnum` is beyond what a kernel needs.
    #[error("e_phnum is {found}, and at most {limit} program headers are read")]
    TooManySegments { found: u16, limit: u16 },
    /// `e_phoff` points into the ELF header.
    #[error("e_phoff is {offset:#x}, inside the ELF header, which ends at {header_len:#x}")]
    SegmentTableInHeader { offset: u64, header_len: usize },
    /// The program header table is not all inside the file.
    #[error(
        "e_phoff: the program header table {offset:#x}+{len:#x} ends past the file's \
         {file_len:#x} bytes"
    )]
    SegmentTable {
        offset: u64,
        len: usize,
        file_len: usize,
    },

    /// A `PT_INTERP` or `PT_DYNAMIC` row asks for a dynamic linker.
    #[error(
        "segment {index} is {kind}: the image is dynamically linked; link it with -static -no-pie"
    )]
    Dynamic { index: usize, kind: &'static str },
    /// `p_offset` and `p_filesz` are not all inside the file.
    #[error(
        "segment {index}: file range {offset:#x}+{len:#x} (p_offset+p_filesz) ends past the file's \
         {file_len:#x} bytes"
    )]
    SegmentFileRange {
        index: usize,
        offset: u64,
        len: u64,
        file_len: usize,
    },
    /// `p_filesz` exceeds `p_memsz`.
    #[error("segment {index}: p_filesz {file_len:#x} exceeds p_memsz {mem_len:#x}")]
    FileExceedsMemory {
        index: usize,
        file_len: u64,
        mem_len: u64,
    },
    /// `p_vaddr` or `p_paddr` plus `p_memsz` does not fit in 64 bits.
    #[error("segment {index}: {field} {address:#x} + p_memsz {mem_len:#x} overflows 64 bits")]
    AddressOverflow {
        index: usize,
        field: &'static str,
        address: u64,
        mem_len: u64,
    },
    /// A virtual address of the segment cannot exist on x86-64.
    #[error(
        "segment {index}: p_vaddr {virt:#x} + p_memsz {mem_len:#x} is not all canonical \
         (48-bit addresses)"
    )]
    NonCanonical {
        index: usize,
        virt: u64,
        mem_len: u64,
    },
    /// `p_align` is not a power of two.
    #[error("segment {index}: p_align {align:#x} is not a power of two")]
    Align { index: usize, align: u64 },
    /// `p_vaddr` and `p_paddr` have different offsets in their pages, so no page can map them.
    #[error(
        "segment {index}: p_vaddr {virt:#x} and p_paddr {phys:#x} differ in their offset into a \
         4 KiB page"
    )]
    Misaligned { index: usize, virt: u64, phys: u64 },
    /// `p_flags` has both `PF_W` and `PF_X`.
    #[error(
        "segment {index} at {virt:#x}: p_flags say {flags}; code that can be written is refused"
    )]
    WritableCode {
        index: usize,
        virt: u64,
        flags: Access,
    },

    /// No row of the program header table loads anything.
    #[error("none of the {count} program headers is a PT_LOAD that takes memory")]
    NothingToLoad { count: usize },
    /// Two segments claim the same addresses.
    #[error(
        "segments {first} and {second} overlap in {field}: {first_range:#x?} and {second_range:#x?}"
    )]
    Overlap {
        field: &'static str,
        first: usize,
        second: usize,
        first_range: Range<u64>,
        second_range: Range<u64>,
    },
    /// Two segments share a page and need different permissions of it.
    #[error(
        "segments {first} ({first_flags}) and {second} ({second_flags}) share the {field} page \
         {page:#x}, which can have one permission only; align them to 4 KiB"
    )]
    SharedPage {
        field: &'static str,
        page: u64,
        first: usize,
        second: usize,
        first_flags: Access,
        second_flags: Access,
    },
    /// Two segments share a virtual page and need different memory behind it.
    #[error(
        "segments {first} and {second} share the p_vaddr page {page:#x} but not the p_paddr page \
         behind it"
    )]
    SplitPage {
        page: u64,
        first: usize,
        second: usize,
    },
    /// `e_entry` is not in a segment that may be executed.
    #[error("e_entry {entry:#x} is in no executable segment")]
    Entry { entry: u64 },

    /// A segment's physical addresses are not all RAM.
    #[error(
        "segment {index}: p_paddr {range:#x?} ends past the guest's {memory:#x} bytes of memory; \
         give it more (--mem) or link the kernel lower"
    )]
    OutsideMemory {
        index: usize,
        range: Range<u64>,
        memory: u64,
    },
    /// A segment's physical addresses are used by the hypervisor.
    #[error(
        "segment {index}: p_paddr {range:#x?} overlaps {reserved:#x?}, which the hypervisor keeps \
         for itself; link the kernel elsewhere"
    )]
    Reserved {
        index: usize,
        range: Range<u64>,
        reserved: Range<u64>,
    },

    /// The initramfs holds no bytes.
    #[error("the initramfs is empty: leave it out, or make one (cpio -o -H newc)")]
    InitrdEmpty,
    /// The initramfs, the kernel and room to work in exceed the guest's memory.
    #[error(
        "an initramfs of {len} bytes, above the kernel's end at {kernel_end:#x} and {free} bytes \
         to work in, needs {needed} bytes of memory, and {available} are available; give the \
         guest at least {} MiB (--mem)",
        mebibytes(*needed)
    )]
    InitrdTooLarge {
        len: u64,
        kernel_end: u64,
        free: u64,
        needed: u64,
        available: u64,
    },
}

impl ImageError {
    /// The same error, said of the file at `path`.
    pub fn in_file(self, path: impl Into<PathBuf>) -> FileError {
        FileError {
            path: path.into(),
            source: self,
        }
    }
}

/// An [`ImageError`] with the name of the file that it is about: one sentence, nothing beneath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file as the user named it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: ImageError,
}

impl fmt::Display for FileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path.display(), self.source)
    }
}

/// `Error::source` stays `None`: the message holds the cause already, and a reporter that prints
/// the whole chain would say it twice.
impl std::error::Error for FileError {}

fn class_note(class: u8) -> &'static str {
    if class == ELFCLASS32 { " (32-bit)" } else { "" }
}

fn order_note(order: u8) -> &'static str {
    if order == ELFDATA2MSB {
        " (big-endian)"
    } else {
        ""
    }
}

fn type_name(e_type: u16) -> &'static str {
    match e_type {
        ET_REL => "an object file that is not linked yet",
        ET_DYN => "position-independent; link it with -static -no-pie",
        ET_CORE => "a core dump",
        _ => "unknown",
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
