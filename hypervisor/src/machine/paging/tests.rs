use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const G: u64 = 0x100;
const NX: u64 = 1 << 63;
const ALL: u64 = P | W | U;

/// An address with another index at each level: 1, 2, 3, 4.
const AT: u64 = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x678;

/// Words of memory, by address.
#[derive(Debug, Default)]
struct Words(RefCell<BTreeMap<u64, u64>>);

impl Words {
    fn new(words: &[(u64, u64)]) -> Self {
        Self(RefCell::new(words.iter().copied().collect()))
    }

    fn get(&self, at: u64) -> u64 {
        self.0.borrow()[&at]
    }
}

impl Physical for Words {
    fn read_word(&self, at: u64) -> Option<u64> {
        self.0.borrow().get(&at).copied()
    }

    fn write_word(&self, at: u64, old: u64, new: u64) -> bool {
        let mut words = self.0.borrow_mut();
        let word = words.get_mut(&at).filter(|word| **word == old);
        word.map(|word| *word = new).is_some()
    }
}

fn paging() -> Paging {
    Paging {
        root: 0x1000,
        write_protect: true,
        no_execute: true,
        phys_bits: 40,
    }
}

/// Where the entries for `AT` are.
const PLACES: [u64; 4] = [0x1008, 0x2010, 0x3018, 0x4020];

/// Tables at 0x1000 to 0x4000 that map `AT`, with bits for each level, the root's first.
fn tables(bits: [u64; 4]) -> Words {
    let leads = [0x2000, 0x3000, 0x4000, 0x9000];
    let entries: Vec<_> = (0..4)
        .map(|depth| (PLACES[depth], leads[depth] | bits[depth]))
        .collect();
    Words::new(&entries)
}

fn access(text: &str) -> Access {
    Access {
        write: text.contains('w'),
        execute: text.contains('x'),
        user: text.contains('u'),
    }
}

fn code(words: &Words, paging: Paging, text: &str) -> Result<u64, u32> {
    let found = walk(words, &paging, AT, access(text));
    found.map(|found| found.phys).map_err(|fault| fault.code)
}

#[test]
fn a_small_page_is_found_with_its_path() {
    let words = tables([ALL, ALL, ALL, ALL | G | D]);
    let found = walk(&words, &paging(), AT, access("wu")).expect("mapped");
    assert_eq!((found.phys, found.page_bytes), (0x9678, 4096));
    assert!(found.writable && found.user && found.executable && found.global && found.dirty);
    let places: Vec<u64> = found.path.steps().iter().map(|step| step.at).collect();
    assert_eq!(places, PLACES);
    assert_eq!(found.path.at_level(1).map(|step| step.value), Some(0x9147));
    assert_eq!(found.path.at_level(0), None);
    assert_eq!(found.path.at_level(5), None);
}

#[test]
fn large_pages_end_the_walk() {
    // Bit 12 of a large page's entry is PAT, and no part of its address.
    let two_mib = 0x4000_0000 | 0x60_0000 | 0x1000 | PS | ALL;
    let words = Words::new(&[(0x1008, 0x2007), (0x2010, 0x3007), (0x3018, two_mib)]);
    let found = walk(&words, &paging(), AT, access("")).expect("mapped");
    assert_eq!((found.phys, found.page_bytes), (0x4060_4678, 2 << 20));
    assert_eq!(found.path.steps().len(), 3);

    let words = Words::new(&[(0x1008, 0x2007), (0x2010, 0x4000_0000 | PS | ALL)]);
    let found = walk(&words, &paging(), AT, access("")).expect("mapped");
    assert_eq!((found.phys, found.page_bytes), (0x4060_4678, 1 << 30));
    assert_eq!(found.path.steps().len(), 2);
}

#[test]
fn low_bits_of_cr3_are_no_address() {
    let words = tables([ALL; 4]);
    let root = 0x1018;
    assert_eq!(code(&words, Paging { root, ..paging() }, ""), Ok(0x9678));
}

