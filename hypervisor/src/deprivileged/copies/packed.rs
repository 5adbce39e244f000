//! What is known of a page with code, packed: as a file has it. A boot unpacks what it asks for; most pages are only
//! executed.

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::page::{Bits, Shown};
use super::{PAGE, TRAP};

const BYTES: usize = PAGE as usize;
/// Bytes that hold a bit for each byte of a page.
const BITS: usize = BYTES / 8;

/// What is known of a page, without the guest's own bytes.
///
/// Little-endian: a bit for each byte that a known instruction starts at; then lists, each a count of 16 bits and as
/// many pairs of 16 bits. They are ranges of offsets, start and end: of bytes of known instructions, of bytes that are
/// executed as they are, of what stays a trap, of what overlaps, of what was moved. The last list has offset and byte
/// of what is executed where that is neither the guest's own byte nor a trap.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Packed(#[serde(with = "serde_bytes")] Vec<u8>);

/// A pair of a list.
type Pair = [U16; 2];

/// The parts of what is packed.
struct Parts<'a> {
    starts: &'a [u8],
    known: &'a [Pair],
    plain: &'a [Pair],
    traps: &'a [Pair],
    overlaps: &'a [Pair],
    patched: &'a [Pair],
    others: &'a [Pair],
}

impl Packed {
    /// Pack what is known; `own` are the guest's own bytes.
    pub fn of(shown: &Shown, own: &[u8; BYTES]) -> Self {
        let mut plain = Bits::none();
        let mut others: Vec<Pair> = Vec::new();
        for (at, (byte, own)) in shown.bytes.iter().zip(own).enumerate() {
            match *byte {
                // Whoever wrote a trap over a trap meant the trap: no difference.
                TRAP => {}
                byte if byte == *own => plain.set(at),
                byte => others.push([U16::new(at as u16), U16::new(byte.into())]),
            }
        }
        let mut bytes = shown.starts.0.as_bytes().to_vec();
        let sets = [
            &shown.known,
            &plain,
            &shown.traps,
            &shown.overlaps,
            &shown.patched,
        ];
        for list in sets.map(ranges).iter().chain([&others]) {
            bytes.extend(U16::new(list.len() as u16).as_bytes());
            bytes.extend(list.as_bytes());
        }
        Self(bytes)
    }

    /// Whether all is where it should be.
    pub fn is_whole(&self) -> bool {
        let is_range = |[start, end]: &Pair| start <= end && usize::from(end.get()) <= BYTES;
        self.parts().is_some_and(|parts| {
            let ranges = [
                parts.known,
                parts.plain,
                parts.traps,
                parts.overlaps,
                parts.patched,
            ];
            let is_offset = |[at, _]: &Pair| usize::from(at.get()) < BYTES;
            ranges.into_iter().flatten().all(is_range) && parts.others.iter().all(is_offset)
        })
    }

