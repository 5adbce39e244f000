//! The copy of one page.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use iced_x86::Instruction;

use super::follow::decode;
use super::packed::Packed;
use super::targets::Targets;
use super::{LONGEST, PAGE, TRAP};
use crate::patch::{Code, JUMP};

/// A page that the guest's kernel executes, and what is known of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Copy {
    pub page: u64,
    /// The guest's own bytes.
    pub original: Own,
    /// What is known, once it is more than `packed` says.
    shown: Option<Arc<Shown>>,
    /// What a file knows.
    packed: Option<Arc<Kept>>,
    pub is_changed: bool,
}

/// What a file knows of a page, unpacked when somebody asks.
struct Kept {
    packed: Packed,
    shown: OnceLock<Box<Shown>>,
}

/// The guest's own bytes of a page. Cheap to clone.
#[derive(Clone)]
pub enum Own {
    /// As they were in memory.
    Kept(Arc<[u8; 4096]>),
    /// As they are in an image that is part of this program.
    BuiltIn(&'static [u8; 4096]),
}

impl Deref for Own {
    type Target = [u8; 4096];

    fn deref(&self) -> &[u8; 4096] {
        match self {
            Self::Kept(bytes) => bytes,
            Self::BuiltIn(bytes) => bytes,
        }
    }
}

/// The bytes of a copy, and what each of them is.
#[derive(Clone)]
pub(super) struct Shown {
    pub bytes: [u8; 4096],
    /// A bit for each byte that is part of a known instruction.
    pub known: Bits,
    /// A bit for each byte that a known instruction starts at.
    pub starts: Bits,
    /// Those of them that stay a trap.
    pub traps: Bits,
    /// Those of them that overlap another, where one of both has to trap.
    pub overlaps: Bits,
    /// A bit for each byte of a moved range.
    pub patched: Bits,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copy")
            .field("page", &self.page)
            .finish_non_exhaustive()
    }
}

/// A bit for each byte of a page.
#[derive(Clone, Debug)]
pub(super) struct Bits(pub [u64; 64]);

impl Bits {
    pub const fn none() -> Self {
        Self([0; 64])
    }

    pub fn set(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// Set a range.
    pub fn set_all(&mut self, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let (word, shift) = (at / 64, at % 64);
            let len = (range.end - at).min(64 - shift);
            if let Some(word) = self.0.get_mut(word) {
                *word |= u64::MAX >> (64 - len) << shift;
            }
            at += len;
        }
    }

