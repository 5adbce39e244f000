//! Images to boot that no compiler makes: a few instructions, or a good image with a wrong byte.

use hypercall_abi::boot::{ABI_VERSION, ImageKind, NOTE_NAME, NOTE_TYPE};
use hypercall_abi::{Mode, layout};
use hypervisor::Config;
use iced_x86::IcedError;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{CodeAssembler, CodeLabel, dword_ptr, qword_ptr};

/// Where the instructions are, guest-physical.
const LOAD: u64 = 0x10_0000;
/// Where they are in the file: a page of its own, so that the segment begins with them.
const CODE: usize = 0x1000;
const HEADER: usize = 64;
const ROW: usize = 56;

/// A guest of a few instructions, entered at the first.
///
/// # Panics
/// When the instructions cannot be assembled.
pub fn instructions(
    mode: Mode,
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Config {
    let entry = layout::KERNEL_BASE + LOAD;
    let code = CodeAssembler::new(64).and_then(|mut assembler| {
        write(&mut assembler)?;
        assembler.assemble(entry)
    });
    let kind = match mode {
        Mode::Pv => ImageKind::Pv,
        _ => ImageKind::Native,
    };
    let image = elf(entry, kind, &code.expect("the instructions assemble"));
    let mut config = Config::new(mode, image, "the instructions");
    config.memory_bytes = 16 << 20;
    config
}

/// Load an IDT with one gate, for an interrupt at the same level: at RBX, with its pointer at RBX + 0x800. RAX and RCX change.
///
/// # Errors
/// As the assembler's.
pub fn load_idt(
    a: &mut CodeAssembler,
    vector: u8,
    selector: u16,
    handler: CodeLabel,
) -> Result<(), IcedError> {
    let gate = i32::from(vector) * 16;
    a.lea(rax, qword_ptr(handler))?;
    a.mov(ecx, eax)?;
    a.and(ecx, 0xffff)?;
    a.or(ecx, i32::from(selector) << 16)?;
    a.mov(dword_ptr(rbx + gate), ecx)?;
    a.mov(ecx, eax)?;
    a.and(ecx, 0xffff_0000u32 as i32)?;
    a.or(ecx, 0x8e00)?;
    a.mov(dword_ptr(rbx + gate + 4), ecx)?;
    a.shr(rax, 32)?;
    a.mov(dword_ptr(rbx + gate + 8), eax)?;
    a.mov(dword_ptr(rbx + gate + 12), 0)?;
    a.mov(dword_ptr(rbx + 0x800), 0x0fff_0000)?;
    a.mov(qword_ptr(rbx + 0x804), rbx)?;
    a.lidt(qword_ptr(rbx + 0x802))
}

/// An ELF file with the code and a note.
fn elf(entry: u64, kind: ImageKind, code: &[u8]) -> Vec<u8> {
    let note = note(kind);
    let note_at = HEADER + 2 * ROW;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // ET_EXEC, EM_X86_64, EV_CURRENT
    file.extend(entry.to_le_bytes());
    file.extend((HEADER as u64).to_le_bytes());
    file.extend([0; 12]); // no sections, no flags
    file.extend([HEADER as u8, 0, ROW as u8, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let code_row = [CODE as u64, entry, LOAD, code.len() as u64, 0x1000, 0x1000];
    let note_row = [note_at as u64, 0, 0, note.len() as u64, 0, 4];
    for (kind, flags, row) in [(1u32, 5u32, code_row), (4, 4, note_row)] {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        file.extend(row.iter().flat_map(|field| field.to_le_bytes()));
    }
    file.extend(note);
    file.resize(CODE, 0);
    file.extend(code);
    file
}

fn note(kind: ImageKind) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [NOTE_NAME.len() as u32, 16, NOTE_TYPE] {
        note.extend(word.to_le_bytes());
    }
    note.extend(NOTE_NAME);
    note.extend([0; 3]);
    for word in [ABI_VERSION, kind as u32, 0, 0] {
        note.extend(word.to_le_bytes());
    }
    note
}

/// Where a good image's note has its version, its kind and its features.
///
/// # Panics
/// When the image has no note.
pub fn note_content(image: &[u8]) -> usize {
    const LENGTHS_AND_TYPE: usize = 12;
    let start = [NOTE_NAME.len() as u32, 16, NOTE_TYPE]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .chain(NOTE_NAME)
        .collect::<Vec<_>>();
    let at = image
        .windows(start.len())
        .position(|window| window == start)
        .expect("the image has a note");
    at + LENGTHS_AND_TYPE + NOTE_NAME.len().next_multiple_of(4)
}

/// An image with bytes of it replaced.
///
/// # Panics
/// When the bytes lie outside.
pub fn with_bytes(image: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    image
}
