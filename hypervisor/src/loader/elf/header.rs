//! The ELF header: is this a static x86-64 executable, and where are its program headers?
//! The fields are checked in the order in which they stand in the file.

use ::elf::abi::{
    EI_ABIVERSION, EI_CLASS, EI_DATA, EI_NIDENT, EI_OSABI, EI_VERSION, ELFCLASS64, ELFDATA2LSB,
    ELFMAGIC, EM_X86_64, ET_EXEC, EV_CURRENT,
};
use ::elf::endian::LittleEndian;
use ::elf::file::{Class, ELF64_EHDR_TAILSIZE, FileHeader};
use ::elf::segment::SegmentTable;

use super::super::error::ImageError;
use super::super::format::Format;

/// Program headers read at most; kernels have about five.
pub const MAX_SEGMENTS: u16 = 64;

/// Bytes of an ELF64 header, and of one program header.
const HEADER_LEN: usize = EI_NIDENT + ELF64_EHDR_TAILSIZE;
const ROW_LEN: u16 = 56;

/// Reads and checks the ELF header.
pub(super) fn read(image: &[u8]) -> Result<FileHeader<LittleEndian>, ImageError> {
    check_magic(image)?;
    let cut_short = ImageError::HeaderCutShort {
        len: image.len(),
        need: HEADER_LEN,
    };
    let Some((ident, rest)) = image.split_first_chunk::<EI_NIDENT>() else {
        return Err(cut_short);
    };
    check_ident(ident)?;
    let (osabi, abi_version) = (ident[EI_OSABI], ident[EI_ABIVERSION]);
    let kind = (LittleEndian, Class::ELF64, osabi, abi_version);
    let header = FileHeader::parse_tail(kind, rest).map_err(|_| cut_short)?;
    check_kind(&header)?;
    check_sizes(&header)?;
    Ok(header)
}

/// Finds the program header table; every row of it is inside the image.
pub(super) fn program_headers<'image>(
    image: &'image [u8],
    header: &FileHeader<LittleEndian>,
) -> Result<SegmentTable<'image, LittleEndian>, ImageError> {
    let offset = header.e_phoff;
    let len = usize::from(header.e_phnum).saturating_mul(usize::from(ROW_LEN));
    let past_end = ImageError::SegmentTable {
        offset,
        len,
        file_len: image.len(),
    };
    let start = usize::try_from(offset).map_err(|_| past_end.clone())?;
    if start < HEADER_LEN {
        return Err(ImageError::SegmentTableInHeader {
            offset,
            header_len: HEADER_LEN,
        });
    }
    let rows = start
        .checked_add(len)
        .and_then(|end| image.get(start..end))
        .ok_or(past_end)?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, rows))
}

fn check_magic(image: &[u8]) -> Result<(), ImageError> {
    if image.is_empty() {
        return Err(ImageError::Empty);
    }
    if !image.starts_with(&ELFMAGIC) {
        return Err(ImageError::NotElf {
            found: Format::of(image),
        });
    }
    Ok(())
}

fn check_ident(ident: &[u8; EI_NIDENT]) -> Result<(), ImageError> {
    let (class, order, version) = (ident[EI_CLASS], ident[EI_DATA], ident[EI_VERSION]);
    if class != ELFCLASS64 {
        return Err(ImageError::Class { found: class });
    }
    if order != ELFDATA2LSB {
        return Err(ImageError::ByteOrder { found: order });
    }
    check_version("EI_VERSION", version.into())
}

fn check_kind(header: &FileHeader<LittleEndian>) -> Result<(), ImageError> {
    if header.e_type != ET_EXEC {
        return Err(ImageError::Type {
            found: header.e_type,
        });
    }
    if header.e_machine != EM_X86_64 {
        return Err(ImageError::Machine {
            found: header.e_machine,
        });
    }
    check_version("e_version", header.version)
}

fn check_version(field: &'static str, found: u32) -> Result<(), ImageError> {
    if found != u32::from(EV_CURRENT) {
        return Err(ImageError::Version { field, found });
    }
    Ok(())
}

fn check_sizes(header: &FileHeader<LittleEndian>) -> Result<(), ImageError> {
    check_size("e_ehsize", header.e_ehsize, HEADER_LEN as u16)?;
    // Before e_phentsize, which is 0 too where there are no program headers.
    match header.e_phnum {
        0 => return Err(ImageError::NoSegments),
        found if found > MAX_SEGMENTS => {
            return Err(ImageError::TooManySegments {
                found,
                limit: MAX_SEGMENTS,
            });
        }
        _ => {}
    }
    check_size("e_phentsize", header.e_phentsize, ROW_LEN)
}

fn check_size(field: &'static str, found: u16, expected: u16) -> Result<(), ImageError> {
    if found != expected {
        return Err(ImageError::HeaderSize {
            field,
            found,
            expected,
        });
    }
    Ok(())
}
