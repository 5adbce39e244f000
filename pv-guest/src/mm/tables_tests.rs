use super::*;
use std::boxed::Box;
use std::vec::Vec;

/// Tables in plain memory: table `n` has the physical address `(n + 1) * 4096`.
#[derive(Debug, Default)]
pub struct Arena {
    tables: Vec<Box<PageTable>>,
    pub limit: Option<usize>,
}

impl TableMemory for Arena {
    fn take_table(&mut self) -> Option<u64> {
        if self.limit.is_some_and(|limit| self.tables.len() >= limit) {
            return None;
        }
        self.tables.push(Box::new(PageTable::new()));
        Some(self.tables.len() as u64 * PAGE_SIZE)
    }

    unsafe fn table(&mut self, at: u64) -> &mut PageTable {
        &mut self.tables[(at / PAGE_SIZE - 1) as usize]
    }
}

/// One last entry of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub at: u64,
    pub phys: u64,
    pub len: u64,
    pub flags: Flags,
    /// Whether every table on the way is for CPL 3 as well.
    pub is_user: bool,
}

impl Tables<Arena> {
    /// Walk the whole tree, as a processor would.
    pub fn leaves(&mut self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        self.collect(self.root, 4, 0, true, &mut leaves);
        leaves
    }

    fn collect(&mut self, table: u64, level: u32, base: u64, user: bool, into: &mut Vec<Leaf>) {
        for index in 0..512 {
            // SAFETY: as `lookup`: every entry without HUGE_PAGE leads to a table.
            let entry = unsafe { self.memory.table(table) }[index].clone();
            let (phys, flags) = (entry.addr().as_u64(), entry.flags());
            if !flags.contains(Flags::PRESENT) {
                assert!(entry.is_unused());
                continue;
            }
            let len = PAGE_SIZE << (9 * (level - 1));
            let mut at = base + index as u64 * len;
            if level == 4 && index >= 256 {
                at |= 0xffff << 48;
            }
            let is_user = user && flags.contains(Flags::USER_ACCESSIBLE);
            if level == 1 || flags.contains(Flags::HUGE_PAGE) {
                into.push(Leaf {
                    at,
                    phys,
                    len,
                    flags,
                    is_user,
                });
            } else {
                let open = Flags::WRITABLE;
                assert!(flags.contains(open) && !flags.contains(Flags::NO_EXECUTE));
                self.collect(phys, level - 1, at, is_user, into);
            }
        }
    }
}

const BASE: u64 = 0xffff_8880_0000_0000;

fn tables(is_user: bool) -> Tables<Arena> {
    Tables::new(Arena::default(), is_user).unwrap()
}

#[test]
fn large_pages_are_used_where_both_addresses_allow() {
    let mut tables = tables(false);
    let (start, end) = (0x1f_e000, 0x60_1000);
    tables
        .map(BASE + start, start, end - start, Access::Write)
        .unwrap();
    let sizes: Vec<_> = tables
        .leaves()
        .iter()
        .map(|leaf| (leaf.phys, leaf.len))
        .collect();
    let expected = [
        (0x1f_e000, PAGE_SIZE),
        (0x1f_f000, PAGE_SIZE),
        (0x20_0000, LARGE_PAGE),
        (0x40_0000, LARGE_PAGE),
        (0x60_0000, PAGE_SIZE),
    ];
    assert_eq!(sizes, expected);
}

#[test]
fn every_address_leads_where_it_was_mapped() {
    let mut tables = tables(true);
    tables
        .map(BASE, 0x1000, 3 * LARGE_PAGE, Access::Write)
        .unwrap();
    tables
        .map(BASE + (1 << 30), 0, LARGE_PAGE, Access::Read)
        .unwrap();
    for offset in [0, 1, 0xfff, 0x1000, LARGE_PAGE, 3 * LARGE_PAGE - 1] {
        let mapping = tables.lookup(BASE + offset).unwrap();
        assert_eq!(mapping.phys, 0x1000 + offset);
        assert!(mapping.flags.contains(Flags::WRITABLE | Flags::NO_EXECUTE));
    }
    let large = tables.lookup(BASE + (1 << 30) + 0x12_3456).unwrap();
    assert_eq!(large.phys, 0x12_3456);
    assert_eq!(tables.lookup(BASE - 1), None);
    assert_eq!(tables.lookup(BASE + 3 * LARGE_PAGE), None);
    assert_eq!(tables.lookup(0), None);
}

#[test]
fn what_is_mapped_is_not_mapped_over() {
    let mut tables = tables(false);
    tables.map(BASE, 0, LARGE_PAGE, Access::Write).unwrap();
    let again = tables.map(BASE + 0x1000, 0, PAGE_SIZE, Access::Write);
    assert_eq!(again, Err(MapError::InUse(BASE + 0x1000)));
    tables
        .map(BASE + LARGE_PAGE + 0x5000, 0, PAGE_SIZE, Access::Write)
        .unwrap();
    let over = tables.map(BASE + LARGE_PAGE, 0, 16 * PAGE_SIZE, Access::Write);
    assert_eq!(over, Err(MapError::InUse(BASE + LARGE_PAGE + 0x5000)));
    let large = tables.map(BASE + LARGE_PAGE, 0, LARGE_PAGE, Access::Write);
    assert_eq!(large, Err(MapError::InUse(BASE + LARGE_PAGE)));
    let odd = tables.map(BASE + 1, 0, PAGE_SIZE, Access::Write);
    assert_eq!(odd, Err(MapError::Misplaced(BASE + 1)));
}

#[test]
fn an_unmapped_page_yields_its_frame_once() {
    let mut tables = tables(true);
    tables.map(BASE, 0x7000, PAGE_SIZE, Access::Write).unwrap();
    assert_eq!(tables.unmap(BASE + 0x1000), None);
    assert_eq!(tables.unmap(BASE), Some(0x7000));
    assert_eq!(tables.unmap(BASE), None);
    assert_eq!(tables.lookup(BASE), None);
    assert!(tables.map(BASE, 0x8000, PAGE_SIZE, Access::Write).is_ok());
}

#[test]
fn running_out_of_frames_is_an_error() {
    let limit = Some(3);
    let arena = Arena {
        limit,
        ..Arena::default()
    };
    let mut tables = Tables::new(arena, true).unwrap();
    let result = tables.map(BASE, 0, PAGE_SIZE, Access::Write);
    assert_eq!(result, Err(MapError::NoFrame));
    assert!(tables.map(BASE, 0, LARGE_PAGE, Access::Write).is_ok());
}

#[test]
fn a_linked_directory_is_reachable_for_users_and_shared_with_a_second_root() {
    let mut tables = tables(true);
    let gib = 0xffff_ffff_c000_0000;
    let directory = tables.memory.take_table().unwrap();
    tables.link(gib, directory).unwrap();
    assert_eq!(tables.link(gib, directory), Err(MapError::InUse(gib)));
    let page = gib + (511 << 21);
    // SAFETY: it was just taken, and linked as a directory.
    let entries = unsafe { tables.memory.table(directory) };
    entries[511].set_addr(
        PhysAddr::new(0xfd00_0000),
        Flags::PRESENT | Flags::HUGE_PAGE | Flags::USER_ACCESSIBLE,
    );
    assert_eq!(tables.lookup(page).map(|m| m.phys), Some(0xfd00_0000));
    assert!(tables.leaves().iter().all(|leaf| leaf.is_user));
    tables.root = tables.share_upper_half().unwrap();
    assert_eq!(tables.lookup(page).map(|m| m.phys), Some(0xfd00_0000));
}
