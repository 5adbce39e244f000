use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::device::feature;
use crate::driver::{Driver, PATIENCE, WRITE};
use std::sync::Arc;

const DATA: u64 = 0x10_0000;
const MERGED: u64 = 1 << 15;
const SHORT: Duration = Duration::from_millis(100);

/// A device on a wire, and the wire's other end.
fn started(features: u64) -> (Driver, UnixDatagram) {
    let (ours, wire) = UnixDatagram::pair().expect("a pair");
    wire.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let carrier = FrameSocket::new(ours.into()).expect("a socket");
    let options = NetOptions::new([2, 0, 0, 0, 0, 1]);
    let mut driver = Driver::new(Box::new(Net::new(Arc::new(carrier), options)));
    driver.start(features);
    (driver, wire)
}

/// A header with a frame behind it.
fn frame(len: usize) -> Vec<u8> {
    let body = (0..len).map(|index| (index % 249) as u8 + 1);
    [0; HEADER_LEN].into_iter().chain(body).collect()
}

#[test]
fn the_configuration_tells_address_link_and_mtu() {
    let (mut driver, _wire) = started(0);
    let mut bytes = [0xff; 16];
    driver.transport.read(0x100, &mut bytes);
    assert_eq!(bytes, [2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xdc, 5, 0, 0, 0, 0]);
    assert_eq!(
        driver.offered() & 0b1_1000_0011,
        0,
        "a socket makes no checksums"
    );
}

#[test]
fn frames_go_out_whole_and_what_is_none_is_lost() {
    let (mut driver, wire) = started(feature::EVENT_IDX);
    let sent = frame(600);
    driver.put(DATA, &sent);
    driver.submit(1, &[(DATA, 12, 0)]);
    driver.wait_used(1, 1);
    driver.submit(1, &[(DATA, 12, 0), (DATA + 12, 1, 0), (DATA + 13, 599, 0)]);
    driver.wait_used(1, 2);
    let mut got = [0; 2000];
    let len = wire.recv(&mut got).expect("a frame");
    assert_eq!(got[..len], sent);
}

#[test]
fn a_frame_waits_for_a_buffer_and_a_buffer_for_a_frame() {
    for features in [0, MERGED, MERGED | feature::EVENT_IDX] {
        let (mut driver, wire) = started(features);
        let sent = frame(1514);
        wire.send(&sent).expect("room");
        driver.submit(0, &[(DATA, 12, WRITE), (DATA + 0x1000, 1600, WRITE)]);
        driver.wait_used(0, 1);
        assert_eq!(driver.rings[0].used(&driver.memory, 0), (0, 1526));
        assert_eq!(driver.get(DATA, 12)[10..], [1, 0], "one buffer");
        assert_eq!(driver.get(DATA + 0x1000, 1514), sent[12..]);
        driver.submit(0, &[(DATA, 1600, WRITE)]);
        std::thread::sleep(SHORT);
        assert_eq!(driver.rings[0].used_index(&driver.memory), 1);
        wire.send(&frame(60)).expect("room");
        driver.wait_used(0, 2);
        assert_eq!(driver.rings[0].used(&driver.memory, 1), (0, 72));
    }
}

/// Offer receive buffers of one descriptor each, from table index `first` on.
fn offer(driver: &mut Driver, first: u16, lens: &[u32]) {
    for (head, len) in (first..).zip(lens) {
        driver.lay_out(0, head, &[(DATA + u64::from(head) * 0x1000, *len, WRITE)]);
        driver.rings[0].offer(&driver.memory, head);
    }
    driver.kick(0);
}

