use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress};

use super::*;

const PAGE: usize = 4096;

/// Two regions that touch, so that a buffer may lie in both.
fn memory() -> GuestMemoryMmap {
    let pages = [(GuestAddress(0), PAGE), (GuestAddress(PAGE as u64), PAGE)];
    GuestMemoryMmap::from_ranges(&pages).expect("anonymous memory")
}

fn buffer(at: u64, len: u32) -> Buffer {
    Buffer {
        at: GuestAddress(at),
        len,
    }
}

#[test]
fn a_buffer_across_regions_is_moved_whole_and_in_parts() {
    let memory = memory();
    let bytes: Vec<u8> = (0..2000).map(|i| (i % 250) as u8).collect();
    memory
        .write_slice(&bytes, GuestAddress(3000))
        .expect("inside");
    let file = tempfile::tempfile().expect("a file");
    let mut io = IoVecs::new(memory.clone());
    io.set(&[buffer(3000, 1500), buffer(4500, 500)])
        .expect("inside");
    assert_eq!(write_at(&file, &io, 100, false).expect("room"), 2000);
    for cut in [0, 1, 1095, 1096, 1097, 1500, 1999] {
        memory
            .write_slice(&[0; 2000], GuestAddress(3000))
            .expect("inside");
        io.set(&[buffer(3000, 1500), buffer(4500, 500)])
            .expect("inside");
        io.advance(cut);
        assert_eq!(
            read_at(&file, &io, 100 + cut as u64).expect("reads"),
            2000 - cut
        );
        io.advance(2000 - cut);
        assert!(io.is_done());
        let mut found = vec![0; 2000];
        memory
            .read_slice(&mut found, GuestAddress(3000))
            .expect("inside");
        assert_eq!(found[cut..], bytes[cut..]);
        assert!(found[..cut].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn buffers_outside_memory_are_refused() {
    let mut io = IoVecs::new(memory());
    for (at, len) in [(8192, 1), (8191, 2), (u64::MAX, 1), (0, u32::MAX)] {
        assert!(io.set(&[buffer(at, len)]).is_err(), "{at:#x}");
    }
}

#[test]
fn zeros_are_never_read_into() {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&[7; 64], 0).expect("room");
    let mut io = IoVecs::new(memory());
    io.set_zeros(64);
    assert!(read_at(&file, &io, 0).is_err());
    let mut ring = Ring::new(1, &memory()).expect("a ring");
    ring.pieces(0).expect("free").set_zeros(64);
    let file = Arc::new(file);
    assert!(ring.push(0, &file, Operation::Read { at: 0 }).is_err());
    let write = Operation::Write {
        at: 0,
        is_durable: false,
    };
    ring.push(0, &file, write).expect("queued");
    ring.wait().expect("ends");
    assert_eq!(
        ring.completed().map(|(slot, end)| (slot, end.ok())),
        Some((0, Some(64)))
    );
    let mut bytes = [1; 64];
    file.read_exact_at(&mut bytes, 0).expect("inside");
    assert_eq!(bytes, [0; 64]);
}

#[test]
fn a_slot_in_flight_is_left_alone() {
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let mut ring = Ring::new(2, &memory()).expect("a ring");
    ring.push(1, &file, Operation::Sync).expect("queued");
    assert!(ring.pieces(1).is_none());
    assert!(ring.push(1, &file, Operation::Sync).is_err());
    assert!(ring.push(2, &file, Operation::Sync).is_err());
    assert!(ring.pieces(0).is_some());
    ring.wait().expect("ends");
    assert!(
        ring.completed()
            .is_some_and(|(slot, end)| slot == 1 && end.is_ok())
    );
    assert!(ring.pieces(1).is_some());
    assert_eq!(ring.in_flight(), 0);
}
