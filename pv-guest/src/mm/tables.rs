//! Page tables: a tree of 4 levels (SDM vol. 3, 4.5). Where tables live is the caller's: the
//! direct map in the kernel, plain memory in tests.

use hypercall_abi::types::PAGE_SIZE;
use x86_64::PhysAddr;
use x86_64::structures::paging::page_table::{PageTable, PageTableFlags as Flags};

use super::MapError;

/// Bytes that an entry of a page directory maps.
pub const LARGE_PAGE: u64 = 512 * PAGE_SIZE;

/// What a page may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Code: read and executed.
    Execute,
    /// Constants: read.
    Read,
    /// Data: read and written.
    Write,
    /// Device registers: read and written, never cached.
    Device,
}

impl Access {
    /// The bits of an entry. Accessed and dirty are set from the start: nobody reads them in
    /// kernel pages, and a hypervisor with shadow tables need not trap the first write.
    fn flags(self) -> Flags {
        let used = Flags::PRESENT | Flags::ACCESSED;
        let data = used | Flags::NO_EXECUTE | Flags::WRITABLE | Flags::DIRTY;
        match self {
            Self::Execute => used,
            Self::Read => used | Flags::NO_EXECUTE,
            Self::Write => data,
            Self::Device => data | Flags::NO_CACHE | Flags::WRITE_THROUGH,
        }
    }
}

/// Where page tables live, and where new ones come from.
pub trait TableMemory {
    /// A frame of zeros for a new table, by its physical address.
    fn take_table(&mut self) -> Option<u64>;

    /// The table at a physical address.
    ///
    /// # Safety
    /// `at` came from `take_table`, and only page tables use it since.
    unsafe fn table(&mut self, at: u64) -> &mut PageTable;
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub phys: u64,
    /// The bits of the entry that maps it.
    pub flags: Flags,
}

/// An address space's page tables.
#[derive(Debug)]
pub struct Tables<M> {
    root: u64,
    /// The bits that every entry gets besides its own.
    common: Flags,
    memory: M,
}

/// The entry of a level (4 is the root's) that an address goes through.
pub fn index(at: u64, level: u32) -> usize {
    ((at >> (12 + 9 * (level - 1))) % 512) as usize
}

/// A table's entries as words.
fn words(table: &mut PageTable) -> &mut [u64; 512] {
    const { assert!(size_of::<PageTable>() == size_of::<[u64; 512]>()) };
    // SAFETY: a `PageTable` is an array of entries in C's layout, each a transparent `u64` in
    // which every value is valid; the exclusive borrow passes on.
    unsafe { &mut *(&raw mut *table).cast() }
}

