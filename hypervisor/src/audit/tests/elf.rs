//! Builds small ELF64 images for the tests, field by field, with nothing that a linker would add.

const EXEC: u64 = 6;
const READ: u64 = 2;

/// Where [`Elf::text`] puts its section.
pub(super) const TEXT: u64 = 0xffff_ffff_8000_0000;

pub(super) const FUNC: u8 = 2;
pub(super) const LABEL: u8 = 0;

/// An image in the making.
#[derive(Clone, Default)]
pub(super) struct Elf {
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
    without_section_headers: bool,
}

#[derive(Clone)]
struct Section {
    name: String,
    kind: u32,
    flags: u64,
    address: u64,
    bytes: Vec<u8>,
    link: u32,
    entry_size: u64,
}

#[derive(Clone)]
struct Symbol {
    name: String,
    info: u8,
    section: u16,
    value: u64,
    size: u64,
}

impl Elf {
    /// An image with `code` in `.text` at [`TEXT`].
    pub(super) fn text(code: &[u8]) -> Self {
        Elf::default().section(".text", EXEC, TEXT, code)
    }

    pub(super) fn code(self, name: &str, address: u64, code: &[u8]) -> Self {
        self.section(name, EXEC, address, code)
    }

    pub(super) fn data(self, name: &str, address: u64, bytes: &[u8]) -> Self {
        self.section(name, READ, address, bytes)
    }

    fn section(mut self, name: &str, flags: u64, address: u64, bytes: &[u8]) -> Self {
        self.sections.push(Section {
            name: name.to_owned(),
            kind: 1,
            flags,
            address,
            bytes: bytes.to_vec(),
            link: 0,
            entry_size: 0,
        });
        self
    }

    /// A global symbol at `offset` in the first section.
    pub(super) fn symbol(mut self, name: &str, kind: u8, offset: u64, size: u64) -> Self {
        let symbol = Symbol {
            name: name.to_owned(),
            info: 0x10 | kind,
            section: 1,
            value: self.sections[0].address + offset,
            size,
        };
        self.symbols.push(symbol);
        self
    }

    pub(super) fn without_section_headers(mut self) -> Self {
        self.without_section_headers = true;
        self
    }

    pub(super) fn build(mut self) -> Vec<u8> {
        let loaded = self.sections.len();
        self.add_symbol_table();
        let names = self.add_section_names();
        let mut file = vec![0; 64 + 56 * loaded];
        let mut segments = vec![];
        let mut headers = vec![0; 64];
        for (section, name) in self.sections.iter().zip(names) {
            file.resize(file.len().next_multiple_of(16), 0);
            headers.extend(section_header(section, name, file.len() as u64));
            segments.extend(segment_header(section, file.len() as u64));
            file.extend(&section.bytes);
        }
        file[64..64 + 56 * loaded].copy_from_slice(&segments[..56 * loaded]);
        file.resize(file.len().next_multiple_of(16), 0);
        let table = file.len() as u64;
        if !self.without_section_headers {
            file.extend(headers);
        }
        let count = self.sections.len() as u16 + 1;
        let sections = if self.without_section_headers {
            (0, 0)
        } else {
            (table, count)
        };
        file[..64].copy_from_slice(&file_header(loaded as u16, sections));
        file
    }

    fn add_symbol_table(&mut self) {
        if self.symbols.is_empty() {
            return;
        }
        let mut strings = vec![0];
        let mut table = vec![0; 24];
        for symbol in &self.symbols {
            table.extend((strings.len() as u32).to_le_bytes());
            table.extend([symbol.info, 0]);
            table.extend(symbol.section.to_le_bytes());
            table.extend(symbol.value.to_le_bytes());
            table.extend(symbol.size.to_le_bytes());
            strings.extend(symbol.name.bytes().chain([0]));
        }
        let strings_index = self.sections.len() as u32 + 2;
        let plain = |name: &str, kind, bytes, link, entry_size| {
            let (flags, address, name) = (0, 0, name.to_owned());
            Section {
                name,
                kind,
                flags,
                address,
                bytes,
                link,
                entry_size,
            }
        };
        self.sections
            .push(plain(".symtab", 2, table, strings_index, 24));
        self.sections.push(plain(".strtab", 3, strings, 0, 0));
    }

    /// Append `.shstrtab`; returns each section's offset in it.
    fn add_section_names(&mut self) -> Vec<u32> {
        self.sections.push(Section {
            name: ".shstrtab".to_owned(),
            kind: 3,
            flags: 0,
            address: 0,
            bytes: vec![],
            link: 0,
            entry_size: 0,
        });
        let mut strings = vec![0];
        let mut offsets = vec![];
        for section in &self.sections {
            offsets.push(strings.len() as u32);
            strings.extend(section.name.bytes().chain([0]));
        }
        self.sections.last_mut().unwrap().bytes = strings;
        offsets
    }
}

fn file_header(segments: u16, (table, sections): (u64, u16)) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    header.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [TEXT, 64, table] {
        header.extend(word.to_le_bytes());
    }
    header.extend([0; 4]);
    let names = sections.saturating_sub(1);
    for half in [64, 56, segments, 64, sections, names] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn section_header(section: &Section, name: u32, offset: u64) -> Vec<u8> {
    let mut header = name.to_le_bytes().to_vec();
    header.extend(section.kind.to_le_bytes());
    let size = section.bytes.len() as u64;
    for word in [section.flags, section.address, offset, size] {
        header.extend(word.to_le_bytes());
    }
    header.extend(section.link.to_le_bytes());
    header.extend([0; 4]);
    for word in [1, section.entry_size] {
        header.extend(word.to_le_bytes());
    }
    header
}

fn segment_header(section: &Section, offset: u64) -> Vec<u8> {
    let flags: u32 = if section.flags == EXEC { 5 } else { 4 };
    let mut header = 1u32.to_le_bytes().to_vec();
    header.extend(flags.to_le_bytes());
    let size = section.bytes.len() as u64;
    for word in [offset, section.address, section.address, size, size, 1] {
        header.extend(word.to_le_bytes());
    }
    header
}
