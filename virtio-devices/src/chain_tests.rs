use super::*;
use crate::driver::{INDIRECT, NEXT, Raw, WRITE, describe_at, memory};
use proptest::prelude::*;

const TABLE: u64 = 0x1000;
const OTHER: u64 = 0x8000;
const SIZE: u16 = 8;

fn read(memory: &GuestMemoryMmap, head: u16) -> Result<Chain, ChainError> {
    let mut chain = Chain::default();
    let table = Table {
        at: GuestAddress(TABLE),
        len: SIZE,
    };
    chain.read(memory, table, true, head).map(|()| chain)
}

/// Lay a table out, and read the chain from its first descriptor.
fn read_table(raw: &[Raw]) -> Result<Chain, ChainError> {
    let memory = memory();
    for (index, raw) in (0..).zip(raw) {
        describe_at(&memory, TABLE, index, *raw);
    }
    read(&memory, 0)
}

/// The same, with an indirect table.
fn read_indirect(first: Raw, other: &[Raw]) -> Result<Chain, ChainError> {
    let memory = memory();
    describe_at(&memory, TABLE, 0, first);
    for (index, raw) in (0..).zip(other) {
        describe_at(&memory, OTHER, index, *raw);
    }
    read(&memory, 0)
}

#[test]
fn a_legal_chain_has_its_buffers_in_order() {
    let chain = read_table(&[
        (0x100, 16, NEXT, 2),
        (0, 0, 0, 0),
        (0x200, 0, NEXT, 4),
        (0, 0, 0, 0),
        (0x300, 7, NEXT | WRITE, 5),
        (0x400, 1, WRITE, 0),
    ])
    .expect("legal");
    let buffer = |at, len| Buffer {
        at: GuestAddress(at),
        len,
    };
    assert_eq!(
        chain.readable,
        [buffer(0x100, 16)],
        "empty ones are left out"
    );
    assert_eq!(chain.writable, [buffer(0x300, 7), buffer(0x400, 1)]);
}

#[test]
fn a_chain_is_as_long_as_the_queue_at_most() {
    let link = |index: u16, is_last: bool| {
        let flags = if is_last { 0 } else { NEXT };
        (0x100, 1, flags, index + 1)
    };
    let all: Vec<_> = (0..SIZE)
        .map(|index| link(index, index + 1 == SIZE))
        .collect();
    assert_eq!(read_table(&all).expect("legal").readable.len(), 8);
    let len = u32::from(SIZE) * 16;
    assert!(read_indirect((OTHER, len, INDIRECT, 0), &all).is_ok());
    let longer: Vec<_> = (0..=SIZE).map(|index| link(index, index == SIZE)).collect();
    assert_eq!(
        read_indirect((OTHER, len + 16, INDIRECT, 0), &longer).unwrap_err(),
        ChainError::TooLong { size: SIZE }
    );
}

#[test]
fn a_cycle_ends() {
    for next in 0..2 {
        let cycle = [(0x100, 1, NEXT, 1), (0x100, 1, NEXT, next)];
        assert_eq!(
            read_table(&cycle).unwrap_err(),
            ChainError::TooLong { size: SIZE }
        );
        assert_eq!(
            read_indirect((OTHER, 32, INDIRECT, 0), &cycle).unwrap_err(),
            ChainError::TooLong { size: SIZE }
        );
    }
}

#[test]
fn an_index_outside_its_table_is_refused() {
    let out = |index, len| ChainError::Index { index, len };
    assert_eq!(read(&memory(), SIZE).unwrap_err(), out(SIZE, SIZE));
    assert_eq!(read(&memory(), u16::MAX).unwrap_err(), out(u16::MAX, SIZE));
    assert_eq!(
        read_table(&[(0x100, 1, NEXT, SIZE)]).unwrap_err(),
        out(SIZE, SIZE)
    );
    let other = [(0x100, 1, NEXT, 2)];
    assert_eq!(
        read_indirect((OTHER, 32, INDIRECT, 0), &other).unwrap_err(),
        out(2, 2)
    );
}

#[test]
fn buffers_outside_memory_are_refused() {
    for (at, len) in [
        (crate::driver::MEMORY as u64, 1),
        (crate::driver::MEMORY as u64 - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
        (0, u32::MAX),
    ] {
        assert!(
            matches!(
                read_table(&[(at, len, WRITE, 0)]),
                Err(ChainError::Memory(_))
            ),
            "{at:#x}, {len}"
        );
    }
    for at in [u64::MAX - 15, crate::driver::MEMORY as u64] {
        let chain = read_table(&[(at, 32, INDIRECT, 0)]);
        assert!(matches!(chain, Err(ChainError::Memory(_))), "{at:#x}");
    }
}

#[test]
fn a_chain_of_4_gib_is_refused() {
    // No guest here has 4 GiB, so the sum must be found before the buffers are looked at; each
    // buffer alone fits in 32 bits.
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000_1000)]).expect("reserved");
    describe_at(&memory, TABLE, 0, (0, 0x8000_0000, WRITE | NEXT, 1));
    describe_at(&memory, TABLE, 1, (0, 0x8000_0000, WRITE, 0));
    assert_eq!(read(&memory, 0).unwrap_err(), ChainError::TooLarge);
}

