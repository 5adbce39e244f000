//! Builds small ELF images, good ones unless a test says otherwise.

/// Where the kernel is linked, less its physical address.
pub const BASE: u64 = 0xffff_ffff_8000_0000;

pub const R: u32 = 4;
pub const RW: u32 = 6;
pub const RX: u32 = 5;
pub const RWX: u32 = 7;

pub const FUNC: u8 = 2;
pub const LABEL: u8 = 0;
pub const GLOBAL: u8 = 0x10;

pub const HEADER_LEN: usize = 64;
pub const ROW_LEN: usize = 56;

/// A program header, in the file's order of fields.
#[derive(Debug, Clone)]
pub struct Row {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub virt: u64,
    pub phys: u64,
    pub file_len: u64,
    pub mem_len: u64,
    pub align: u64,
}

/// A PT_LOAD of `len` bytes at `phys`, with bytes of the file's very beginning.
pub fn load(flags: u32, phys: u64, len: u64) -> Row {
    let virt = BASE + phys;
    Row {
        kind: 1,
        flags,
        offset: 0,
        virt,
        phys,
        file_len: len.min(64),
        mem_len: len,
        align: 4096,
    }
}

/// A symbol of the only code section.
pub struct Sym {
    pub name: &'static str,
    pub start: u64,
    pub size: u64,
    pub info: u8,
}

pub fn sym(name: &'static str, start: u64, size: u64, info: u8) -> Sym {
    Sym {
        name,
        start,
        size,
        info,
    }
}

/// Text, read-only data, data with bss: the smallest kernel.
pub fn kernel_rows() -> Vec<Row> {
    vec![
        load(RX, 0x10_0000, 0x1800),
        load(R, 0x10_2000, 0x40),
        load(RW, 0x10_3010, 0x2000),
    ]
}

pub fn kernel() -> Vec<u8> {
    image(BASE + 0x10_0010, &kernel_rows())
}

/// An executable with these program headers, and 64 bytes after them.
pub fn image(entry: u64, rows: &[Row]) -> Vec<u8> {
    let mut out = header(entry, rows.len());
    for row in rows {
        out.extend(row.kind.to_le_bytes());
        out.extend(row.flags.to_le_bytes());
        let rest = [
            row.offset,
            row.virt,
            row.phys,
            row.file_len,
            row.mem_len,
            row.align,
        ];
        out.extend(rest.iter().flat_map(|field| field.to_le_bytes()));
    }
    out.extend([0xcc; 64]);
    out
}

/// `kernel()` with `.text` at its text segment, `.symtab` and `.strtab`.
pub fn kernel_with(symbols: &[Sym]) -> Vec<u8> {
    let mut out = kernel();
    let (mut table, mut names) = (vec![0; 24], vec![0]);
    for symbol in symbols {
        table.extend((names.len() as u32).to_le_bytes());
        table.extend([symbol.info, 0, 1, 0]);
        table.extend(symbol.start.to_le_bytes());
        table.extend(symbol.size.to_le_bytes());
        names.extend(symbol.name.bytes().chain([0]));
    }
    let table_at = out.len();
    let names_at = table_at + table.len();
    out.extend(&table);
    out.extend(&names);
    let sections_at = out.len() as u64;
    out.extend(section(0, 0, 0, 0, 0, 0));
    out.extend(section(1, 6, BASE + 0x10_0000, 0, 0x1800, 0));
    out.extend(section(2, 0, 0, table_at, table.len(), 3));
    out.extend(section(3, 0, 0, names_at, names.len(), 0));
    put(&mut out, 40, &sections_at.to_le_bytes());
    put(&mut out, 58, &[64, 0, 4, 0]);
    out
}

/// Overwrites bytes of an image.
pub fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn header(entry: u64, rows: usize) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    out.extend(entry.to_le_bytes());
    out.extend((HEADER_LEN as u64).to_le_bytes());
    out.extend([0; 12]);
    for field in [HEADER_LEN, ROW_LEN, rows, 0, 0, 0] {
        out.extend((field as u16).to_le_bytes());
    }
    assert_eq!(out.len(), HEADER_LEN);
    out
}

fn section(kind: u32, flags: u64, addr: u64, offset: usize, len: usize, link: u32) -> Vec<u8> {
    let mut out = [0u32, kind]
        .iter()
        .flat_map(|field| field.to_le_bytes())
        .collect::<Vec<_>>();
    let wide = [flags, addr, offset as u64, len as u64];
    out.extend(wide.iter().flat_map(|field| field.to_le_bytes()));
    out.extend([link, 0].iter().flat_map(|field| field.to_le_bytes()));
    let entry_len = if kind == 2 { 24u64 } else { 0 };
    out.extend([1, entry_len].iter().flat_map(|field| field.to_le_bytes()));
    out
}