impl<M: TableMemory> Tables<M> {
    /// Tables that map nothing. With `is_user`, code at CPL 3 may use what they will map.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    pub fn new(mut memory: M, is_user: bool) -> Result<Self, MapError> {
        let root = memory.take_table().ok_or(MapError::NoFrame)?;
        let common = if is_user {
            Flags::USER_ACCESSIBLE
        } else {
            Flags::empty()
        };
        Ok(Self {
            root,
            common,
            memory,
        })
    }

    /// The root's physical address.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Map `len` bytes at `at` to physical memory, with large pages where both addresses allow.
    ///
    /// # Errors
    /// [`MapError`]; what was mapped until then stays.
    pub fn map(&mut self, at: u64, phys: u64, len: u64, access: Access) -> Result<(), MapError> {
        for value in [at, phys, len] {
            if !value.is_multiple_of(PAGE_SIZE) {
                return Err(MapError::Misplaced(value));
            }
        }
        let mut done = 0;
        while done < len {
            let (at, phys) = (at + done, phys + done);
            let is_aligned = at.is_multiple_of(LARGE_PAGE) && phys.is_multiple_of(LARGE_PAGE);
            let level = match is_aligned && len - done >= LARGE_PAGE {
                true => 2,
                false => 1,
            };
            done += self.fill(at, phys, len - done, level, access)?;
        }
        Ok(())
    }

    /// Let the gigabyte at `at` go through a page directory of somebody else's.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn link(&mut self, at: u64, directory: u64) -> Result<(), MapError> {
        let flags = self.table_flags() | Flags::USER_ACCESSIBLE;
        let pointers = self.table_for(at, 3)?;
        let entry = &mut pointers[index(at, 3)];
        if !entry.is_unused() {
            return Err(MapError::InUse(at));
        }
        entry.set_addr(PhysAddr::new_truncate(directory), flags);
        Ok(())
    }

    /// Take the page at `at` out, and return the physical address that it led to. `None` when no
    /// small page is mapped there. The caller invalidates the translation.
    pub fn unmap(&mut self, at: u64) -> Option<u64> {
        let table = self.find(at, 1)?;
        // SAFETY: `find` yields tables of this tree.
        let entry = &mut unsafe { self.memory.table(table) }[index(at, 1)];
        let phys = (!entry.is_unused()).then(|| entry.addr().as_u64())?;
        entry.set_unused();
        Some(phys)
    }

    /// The physical address of the entry that maps the small page at `at`; `None` when none is mapped there.
    pub fn entry(&mut self, at: u64) -> Option<u64> {
        let table = self.find(at, 1)?;
        let index = index(at, 1);
        // SAFETY: `find` yields tables of this tree.
        let is_used = !unsafe { self.memory.table(table) }[index].is_unused();
        is_used.then_some(table + 8 * index as u64)
    }

    /// Where an address leads, with the rights of its last entry.
    pub fn lookup(&mut self, at: u64) -> Option<Mapping> {
        let (mut table, mut level) = (self.root, 4);
        loop {
            // SAFETY: the root, and what entries of this tree without HUGE_PAGE lead to, down to
            // level 1, are tables; a linked directory is one too.
            let entry = &unsafe { self.memory.table(table) }[index(at, level)];
            let (phys, flags) = (entry.addr().as_u64(), entry.flags());
            if !flags.contains(Flags::PRESENT) {
                return None;
            }
            if level == 1 || flags.contains(Flags::HUGE_PAGE) {
                let offset = at % (PAGE_SIZE << (9 * (level - 1)));
                let phys = phys + offset;
                return Some(Mapping { phys, flags });
            }
            (table, level) = (phys, level - 1);
        }
    }

    /// Let another root's upper half be the same as this one's, through the same tables.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    pub fn share_upper_half(&mut self) -> Result<u64, MapError> {
        let copy = self.memory.take_table().ok_or(MapError::NoFrame)?;
        for index in 256..512 {
            // SAFETY: the root is a table of this tree, and `copy` a new one; the two borrows
            // follow each other.
            let entry = unsafe { self.memory.table(self.root) }[index].clone();
            // SAFETY: as above.
            let table = unsafe { self.memory.table(copy) };
            table[index] = entry;
        }
        Ok(copy)
    }

    /// Fill one table of a level with pages, and return how many bytes it maps then.
    fn fill(
        &mut self,
        at: u64,
        phys: u64,
        len: u64,
        level: u32,
        access: Access,
    ) -> Result<u64, MapError> {
        let (page, huge) = match level {
            1 => (PAGE_SIZE, Flags::empty()),
            _ => (LARGE_PAGE, Flags::HUGE_PAGE),
        };
        let flags = access.flags() | self.common | huge;
        let first = index(at, level);
        // A run of small pages ends where a large page could begin.
        let count = (512 - first).min((len / page) as usize);
        let table = words(self.table_for(at, level)?);
        let run = table.get_mut(first..first + count).unwrap_or_default();
        let start = PhysAddr::new_truncate(phys).as_u64() | flags.bits();
        // The loop that a boot spends most of its instructions in.
        let mut entry = start;
        for word in run {
            if *word != 0 {
                return Err(MapError::InUse(at.wrapping_add(entry - start)));
            }
            *word = entry;
            entry = entry.wrapping_add(page);
        }
        Ok(count as u64 * page)
    }

    /// The table of a level that maps `at`, made if it is missing.
    fn table_for(&mut self, at: u64, level: u32) -> Result<&mut PageTable, MapError> {
        let flags = self.table_flags();
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            // SAFETY: `table` is the root, or came from an entry that this function made or read
            // without HUGE_PAGE: a table of this tree.
            let entry = &mut unsafe { self.memory.table(table) }[index(at, above)];
            if entry.flags().contains(Flags::HUGE_PAGE) {
                return Err(MapError::InUse(at));
            }
            let below = entry.addr().as_u64();
            table = match entry.is_unused() {
                false => below,
                true => self.make_table(table, index(at, above), flags)?,
            };
        }
        // SAFETY: as above.
        Ok(unsafe { self.memory.table(table) })
    }

    fn make_table(&mut self, parent: u64, index: usize, flags: Flags) -> Result<u64, MapError> {
        let new = self.memory.take_table().ok_or(MapError::NoFrame)?;
        // SAFETY: `parent` is a table of this tree, by the only caller.
        let entry = &mut unsafe { self.memory.table(parent) }[index];
        entry.set_addr(PhysAddr::new_truncate(new), flags);
        Ok(new)
    }

    /// The table of a level that maps `at`, if it exists.
    fn find(&mut self, at: u64, level: u32) -> Option<u64> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            // SAFETY: as in `table_for`.
            let entry = &unsafe { self.memory.table(table) }[index(at, above)];
            if entry.is_unused() || entry.flags().contains(Flags::HUGE_PAGE) {
                return None;
            }
            table = entry.addr().as_u64();
        }
        Some(table)
    }

    /// The bits of an entry that leads to a table: the last entry alone restricts.
    fn table_flags(&self) -> Flags {
        Flags::PRESENT | Flags::WRITABLE | Flags::ACCESSED | self.common
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
pub(super) mod tests;