    /// The parts; `None` if it is too short for them, or too long.
    fn parts(&self) -> Option<Parts<'_>> {
        let (starts, mut rest) = self.0.split_at_checked(BITS)?;
        let mut list = || {
            let (count, behind) = U16::ref_from_prefix(rest).ok()?;
            let (list, behind) =
                <[Pair]>::ref_from_prefix_with_elems(behind, count.get().into()).ok()?;
            rest = behind;
            Some(list)
        };
        let parts = Parts {
            starts,
            known: list()?,
            plain: list()?,
            traps: list()?,
            overlaps: list()?,
            patched: list()?,
            others: list()?,
        };
        rest.is_empty().then_some(parts)
    }

    /// Whether a known instruction starts at an offset.
    pub fn begins(&self, offset: usize) -> bool {
        let starts = self.0.get(..BITS).unwrap_or_default();
        let byte = starts.get(offset / 8).copied().unwrap_or(0);
        byte >> (offset % 8) & 1 == 1
    }

    /// What is executed in the page.
    pub fn bytes(&self, own: &[u8; BYTES]) -> [u8; BYTES] {
        let mut bytes = [TRAP; BYTES];
        let Some(parts) = self.parts() else {
            return bytes;
        };
        for [start, end] in parts.plain {
            let range = usize::from(start.get())..usize::from(end.get());
            if let (Some(to), Some(from)) = (bytes.get_mut(range.clone()), own.get(range)) {
                to.copy_from_slice(from);
            }
        }
        for [at, byte] in parts.others {
            if let Some(to) = bytes.get_mut(usize::from(at.get())) {
                *to = byte.get() as u8;
            }
        }
        bytes
    }

    /// All of it.
    pub fn unpack(&self, own: &[u8; BYTES]) -> Shown {
        let mut shown = Shown::nothing();
        let Some(parts) = self.parts() else {
            return shown;
        };
        shown.bytes = self.bytes(own);
        for (word, bits) in shown.starts.0.iter_mut().zip(parts.starts.chunks_exact(8)) {
            *word = u64::from_le_bytes(bits.try_into().unwrap_or_default());
        }
        for (bits, ranges) in [
            (&mut shown.known, parts.known),
            (&mut shown.traps, parts.traps),
            (&mut shown.overlaps, parts.overlaps),
            (&mut shown.patched, parts.patched),
        ] {
            for [start, end] in ranges {
                bits.set_all(usize::from(start.get())..usize::from(end.get()));
            }
        }
        shown
    }
}

/// The ranges of bits that are set.
fn ranges(bits: &Bits) -> Vec<Pair> {
    let mut ranges: Vec<Pair> = Vec::new();
    let mut at = 0;
    while let Some(start) = bits.first(at..BYTES) {
        let end = bits.first_clear(start..BYTES).unwrap_or(BYTES);
        ranges.push([U16::new(start as u16), U16::new(end as u16)]);
        at = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits() -> impl Strategy<Value = Bits> {
        // Sparse, dense, and in between.
        let word = prop_oneof![
            Just(0),
            Just(u64::MAX),
            any::<u64>(),
            (0..64u32).prop_map(|n| 1 << n)
        ];
        prop::collection::vec(word, 64).prop_map(|words| Bits(words.try_into().unwrap()))
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(
            (known, starts, traps, overlaps, patched) in (bits(), bits(), bits(), bits(), bits()),
            plain in bits(),
            jumps in prop::collection::vec((0..BYTES, any::<u8>()), 0..20),
            seed: u64,
        ) {
            let own: [u8; BYTES] = std::array::from_fn(|at| (seed >> (at % 57)) as u8 ^ at as u8);
            let byte = |at| if plain.has(at) { own[at] } else { TRAP };
            let mut bytes: [u8; BYTES] = std::array::from_fn(byte);
            jumps.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            let shown = Shown { bytes, known, starts, traps, overlaps, patched };
            let packed = Packed::of(&shown, &own);
            prop_assert!(packed.is_whole());
            prop_assert_eq!(packed.bytes(&own), bytes);
            prop_assert!((0..BYTES + 1).all(|at| packed.begins(at) == shown.starts.has(at)));
            let again = packed.unpack(&own);
            prop_assert_eq!(again.bytes, bytes);
            for (there, here) in [
                (&again.known, &shown.known),
                (&again.starts, &shown.starts),
                (&again.traps, &shown.traps),
                (&again.overlaps, &shown.overlaps),
                (&again.patched, &shown.patched),
            ] {
                prop_assert_eq!(there.0, here.0);
            }
        }

        #[test]
        fn any_bytes_are_whole_or_not_and_do_no_harm(bytes: Vec<u8>, cut in 0..2000usize) {
            let mut packed = Packed::of(&Shown::nothing(), &[0; BYTES]);
            let at = packed.0.len().min(cut);
            packed.0.splice(at.., bytes);
            packed.is_whole();
            packed.unpack(&[0; BYTES]);
        }
    }
}