#[test]
fn a_frame_fills_several_buffers_and_leaves_the_others() {
    let (mut driver, wire) = started(MERGED);
    offer(&mut driver, 0, &[500, 20, 700, 500, 1500, 100]);
    let sent = frame(1514);
    wire.send(&sent).expect("room");
    driver.wait_used(0, 4);
    let used: Vec<_> = (0..4)
        .map(|i| driver.rings[0].used(&driver.memory, i))
        .collect();
    assert_eq!(used, [(0, 500), (1, 20), (2, 700), (3, 306)]);
    let mut got = Vec::new();
    for (head, len) in used {
        got.extend(driver.get(DATA + u64::from(head) * 0x1000, len as usize));
    }
    assert_eq!(got[10..12], [4, 0]);
    assert_eq!(got[12..], sent[12..]);
    wire.send(&frame(60)).expect("room");
    driver.wait_used(0, 5);
    assert_eq!(driver.rings[0].used(&driver.memory, 4), (4, 72));
    assert_eq!(driver.get(DATA + 0x4000, 72)[12..], frame(60)[12..]);
}

#[test]
fn a_frame_that_does_not_fit_waits_until_it_does() {
    let (mut driver, wire) = started(MERGED);
    offer(&mut driver, 0, &[100]);
    let sent = frame(1000);
    wire.send(&sent).expect("room");
    std::thread::sleep(SHORT);
    assert_eq!(driver.rings[0].used_index(&driver.memory), 0);
    offer(&mut driver, 1, &[900, 1600]);
    driver.wait_used(0, 3);
    let used: Vec<_> = (0..3)
        .map(|i| driver.rings[0].used(&driver.memory, i))
        .collect();
    assert_eq!(used, [(0, 100), (1, 900), (2, 12)]);
    assert_eq!(driver.get(DATA, 100)[12..], sent[12..100]);
    assert_eq!(driver.get(DATA + 0x2000, 12), sent[1000..]);
}

#[test]
fn a_flood_arrives_in_order_and_a_reset_ends_it() {
    let (mut driver, wire) = started(MERGED | feature::EVENT_IDX);
    for count in 0..200u16 {
        offer(&mut driver, count % 200, &[1600]);
        wire.send(&frame(60 + usize::from(count))).expect("room");
        driver.wait_used(0, count + 1);
        let (_, len) = driver.rings[0].used(&driver.memory, count);
        assert_eq!(len, 72 + u32::from(count));
    }
    driver.set_status(0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn a_full_wire_holds_frames_until_there_is_room() {
    let (mut driver, wire) = started(0);
    driver.put(DATA, &frame(1000));
    let rings = driver.rings[1];
    driver.lay_out(1, 0, &[(DATA, 1012, 0)]);
    // More than a socket's buffer takes.
    for _ in 0..256 {
        rings.offer(&driver.memory, 0);
    }
    driver.kick(1);
    std::thread::sleep(SHORT);
    let stopped = rings.used_index(&driver.memory);
    assert!(stopped < 256, "{stopped}");
    let mut got = [0; 2000];
    for _ in 0..256 {
        assert_eq!(wire.recv(&mut got).expect("a frame"), 1012);
    }
    driver.wait_used(1, 256);
}

/// A carrier that counts how often it was asked.
struct Counting(FrameSocket, AtomicUsize);

impl Carrier for Counting {
    fn fd(&self) -> std::os::fd::RawFd {
        self.0.fd()
    }
    fn has_offloads(&self) -> bool {
        true
    }
    fn set_offloads(&self, _: Offloads) -> std::io::Result<()> {
        Ok(())
    }
    fn receive(&self, into: &crate::raw_io::IoVecs) -> std::io::Result<usize> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.receive(into)
    }
    fn receive_here(&self, into: &mut [u8]) -> std::io::Result<usize> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.receive_here(into)
    }
    fn send(&self, from: &crate::raw_io::IoVecs) -> std::io::Result<()> {
        self.0.send(from)
    }
}

