//! The same network through a trapped card, an NE2000: every byte of a frame passes a port.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::IoKind;
use hypervisor::io::{Device, Net, NetCarrier};
use tests::{Ran, each_mode, need_kvm, run, run_with};

use super::host::{self, TAP, in_namespace, set_up_tap};
use super::wire::{NEAR, Peer};
use super::{GUEST, STATIC, assert_says, bytes, with, word_fnv};

/// As many bytes as pass in a moment where each word is an exit.
const BYTES: usize = 60_000;

fn on_tap(mode: Mode, script: &str) -> Ran {
    let mut config = with(mode, NetCarrier::Tap(TAP.into()), script);
    config.io = IoKind::Trapped;
    run_with(config, |_| set_up_tap())
}

fn on_socket(mode: Mode, peer: &Peer, script: &str) -> Ran {
    let mut config = with(mode, NetCarrier::Socket(peer.path()), script);
    config.io = IoKind::Trapped;
    run(config)
}

#[test]
fn a_trapped_card_works_over_a_socket() {
    each_mode(|mode| {
        let peer = Peer::at(NEAR);
        let text = "0123456789".repeat(20);
        let script =
            format!("{STATIC}; ping 10.0.2.2 3; echo-client 10.0.2.2 7 {text}; net; lsdev");
        let ran = on_socket(mode, &peer, &script);
        let lines = ran.lines();
        assert!(lines.contains(&"3 sent, 3 received"), "{lines:?}");
        assert!(lines.contains(&text.as_str()), "{lines:?}");
        assert_says(&ran, "0 dropped, 0 damaged, 0 bad checksums, 0 refused;");
        assert_says(&ran, "isa                          bus      platform     -");
        assert_says(
            &ran,
            "  eth0                       net      isa          ne2000       34      ",
        );
        assert!(peer.frames() >= 8, "{}", peer.frames());
    });
}

#[test]
fn a_stream_arrives_whole_either_way_through_a_trapped_card() {
    in_namespace(
        "trapped::a_stream_arrives_whole_either_way_through_a_trapped_card",
        || {
            each_mode(|mode| {
                let sends = host::serve(9, 1, |mut stream| stream.write_all(&bytes(BYTES)));
                let came = Arc::new(Mutex::new(Vec::new()));
                let all = came.clone();
                let receives = host::serve(10, 1, move |mut stream| {
                    let mut all = all.lock().expect("nobody panics");
                    stream.read_to_end(&mut all).map(drop)
                });
                let script =
                    format!("stream recv 10.0.2.2 9 {BYTES}; stream send 10.0.2.2 10 {BYTES}; net");
                let ran = on_tap(mode, &format!("{STATIC}; {script}"));
                assert_eq!(ran.status(), 0, "{}", ran.output);
                sends.join().expect("all was sent");
                receives.join().expect("all came");
                let came = came.lock().expect("nobody panics");
                assert_eq!(came.len(), BYTES);
                for (way, hash) in [("recv", word_fnv(&bytes(BYTES))), ("send", word_fnv(&came))] {
                    let start = format!("stream {way}: ");
                    let mut lines = ran.output.lines().filter(|line| line.starts_with(&start));
                    let line = lines.next().expect("a line about it");
                    assert!(
                        line.ends_with(&format!("{hash:016x}")),
                        "{line}, not {hash:016x}"
                    );
                }
                assert_says(&ran, " 0 damaged, 0 bad checksums, 0 refused;");
            });
        },
    );
}

/// How many frames the last `net` says that the card had no room for.
fn dropped(ran: &Ran) -> u64 {
    let mut lines = ran.output.lines().rev();
    let count = lines.find_map(|line| line.split_once(" dropped, ")?.0.trim().parse().ok());
    count.expect("a count")
}

/// Many more frames at once than a card has room for, several times.
fn flood() {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    for _ in 0..10 {
        for _ in 0..50 {
            // What the host has no room for is none of the card's matter.
            let _ = socket.send_to(&[7; 1400], SocketAddrV4::new(GUEST, 9));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_flood_that_the_card_has_no_room_for_is_dropped_and_counted() {
    in_namespace(
        "trapped::a_flood_that_the_card_has_no_room_for_is_dropped_and_counted",
        || {
            each_mode(|mode| {
                let turn = AtomicU32::new(0);
                // The first who comes has the flood behind its answer, the second one an answer alone.
                let server = host::serve(7, 2, move |stream| {
                    host::echo(stream)?;
                    if turn.fetch_add(1, Ordering::Relaxed) == 0 {
                        flood();
                    }
                    Ok(())
                });
                let script = "echo-client 10.0.2.2 7 first; sleep 500; echo-client 10.0.2.2 7 again; \
                              ping 10.0.2.2 3; net";
                let ran = on_tap(mode, &format!("{STATIC}; {script}"));
                server.join().expect("the server served both");
                // Behind it all is well again.
                assert_says(&ran, "first\n");
                assert_says(&ran, "again\n");
                assert_says(&ran, "3 sent, 3 received");
                assert!(dropped(&ran) > 0, "{}", ran.output);
                assert_says(&ran, " 0 damaged, ");
            });
        },
    );
}

#[test]
fn a_network_that_a_trapped_card_cannot_have_is_refused() {
    need_kvm!();
    let peer = Peer::at(NEAR);
    let refused = |devices: Vec<Device>| {
        let mut config = with(Mode::Pv, NetCarrier::Socket(peer.path()), "echo");
        config.devices = devices;
        config.io = IoKind::Trapped;
        tests::refusal(config)
    };
    let net = || Net::new(NetCarrier::Socket(peer.path()));
    let long = Net { mtu: 9000, ..net() };
    assert!(refused(vec![Device::Net(long)]).contains("use a smaller mtu"));
    let many = (0..3).map(|_| Device::Net(net())).collect();
    assert_eq!(refused(many), "3 devices: attach 2 at most");
}
