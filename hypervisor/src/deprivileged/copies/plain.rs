//! What most of a kernel's instructions are, seen without a decoder: those that are neither sensitive nor name an address,
//! and near branches. Following code meets thousands of them before a guest begins; what is not told here, the decoder
//! tells. Encodings: SDM vol. 2, appendix A; each is compared with the decoder's answer by a test.

/// An instruction that is executed as it is, and names no address but where it branches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// In bytes.
    pub len: usize,
    /// How far its target is from the next instruction, if it is a near branch.
    pub branch: Option<i32>,
    /// Whether the next one may come after it.
    pub goes_on: bool,
}

/// As many bytes as are looked at.
pub const WINDOW: usize = 16;

/// It is one of those told here.
const KNOWN: u8 = 1;
/// A ModR/M byte comes behind it.
const MODRM: u8 = 2;
/// A byte comes at its end.
const BYTE: u8 = 1 << KIND;
/// Four bytes come at its end, or two where operands have 16 bits.
const WORDS: u8 = 2 << KIND;
/// Eight bytes come at its end where operands have 64 bits; else as `WORDS`.
const LONG: u8 = 3 << KIND;
/// It is told only where the reg field of ModR/M is 0.
const ZERO: u8 = 16;
/// Likewise, 0 or 1.
const FEW: u8 = 32;
/// A near branch: what comes at its end is how far.
const BRANCH: u8 = 64;
/// The next one does not come after it.
const STOP: u8 = 128;

/// Where it says what comes at the end.
const KIND: u32 = 2;
/// How many bytes that is: by kind, whether operands have 16 bits, and whether they have 64.
const END: [u8; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 4, 4, 2, 4, 4, 8, 2, 8];

/// Prefixes.
const OPERAND_SIZE: u8 = 0x66;
const REX: u8 = 0x40;
const REX_W: u8 = 8;
/// What comes before an opcode of the second table.
const ESCAPE: u8 = 0x0f;

/// By opcode: of one byte, and behind `ESCAPE`.
static OPCODES: [[u8; 256]; 2] = [one(), two()];
/// How many bytes an operand has, by ModR/M.
static OPERANDS: [u8; 256] = operands();
/// In it: an address of its own.
const ALONE: u8 = 16;
/// In it: four bytes more, where the base is 5.
const MORE: u8 = 32;

const fn put(table: &mut [u8; 256], first: usize, last: usize, what: u8) {
    let mut at = first;
    while at <= last {
        table[at] = KNOWN | what;
        at += 1;
    }
}

const fn one() -> [u8; 256] {
    let mut all = [0; 256];
    // ADD, OR, ADC, SBB, AND, SUB, XOR, CMP.
    let mut row = 0;
    while row < 0x40 {
        put(&mut all, row, row + 3, MODRM);
        put(&mut all, row + 4, row + 4, BYTE);
        put(&mut all, row + 5, row + 5, WORDS);
        row += 8;
    }
    put(&mut all, 0x50, 0x5f, 0); // PUSH, POP
    put(&mut all, 0x63, 0x63, MODRM); // MOVSXD
    put(&mut all, 0x68, 0x68, WORDS); // PUSH
    put(&mut all, 0x69, 0x69, MODRM | WORDS); // IMUL
    put(&mut all, 0x6a, 0x6a, BYTE); // PUSH
    put(&mut all, 0x6b, 0x6b, MODRM | BYTE); // IMUL
    put(&mut all, 0x70, 0x7f, BRANCH | BYTE); // Jcc
    put(&mut all, 0x80, 0x80, MODRM | BYTE); // ADD and its like
    put(&mut all, 0x81, 0x81, MODRM | WORDS);
    put(&mut all, 0x83, 0x83, MODRM | BYTE);
    put(&mut all, 0x84, 0x8b, MODRM); // TEST, XCHG, MOV
    put(&mut all, 0x90, 0x99, 0); // NOP, XCHG, CDQE, CQO
    put(&mut all, 0xa8, 0xa8, BYTE); // TEST
    put(&mut all, 0xa9, 0xa9, WORDS);
    put(&mut all, 0xb0, 0xb7, BYTE); // MOV
    put(&mut all, 0xb8, 0xbf, LONG);
    put(&mut all, 0xc0, 0xc1, MODRM | BYTE); // shifts
    put(&mut all, 0xd0, 0xd3, MODRM);
    put(&mut all, 0xc3, 0xc3, BRANCH | STOP); // RET
    put(&mut all, 0xc6, 0xc6, MODRM | BYTE | ZERO); // MOV
    put(&mut all, 0xc7, 0xc7, MODRM | WORDS | ZERO);
    put(&mut all, 0xc9, 0xc9, 0); // LEAVE
    put(&mut all, 0xe8, 0xe8, BRANCH | WORDS); // CALL
    put(&mut all, 0xe9, 0xe9, BRANCH | STOP | WORDS); // JMP
    put(&mut all, 0xeb, 0xeb, BRANCH | STOP | BYTE);
    put(&mut all, 0xf6, 0xf6, MODRM | BYTE | ZERO); // TEST
    put(&mut all, 0xf7, 0xf7, MODRM | WORDS | ZERO);
    put(&mut all, 0xfe, 0xff, MODRM | FEW); // INC, DEC
    all
}

