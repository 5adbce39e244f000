//! Linear memory of pages that are there or not, with rights.

use std::collections::BTreeMap;
use std::fmt;

use crate::machine::cpu::{Cpu, Exception, Linear, Refusal, is_canonical};

const PAGE: u64 = 4096;

/// What a page permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub user: bool,
    pub write: bool,
}

/// A kernel's page.
pub(crate) const KERNEL: Rights = Rights {
    user: false,
    write: true,
};
/// A program's page.
pub(crate) const USER: Rights = Rights {
    user: true,
    write: true,
};

/// The memory. It counts accesses, so that a test can tell that there was none.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Plain {
    pages: BTreeMap<u64, (Rights, Box<[u8]>)>,
    pub accesses: u64,
}

impl fmt::Debug for Plain {
    /// The words that are not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self
            .pages
            .keys()
            .flat_map(|page| (*page..page + PAGE).step_by(8));
        let words = places.map(|at| (at, self.word(at)));
        // The interrupt descriptor table is the same everywhere.
        let shown = words.filter(|(at, word)| *word != 0 && at & !(PAGE - 1) != super::guest::IDT);
        f.debug_map().entries(shown).finish()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Fetch,
}

impl Plain {
    /// Map the page of an address, zero.
    pub fn map(&mut self, at: u64, rights: Rights) {
        let page = vec![0; PAGE as usize].into_boxed_slice();
        self.pages.insert(at & !(PAGE - 1), (rights, page));
    }

    pub fn unmap(&mut self, at: u64) {
        self.pages.remove(&(at & !(PAGE - 1)));
    }

    /// Store bytes, whatever the rights.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            let (_, page) = self.pages.get_mut(&(at & !(PAGE - 1))).unwrap();
            page[(at % PAGE) as usize] = *byte;
        }
    }

    pub fn put_words(&mut self, at: u64, words: &[u64]) {
        for (at, word) in (at..).step_by(8).zip(words) {
            self.put(at, &word.to_le_bytes());
        }
    }

    pub fn byte(&self, at: u64) -> u8 {
        self.pages[&(at & !(PAGE - 1))].1[(at % PAGE) as usize]
    }

    pub fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|n| self.byte(at + n as u64)))
    }

    pub fn words<const N: usize>(&self, at: u64) -> [u64; N] {
        std::array::from_fn(|n| self.word(at + 8 * n as u64))
    }

    fn check(&mut self, at: u64, len: usize, user: bool, kind: Kind) -> Result<(), Refusal> {
        self.accesses += 1;
        for n in 0..len as u64 {
            let at = at.wrapping_add(n);
            if !is_canonical(at) {
                return Err(Exception::protection(0).into());
            }
            let rights = self.pages.get(&(at & !(PAGE - 1))).map(|page| page.0);
            let permitted = rights.is_some_and(|rights| {
                (rights.user || !user) && (rights.write || kind != Kind::Write)
            });
            if !permitted {
                let code = u32::from(rights.is_some())
                    | u32::from(kind == Kind::Write) << 1
                    | u32::from(user) << 2
                    | u32::from(kind == Kind::Fetch) << 4;
                return Err(Exception::page_fault(code, at).into());
            }
        }
        Ok(())
    }

    fn copy(&self, at: u64, into: &mut [u8]) {
        for (at, byte) in (at..).zip(into) {
            *byte = self.byte(at);
        }
    }
}

impl Linear for Plain {
    fn read(&mut self, _: &Cpu, at: u64, into: &mut [u8], user: bool) -> Result<(), Refusal> {
        self.check(at, into.len(), user, Kind::Read)?;
        self.copy(at, into);
        Ok(())
    }

    fn write(&mut self, _: &Cpu, at: u64, from: &[u8], user: bool) -> Result<(), Refusal> {
        self.check(at, from.len(), user, Kind::Write)?;
        self.put(at, from);
        Ok(())
    }

    fn check_write(&mut self, _: &Cpu, at: u64, len: usize, user: bool) -> Result<(), Refusal> {
        self.check(at, len, user, Kind::Write)
    }

    fn fetch(&mut self, _: &Cpu, at: u64, into: &mut [u8], user: bool) -> Result<(), Refusal> {
        self.check(at, into.len(), user, Kind::Fetch)?;
        self.copy(at, into);
        Ok(())
    }
}
