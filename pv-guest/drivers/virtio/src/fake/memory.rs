//! Guest memory, as bytes behind a lock.

use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

use driver_api::Dma;

use super::lock;

/// Where memory begins for the device: not at 0, so that a missing address is seen.
const BASE: u64 = 0x10_0000;

/// Memory that is handed out once, and never back.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<Space>>);

#[derive(Debug)]
struct Space {
    bytes: Vec<u8>,
    used: usize,
}

impl Memory {
    /// So many bytes of it.
    pub fn new(bytes: usize) -> Self {
        let bytes = vec![0; bytes];
        Self(Arc::new(Mutex::new(Space { bytes, used: 0 })))
    }

    /// Take some; `None` when there is not enough.
    pub fn take(&self, bytes: usize) -> Option<FakeDma> {
        let mut space = lock(&self.0);
        let at = space.used;
        let end = at.checked_add(bytes)?.next_multiple_of(4096);
        if end > space.bytes.len() {
            return None;
        }
        space.used = end;
        let memory = self.clone();
        Some(FakeDma {
            memory,
            at,
            len: bytes,
        })
    }

    /// The device reads.
    ///
    /// # Panics
    /// Outside of memory: the driver gave a wrong address.
    pub fn read(&self, phys: u64, len: usize) -> Vec<u8> {
        let at = (phys - BASE) as usize;
        lock(&self.0).bytes[at..at + len].to_vec()
    }

    /// The device writes.
    ///
    /// # Panics
    /// As [`Memory::read`].
    pub fn write(&self, phys: u64, from: &[u8]) {
        let at = (phys - BASE) as usize;
        lock(&self.0).bytes[at..at + from.len()].copy_from_slice(from);
    }
}

/// A part of memory.
#[derive(Debug)]
pub struct FakeDma {
    memory: Memory,
    at: usize,
    len: usize,
}

impl FakeDma {
    fn check(&self, at: usize, len: usize) {
        assert!(at + len <= self.len, "{at} + {len} in {}", self.len);
    }
}

impl Dma for FakeDma {
    fn phys(&self) -> u64 {
        BASE + self.at as u64
    }
    fn len(&self) -> usize {
        self.len
    }
    fn load_u16(&self, at: usize) -> u16 {
        let mut bytes = [0; 2];
        self.read(at, &mut bytes);
        u16::from_le_bytes(bytes)
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.write(at, &value.to_le_bytes());
    }
    fn read(&self, at: usize, into: &mut [u8]) {
        self.check(at, into.len());
        let bytes = self.memory.read(self.phys() + at as u64, into.len());
        into.copy_from_slice(&bytes);
    }
    fn write(&self, at: usize, from: &[u8]) {
        self.check(at, from.len());
        self.memory.write(self.phys() + at as u64, from);
    }
}