    fn clear(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word &= !(1 << (at % 64));
        }
    }

    pub fn has(&self, at: usize) -> bool {
        self.0
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// The first one that is set, of a range.
    pub fn first(&self, range: Range<usize>) -> Option<usize> {
        self.find(range, |word| word)
    }

    /// The first one that is not set, of a range.
    pub fn first_clear(&self, range: Range<usize>) -> Option<usize> {
        self.find(range, |word| !word)
    }

    /// The first one that is set in what `of` makes of a word.
    fn find(&self, range: Range<usize>, of: impl Fn(u64) -> u64) -> Option<usize> {
        let mut at = range.start;
        while at < range.end {
            let word = of(*self.0.get(at / 64)?) >> (at % 64);
            if word != 0 {
                at += word.trailing_zeros() as usize;
                return (at < range.end).then_some(at);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

impl Copy {
    /// Nothing is known yet.
    pub fn new(page: u64, original: Own) -> Self {
        Self {
            page,
            original,
            shown: None,
            packed: None,
            is_changed: true,
        }
    }

    /// What a file knows.
    pub fn packed(page: u64, original: Own, packed: Packed) -> Self {
        Self {
            page,
            original,
            shown: None,
            packed: Some(Arc::new(Kept {
                packed,
                shown: OnceLock::new(),
            })),
            is_changed: true,
        }
    }

    /// What is known.
    pub fn shown(&self) -> &Shown {
        static NOTHING: Shown = Shown::nothing();
        match (&self.shown, &self.packed) {
            (Some(shown), _) => shown,
            (None, Some(kept)) => {
                let unpack = || Box::new(kept.packed.unpack(&self.original));
                kept.shown.get_or_init(unpack)
            }
            (None, None) => &NOTHING,
        }
    }

    /// What is executed.
    pub fn bytes(&self) -> Cow<'_, [u8; 4096]> {
        match (&self.shown, &self.packed) {
            (None, Some(kept)) => Cow::Owned(kept.packed.bytes(&self.original)),
            _ => Cow::Borrowed(&self.shown().bytes),
        }
    }

    /// Whether nothing is known of the page.
    pub fn is_blank(&self) -> bool {
        *self.bytes() == [TRAP; 4096]
    }

    /// Whether a known instruction starts at an offset.
    pub fn starts_at(&self, offset: usize) -> bool {
        match (&self.shown, &self.packed) {
            (None, Some(kept)) => kept.packed.begins(offset),
            _ => self.shown().starts.has(offset),
        }
    }

    /// Whether one starts there that cannot be executed for one that overlaps it.
    pub fn overlaps_at(&self, offset: usize) -> bool {
        self.shown().overlaps.has(offset)
    }

    /// Whether a range has bytes that were moved.
    pub fn is_patched(&self, start: usize, len: usize) -> bool {
        self.shown().patched.first(start..start + len).is_some()
    }

    /// What is known, to be changed, and the guest's own bytes.
    pub fn change(&mut self) -> (&mut Shown, &[u8; 4096]) {
        self.is_changed = true;
        let unpacked = |copy: &Self| Arc::new(copy.shown().clone());
        let shown = self.shown.take().unwrap_or_else(|| unpacked(self));
        (Arc::make_mut(self.shown.insert(shown)), &self.original)
    }

    /// Put a byte of a known instruction.
    pub fn put(&mut self, offset: usize, byte: u8) {
        self.change().0.put(offset, byte);
    }

    /// Know nothing of the page's code any more.
    pub fn hide(&mut self) {
        *self = Self::new(self.page, self.original.clone());
    }

    /// Show a range as it is, up to the first byte that is known code. False when it meets a moved
    /// range, where a jump stands.
    pub fn show(&mut self, start: usize, end: usize) -> bool {
        let end = end.min(PAGE as usize);
        let code = self.shown().known.first(start..end).unwrap_or(end);
        let moved = self.shown().patched.first(start..code);
        let range = start..moved.unwrap_or(code);
        if self.shown().bytes.get(range.clone()) != self.original.get(range.clone()) {
            let (shown, original) = self.change();
            if let (Some(to), Some(from)) =
                (shown.bytes.get_mut(range.clone()), original.get(range))
            {
                to.copy_from_slice(from);
            }
        }
        moved.is_none()
    }

    /// Put a jump in place of a range that was moved, and traps behind it, up to the first instruction that begins there:
    /// from that one on all is as before, for who arrives there.
    pub fn patch(&mut self, start: usize, end: usize, jump: [u8; JUMP]) {
        let (shown, _) = self.change();
        let rest = std::iter::repeat(TRAP);
        let next = shown.starts.first(start + JUMP..end).unwrap_or(end);
        for (offset, byte) in (start..next).zip(jump.into_iter().chain(rest)) {
            if let Some(to) = shown.bytes.get_mut(offset) {
                *to = byte;
            }
        }
        shown.patched.set_all(start..end);
    }

    /// Put a range back.
    pub fn unpatch(&mut self, start: usize, end: usize) {
        let (shown, original) = self.change();
        for offset in start..end {
            let is_code = shown.known.has(offset) && !shown.traps.has(offset);
            let byte = original.get(offset).copied().filter(|_| is_code);
            if let Some(to) = shown.bytes.get_mut(offset) {
                *to = byte.unwrap_or(TRAP);
                shown.patched.clear(offset);
            }
        }
    }
}

impl Shown {
    pub const fn nothing() -> Self {
        Self {
            bytes: [TRAP; 4096],
            known: Bits::none(),
            starts: Bits::none(),
            traps: Bits::none(),
            overlaps: Bits::none(),
            patched: Bits::none(),
        }
    }

    /// An instruction begins at a range's start; `is_silent`: its first byte stays a trap. Its bytes are still to be
    /// filled in.
    pub fn begin(&mut self, own: &[u8; 4096], range: Range<usize>, is_silent: bool) {
        let offset = range.start;
        let meets_trap = self.traps.first(offset + 1..range.end).is_some();
        // One that covers this byte is known, unless it is of the piece that is taken in now, where none does.
        let is_covered = self.known.has(offset);
        self.starts.set(offset);
        if is_silent || meets_trap {
            self.trap(offset);
        }
        if meets_trap {
            self.overlaps.set(offset);
        }
        if is_silent && is_covered {
            for start in offset.saturating_sub(LONGEST - 1)..offset {
                let found = self.instruction(own, start, 0);
                if found.is_some_and(|found| start + found.len() > offset) {
                    self.trap(start);
                    self.overlaps.set(start);
                }
            }
        }
    }

    /// A range is of known instructions: have it as it is, but for what stays a trap.
    pub fn fill(&mut self, own: &[u8; 4096], range: Range<usize>) {
        if let (Some(to), Some(from)) = (self.bytes.get_mut(range.clone()), own.get(range.clone()))
        {
            to.copy_from_slice(from);
        }
        self.known.set_all(range.clone());
        let mut at = range.start;
        while let Some(trap) = self.traps.first(at..range.end) {
            self.put(trap, TRAP);
            at = trap + 1;
        }
    }

    fn trap(&mut self, offset: usize) {
        self.put(offset, TRAP);
        self.traps.set(offset);
    }

    fn put(&mut self, offset: usize, byte: u8) {
        if let Some(to) = self.bytes.get_mut(offset) {
            *to = byte;
            self.known.set(offset);
        }
    }

    /// The known instruction at an offset, if it is whole in this page.
    fn instruction(&self, original: &[u8; 4096], at: usize, linear: u64) -> Option<Instruction> {
        if !self.starts.has(at) {
            return None;
        }
        let bytes = original.get(at..)?;
        let bytes = bytes.get(..LONGEST.min(bytes.len()))?;
        decode(bytes, linear.wrapping_add(at as u64))
    }
}

/// A copy at the linear address where it is executed.
pub struct PageCode<'a> {
    pub(super) copy: &'a Copy,
    pub(super) targets: Option<&'a Targets>,
    pub(super) linear: u64,
}

impl Code for PageCode<'_> {
    fn instruction(&self, at: usize) -> Option<Instruction> {
        // What overlaps is only to be reported, and that is done where it stands.
        let (shown, original) = (self.copy.shown(), &self.copy.original);
        let instruction = shown.instruction(original, at, self.linear)?;
        (!shown.overlaps.has(at)).then_some(instruction)
    }

    fn begins(&self, at: usize) -> bool {
        self.copy.starts_at(at)
    }

    fn is_known(&self, at: usize) -> bool {
        self.copy.shown().known.has(at)
    }

    fn is_blank(&self, at: usize) -> bool {
        !self.copy.shown().known.has(at) && self.copy.shown().bytes.get(at) == Some(&TRAP)
    }

    fn branches_to(&self, at: usize) -> usize {
        self.targets.map_or(0, |targets| targets.count(at))
    }

    fn is_patched(&self, at: usize) -> bool {
        self.copy.shown().patched.has(at)
    }
}
