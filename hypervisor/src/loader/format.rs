//! Recognizes, by magic number, what people pass for a kernel by mistake, and says what to do.
//! Called by elf when ELF's own magic is missing. Decides nothing: every format here is refused.

use std::fmt;

/// What a file that is not ELF seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Linux's compressed, self-extracting boot image.
    BzImage,
    /// A stream of the named compressor.
    Compressed(&'static str),
    /// A cpio archive, such as an initramfs.
    Cpio,
    /// A disk image: qcow2, or anything with a boot sector.
    Disk,
    /// A CD image.
    Iso,
    /// A Windows or EFI program.
    Pe,
    /// An Apple executable.
    MachO,
    /// A static library.
    Archive,
    /// A text that names its interpreter.
    Script,
    /// Nothing that is known here; its first bytes.
    Unknown {
        /// The first four bytes, zeros after the file's end.
        magic: [u8; 4],
    },
}

use Format::{Archive, BzImage, Compressed, Cpio, Disk, Iso, MachO, Pe, Script};

/// Offset, bytes, and what they announce. The first match wins: a bzImage is often also a PE
/// program and always has a boot sector's signature.
const MAGICS: &[(usize, &[u8], Format)] = &[
    (0x202, b"HdrS", BzImage),
    (0, b"\x1f\x8b", Compressed("gzip")),
    (0, b"\xfd7zXZ\0", Compressed("xz")),
    (0, b"\x28\xb5\x2f\xfd", Compressed("zstd")),
    (0, b"BZh", Compressed("bzip2")),
    (0, b"\x04\x22\x4d\x18", Compressed("lz4")),
    (0, b"\x02\x21\x4c\x18", Compressed("lz4")),
    (0, b"\x5d\0\0", Compressed("lzma")),
    (0, b"\x89LZO", Compressed("lzop")),
    (0, b"PK\x03\x04", Compressed("zip")),
    (0, b"07070", Cpio),
    (0, b"\xc7\x71", Cpio),
    (0, b"QFI\xfb", Disk),
    (0, b"MZ", Pe),
    (0, b"\xcf\xfa\xed\xfe", MachO),
    (0, b"\xca\xfe\xba\xbe", MachO),
    (0, b"!<arch>\n", Archive),
    (0, b"#!", Script),
    (0x8001, b"CD001", Iso),
    (0x1fe, b"\x55\xaa", Disk),
];

impl Format {
    /// What `file` seems to be, given that it is not ELF.
    pub(super) fn of(file: &[u8]) -> Format {
        let known = MAGICS
            .iter()
            .find(|(offset, magic, _)| begins_at(file, *offset, magic));
        known.map_or_else(|| unknown(file), |(_, _, format)| *format)
    }

    /// What to do instead, as the second half of a sentence.
    pub(super) fn mend(self) -> &'static str {
        match self {
            BzImage => "give the uncompressed vmlinux that was built with it",
            Compressed(_) => "unpack it first",
            Cpio => "give it as the initramfs, beside a kernel",
            Disk | Iso => "give it as a disk, beside a kernel",
            Pe | MachO => "build the kernel for x86_64 ELF (rustc --target x86_64-unknown-none)",
            Archive => "link it into an executable first",
            Script => "give the file that it builds or starts",
            Format::Unknown { .. } => "an ELF file begins with 7f 45 4c 46",
        }
    }
}

fn begins_at(file: &[u8], offset: usize, magic: &[u8]) -> bool {
    file.get(offset..)
        .is_some_and(|tail| tail.starts_with(magic))
}

fn unknown(file: &[u8]) -> Format {
    let mut magic = [0; 4];
    magic
        .iter_mut()
        .zip(file)
        .for_each(|(to, from)| *to = *from);
    Format::Unknown { magic }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BzImage => out.write_str("a bzImage (a compressed Linux kernel)"),
            Compressed(by) => write!(out, "a file compressed with {by}"),
            Cpio => out.write_str("a cpio archive"),
            Disk => out.write_str("a disk image"),
            Iso => out.write_str("a CD image"),
            Pe => out.write_str("a Windows or EFI program"),
            MachO => out.write_str("an Apple executable"),
            Archive => out.write_str("a static library"),
            Script => out.write_str("a script"),
            Format::Unknown {
                magic: [a, b, c, d],
            } => {
                write!(
                    out,
                    "a file of an unknown format (it begins with {a:02x} {b:02x} {c:02x} {d:02x})"
                )
            }
        }
    }
}