const fn two() -> [u8; 256] {
    let mut all = [0; 256];
    put(&mut all, 0x1f, 0x1f, MODRM); // NOP
    put(&mut all, 0x40, 0x4f, MODRM); // CMOVcc
    put(&mut all, 0x80, 0x8f, BRANCH | WORDS); // Jcc
    put(&mut all, 0x90, 0x9f, MODRM); // SETcc
    put(&mut all, 0xa3, 0xa3, MODRM); // BT
    put(&mut all, 0xaf, 0xaf, MODRM); // IMUL
    put(&mut all, 0xb6, 0xb7, MODRM); // MOVZX
    put(&mut all, 0xbc, 0xbf, MODRM); // BSF, BSR, MOVSX
    put(&mut all, 0xc8, 0xcf, 0); // BSWAP
    all
}

const fn operands() -> [u8; 256] {
    let mut all = [0; 256];
    let mut modrm = 0;
    while modrm < 256 {
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let displacement = match mode {
            1 => 1,
            2 => 4,
            _ => 0,
        };
        all[modrm] = match (mode, rm) {
            (3, _) => 1,
            (0, 5) => 5 | ALONE,
            (0, 4) => 2 | MORE,
            (_, 4) => 2 + displacement,
            _ => 1 + displacement,
        };
        modrm += 1;
    }
    all
}

