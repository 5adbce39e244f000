//! The architecture, written a second time and as plainly as possible: what an address leads to,
//! and what a translation buffer may remember. Shares no code with what it judges.

use std::cell::RefCell;

use crate::machine::paging::Physical;

/// Guest memory from address 0 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ram(RefCell<Vec<u64>>);

impl Ram {
    pub fn new(frames: u64) -> Self {
        Self(RefCell::new(vec![0; frames as usize * 512]))
    }

    pub fn set(&self, frame: u64, slot: u64, value: u64) {
        self.0.borrow_mut()[(frame * 512 + slot) as usize] = value;
    }

    pub fn get(&self, frame: u64, slot: u64) -> u64 {
        self.0.borrow()[(frame * 512 + slot) as usize]
    }

    /// Clear bits everywhere.
    pub fn clear_bits(&self, bits: u64) {
        self.0
            .borrow_mut()
            .iter_mut()
            .for_each(|word| *word &= !bits);
    }

    fn or(&self, at: u64, bits: u64) {
        self.0.borrow_mut()[at as usize / 8] |= bits;
    }
}

impl Physical for Ram {
    fn read_word(&self, at: u64) -> Option<u64> {
        assert_eq!(at % 8, 0);
        self.0.borrow().get(at as usize / 8).copied()
    }

    fn write_word(&self, at: u64, old: u64, new: u64) -> bool {
        assert_eq!(old | 0x60, new | 0x60, "only accessed and dirty bits");
        let word = &mut self.0.borrow_mut()[at as usize / 8];
        *word == old && std::mem::replace(word, new) == old
    }

    fn read_words(&self, at: u64, into: &mut [u64]) -> bool {
        let first = at as usize / 8;
        let words = self.0.borrow();
        let found = words.get(first..first + into.len());
        found.map(|words| into.copy_from_slice(words)).is_some()
    }
}

/// What the guest's tables say of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    pub frame: u64,
    pub writable: bool,
    pub user: bool,
    pub executable: bool,
    /// Every entry has its accessed bit.
    pub accessed: bool,
    pub dirty: bool,
}

/// Control bits that matter.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    pub root: u64,
    pub wp: bool,
    pub nxe: bool,
    pub phys_bits: u32,
}

/// The page's fact, or the bits P and RSVD of a fault. `mark`: set accessed bits, and the dirty bit
/// if it is `Some(true)`.
pub fn look_up(ram: &Ram, c: Control, at: u64, mark: Option<bool>) -> Result<Fact, u32> {
    let mut fact = Fact {
        frame: 0,
        writable: true,
        user: true,
        executable: true,
        accessed: true,
        dirty: false,
    };
    let mut table = c.root >> 12 << 12;
    for (level, shift) in [(4, 39), (3, 30), (2, 21), (1, 12)] {
        let place = table + (at >> shift) % 512 * 8;
        let Some(value) = ram.read_word(place) else {
            return Err(0);
        };
        let bit = |n: u32| value >> n & 1 == 1;
        if !bit(0) {
            return Err(0);
        }
        let is_leaf = level == 1 || (bit(7) && level < 4);
        let mut reserved = (c.phys_bits..52).any(bit) || (bit(63) && !c.nxe);
        reserved |= level == 4 && bit(7);
        reserved |= level > 1 && is_leaf && (13..shift).any(bit);
        if reserved {
            return Err(0b1001);
        }
        fact.writable &= bit(1);
        fact.user &= bit(2);
        fact.executable &= !bit(63);
        fact.accessed &= bit(5);
        if let Some(write) = mark {
            let dirty = if write && is_leaf { 0x40 } else { 0 };
            ram.or(place, 0x20 | dirty);
        }
        let address = value & 0x000f_ffff_ffff_f000;
        if is_leaf {
            let page = address >> shift << shift;
            fact.frame = page + at % (1 << shift) / 4096 * 4096;
            fact.dirty = bit(6);
            return Ok(fact);
        }
        table = address;
    }
    unreachable!("level 1 is a leaf")
}

/// Whether a fact allows an access.
pub fn allows(c: Control, fact: Fact, user: bool, write: bool, execute: bool) -> bool {
    let can_write = fact.writable || (!user && !c.wp);
    (!user || fact.user) && (!write || can_write) && (!execute || fact.executable)
}

/// The error code of an access that is not allowed.
pub fn fault(
    ram: &Ram,
    c: Control,
    at: u64,
    (user, write, execute): (bool, bool, bool),
) -> Option<u32> {
    let low = match look_up(ram, c, at, None) {
        Err(low) => low,
        Ok(fact) if !allows(c, fact, user, write, execute) => 1,
        Ok(_) => return None,
    };
    let fetch = execute && c.nxe;
    Some(low | u32::from(write) << 1 | u32::from(user) << 2 | u32::from(fetch) << 4)
}

/// What a processor may remember of each page: each fact that held at some time since the last
/// event that makes it forget the page.
#[derive(Clone, Debug)]
pub struct Memo {
    pub pages: Vec<(u64, Vec<Fact>)>,
}

impl Memo {
    pub fn new(pages: &[u64]) -> Self {
        let none = |page: &u64| (*page, Vec::new());
        Self {
            pages: pages.iter().map(none).collect(),
        }
    }

    /// The tables may have changed.
    pub fn note(&mut self, ram: &Ram, c: Control) {
        for (page, facts) in &mut self.pages {
            if let Ok(fact) = look_up(ram, c, *page, None)
                && !facts.contains(&fact)
            {
                facts.push(fact);
            }
        }
    }

    /// The processor forgets a page, or all.
    pub fn forget(&mut self, ram: &Ram, c: Control, page: Option<u64>) {
        for (at, facts) in &mut self.pages {
            if page.is_none_or(|page| page == *at) {
                facts.clear();
            }
        }
        self.note(ram, c);
    }

    pub fn facts(&self, page: u64) -> &[Fact] {
        let found = self.pages.iter().find(|(at, _)| *at == page);
        found.map_or(&[], |(_, facts)| facts)
    }
}
