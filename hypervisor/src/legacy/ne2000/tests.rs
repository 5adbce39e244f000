//! The card, by its registers, on a wire that is a list.

use proptest::prelude::*;

use super::memory::PAGE;
use super::receive::{LONGEST, SHORTEST, crc};
use super::{Ne2000, Sent, cause};

const MAC: [u8; 6] = [2, 0xfc, 0, 0, 0, 9];
const START: u8 = 0x46;
const STOP: u8 = 0x50;

/// A driver as simple as can be.
struct Driver {
    card: Ne2000,
    wire: Vec<Vec<u8>>,
    has_room: bool,
    next: u8,
}

impl Driver {
    fn new() -> Self {
        Self {
            card: Ne2000::new(MAC),
            wire: Vec::new(),
            has_room: true,
            next: START,
        }
    }

    fn get(&mut self, offset: u16) -> u8 {
        let mut byte = [0];
        self.card.read(offset, &mut byte);
        byte[0]
    }

    fn set(&mut self, offset: u16, value: u8) {
        self.put(offset, &[value]);
    }

    fn put(&mut self, offset: u16, from: &[u8]) {
        let (wire, has_room) = (&mut self.wire, self.has_room);
        self.card.write(offset, from, &mut |frame| match has_room {
            true => {
                wire.push(frame.to_vec());
                Sent::Gone
            }
            false => Sent::Later,
        });
    }

    /// As the data sheet has it: stopped, then the registers, then started.
    fn start(&mut self) {
        self.set(0, 0x21);
        for (offset, value) in [
            (0x0e, 0x49),
            (0x0a, 0),
            (0x0b, 0),
            (0x0c, 0x0c),
            (0x0d, 0x02),
            (0x01, START),
            (0x02, STOP),
            (0x03, START),
            (0x07, 0xff),
            (0x0f, 0x1b),
        ] {
            self.set(offset, value);
        }
        self.set(0, 0x61);
        for (at, byte) in (1..).zip(MAC) {
            self.set(at, byte);
        }
        self.set(7, START);
        self.set(0, 0x22);
        self.set(0x0d, 0);
    }

    fn remote(&mut self, at: u16, count: u16, how: u8) {
        let ([low, high], [few, many]) = (at.to_le_bytes(), count.to_le_bytes());
        for (offset, value) in [(8, low), (9, high), (0x0a, few), (0x0b, many), (0, how)] {
            self.set(offset, value);
        }
    }

    fn read(&mut self, at: u16, count: usize) -> Vec<u8> {
        self.remote(at, count as u16, 0x0a);
        let mut bytes = vec![0; count];
        self.card.read(0x10, &mut bytes);
        assert_eq!(self.get(7) & cause::REMOTE_DONE, cause::REMOTE_DONE);
        self.set(7, cause::REMOTE_DONE);
        bytes
    }

    fn send(&mut self, frame: &[u8]) {
        self.remote(0x4000, frame.len() as u16, 0x12);
        self.put(0x10, frame);
        let [low, high] = (frame.len() as u16).to_le_bytes();
        for (offset, value) in [(4, 0x40), (5, low), (6, high), (0, 0x26)] {
            self.set(offset, value);
        }
    }

    fn current(&mut self) -> u8 {
        self.set(0, 0x62);
        let current = self.get(7);
        self.set(0, 0x22);
        current
    }

    /// Take a frame out of the ring: its status and its bytes, without the check sequence, which is checked.
    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        if self.next == self.current() {
            return None;
        }
        let at = u16::from(self.next) << 8;
        let header = self.read(at, 4);
        let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let mut frame = self.read(at + 4, len);
        let check = frame.split_off(len - 4);
        assert_eq!(check, (!crc(frame.iter().copied())).to_le_bytes());
        self.next = header[1];
        self.set(
            3,
            if self.next == START {
                STOP - 1
            } else {
                self.next - 1
            },
        );
        Some((header[0], frame))
    }
}

fn frame(to: [u8; 6], len: usize, seed: u8) -> Vec<u8> {
    let rest = (6..len).map(|at| (at as u8).wrapping_mul(seed));
    to.into_iter().chain(rest).collect()
}

#[test]
fn the_prom_has_the_address_twice_and_the_mark() {
    let mut driver = Driver::new();
    assert_eq!(driver.get(7), cause::RESET);
    driver.set(0, 0x22);
    let prom = driver.read(0, 32);
    let expected: Vec<u8> = MAC.iter().flat_map(|byte| [*byte; 2]).collect();
    assert_eq!(prom[..12], expected);
    assert_eq!(prom[28..], [0x57; 4]);
    // Neither the PROM nor what is behind the memory takes anything.
    driver.remote(0, 4, 0x12);
    driver.put(0x10, &[1; 4]);
    assert_eq!(driver.read(0, 32), prom);
    driver.remote(0x8000, 2, 0x12);
    driver.put(0x10, &[1; 2]);
    assert_eq!(driver.read(0x8000, 2), [0xff; 2]);
    // What is read beyond the count is the bus alone.
    driver.remote(0x4000, 1, 0x0a);
    let mut bytes = [0; 3];
    driver.card.read(0x10, &mut bytes);
    assert_eq!(bytes, [0, 0xff, 0xff]);
}

