//! The driver against a card in plain memory.

use super::Net;
use super::wire::*;
use driver_api::{Env, NetClient, NetDevice, NetError, PartialChecksum, Segments, SendOptions};
use std::boxed::Box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;
use virtio::fake::{Answer, Chain, Device, FakeEnv, Machine};
use virtio::wire::{F_EVENT_IDX, ID_NET};
use virtio::{Transport, VirtioError};

const MAC: [u8; 6] = [2, 0x50, 0x56, 0, 0, 7];
const PLAIN: u64 = F_MAC | F_MTU | F_STATUS | F_EVENT_IDX;
const MERGING: u64 = PLAIN | F_MRG_RXBUF;
const JOINING: u64 = MERGING | F_GUEST_CSUM | F_GUEST_TSO4;
const CUTTING: u64 = MERGING | F_CSUM | F_HOST_TSO4;

fn config(mac: [u8; 6], status: u8, mtu: u16) -> Vec<u8> {
    let mut config = mac.to_vec();
    config.extend([status, 0, 1, 0]);
    config.extend(mtu.to_le_bytes());
    config
}

#[derive(Default)]
struct Client(AtomicUsize);

impl NetClient for Client {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Client {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Rig {
    machine: Arc<Machine>,
    net: Arc<Net<FakeEnv>>,
    client: Arc<Client>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn open(device: Device) -> (Arc<Machine>, Result<Arc<Net<FakeEnv>>, VirtioError>) {
    let machine = Machine::new(device);
    let env = machine.env();
    let transport = Transport::new(env.mmio(0, 0x200).unwrap()).unwrap();
    let net = Net::new(env, transport, 0x31);
    (machine, net)
}

/// A card; what it is given to send it keeps, after `change`.
fn device(
    features: u64,
    sent: &Arc<Mutex<Vec<Vec<u8>>>>,
    mut change: impl FnMut(Answer) -> Answer + Send + 'static,
) -> Device {
    let sent = sent.clone();
    let handler = move |chain: &Chain| {
        assert_eq!((chain.queue, chain.room), (1, 0));
        sent.lock().unwrap().push(chain.readable.clone());
        change(Answer::default())
    };
    let mut device = Device::new(ID_NET, features, 3, Box::new(handler));
    device.patient = vec![0];
    device.config = config(MAC, 1, 1500);
    device
}

fn rig_of(features: u64, change: impl FnMut(Answer) -> Answer + Send + 'static) -> Rig {
    let sent = Arc::default();
    let (machine, net) = open(device(features, &sent, change));
    let net = net.unwrap();
    let client = Arc::new(Client::default());
    net.set_client(client.clone());
    Rig {
        machine,
        net,
        client,
        sent,
    }
}

fn rig(features: u64) -> Rig {
    rig_of(features, |answer| answer)
}

fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(seed)).collect()
}

/// A frame as the device writes it, in buffers of a size.
fn arrives(rig: &Rig, flags: u8, frame: &[u8], buffer: usize) {
    let mut bytes = vec![0; HEADER];
    bytes[0] = flags;
    bytes.extend(frame);
    let count = bytes.len().div_ceil(buffer) as u16;
    bytes[10..12].copy_from_slice(&count.to_le_bytes());
    for part in bytes.chunks(buffer) {
        rig.machine.device(|device| {
            device.give(Answer {
                bytes: part.to_vec(),
                ..Answer::default()
            });
        });
    }
}

fn receive(rig: &Rig) -> Option<(Vec<u8>, bool)> {
    let mut bytes = vec![0; rig.net.info().longest];
    let frame = rig.net.receive(&mut bytes)?;
    bytes.truncate(frame.len);
    Some((bytes, frame.is_checked))
}

#[test]
fn numbers_are_those_of_virtio_bindings() {
    use virtio_bindings::virtio_net as net;
    for (own, theirs) in [
        (F_CSUM, net::VIRTIO_NET_F_CSUM),
        (F_GUEST_CSUM, net::VIRTIO_NET_F_GUEST_CSUM),
        (F_MTU, net::VIRTIO_NET_F_MTU),
        (F_MAC, net::VIRTIO_NET_F_MAC),
        (F_GUEST_TSO4, net::VIRTIO_NET_F_GUEST_TSO4),
        (F_GUEST_TSO6, net::VIRTIO_NET_F_GUEST_TSO6),
        (F_HOST_TSO4, net::VIRTIO_NET_F_HOST_TSO4),
        (F_HOST_TSO6, net::VIRTIO_NET_F_HOST_TSO6),
        (F_MRG_RXBUF, net::VIRTIO_NET_F_MRG_RXBUF),
        (F_STATUS, net::VIRTIO_NET_F_STATUS),
    ] {
        assert_eq!(own, 1 << theirs);
    }
    assert_eq!(u32::from(S_LINK_UP), net::VIRTIO_NET_S_LINK_UP);
    let size = core::mem::size_of::<net::virtio_net_hdr_mrg_rxbuf>();
    assert_eq!(size, HEADER);
    assert_eq!(u32::from(HDR_NEEDS_CSUM), net::VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_eq!(u32::from(HDR_DATA_VALID), net::VIRTIO_NET_HDR_F_DATA_VALID);
    assert_eq!(u32::from(GSO_TCPV4), net::VIRTIO_NET_HDR_GSO_TCPV4);
    assert_eq!(u32::from(GSO_TCPV6), net::VIRTIO_NET_HDR_GSO_TCPV6);
}

#[test]
fn a_card_says_what_it_is() {
    let info = rig(CUTTING).net.info();
    assert_eq!((info.mac, info.mtu, info.is_up), (MAC, 1500, true));
    assert_eq!(info.longest, 1514);
    assert!(info.offloads.checksum);
    assert_eq!(
        (info.offloads.tcp4_most, info.offloads.tcp6_most),
        (65549, 0)
    );
    assert_eq!(rig(JOINING).net.info().longest, 65550);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (features, mac, mtu) in [
        (PLAIN, [1, 0, 0, 0, 0, 7], 1500),
        (PLAIN, [0; 6], 1500),
        (PLAIN, MAC, 67),
        (PLAIN & !F_MAC, MAC, 1500),
    ] {
        let mut device = device(features, &Arc::default(), |answer| answer);
        device.config = config(mac, 1, mtu);
        let (_machine, net) = open(device);
        assert_eq!(net.err(), Some(VirtioError::Configuration));
    }
}

#[test]
fn features_that_lack_what_they_need_are_left_out() {
    for (offered, agreed) in [
        (JOINING, JOINING),
        (JOINING & !F_GUEST_CSUM, MERGING),
        (JOINING & !F_MRG_RXBUF, PLAIN | F_GUEST_CSUM),
        (CUTTING & !F_CSUM, MERGING),
    ] {
        let rig = rig(offered);
        let version = virtio::wire::F_VERSION_1;
        assert_eq!(rig.net.features(), agreed | version);
        assert_eq!(
            rig.machine.device(|device| device.agreed()),
            agreed | version
        );
    }
}

#[test]
fn frames_arrive_in_order_however_long_they_are() {
    for (features, buffer, lens) in [
        (PLAIN, usize::MAX / 2, vec![14, 60, 1514]),
        (MERGING, 2048, vec![14, 60, 1514]),
        (JOINING, 4096, vec![60, 4084, 4085, 65550, 1514]),
    ] {
        let rig = rig(features);
        for turn in 0..40 {
            for (seed, len) in (1 + turn..).zip(&lens) {
                arrives(&rig, 0, &frame(*len, seed), buffer);
            }
            while rig.machine.run() {}
            for (seed, len) in (1 + turn..).zip(&lens) {
                assert_eq!(receive(&rig), Some((frame(*len, seed), false)), "{len}");
            }
            assert_eq!(receive(&rig), None);
            assert!(!rig.net.listen());
        }
        let counts = rig.net.counts();
        assert_eq!(counts.received, 40 * lens.len() as u64);
        assert_eq!(
            counts.received_bytes,
            40 * lens.iter().sum::<usize>() as u64
        );
        assert_eq!((counts.dropped, counts.errors), (0, 0));
    }
}

#[test]
fn a_checksum_counts_only_if_that_was_agreed_on() {
    for (features, flags, is_checked) in [
        (JOINING, HDR_NEEDS_CSUM, true),
        (JOINING, HDR_DATA_VALID, true),
        (JOINING, 0, false),
        (MERGING, HDR_DATA_VALID, false),
    ] {
        let rig = rig(features);
        arrives(&rig, flags, &frame(60, 3), 2048);
        rig.machine.run();
        assert_eq!(receive(&rig), Some((frame(60, 3), is_checked)));
    }
}

#[test]
fn a_burst_costs_one_interrupt_and_one_notification() {
    let rig = rig(MERGING);
    assert!(!rig.net.listen());
    let (accesses, kicks) = (rig.machine.accesses(), rig.machine.notifications());
    for seed in 0..20 {
        arrives(&rig, 0, &frame(100, seed), 2048);
        rig.machine.run();
    }
    assert_eq!((rig.machine.interrupts(), rig.client.count()), (1, 1));
    for seed in 0..20 {
        assert_eq!(receive(&rig), Some((frame(100, seed), false)));
    }
    // One more came before the client listens again.
    arrives(&rig, 0, &frame(100, 99), 2048);
    rig.machine.run();
    assert!(rig.net.listen());
    assert_eq!(receive(&rig), Some((frame(100, 99), false)));
    assert!(!rig.net.listen());
    assert_eq!((rig.machine.interrupts(), rig.client.count()), (1, 1));
    assert_eq!(rig.machine.accesses(), accesses, "no register was touched");
    assert!(rig.machine.notifications() <= kicks + 2);
}

#[test]
fn an_interrupt_that_comes_late_costs_no_register_and_hides_no_change() {
    for listens_again in [false, true] {
        let rig = rig(MERGING);
        let accesses = rig.machine.accesses();
        assert!(!rig.net.listen());
        // The device has written the frame, and its interrupt is on its way.
        arrives(&rig, 0, &frame(100, 7), 2048);
        rig.machine.run_quietly();
        assert_eq!(receive(&rig), Some((frame(100, 7), false)));
        if listens_again {
            assert!(!rig.net.listen());
        }
        rig.machine.interrupt();
        assert_eq!(rig.machine.accesses(), accesses, "{listens_again}");
        // What comes next has no frame to explain it.
        assert!(!rig.net.listen());
        rig.machine
            .device(|device| device.change_config(config(MAC, 0, 1500)));
        rig.machine.run();
        assert!(!rig.net.info().is_up);
    }
}

#[test]
fn a_frame_is_sent_as_it_is() {
    for features in [PLAIN, MERGING, MERGING & !F_EVENT_IDX] {
        let rig = rig(features);
        let plain = SendOptions::default();
        // More than the ring of bytes and the queue hold at once.
        for turn in 0..1000 {
            let len = 15 + turn % 1500;
            assert_eq!(rig.net.send(&frame(len, turn as u8), &plain), Ok(()));
            if turn % 10 == 9 {
                rig.net.kick();
                rig.machine.run();
            }
        }
        let sent = rig.sent.lock().unwrap();
        assert_eq!(sent.len(), 1000);
        for (turn, bytes) in sent.iter().enumerate() {
            assert_eq!(bytes[..HEADER], [0; HEADER]);
            assert!(bytes[HEADER..] == frame(15 + turn % 1500, turn as u8));
        }
        assert_eq!(rig.machine.interrupts(), 0, "nobody waits for room");
        assert_eq!(rig.net.counts().sent, 1000);
    }
}

#[test]
fn who_is_refused_is_notified_when_there_is_room() {
    for is_reversed in [false, true] {
        let rig = rig(MERGING);
        rig.machine
            .device(|device| device.is_reversed = is_reversed);
        let (bytes, plain) = (frame(1514, 3), SendOptions::default());
        let mut count = 0;
        while rig.net.send(&bytes, &plain) == Ok(()) {
            count += 1;
        }
        assert!(count >= 100, "{count}");
        assert_eq!(rig.net.send(&bytes, &plain), Err(NetError::Busy));
        assert!(!rig.net.listen());
        rig.net.kick();
        rig.machine.run();
        assert_eq!((rig.machine.interrupts(), rig.client.count()), (1, 1));
        assert_eq!(rig.net.send(&bytes, &plain), Ok(()));
        // With room again nobody waits for more.
        assert!(!rig.net.listen());
        rig.net.kick();
        rig.machine.run();
        assert_eq!(rig.machine.interrupts(), 1);
        assert_eq!(rig.sent.lock().unwrap().len(), count + 1);
    }
}

#[test]
fn what_is_left_to_the_device_is_in_the_header() {
    let rig = rig(CUTTING);
    let checksum = Some(PartialChecksum {
        start: 34,
        offset: 16,
    });
    let segments = Some(Segments {
        is_ipv6: false,
        headers: 54,
        size: 1460,
    });
    let options = SendOptions { checksum, segments };
    assert_eq!(rig.net.send(&frame(60_000, 5), &options), Ok(()));
    let only = SendOptions {
        checksum,
        segments: None,
    };
    assert_eq!(rig.net.send(&frame(100, 5), &only), Ok(()));
    rig.net.kick();
    rig.machine.run();
    let sent = rig.sent.lock().unwrap();
    let headers: Vec<_> = sent.iter().map(|bytes| &bytes[..HEADER]).collect();
    assert_eq!(headers[0], [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(headers[1], [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
}

#[test]
fn a_frame_that_the_device_does_not_take_is_refused() {
    let checksum = Some(PartialChecksum {
        start: 34,
        offset: 16,
    });
    let segments = |is_ipv6, headers, size| {
        Some(Segments {
            is_ipv6,
            headers,
            size,
        })
    };
    for (features, len, checksum, segments) in [
        (CUTTING, 14, None, None),
        (CUTTING, 1515, None, None),
        (CUTTING, 51, checksum, None),
        (MERGING, 100, checksum, None),
        (CUTTING, 2000, None, segments(false, 54, 1460)),
        (CUTTING, 2000, checksum, segments(true, 74, 1440)),
        (CUTTING, 2000, checksum, segments(false, 54, 0)),
        (CUTTING, 2000, checksum, segments(false, 2000, 1)),
        (CUTTING, 65550, checksum, segments(false, 54, 1460)),
    ] {
        let rig = rig(features);
        let options = SendOptions { checksum, segments };
        let result = rig.net.send(&frame(len, 1), &options);
        assert_eq!(result, Err(NetError::BadFrame), "{len}");
        assert_eq!(rig.net.counts().sent, 0);
    }
}

#[test]
fn the_link_is_followed_without_a_register_on_the_data_path() {
    let rig = rig(MERGING);
    for status in [0, 1, 0] {
        assert!(!rig.net.listen());
        let before = rig.client.count();
        rig.machine
            .device(|device| device.change_config(config(MAC, status, 1500)));
        rig.machine.run();
        assert_eq!(rig.net.info().is_up, status == 1);
        assert_eq!(rig.client.count(), before + 1);
        assert_eq!(rig.machine.device(|device| device.interrupt_status()), 0);
        // The client learns of a change while it does not listen when it does.
        assert!(rig.net.listen());
    }
}

#[test]
fn wrong_answers_break_the_card_and_nothing_else() {
    let wrong: [fn(Answer) -> Answer; 5] = [
        |answer| Answer {
            len: Some(5000),
            ..answer
        },
        |answer| Answer {
            id: Some(4711),
            ..answer
        },
        |answer| Answer {
            is_ahead: true,
            ..answer
        },
        // No header.
        |answer| Answer {
            len: Some(11),
            ..answer
        },
        // More buffers than came.
        |mut answer| {
            answer.bytes[10] = 9;
            answer
        },
    ];
    for change in wrong {
        let rig = rig(MERGING);
        assert!(!rig.net.listen());
        let mut bytes = vec![0; HEADER];
        bytes[10] = 1;
        bytes.extend(frame(100, 1));
        rig.machine.device(|device| {
            device.give(change(Answer {
                bytes,
                ..Answer::default()
            }));
        });
        rig.machine.run();
        assert_eq!(receive(&rig), None);
        check_broken(&rig);
    }
    let wrong: [fn(Answer) -> Answer; 3] = [
        |answer| Answer {
            len: Some(1),
            ..answer
        },
        |answer| Answer {
            id: Some(255),
            ..answer
        },
        |answer| Answer {
            is_ahead: true,
            ..answer
        },
    ];
    for change in wrong {
        let rig = rig_of(MERGING, change);
        let mut result = Ok(());
        for _ in 0..1000 {
            if result.is_err() {
                break;
            }
            result = rig.net.send(&frame(1000, 1), &SendOptions::default());
            rig.net.kick();
            rig.machine.run();
        }
        assert_eq!(result, Err(NetError::Broken));
        check_broken(&rig);
    }
}

fn check_broken(rig: &Rig) {
    assert!(!rig.net.info().is_up);
    assert_eq!(rig.machine.device(|device| device.status()), 0);
    assert_eq!(rig.machine.log().len(), 1);
    assert!(rig.net.listen(), "the client learns of it");
    assert!(!rig.net.listen());
    let result = rig.net.send(&frame(100, 1), &SendOptions::default());
    assert_eq!((result, receive(rig)), (Err(NetError::Broken), None));
    assert_eq!(rig.machine.log().len(), 1);
}

#[test]
fn a_device_that_stops_is_noticed() {
    let rig = rig(MERGING);
    assert!(!rig.net.listen());
    rig.machine.device(Device::stop);
    rig.machine.run();
    assert_eq!(rig.client.count(), 1);
    check_broken(&rig);
}

#[test]
fn frames_that_do_not_fit_are_dropped_and_those_behind_arrive() {
    let rig = rig(MERGING);
    arrives(&rig, 0, &frame(13, 1), 2048);
    arrives(&rig, 0, &frame(5000, 1), 2048);
    arrives(&rig, 0, &frame(60, 1), 2048);
    rig.machine.run();
    assert_eq!(receive(&rig), Some((frame(60, 1), false)));
    let counts = rig.net.counts();
    assert_eq!((counts.dropped, counts.errors, counts.received), (1, 1, 1));
}
