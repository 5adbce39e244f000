//! Two stacks on one wire, in memory.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use driver_api::{ETHERNET_HEADER, ReceivedFrame, SendOptions};
use driver_api::{NetClient, NetCounts, NetDevice, NetError, NetInfo, NetOffloads};
use smoltcp::wire::checksum;

use crate::hash::WordFnv;
use crate::{Echo, NetFail, PING_BYTES, Stack};

const MTU: usize = 1500;
const A: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 9);

type Frames = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// A device: frames to the other side, and from it.
struct Side {
    mac: u8,
    out: Frames,
    incoming: Frames,
    /// How many frames have room on the way out.
    room: usize,
    offloads: NetOffloads,
    /// Every so many frames get lost on the way out; 0 for none.
    loss: usize,
    counts: Mutex<NetCounts>,
    longest: Mutex<usize>,
}

impl NetDevice for Side {
    fn info(&self) -> NetInfo {
        NetInfo {
            mac: [2, 0, 0, 0, 0, self.mac],
            mtu: MTU as u16,
            is_up: true,
            longest: 65550,
            offloads: self.offloads,
        }
    }

    fn set_client(&self, _: Arc<dyn NetClient>) {}

    fn send(&self, frame: &[u8], options: &SendOptions) -> Result<(), NetError> {
        let mut out = self.out.lock().unwrap();
        let mut counts = self.counts.lock().unwrap();
        if out.len() >= self.room {
            return Err(NetError::Busy);
        }
        let mut longest = self.longest.lock().unwrap();
        *longest = frame.len().max(*longest);
        counts.sent += 1;
        let is_cut = options.segments.is_some();
        assert!(is_cut || frame.len() <= ETHERNET_HEADER + MTU);
        if let Some(segments) = options.segments {
            // A card that joins again what another one has cut would get the same.
            assert!(usize::from(segments.size) <= MTU - 40 && segments.headers == 54);
        }
        let mut frame = frame.to_vec();
        if let Some(partial) = options.checksum {
            let start = usize::from(partial.start);
            let sum = !checksum::data(&frame[start..]);
            let at = start + usize::from(partial.offset);
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        if self.loss == 0 || !counts.sent.is_multiple_of(self.loss as u64) {
            out.push_back(frame);
        }
        Ok(())
    }

    fn kick(&self) {}

    fn receive(&self, into: &mut [u8]) -> Option<ReceivedFrame> {
        let frame = self.incoming.lock().unwrap().pop_front()?;
        into[..frame.len()].copy_from_slice(&frame);
        self.counts.lock().unwrap().received += 1;
        Some(ReceivedFrame {
            len: frame.len(),
            is_checked: false,
        })
    }

    fn listen(&self) -> bool {
        !self.incoming.lock().unwrap().is_empty()
    }

    fn counts(&self) -> NetCounts {
        *self.counts.lock().unwrap()
    }
}

/// How a wire is.
#[derive(Clone, Copy)]
struct Wire {
    room: usize,
    loss: usize,
    offloads: NetOffloads,
}

const GOOD: Wire = Wire {
    room: 1000,
    loss: 0,
    offloads: NetOffloads {
        checksum: false,
        tcp4_most: 0,
        tcp6_most: 0,
    },
};

const CUTTING: Wire = Wire {
    offloads: NetOffloads {
        checksum: true,
        tcp4_most: 65549,
        tcp6_most: 0,
    },
    ..GOOD
};

struct Rig {
    a: Stack,
    b: Stack,
    sides: [Arc<Side>; 2],
    now: u64,
}

fn rig(wire: Wire) -> Rig {
    let (there, back) = (Frames::default(), Frames::default());
    let side = |mac, out: &Frames, incoming: &Frames| {
        Arc::new(Side {
            mac,
            out: out.clone(),
            incoming: incoming.clone(),
            room: wire.room,
            loss: wire.loss,
            offloads: wire.offloads,
            counts: Mutex::default(),
            longest: Mutex::default(),
        })
    };
    let sides = [side(1, &there, &back), side(2, &back, &there)];
    let [mut a, mut b] = [0usize, 1].map(|at| {
        let seed = 0x1234_5678_9abc_def0 + at as u64;
        Stack::new(sides[at].clone(), seed, 0).unwrap()
    });
    a.set_static(A, 24, None).unwrap();
    b.set_static(B, 24, None).unwrap();
    let now = 0;
    Rig { a, b, sides, now }
}

impl Rig {
    /// Let time and frames go on until something is there, or for a minute of the stacks' time.
    fn until<T>(&mut self, mut work: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let end = self.now + 60_000_000_000;
        while self.now < end {
            if let Some(value) = work(self) {
                return Some(value);
            }
            self.a.poll(self.now);
            self.b.poll(self.now);
            self.now += 1_000_000;
        }
        None
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

/// Move bytes from `a` to `b` over a connection, and both close it. Returns the time it took.
fn stream(rig: &mut Rig, len: usize) -> u64 {
    let bytes = pattern(len);
    let server = rig.b.accept_at(7).unwrap();
    let client = rig.a.connect(SocketAddrV4::new(B, 7)).unwrap();
    let peer = rig.until(|rig| rig.a.established(&client)).unwrap();
    assert_eq!(peer, Ok(SocketAddrV4::new(B, 7)));
    let (mut sent, mut came, mut hash) = (0, 0, WordFnv::new());
    let begin = rig.now;
    rig.until(|rig| {
        sent += rig.a.write(&client, &bytes[sent..]).unwrap();
        let mut take = |bytes: &[u8]| {
            hash.add(bytes);
            bytes.len()
        };
        while let Some(count) = rig.b.read(&server, &mut take).unwrap() {
            came += count;
        }
        (came == len).then_some(())
    })
    .unwrap();
    let mut expected = WordFnv::new();
    expected.add(&bytes);
    assert_eq!(hash.finish(), expected.finish());
    let took = rig.now - begin;
    rig.a.close(&client);
    let end = rig.until(|rig| rig.b.read(&server, |_| 0).err());
    assert_eq!(end, Some(NetFail::Closed));
    let done = rig.until(|rig| rig.a.delivered(&client));
    assert_eq!((done, rig.a.finished(&client)), (Some(Ok(())), None));
    rig.b.close(&server);
    assert_eq!(rig.until(|rig| rig.b.finished(&server)), Some(Ok(())));
    assert_eq!(rig.until(|rig| rig.a.finished(&client)), Some(Ok(())));
    rig.a.discard(client);
    rig.b.discard(server);
    took
}

#[test]
fn a_stream_arrives_whole() {
    for wire in [GOOD, CUTTING] {
        let mut rig = rig(wire);
        for len in [1, 1460, 100_000, 3_000_000] {
            stream(&mut rig, len);
        }
    }
}

#[test]
fn a_device_that_cuts_gets_long_frames() {
    let mut rig = rig(CUTTING);
    stream(&mut rig, 2_000_000);
    let sent = rig.sides[0].counts().sent;
    assert!(sent < 400, "{sent} frames for two megabytes");
    assert!(*rig.sides[0].longest.lock().unwrap() > 40_000);
}

#[test]
fn a_device_without_room_loses_nothing() {
    for room in [1, 2, 7] {
        let mut rig = rig(Wire { room, ..GOOD });
        stream(&mut rig, 300_000);
        for stack in [&rig.a, &rig.b] {
            assert_eq!(stack.counts().refused, 0);
        }
    }
}

#[test]
fn what_is_lost_is_sent_again() {
    let mut rig = rig(Wire { loss: 23, ..GOOD });
    stream(&mut rig, 500_000);
}

#[test]
fn who_cannot_be_reached_is_an_error_that_says_why() {
    let mut rig = rig(GOOD);
    let fail = |rig: &mut Rig, ip, port| {
        let tcp = match rig.a.connect(SocketAddrV4::new(ip, port)) {
            Ok(tcp) => tcp,
            Err(error) => return (error, 0),
        };
        let begin = rig.now;
        let result = rig.until(|rig| rig.a.established(&tcp)).unwrap();
        rig.a.discard(tcp);
        (result.unwrap_err(), rig.now - begin)
    };
    let (refused, ns) = fail(&mut rig, B, 99);
    assert!(refused == NetFail::Refused && ns < 1_000_000_000);
    for _ in 0..2 {
        let (no_host, ns) = fail(&mut rig, NOBODY, 99);
        assert_eq!(no_host, NetFail::NoHost);
        assert!((1_000_000_000..5_000_000_000).contains(&ns), "{ns}");
    }
    let away = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(fail(&mut rig, away, 1).0, NetFail::Unreachable);
    assert_eq!(fail(&mut rig, B, 0).0, NetFail::BadAddress);
    assert_eq!(
        fail(&mut rig, Ipv4Addr::BROADCAST, 1).0,
        NetFail::BadAddress
    );
    rig.a.set_static(A, 24, Some(NOBODY)).unwrap();
    assert_eq!(fail(&mut rig, away, 1).0, NetFail::NoHost);
    rig.a.start_dhcp();
    assert_eq!(fail(&mut rig, B, 1).0, NetFail::NoAddress);
}

#[test]
fn a_connection_that_is_broken_off_is_an_error_on_the_other_side() {
    let mut rig = rig(GOOD);
    let server = rig.b.accept_at(7).unwrap();
    let client = rig.a.connect(SocketAddrV4::new(B, 7)).unwrap();
    rig.until(|rig| rig.b.established(&server))
        .unwrap()
        .unwrap();
    rig.until(|rig| rig.a.established(&client))
        .unwrap()
        .unwrap();
    rig.b.discard(server);
    let error = rig.until(|rig| rig.a.read(&client, |_| 0).err());
    assert_eq!(error, Some(NetFail::Reset));
    assert_eq!(rig.a.write(&client, &[1]), Err(NetFail::Reset));
    rig.a.discard(client);
}

#[test]
fn an_echo_comes_back() {
    let mut rig = rig(GOOD);
    let ping = rig.a.begin_ping(B).unwrap();
    for sequence in 0..20 {
        rig.a.ask(&ping, sequence).unwrap();
        let echo = rig.until(|rig| rig.a.answer(&ping).unwrap());
        let expected = Echo {
            from: B,
            sequence,
            len: PING_BYTES,
            is_intact: true,
        };
        assert_eq!(echo, Some(expected));
    }
    rig.a.end_ping(ping);
    let nobody = rig.a.begin_ping(NOBODY).unwrap();
    rig.a.ask(&nobody, 0).unwrap();
    let error = rig.until(|rig| rig.a.answer(&nobody).err());
    assert_eq!(error, Some(NetFail::NoHost));
}

#[test]
fn addresses_that_make_no_sense_are_refused() {
    let mut rig = rig(GOOD);
    let ip = |last| Ipv4Addr::new(10, 0, 2, last);
    for (address, prefix, gateway) in [
        (Ipv4Addr::UNSPECIFIED, 24, None),
        (Ipv4Addr::BROADCAST, 24, None),
        (Ipv4Addr::LOCALHOST, 8, None),
        (Ipv4Addr::new(224, 0, 0, 1), 24, None),
        (ip(15), 33, None),
        (ip(15), 24, Some(ip(15))),
        (ip(15), 24, Some(Ipv4Addr::new(10, 0, 3, 2))),
    ] {
        let result = rig.a.set_static(address, prefix, gateway);
        assert_eq!(result, Err(NetFail::BadAddress), "{address}/{prefix}");
        assert_eq!(rig.a.address().unwrap().ip, A);
    }
}

#[test]
fn an_idle_stack_wants_no_poll() {
    let mut rig = rig(GOOD);
    stream(&mut rig, 10_000);
    for stack in [&mut rig.a, &mut rig.b] {
        let polled = stack.poll(rig.now);
        assert_eq!((polled.has_more, polled.due_ns), (false, None));
    }
}