#[test]
fn every_level_restricts() {
    for depth in 0..4 {
        let mut bits = [ALL; 4];
        bits[depth] = P | U;
        let read_only = tables(bits);
        assert_eq!(code(&read_only, paging(), "u"), Ok(0x9678));
        assert_eq!(code(&read_only, paging(), "wu"), Err(0b0_0111));
        assert_eq!(code(&read_only, paging(), "w"), Err(0b0_0011));
        bits[depth] = P | W;
        let supervisor = tables(bits);
        assert_eq!(code(&supervisor, paging(), "w"), Ok(0x9678));
        assert_eq!(code(&supervisor, paging(), "u"), Err(0b0_0101));
        bits[depth] = ALL | NX;
        let data = tables(bits);
        assert_eq!(code(&data, paging(), "wu"), Ok(0x9678));
        assert_eq!(code(&data, paging(), "xu"), Err(0b1_0101));
        assert_eq!(code(&data, paging(), "x"), Err(0b1_0001));
        bits[depth] = W | U | PS | NX | 1 << 45;
        let absent = tables(bits);
        assert_eq!(code(&absent, paging(), "xu"), Err(0b1_0100));
        assert_eq!(code(&absent, paging(), "w"), Err(0b0_0010));
    }
}

#[test]
fn without_write_protect_the_kernel_writes_and_users_do_not() {
    let words = tables([ALL, ALL, ALL, P | U]);
    let paging = Paging {
        write_protect: false,
        ..paging()
    };
    assert_eq!(code(&words, paging, "w"), Ok(0x9678));
    assert_eq!(code(&words, paging, "wu"), Err(0b0_0111));
}

#[test]
fn without_nxe_bit_63_is_reserved_and_fetches_are_not_told_apart() {
    let paging = Paging {
        no_execute: false,
        ..paging()
    };
    let bits = [ALL, ALL, ALL, ALL | NX];
    assert_eq!(code(&tables(bits), paging, ""), Err(0b0_1001));
    assert_eq!(code(&tables([ALL; 4]), paging, "x"), Ok(0x9678));
    assert_eq!(
        code(&tables([ALL, ALL, ALL, P]), paging, "xu"),
        Err(0b0_0101)
    );
}

#[test]
fn reserved_bits_fault_at_every_level() {
    for depth in 0..4 {
        for (bit, is_reserved) in [
            (39, false),
            (40, true),
            (51, true),
            (52, false),
            (62, false),
        ] {
            let mut bits = [ALL; 4];
            bits[depth] |= 1 << bit;
            let found = code(&tables(bits), paging(), "w");
            match is_reserved {
                true => assert_eq!(found, Err(0b0_1011), "{depth} {bit}"),
                // Bit 39 is part of the address: it leads to where there is no memory.
                false if bit == 39 && depth < 3 => assert_eq!(found, Err(0b0_0010)),
                false => assert!(found.is_ok(), "{depth} {bit}"),
            }
        }
    }
    let sized = |depth: usize, more: u64| {
        let mut bits = [ALL; 4];
        bits[depth] |= PS | more;
        let words = tables(bits);
        let at = PLACES[depth];
        let value = words.get(at) & 0x8000_0000_0000_0fff | more;
        words.0.borrow_mut().insert(at, value);
        code(&words, paging(), "")
    };
    assert_eq!(sized(0, 0), Err(0b0_1001));
    assert_eq!(sized(1, 1 << 29), Err(0b0_1001));
    assert_eq!(sized(1, 1 << 30), Ok(0x4060_4678));
    assert_eq!(sized(2, 1 << 20), Err(0b0_1001));
    assert_eq!(sized(2, 1 << 21), Ok(0x20_4678));
    // Bit 7 of the last level is PAT.
    assert_eq!(sized(3, 0), Ok(0x678));
}

#[test]
fn more_address_bits_than_entries_have_reserve_none() {
    let wide = Paging {
        phys_bits: 64,
        ..paging()
    };
    assert!(!wide.is_malformed(1, 0x000f_ffff_ffff_f001));
    assert!(paging().is_malformed(1, 0x000f_ffff_ffff_f001));
}

