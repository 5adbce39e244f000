//! Why a file cannot be audited: each error names the field and carries what was found there.

/// Why a file cannot be audited. All of them are the file's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file does not start with ELF's magic number.
    #[error("not an ELF file: it starts with {found:02x?}, not 7f 45 4c 46")]
    NotElf {
        /// The first bytes, four at most.
        found: Vec<u8>,
    },
    /// The file ends inside its own ELF header.
    #[error("the file ends after {len} bytes, inside the ELF header of 64")]
    Truncated {
        /// The file's length in bytes.
        len: usize,
    },
    /// A field has a value that rules the file out.
    #[error("{field} is {found:#x}; an audit needs {wanted}")]
    Field {
        /// The field, as the ELF specification spells it, and whose it is.
        field: String,
        /// Its value.
        found: u64,
        /// What it should have been, in words.
        wanted: &'static str,
    },
    /// A field places something where the file has no bytes.
    #[error("{field} places {size:#x} bytes at offset {offset:#x}, but the file has {len:#x}")]
    OutsideFile {
        /// The field or fields that say so.
        field: String,
        /// Offset into the file, in bytes.
        offset: u64,
        /// Bytes wanted there.
        size: u64,
        /// The file's length in bytes.
        len: u64,
    },
    /// Code would lie beyond the end of the address space.
    #[error("{field} places {size:#x} bytes at address {address:#x}, past the end of memory")]
    OutsideMemory {
        /// The field that says so.
        field: String,
        /// Virtual address of the first byte.
        address: u64,
        /// Bytes wanted there.
        size: u64,
    },
    /// Two pieces of code claim the same bytes of the file, which no linker does.
    #[error("{first} and {second} both hold the file's byte {offset:#x}")]
    Overlap {
        /// The piece that starts first.
        first: String,
        /// The piece that starts inside it.
        second: String,
        /// Where the second starts, in bytes from the file's start.
        offset: u64,
    },
    /// There is nothing to audit.
    #[error("no code: none of the file's {count} {kind} is executable and has bytes")]
    NoCode {
        /// How many headers were looked at.
        count: usize,
        /// What they were: "sections", or "segments" of a file without section headers.
        kind: &'static str,
    },
}