#[test]
fn a_readable_descriptor_after_a_writable_one_is_refused() {
    let chain = read_table(&[(0x100, 1, WRITE | NEXT, 1), (0x200, 1, 0, 0)]);
    assert_eq!(chain.unwrap_err(), ChainError::Order);
}

#[test]
fn indirect_descriptors_follow_their_rules() {
    let inner = [(0x100, 1, 0, 0)];
    let refused = |first: Raw, other: &[Raw]| {
        matches!(read_indirect(first, other), Err(ChainError::Indirect(_)))
    };
    assert!(read_indirect((OTHER, 16, INDIRECT, 0), &inner).is_ok());
    assert!(
        read_indirect((OTHER, 16, INDIRECT | WRITE, 0), &inner).is_ok(),
        "the device ignores WRITE (2.7.5.3.2)"
    );
    assert!(refused((OTHER, 16, INDIRECT | NEXT, 1), &inner));
    assert!(refused((OTHER, 0, INDIRECT, 0), &inner));
    assert!(refused((OTHER, 15, INDIRECT, 0), &inner));
    assert!(refused((OTHER, 17, INDIRECT, 0), &inner));
    let nested = [(OTHER, 16, INDIRECT, 0)];
    assert!(refused((OTHER, 16, INDIRECT, 0), &nested));
    let memory = memory();
    describe_at(&memory, TABLE, 0, (OTHER, 16, INDIRECT, 0));
    describe_at(&memory, OTHER, 0, inner[0]);
    let table = Table {
        at: GuestAddress(TABLE),
        len: SIZE,
    };
    let unasked = Chain::default().read(&memory, table, false, 0);
    assert!(matches!(unasked, Err(ChainError::Indirect(_))));
}

#[test]
fn an_indirect_table_may_follow_direct_descriptors() {
    let memory = memory();
    describe_at(&memory, TABLE, 0, (0x100, 4, NEXT, 3));
    describe_at(&memory, TABLE, 3, (OTHER, 16, INDIRECT, 0));
    describe_at(&memory, OTHER, 0, (0x200, 2, WRITE, 0));
    let chain = read(&memory, 0).expect("legal (2.7.5.3.2)");
    assert_eq!((total(&chain.readable), total(&chain.writable)), (4, 2));
}

#[test]
fn buffers_are_cut_at_both_ends() {
    let buffer = |at, len| Buffer {
        at: GuestAddress(at),
        len,
    };
    let bytes = |buffers: &[Buffer]| {
        let each = |b: &Buffer| (b.at.0..b.at.0 + u64::from(b.len)).collect::<Vec<_>>();
        buffers.iter().flat_map(each).collect::<Vec<_>>()
    };
    let all = [buffer(0x100, 3), buffer(0x200, 1), buffer(0x300, 2)];
    for count in 0..=7 {
        let mut rest = all.to_vec();
        drop_front(&mut rest, count);
        assert_eq!(bytes(&rest), bytes(&all)[count.min(6) as usize..]);
        assert!(rest.iter().all(|buffer| buffer.len > 0));
    }
    let mut rest = all.to_vec();
    for expected in bytes(&all).into_iter().rev() {
        assert_eq!(take_last_byte(&mut rest), Some(GuestAddress(expected)));
        assert!(rest.iter().all(|buffer| buffer.len > 0));
    }
    assert_eq!(take_last_byte(&mut rest), None);
}

proptest! {
    /// Whatever the tables hold: an end, and buffers that lie in memory.
    #[test]
    fn any_table_gives_buffers_in_memory_or_an_error(
        tables in prop::collection::vec(
            (0..0x9000u64, 0..0x200u32, 0..8u16, 0..10u16), 2 * usize::from(SIZE)),
        head: u16,
        wild in prop::collection::vec((0..16usize, any::<(u64, u32, u16, u16)>()), 0..3),
    ) {
        let memory = memory();
        let mut tables = tables;
        for (index, raw) in wild {
            tables[index] = raw;
        }
        for (index, raw) in (0..).zip(&tables) {
            let table = if index < SIZE { TABLE } else { OTHER };
            describe_at(&memory, table, index % SIZE, *raw);
        }
        if let Ok(chain) = read(&memory, head % 10) {
            let buffers = chain.readable.iter().chain(&chain.writable);
            prop_assert!(buffers.clone().count() <= usize::from(SIZE));
            for buffer in buffers {
                prop_assert!(buffer.len > 0);
                prop_assert!(memory.check_range(buffer.at, buffer.len as usize));
            }
        }
    }
}