#[test]
fn a_carrier_that_ended_keeps_no_worker_awake() {
    for len in [1600, 20] {
        // A stream has an end that can be seen.
        let (ours, wire) = UnixStream::pair().expect("a pair");
        let carrier = FrameSocket::new(ours.into()).expect("a socket");
        let carrier = Arc::new(Counting(carrier, AtomicUsize::new(0)));
        let options = NetOptions::new([2, 0, 0, 0, 0, 1]);
        let mut driver = Driver::new(Box::new(Net::new(carrier.clone(), options)));
        driver.start(MERGED);
        offer(&mut driver, 0, &[len]);
        drop(wire);
        std::thread::sleep(SHORT);
        let calls = carrier.1.load(Ordering::SeqCst);
        assert!((1..4).contains(&calls), "{calls}");
        offer(&mut driver, 1, &[len]);
        std::thread::sleep(SHORT);
        assert_eq!(carrier.1.load(Ordering::SeqCst), calls);
        assert_eq!(driver.rings[0].used_index(&driver.memory), 0);
    }
}

#[test]
fn what_is_shorter_than_a_header_is_no_frame() {
    for len in [1600, 100] {
        let (mut driver, wire) = started(MERGED);
        offer(&mut driver, 0, &[len]);
        wire.send(&[7; 5]).expect("room");
        wire.send(&[7; 12]).expect("room");
        wire.send(&frame(60)).expect("room");
        driver.wait_used(0, 1);
        assert_eq!(driver.rings[0].used(&driver.memory, 0), (0, 72));
        assert_eq!(driver.get(DATA, 72)[12..], frame(60)[12..]);
    }
}

#[test]
fn a_disabled_receive_queue_gets_nothing() {
    let (mut driver, wire) = started(MERGED);
    offer(&mut driver, 0, &[1600]);
    std::thread::sleep(SHORT);
    assert_eq!(driver.set_ready(0, 0), 0);
    wire.send(&frame(60)).expect("room");
    std::thread::sleep(SHORT);
    assert_eq!(driver.rings[0].used_index(&driver.memory), 0);
    assert_eq!(driver.get(DATA, 72), [0; 72]);
}

#[test]
fn bad_receive_buffers_need_a_reset() {
    for (features, chain) in [
        (0, (DATA, 1525, WRITE)),
        (MERGED, (DATA, 11, WRITE)),
        (MERGED, (DATA, 1600, 0)),
    ] {
        let (mut driver, _wire) = started(features);
        driver.submit(0, &[chain]);
        assert!(driver.wait_fault().contains("receive buffer"));
    }
}

#[test]
fn commands_are_answered() {
    let (mut driver, _wire) = started(1 << 17 | 1 << 18);
    let commands: [(&[u8], u8); 5] = [
        (&[0, 0, 1], 0),
        (&[0, 1, 0], 0),
        (&[0, 2, 1], 1),
        (&[4, 0, 1], 1),
        (&[0, 0], 1),
    ];
    for (count, (command, answer)) in (1..).zip(commands) {
        driver.put(DATA, command);
        driver.put(DATA + 8, &[0xff]);
        driver.submit(2, &[(DATA, command.len() as u32, 0), (DATA + 8, 1, WRITE)]);
        driver.wait_used(2, count);
        assert_eq!(driver.get(DATA + 8, 1), [answer], "{command:?}");
    }
    driver.submit(2, &[(DATA, 3, 0)]);
    assert!(driver.wait_fault().contains("no room for its answer"));
}

#[test]
fn a_tap_is_made_where_the_host_allows_it_and_the_reason_given_where_not() {
    assert!(Tap::open("a name that is too long").is_err());
    match Tap::open("pvntest%d") {
        Ok(tap) => {
            let everything = Offloads {
                checksum: true,
                tso4: true,
                tso6: true,
                ecn: true,
            };
            assert!(tap.set_offloads(everything).is_ok());
            assert!(tap.set_offloads(Offloads::default()).is_ok());
            let none = tap.receive_here(&mut [0; 100]);
            assert!(none.is_err(), "an interface that is down has no frames");
        }
        Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
    }
    let file = std::fs::File::open("/dev/null").expect("is there");
    assert!(Tap::from_fd(file.into()).is_err());
}