impl Plain {
    /// The instruction that bytes begin with, if it is one of those told here. There is hardly a branch in it that a
    /// processor could foresee wrongly.
    #[inline]
    pub fn of(bytes: &[u8; WINDOW]) -> Option<Self> {
        let take = |bytes: u64, is_there: bool| bytes >> (8 * u32::from(is_there));
        let mut rest = u128::from_le_bytes(*bytes) as u64;
        let is_short = rest as u8 == OPERAND_SIZE;
        rest = take(rest, is_short);
        let rex = rest as u8;
        let is_rex = rex & 0xf0 == REX;
        let is_long = is_rex && rex & REX_W != 0;
        rest = take(rest, is_rex);
        let is_escaped = rest as u8 == ESCAPE;
        rest = take(rest, is_escaped);
        let what = OPCODES[usize::from(is_escaped)][usize::from(rest as u8)];
        let is = |bit: u8| what & bit != 0;
        rest >>= 8;
        // On a branch 16 bits mean other things on other processors.
        if what == 0 || is(BRANCH) && is_short {
            return None;
        }
        let mut operand = 0;
        if is(MODRM) {
            let (modrm, base) = (rest as u8, (rest >> 8) as u8 & 7);
            let reg = modrm >> 3 & 7;
            operand = OPERANDS[usize::from(modrm)];
            if operand & ALONE != 0 || is(ZERO) && reg != 0 || is(FEW) && reg > 1 {
                return None;
            }
            let more = 4 * u8::from(operand & MORE != 0 && base == 5);
            operand = (operand & !MORE) + more;
        }
        let kind = usize::from(what >> KIND & 3) << 2;
        let end = END[kind | usize::from(is_short) << 1 | usize::from(is_long)];
        let before = [is_short, is_rex, is_escaped].map(u8::from);
        let len = before.iter().sum::<u8>() + 1 + operand + end;
        let branch = match (is(BRANCH), what & LONG) {
            (true, BYTE) => Some(i32::from(rest as i8)),
            (true, WORDS) => Some(rest as i32),
            _ => None,
        };
        Some(Self {
            len: usize::from(len),
            branch,
            goes_on: !is(STOP),
        })
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::FlowControl;
    use proptest::prelude::*;

    use super::super::follow::decode;
    use super::*;
    use crate::doors::trap::{Class, classify};
    use crate::patch::Kind;

    const AT: u64 = 0xffff_ffff_8010_0000;

    /// What the decoder says of bytes has to be what is told here, if anything is. Whether something is.
    fn compare(bytes: &[u8; WINDOW]) -> bool {
        let Some(plain) = Plain::of(bytes) else {
            return false;
        };
        let found = decode(bytes, AT).unwrap_or_else(|| panic!("{bytes:02x?} is {plain:?}"));
        assert_eq!(plain.len, found.len(), "{bytes:02x?}");
        let next = AT + plain.len as u64;
        let target = plain.branch.map(|far| next.wrapping_add_signed(far.into()));
        assert_eq!(
            target.unwrap_or(0),
            found.near_branch_target(),
            "{bytes:02x?}"
        );
        let goes_on = matches!(
            found.flow_control(),
            FlowControl::Next | FlowControl::Call | FlowControl::ConditionalBranch
        );
        let ends = [FlowControl::UnconditionalBranch, FlowControl::Return];
        assert!(
            goes_on || ends.contains(&found.flow_control()),
            "{bytes:02x?}"
        );
        assert_eq!(plain.goes_on, goes_on, "{bytes:02x?}");
        assert_eq!(classify(&found), Class::Innocuous, "{bytes:02x?}");
        assert!(!found.is_ip_rel_memory_operand(), "{bytes:02x?}");
        assert_eq!(Kind::of(&found), None, "{bytes:02x?}");
        true
    }

    #[test]
    fn what_is_told_is_what_the_decoder_says_of_each_opcode_and_operand() {
        let rex = [0x40, 0x41, 0x42, 0x44, 0x48, 0x49, 0x4f];
        let mut prefixes: Vec<Vec<u8>> = vec![vec![]];
        prefixes.extend(rex.map(|rex| vec![rex]));
        let short: Vec<Vec<u8>> = prefixes
            .iter()
            .map(|rest| [&[OPERAND_SIZE], rest.as_slice()].concat())
            .collect();
        prefixes.extend(short);
        prefixes.extend([0xf0, 0xf2, 0xf3, 0x64, 0x67].map(|prefix| vec![prefix]));
        let mut told = 0;
        for prefix in &prefixes {
            for escape in [&[][..], &[ESCAPE]] {
                for opcode in 0..=255 {
                    for modrm in 0..=255 {
                        for sib in [0x00, 0x24, 0x25, 0x65, 0xe4] {
                            let tail = [modrm, sib, 0x81, 0x92, 0xa3, 0x14, 5, 6, 7, 8, 9];
                            let mut bytes = [prefix, escape, &[opcode], &tail].concat();
                            bytes.resize(WINDOW, 0);
                            told += usize::from(compare(bytes.first_chunk().expect("a window")));
                            // Without SIB the byte is one like the others.
                            if modrm & 7 != 4 || modrm >> 6 == 3 {
                                break;
                            }
                        }
                    }
                }
            }
        }
        assert!(told > 100_000, "{told}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_told_is_what_the_decoder_says_of_any_bytes(bytes in prop::array::uniform16(any::<u8>())) {
            compare(&bytes);
        }
    }
}