#[test]
fn registers_keep_what_they_are_for() {
    let mut driver = Driver::new();
    driver.start();
    // Page 2 shows what page 0 takes.
    driver.set(0, 0xa2);
    assert_eq!([1, 2, 0x0f].map(|at| driver.get(at)), [START, STOP, 0x9b]);
    driver.set(1, 0);
    assert_eq!(driver.get(1), START, "page 2 is for looking");
    driver.set(0, 0x62);
    assert_eq!((1..7).map(|at| driver.get(at)).collect::<Vec<_>>(), MAC);
    driver.set(0, 0xe2);
    assert_eq!(driver.get(1), 0xff, "there is no page 3");
    // The reset port stops it, and it says so.
    driver.get(0x1f);
    assert_eq!((driver.get(0), driver.get(7)), (0x21, cause::RESET));
    driver.set(7, 0xff);
    assert_eq!(
        driver.get(7),
        cause::RESET,
        "that bit is a state, and no event"
    );
    driver.set(0, 0x22);
    assert_eq!(driver.get(7), 0);
}

#[test]
fn a_frame_goes_to_the_wire_and_interrupts() {
    let mut driver = Driver::new();
    driver.start();
    let sent = frame([1; 6], 61, 3);
    driver.send(&sent);
    assert_eq!(driver.wire, std::slice::from_ref(&sent));
    assert!(driver.card.interrupt());
    assert_eq!(driver.get(7) & cause::TRANSMITTED, cause::TRANSMITTED);
    assert_eq!((driver.get(4), driver.get(0)), (1, 0x22), "done, and idle");
    driver.set(7, cause::TRANSMITTED);
    assert!(!driver.card.interrupt());

    // In loopback it goes nowhere, stopped it is not sent.
    driver.set(0x0d, 0x02);
    driver.send(&sent);
    assert_eq!(driver.wire.len(), 1);
    driver.set(0, 0x21);
    driver.set(0, 0x25);
    assert_eq!((driver.wire.len(), driver.get(0)), (1, 0x21));
}

#[test]
fn a_frame_waits_for_room_on_the_wire() {
    let mut driver = Driver::new();
    driver.start();
    driver.has_room = false;
    let sent = frame([1; 6], 100, 5);
    driver.send(&sent);
    assert!(driver.card.is_sending() && !driver.card.interrupt());
    assert_eq!(driver.get(0), 0x26, "it is busy");
    // Another one meanwhile changes nothing.
    driver.set(0, 0x26);
    let mut late = Vec::new();
    driver.card.go_on_sending(&mut |frame| {
        late.push(frame.to_vec());
        Sent::Gone
    });
    assert_eq!(late, std::slice::from_ref(&sent));
    assert!(driver.card.interrupt() && !driver.card.is_sending());
    assert_eq!(driver.get(0), 0x22);
    // A stop forgets what waits.
    driver.send(&sent);
    driver.set(0, 0x21);
    assert!(!driver.card.is_sending());
}

#[test]
fn frames_come_through_the_ring_again_and_again() {
    let mut driver = Driver::new();
    driver.start();
    for turn in 0..200_usize {
        let len = [14, 59, 60, 248, 249, 504, 505, LONGEST][turn % 8];
        let sent = frame(MAC, len, turn as u8);
        driver.card.receive(&sent);
        assert!(driver.card.interrupt());
        let (status, came) = driver.take().expect("a frame");
        assert_eq!(status, 1);
        assert_eq!(came[..len], sent);
        assert_eq!(came.len(), len.max(SHORTEST));
        assert!(came[len..].iter().all(|byte| *byte == 0));
        driver.set(7, cause::RECEIVED);
        assert!(!driver.card.interrupt());
    }
    assert_eq!(driver.take(), None);
    driver.card.receive(&frame(MAC, LONGEST + 1, 1));
    assert_eq!(driver.take(), None, "too long");
}

#[test]
fn a_full_ring_is_said_and_goes_on_once_there_is_room() {
    let mut driver = Driver::new();
    driver.start();
    // Ten pages, of which one stays free: nine frames of one page fit.
    for seed in 0..12 {
        driver.card.receive(&frame(MAC, 60, seed));
    }
    assert_eq!(
        driver.get(7),
        cause::RECEIVED | cause::OVERWRITE | cause::RESET
    );
    assert_eq!(
        (driver.get(0x0f), driver.get(0x0f)),
        (3, 0),
        "three were missed"
    );
    for seed in 0..9 {
        assert_eq!(driver.take().expect("a frame").1, frame(MAC, 60, seed));
    }
    assert_eq!(driver.take(), None);
    driver.set(7, 0xff);
    assert_eq!(driver.get(7), 0);
    driver.card.receive(&frame(MAC, 60, 77));
    assert_eq!(driver.take().expect("a frame").1, frame(MAC, 60, 77));
    // Who never reads the counter is told that he should.
    driver.set(2, START);
    for _ in 0..400 {
        driver.card.receive(&frame(MAC, 60, 1));
    }
    assert_eq!(
        (driver.get(7) & cause::COUNTER, driver.get(0x0f)),
        (cause::COUNTER, 192)
    );
}

