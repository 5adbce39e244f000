//! What commands print of data that they moved, so that others can compare.

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The hash FNV-1a with 64 bits (draft-eastlake-fnv).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fnv(pub u64);

impl Fnv {
    /// The hash of nothing.
    pub const fn new() -> Self {
        Self(BASIS)
    }

    /// Add bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

/// FNV-1a over words of 8 bytes, little-endian, the last one filled up with zeros: for streams, whose
/// speed a hash of bytes would hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordFnv {
    hash: u64,
    /// Bytes of a word that is not whole yet.
    rest: [u8; 8],
    len: usize,
}

impl WordFnv {
    /// The hash of nothing.
    pub const fn new() -> Self {
        Self {
            hash: BASIS,
            rest: [0; 8],
            len: 0,
        }
    }

    /// Add bytes, which need not be whole words.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.len > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(8 - self.len));
            self.fill(now);
            bytes = later;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(*word);
        }
        self.fill(rest);
    }

    fn fill(&mut self, bytes: &[u8]) {
        for (place, byte) in self.rest.iter_mut().skip(self.len).zip(bytes) {
            *place = *byte;
        }
        self.len += bytes.len();
        if self.len == 8 {
            self.word(self.rest);
            (self.rest, self.len) = ([0; 8], 0);
        }
    }

    fn word(&mut self, word: [u8; 8]) {
        self.hash = (self.hash ^ u64::from_le_bytes(word)).wrapping_mul(PRIME);
    }

    /// The hash of all that was added.
    pub fn finish(mut self) -> u64 {
        if self.len > 0 {
            self.word(self.rest);
        }
        self.hash
    }
}

impl Default for WordFnv {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Test vectors of its authors, draft-eastlake-fnv.
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut hash = Fnv::new();
            hash.add(text.as_bytes());
            assert_eq!(hash.0, expected);
        }
    }

    #[test]
    fn words_are_the_same_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..100u8).map(|at| at.wrapping_mul(37)).collect();
        let mut whole = WordFnv::new();
        whole.add(&bytes);
        for size in 1..30 {
            let mut parts = WordFnv::new();
            bytes.chunks(size).for_each(|part| parts.add(part));
            assert_eq!(parts.finish(), whole.finish(), "{size}");
        }
        let mut filled = bytes.clone();
        filled.resize(104, 0);
        let words = filled.chunks(8).fold(BASIS, |hash, word| {
            (hash ^ u64::from_le_bytes(word.try_into().unwrap())).wrapping_mul(PRIME)
        });
        assert_eq!(whole.finish(), words);
        assert_eq!(WordFnv::new().finish(), BASIS);
    }
}