#[test]
fn a_table_outside_of_memory_maps_nothing() {
    for place in PLACES.into_iter().take(3) {
        let words = tables([ALL; 4]);
        let elsewhere = 0x77_0000 | ALL;
        words.0.borrow_mut().insert(place, elsewhere);
        assert_eq!(code(&words, paging(), "w"), Err(0b0_0010));
    }
    let root = 0x88_0000;
    let nowhere = Paging { root, ..paging() };
    assert_eq!(code(&Words::default(), nowhere, "u"), Err(0b0_0100));
}

#[test]
fn the_top_of_the_address_space_is_like_any_other_address() {
    let words = Words::new(&[(0x1ff8, 0x1000 | ALL)]);
    let found = walk(&words, &paging(), u64::MAX, access("w")).expect("the root maps itself");
    assert_eq!(found.phys, 0x1fff);
}

#[test]
fn marking_sets_accessed_on_the_path_and_dirty_on_the_last() {
    let words = tables([ALL; 4]);
    let mut found = walk(&words, &paging(), AT, access("")).expect("mapped");
    assert!(mark(&words, &mut found, false));
    assert_eq!(PLACES.map(|at| words.get(at) & 0x60), [A; 4]);
    assert!(!found.dirty);
    assert!(mark(&words, &mut found, true));
    assert_eq!(PLACES.map(|at| words.get(at) & 0x60), [A, A, A, A | D]);
    assert!(found.dirty);
    let values = found.path.steps().iter().map(|step| step.value);
    assert!(values.eq(PLACES.map(|at| words.get(at))));
}

#[test]
fn a_table_that_maps_itself_is_marked() {
    let words = Words::new(&[(0x1ff8, 0x1000 | ALL)]);
    let mut found = walk(&words, &paging(), u64::MAX, access("w")).expect("mapped");
    assert!(mark(&words, &mut found, true));
    assert_eq!(words.get(0x1ff8), 0x1000 | ALL | A | D);
}

#[test]
fn what_was_changed_meanwhile_is_not_marked() {
    for place in PLACES {
        let words = tables([ALL; 4]);
        let mut found = walk(&words, &paging(), AT, access("w")).expect("mapped");
        words.0.borrow_mut().insert(place, 0x5000 | ALL);
        assert!(!mark(&words, &mut found, true));
        assert_eq!(words.get(place), 0x5000 | ALL);
    }
}

#[test]
fn words_are_read_in_runs_that_end_at_memory_s_end() {
    let words = Words::new(&[(0x1000, 7), (0x1008, 8)]);
    let mut into = [0; 2];
    assert!(words.read_words(0x1000, &mut into));
    assert_eq!(into, [7, 8]);
    assert!(!words.read_words(0x1008, &mut into));
}

#[test]
fn the_machines_memory_has_words_where_the_guest_has_memory() {
    let memory = crate::memory::Memory::new(8 << 20, hypercall_abi::Mode::Trap).expect("8 MiB");
    let last = (8 << 20) - 8;
    for at in [0, last] {
        assert!(memory.write_word(at, 0, 0x1234));
        assert!(!memory.write_word(at, 0, 0x5678), "it is not 0 any more");
        assert_eq!(memory.read_word(at), Some(0x1234));
    }
    let mut words = [0; 2];
    assert!(memory.read_words(last - 8, &mut words));
    assert_eq!(words, [0, 0x1234]);
    assert!(!memory.read_words(last, &mut words));
    // The monitor's pages are in the machine, and in no guest's page tables.
    for at in [
        4,
        last + 8,
        hypercall_abi::layout::MONITOR_PHYS,
        u64::MAX - 7,
    ] {
        assert_eq!(memory.read_word(at), None, "{at:#x}");
        assert!(!memory.write_word(at, 0, 1), "{at:#x}");
    }
}
