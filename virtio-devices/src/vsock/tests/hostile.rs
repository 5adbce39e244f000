//! Packets that no honest guest sends, programs that come and go, and queues filled with what a driver
//! must not write: nothing panics or hangs, and no byte changes that the driver did not offer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;

use super::{CID, COMING, GOING, Guest, packet};
use crate::driver::{MEMORY, NEXT, PATIENCE, Raw, WRITE};
use crate::vsock::wire::{HEADER_LEN, HOST, Header, STREAM, op};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// The guest sends a packet.
    Packet(Header, Vec<u8>),
    /// A program connects, and says something.
    Call(Vec<u8>),
    /// A program speaks, hears, or goes.
    Speak(usize, u16),
    Hear(usize),
    Go(usize),
    /// The guest takes packets.
    Take,
    /// The guest's connections are lost.
    Lose,
}

fn header() -> impl Strategy<Value = Header> {
    // Ports of programs that listen, that called, and of nobody.
    let host = prop_oneof![4 => Just(5000u32), 4 => 0x4000_0000..0x4000_0004u32, 1 => any::<u32>()];
    let guest = prop_oneof![4 => 0..4u32, 1 => any::<u32>()];
    let credit = || prop_oneof![4 => Just(0x8000u32), 1 => any::<u32>(), 1 => Just(0)];
    let op = prop_oneof![4 => Just(op::RW), 4 => 1..8u16, 1 => any::<u16>()];
    let flags = prop_oneof![4 => 0..4u32, 1 => any::<u32>()];
    let cids = prop_oneof![
        12 => Just((CID, HOST)),
        1 => (any::<u64>(), any::<u64>())
    ];
    let kind = prop_oneof![12 => Just(STREAM), 1 => any::<u16>()];
    (host, guest, op, flags, credit(), credit(), cids, kind).prop_map(
        |(host, guest, op, flags, room, taken, (from_cid, to_cid), kind)| Header {
            from_cid,
            to_cid,
            kind,
            room,
            taken,
            ..packet(host, guest, op, flags)
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    let data = prop_oneof![
        2 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 1..50),
        1 => Just(vec![7; 40_000])
    ];
    let line = prop_oneof![
        4 => (0..4u32).prop_map(|port| format!("CONNECT {port}\nmore").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40)
    ];
    prop_oneof![
        12 => (header(), data).prop_map(|(header, data)| Act::Packet(header, data)),
        2 => line.prop_map(Act::Call),
        3 => (0..8usize, 1..5000u16).prop_map(|(who, len)| Act::Speak(who, len)),
        2 => (0..8usize).prop_map(Act::Hear),
        2 => (0..8usize).prop_map(Act::Go),
        4 => Just(Act::Take),
        1 => Just(Act::Lose),
    ]
}

/// The programs of a test.
#[derive(Default)]
struct Programs(Vec<UnixStream>);

impl Programs {
    fn add(&mut self, stream: UnixStream) {
        stream.set_nonblocking(true).expect("a stream");
        self.0.push(stream);
    }

    fn get(&mut self, who: usize) -> Option<&mut UnixStream> {
        let count = self.0.len();
        self.0.get_mut(who.checked_rem(count)?)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_packets_break_the_device(acts in prop::collection::vec(act(), 1..80)) {
        let mut guest = Guest::new(0);
        let listener = guest.listen(5000);
        listener.set_nonblocking(true).expect("a socket");
        let mut programs = Programs::default();
        for act in acts {
            match act {
                Act::Packet(header, data) => {
                    let len = data.len() as u32;
                    guest.send_raw(&Header { len, ..header }, &data);
                }
                Act::Call(line) => {
                    let mut program = UnixStream::connect(guest.path()).expect("it listens");
                    // It may have been dismissed before all is said.
                    let _ = program.write_all(&line);
                    programs.add(program);
                }
                Act::Speak(who, len) => {
                    let program = programs.get(who);
                    let _ = program.map(|program| program.write(&vec![9; len.into()]));
                }
                Act::Hear(who) => {
                    let _ = programs.get(who).map(|program| program.read(&mut [0; 10_000]));
                }
                Act::Go(who) => {
                    if !programs.0.is_empty() {
                        let who = who % programs.0.len();
                        programs.0.swap_remove(who);
                    }
                }
                Act::Take => while guest.next_within(Duration::ZERO).is_some() {},
                Act::Lose => guest.handle.lose_connections(),
            }
            while let Ok((program, _)) = listener.accept() {
                programs.add(program);
            }
        }
        // It goes on as if nothing had been.
        while guest.next_within(Duration::from_millis(20)).is_some() {}
        guest.send_raw(&packet(5000, 77, op::REQUEST, 0), &[]);
        loop {
            let (header, _) = guest.next();
            if header.to_port == 77 && header.op == op::RESPONSE {
                break;
            }
        }
        prop_assert_eq!(guest.driver.transport.fault(), None);
    }
}

/// How many descriptors the table has in use.
const TABLE: usize = 12;

/// A descriptor that is nearly right.
fn wild() -> impl Strategy<Value = Raw> {
    let plausible = (
        (0..16u64).prop_map(|slot| COMING + slot * 0x1000),
        prop_oneof![Just(44u32), Just(45), Just(4096), 0..100u32],
        0..8u16,
        0..13u16,
    );
    prop_oneof![3 => plausible, 1 => any::<Raw>()]
}

/// Descriptors of single buffers, for the driver or from it.
fn table() -> impl Strategy<Value = Vec<Raw>> {
    let each = (
        0..16u64,
        prop_oneof![Just(4096u32), Just(44), Just(60)],
        0..3u16,
    );
    prop::collection::vec(each, TABLE).prop_map(|all| {
        let raw = |(index, (slot, len, kind)): (u16, (u64, u32, u16))| match kind {
            0 => (GOING + slot * 64, len, 0, 0),
            1 => (COMING + slot * 0x1000, len, WRITE, 0),
            _ => (GOING + slot * 64, len, NEXT, (index + 1) % TABLE as u16),
        };
        (0..).zip(all).map(raw).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_queue_makes_the_device_touch_other_memory(
        tables in prop::collection::vec(table(), 2),
        bends in prop::collection::vec((0..2usize, 0..TABLE, wild()), 0..3),
        heads in prop::collection::vec((0..2usize, 0..13u16), 1..16),
        headers in prop::collection::vec(header(), 16),
        skip in prop_oneof![8 => Just(0u16), 1 => any::<u16>()],
    ) {
        let mut tables = tables;
        for (queue, place, raw) in bends {
            tables[queue][place] = raw;
        }
        let mut guest = Guest::without_buffers(0);
        let listener = guest.listen(5000);
        for (slot, header) in headers.iter().enumerate() {
            guest.driver.put(GOING + slot as u64 * 64, &header.bytes());
        }
        for (queue, table) in tables.iter().enumerate() {
            for (index, raw) in (0..).zip(table) {
                guest.driver.rings[queue].describe(&guest.driver.memory, index, *raw);
            }
        }
        for (queue, head) in &heads {
            guest.driver.rings[*queue].offer(&guest.driver.memory, *head);
        }
        let rings = guest.driver.rings[1];
        let index = rings.available_index(&guest.driver.memory).wrapping_add(skip);
        rings.set_available_index(&guest.driver.memory, index);
        let before = guest.driver.get(0, MEMORY);
        // The device may have found something wrong before the program has said anything.
        let mut program = UnixStream::connect(guest.path()).expect("it listens");
        let said = [&b"CONNECT 3\n"[..], &[0xaa; 10_000]].concat();
        let _ = program.write_all(&said);
        guest.driver.kick(0);
        guest.driver.kick(1);
        // Packets that go are all taken, or found wrong; those that come may lack buffers.
        let start = std::time::Instant::now();
        while rings.used_index(&guest.driver.memory) != index && !guest.driver.transport.needs_reset() {
            prop_assert!(start.elapsed() < PATIENCE, "the device hangs");
            std::thread::yield_now();
        }
        guest.driver.set_status(0);
        let after = guest.driver.get(0, MEMORY);
        // The used rings with their event words, and what the driver offers to write to.
        let rings = &guest.driver.rings;
        let used = rings.iter().map(|ring| (ring.used, 6 + 8 * u64::from(ring.size)));
        let offered = tables.iter().flatten().filter(|raw| raw.2 & WRITE != 0);
        let may_change: Vec<_> = used.chain(offered.map(|raw| (raw.0, raw.1.into()))).collect();
        for (page, (old, new)) in before.chunks(4096).zip(after.chunks(4096)).enumerate() {
            if old == new {
                continue;
            }
            for (at, (old, new)) in (page as u64 * 4096..).zip(old.iter().zip(new)) {
                let is_offered =
                    |(start, len): &(u64, u64)| (*start..start.saturating_add(*len)).contains(&at);
                let is_fine = old == new || may_change.iter().any(is_offered);
                prop_assert!(is_fine, "{:#x} has changed", at);
            }
        }
        drop(listener);
        guest.restart();
    }
}

/// A header is what these tests put into memory.
const _: () = assert!(HEADER_LEN <= 64);
