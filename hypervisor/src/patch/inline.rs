//! What CLI, STI, PUSHF and POPF become: accesses to a flag in memory.
//!
//! The virtual interrupt flag is the byte at [`FLAG`]: 0, or [`ON`]. None of the code changes a flag of
//! the real processor, and none touches guest memory but as the instruction itself does.
//!
//! - The page for setting the flag is not mapped while an interrupt waits: so to let interrupts in is
//!   one store, and it faults when there is something to do.
//! - Neither page is mapped while a flag is set that patched code does not show (AC, NT, IOPL, TF).
//! - POPF looks its bits up: the answer is the distance to the page to store to, and its second byte
//!   what to store. A value with special bits leads to a page that is never mapped.

use std::sync::OnceLock;

use super::{Kind, Undo};
use crate::monitor::native::layout::{
    PATCH_FLAG, PATCH_FLAG_TABLES, PATCH_NEVER, PATCH_SAVE, PATCH_SET, patch_linear,
};

/// The flag, for who clears or reads it.
pub const FLAG: u64 = patch_linear(PATCH_FLAG);
/// The value of a flag that is set. The page for setting it is that many pages of 256 bytes further.
pub const ON: u8 = 0x10;
const SET: u64 = patch_linear(PATCH_SET);
const SAVE: u64 = patch_linear(PATCH_SAVE);
/// 512 double words: where to store, for the second byte of POPF's value, and for 256 plus that byte
/// when the third has bits of interest.
const WHERE: u64 = patch_linear(PATCH_FLAG_TABLES);
/// 256 double words: 256 where the third byte of POPF's value has bits of interest.
const HIGH: u64 = WHERE + 0x800;
/// Bytes: what PUSHF shows as its second byte while the flag is off; with [`ON`], a page further.
const SHOWN: u64 = patch_linear(PATCH_FLAG_TABLES + 1);

const _: () = assert!(SET - FLAG == (ON as u64) << 8);
const _: () = assert!(patch_linear(PATCH_NEVER) - FLAG == 0x2000);

/// Bits of the flags' second byte: TF, IOPL and NT need the hypervisor; IF.
const SPECIAL: u8 = 1 << 0 | 3 << 4 | 1 << 6;
const INTERRUPTS: u8 = 1 << 1;
/// AC, in the third byte.
const ALIGNMENT: u8 = 1 << 2;

/// The three pages of tables.
pub fn flag_tables() -> [Vec<u8>; 3] {
    let place = |byte: u8, is_high_special: bool| -> u32 {
        match byte {
            _ if is_high_special || byte & SPECIAL != 0 => 0x2000,
            _ if byte & INTERRUPTS != 0 => u32::from(ON) << 8,
            _ => 0,
        }
    };
    let places = (0..=255u8)
        .map(|byte| place(byte, false))
        .chain((0..=255u8).map(|byte| place(byte, true)));
    let high = (0..=255u8).map(|byte| u32::from(byte & ALIGNMENT != 0) << 8);
    let shown = |bits: u8| (0..=255u8).map(|byte| byte & !INTERRUPTS | bits).collect();
    [
        places.chain(high).flat_map(u32::to_le_bytes).collect(),
        shown(0),
        shown(INTERRUPTS),
    ]
}

/// Code, and the offsets at which it changes what has to be undone when the guest is interrupted there.
pub type Inlined = (Vec<u8>, Vec<(usize, Undo)>);

/// What a kind of instruction becomes.
pub fn code_of(kind: Kind) -> &'static Inlined {
    static CODE: [OnceLock<Inlined>; 4] = [const { OnceLock::new() }; 4];
    let [cli, sti, pushf, popf] = &CODE;
    let code = match kind {
        Kind::Cli => cli,
        Kind::Sti => sti,
        Kind::Pushf => pushf,
        Kind::Popf => popf,
    };
    code.get_or_init(|| write(kind))
}

fn write(kind: Kind) -> Inlined {
    let mut code = Inlined::default();
    match kind {
        Kind::Cli => put(&mut code, Undo::Nothing, &[0xc6, 0x04, 0x25], FLAG, &[0]),
        Kind::Sti => put(&mut code, Undo::Nothing, &[0xc6, 0x04, 0x25], SET, &[ON]),
        Kind::Pushf => {
            save_rcx(&mut code, Undo::Nothing);
            plain(&mut code, Undo::Rcx, &[0x9c]); // pushfq
            // movzx ecx, byte [rsp + 1]
            plain(&mut code, Undo::Push, &[0x0f, 0xb6, 0x4c, 0x24, 0x01]);
            put(&mut code, Undo::Push, &[0x8a, 0x2c, 0x25], FLAG, &[]); // mov ch, [FLAG]
            put(&mut code, Undo::Push, &[0x8a, 0x89], SHOWN, &[]); // mov cl, [rcx + SHOWN]
            plain(&mut code, Undo::Push, &[0x88, 0x4c, 0x24, 0x01]); // mov [rsp + 1], cl
            restore_rcx(&mut code, Undo::Push);
        }
        Kind::Popf => {
            save_rcx(&mut code, Undo::Nothing);
            // movzx ecx, byte [rsp + 2]
            plain(&mut code, Undo::Rcx, &[0x0f, 0xb6, 0x4c, 0x24, 0x02]);
            put(&mut code, Undo::Rcx, &[0x8b, 0x0c, 0x8d], HIGH, &[]); // mov ecx, [rcx * 4 + HIGH]
            plain(&mut code, Undo::Rcx, &[0x8a, 0x4c, 0x24, 0x01]); // mov cl, [rsp + 1]
            put(&mut code, Undo::Rcx, &[0x8b, 0x0c, 0x8d], WHERE, &[]); // mov ecx, [rcx * 4 + WHERE]
            put(&mut code, Undo::Rcx, &[0x88, 0xa9], FLAG, &[]); // mov [rcx + FLAG], ch
            restore_rcx(&mut code, Undo::Finish);
            plain(&mut code, Undo::FinishPlain, &[0x9d]); // popfq
        }
    }
    code
}

fn save_rcx(code: &mut Inlined, undo: Undo) {
    put(code, undo, &[0x48, 0x89, 0x0c, 0x25], SAVE, &[]);
}

fn restore_rcx(code: &mut Inlined, undo: Undo) {
    put(code, undo, &[0x48, 0x8b, 0x0c, 0x25], SAVE, &[]);
}

/// An instruction with an absolute address: four bytes, sign-extended, which the area's place allows.
fn put(code: &mut Inlined, undo: Undo, before: &[u8], at: u64, after: &[u8]) {
    let at = (at as u32).to_le_bytes();
    plain(code, undo, &[before, &at, after].concat());
}

fn plain(code: &mut Inlined, undo: Undo, bytes: &[u8]) {
    code.1.push((code.0.len(), undo));
    code.0.extend_from_slice(bytes);
}