#[test]
fn the_filter_takes_what_it_is_told() {
    let group = [1, 0, 0x5e, 0, 0, 0xfb];
    let (other, all) = ([2, 0, 0, 0, 0, 1], [0xff; 6]);
    // By the address of that group: bit 27 of the filter, as Linux' ether_crc has it.
    let bit = crc(group.into_iter()).reverse_bits() >> 26;
    for (control, filter, expected) in [
        (0x00, false, [true, false, false, false]),
        (0x04, false, [true, false, true, false]),
        (0x08, false, [true, false, false, false]),
        (0x08, true, [true, false, false, true]),
        (0x0c, true, [true, false, true, true]),
        (0x10, false, [true, true, true, true]),
        (0x30, false, [false; 4]),
    ] {
        let mut driver = Driver::new();
        driver.start();
        driver.set(0x0c, control);
        driver.set(0, 0x62);
        driver.set(8 + (bit / 8) as u16, u8::from(filter) << (bit % 8));
        driver.set(0, 0x22);
        let took = [MAC, other, all, group].map(|to| {
            driver.card.receive(&frame(to, 60, 1));
            driver.take().is_some()
        });
        assert_eq!(took, expected, "{control:#x}, {filter}");
    }
    // Neither stopped nor in loopback does it hear anything.
    let mut driver = Driver::new();
    driver.start();
    driver.set(0x0d, 0x02);
    driver.card.receive(&frame(MAC, 60, 1));
    driver.set(0x0d, 0);
    driver.set(0, 0x21);
    driver.card.receive(&frame(MAC, 60, 1));
    driver.set(0, 0x22);
    assert_eq!(driver.take(), None);
}

#[test]
fn the_check_sequence_is_ethernet_s() {
    // The check value of CRC-32.
    assert_eq!(!crc(b"123456789".iter().copied()), 0xcbf4_3926);
}

#[test]
fn a_packet_is_sent_to_the_port_by_one_command() {
    let mut driver = Driver::new();
    driver.start();
    let sent = frame(MAC, 300, 7);
    driver.card.receive(&sent);
    driver.set(3, START);
    driver.set(0, 0x1a);
    let mut bytes = vec![0; 304];
    driver.card.read(0x10, &mut bytes);
    assert_eq!(
        bytes[4..],
        sent[..300],
        "the count is the header's, and the header comes first"
    );
    driver.next = START + 2;
    assert_eq!((driver.get(3), driver.current()), (START + 2, START + 2));
}

proptest! {
    /// Whatever is written and read, and whatever comes, nothing panics, and a frame that is sent is no
    /// longer than the card's memory.
    #[test]
    fn no_access_is_too_odd(
        accesses in prop::collection::vec(
            (0..0x21_u16, prop_oneof![any::<u8>(), Just(0x22), Just(0x26), Just(0x62), Just(0x12), Just(0x0a)], 0..8_usize, any::<bool>()),
            1..400,
        ),
        frames in prop::collection::vec(0..1600_usize, 1..20),
    ) {
        let mut driver = Driver::new();
        driver.start();
        driver.set(0x0c, 0x1f);
        for (at, (offset, value, width, is_write)) in accesses.into_iter().enumerate() {
            let mut bytes = vec![value; [0, 1, 1, 1, 2, 4, 700, 4096][width]];
            match (offset, is_write) {
                (0x20, _) => driver.card.receive(&frame(MAC, frames[at % frames.len()], value)),
                (_, true) => {
                    driver.has_room = value & 1 == 0;
                    driver.put(offset, &bytes);
                }
                (_, false) => driver.card.read(offset, &mut bytes),
            }
        }
        prop_assert!(driver.wire.iter().all(|frame| frame.len() <= 64 * PAGE));
    }

    /// Frames of any length through a ring of any place, with a driver that takes some now and then: each that
    /// was not missed comes out whole and in order.
    #[test]
    fn what_is_not_missed_comes_out_whole(
        steps in prop::collection::vec((any::<bool>(), 14..1515_usize), 1..80),
    ) {
        let mut driver = Driver::new();
        driver.start();
        let mut waiting = std::collections::VecDeque::new();
        for (at, (is_frame, len)) in steps.into_iter().enumerate() {
            if is_frame {
                let sent = frame(MAC, len, at as u8);
                driver.card.receive(&sent);
                if driver.get(0x0f) == 0 {
                    waiting.push_back(sent);
                }
            } else {
                let came = driver.take().map(|(_, frame)| frame);
                let expected = waiting.pop_front();
                prop_assert_eq!(came.is_some(), expected.is_some());
                if let (Some(came), Some(expected)) = (came, expected) {
                    prop_assert_eq!(&came[..expected.len()], &expected[..]);
                }
            }
        }
    }
}
