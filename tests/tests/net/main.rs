//! The guest's network, in each mode: over a tap in a namespace of the test's own, where the host is the
//! host's kernel; over a socket, where it is a thread of the test's; and over the user-mode network.

mod host;
mod trapped;
mod user;
mod wire;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::Config;
use hypervisor::io::{Device, Net, NetCarrier};
use netstack::hash::WordFnv;
use tests::disk::fnv;
use tests::{Ran, each_mode, kernel, need_kvm, run, run_with};

use host::{TAP, in_namespace, set_up_tap};
use wire::{NEAR, Peer};

/// Gives the guest its address.
const STATIC: &str = "net static 10.0.2.15/24 gw 10.0.2.2";
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// As many bytes as pass in a moment in every mode on every platform.
const BYTES: usize = 300_000;

fn with(mode: Mode, carrier: NetCarrier, script: &str) -> Config {
    let mut config = kernel(mode, script);
    config.devices = vec![Device::Rng, Device::Net(Net::new(carrier))];
    config
}

/// Run a script of a guest on the tap.
fn on_tap(mode: Mode, script: &str) -> Ran {
    let config = with(mode, NetCarrier::Tap(TAP.into()), script);
    run_with(config, |_| set_up_tap())
}

/// Run a script of a guest on a socket.
fn on_socket(mode: Mode, peer: &Peer, script: &str) -> Ran {
    run(with(mode, NetCarrier::Socket(peer.path()), script))
}

#[track_caller]
fn assert_says(ran: &Ran, text: &str) {
    assert!(ran.output.contains(text), "{text}: {}", ran.output);
}

fn bytes(len: usize) -> Vec<u8> {
    let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..len).map(byte).collect()
}

fn word_fnv(bytes: &[u8]) -> u64 {
    let mut hash = WordFnv::new();
    hash.add(bytes);
    hash.finish()
}

#[test]
fn the_host_answers_pings_over_a_tap() {
    in_namespace("the_host_answers_pings_over_a_tap", || {
        each_mode(|mode| {
            let ran = on_tap(mode, &format!("{STATIC}; ping 10.0.2.2 5; net; lsdev"));
            let lines = ran.lines();
            assert!(lines.contains(&"5 sent, 5 received"), "{lines:?}");
            assert!(lines.contains(&"eth0  10.0.2.15/24 gw 10.0.2.2 static"));
            assert_says(&ran, "56 bytes from 10.0.2.2: seq 5, ");
            assert_says(&ran, "up  10.0.2.15/24 gw 10.0.2.2 static");
            assert_says(
                &ran,
                "  eth0                       net      virtio-mmio  virtio-net",
            );
            assert_says(&ran, " host-tso4 ");
            assert!(!ran.output.contains("damaged\n"), "{}", ran.output);
        });
    });
}

#[test]
fn an_address_is_lent_by_dhcp() {
    in_namespace("an_address_is_lent_by_dhcp", || {
        each_mode(|mode| {
            let server = host::lend(Ipv4Addr::new(10, 0, 2, 50), 2);
            let ran = on_tap(mode, "net dhcp; ping 10.0.2.2 1; net");
            let lines = ran.lines();
            assert!(
                lines.contains(&"eth0  10.0.2.50/24 gw 10.0.2.2 dhcp"),
                "{lines:?}"
            );
            assert!(lines.contains(&"1 sent, 1 received"));
            assert_eq!(
                server.join().expect("a server"),
                [1, 3],
                "DISCOVER and REQUEST"
            );
        });
    });
}

#[test]
fn bytes_come_back_from_a_server_of_the_host_s() {
    in_namespace("bytes_come_back_from_a_server_of_the_host_s", || {
        each_mode(|mode| {
            let server = host::serve(7, 2, host::echo);
            let script =
                format!("{STATIC}; echo-client 10.0.2.2 7 hello; echo-client 10.0.2.2 7 \"a b\"");
            let ran = on_tap(mode, &script);
            let lines = ran.lines();
            assert!(lines.ends_with(&["hello", "a b"]), "{lines:?}");
            server.join().expect("the server served both");
        });
    });
}

#[test]
fn the_guest_serves_one_after_the_other() {
    in_namespace("the_guest_serves_one_after_the_other", || {
        each_mode(|mode| {
            let client = thread::spawn(|| {
                for turn in 0..3 {
                    let sent = bytes(BYTES + turn);
                    let mut stream = host::dial(SocketAddrV4::new(GUEST, 77));
                    let mut writer = stream.try_clone().expect("a clone");
                    let writing = sent.clone();
                    let writes = thread::spawn(move || {
                        writer.write_all(&writing).expect("it is sent");
                        writer
                            .shutdown(std::net::Shutdown::Write)
                            .expect("it is closed");
                    });
                    let mut came = Vec::new();
                    stream.read_to_end(&mut came).expect("it comes back");
                    writes.join().expect("the writer writes");
                    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
                }
            });
            let ran = on_tap(mode, &format!("{STATIC}; echo-server 77 3"));
            client.join().expect("the client got its bytes back");
            for turn in 0..3 {
                assert_says(&ran, &format!(": {} bytes\n", BYTES + turn));
            }
            assert_eq!(ran.status(), 0);
        });
    });
}

#[test]
fn a_file_of_the_host_s_is_got_by_http() {
    in_namespace("a_file_of_the_host_s_is_got_by_http", || {
        each_mode(|mode| {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(&bytes(BYTES)).expect("room");
            let path = file.path().to_owned();
            let server = host::serve(8000, 2, move |stream| {
                host::http(stream, "/file", &std::fs::read(&path)?)
            });
            let script = "get http://10.0.2.2:8000/file; get http://10.0.2.2:8000/none";
            let ran = on_tap(mode, &format!("{STATIC}; {script}"));
            server.join().expect("the server served both");
            assert_eq!(ran.status(), 1, "{}", ran.output);
            let hash = fnv(&bytes(BYTES));
            assert_says(&ran, &format!("200 OK, {BYTES} bytes, fnv1a {hash:016x}\n"));
            assert_says(&ran, "404 Not Found, 4 bytes");
            assert_says(&ran, "the server answered with status 404\n");
        });
    });
}

#[test]
fn a_stream_arrives_whole_either_way() {
    in_namespace("a_stream_arrives_whole_either_way", || {
        each_mode(|mode| {
            let sends = host::serve(9, 1, |mut stream| stream.write_all(&bytes(BYTES)));
            let came = Arc::new(std::sync::Mutex::new(Vec::new()));
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
                let lines = ran.output.lines();
                let mut lines = lines.filter(|line| line.starts_with(&format!("stream {way}: ")));
                let line = lines.next().expect("a line about it");
                assert!(
                    line.ends_with(&format!("{hash:016x}")),
                    "{line}, not {hash:016x}"
                );
            }
            // Segments are cut and joined by the host, so a frame carries many.
            let frames = count_before(&ran, "sent ") + count_before(&ran, "received ");
            assert!(frames < 2 * BYTES as u64 / 1460, "{frames} frames");
            assert_says(&ran, "0 dropped, 0 damaged, 0 bad checksums, 0 refused;");
        });
    });
}

/// The number behind a word of the output.
#[track_caller]
fn count_before(ran: &Ran, word: &str) -> u64 {
    let (_, rest) = ran.output.split_once(word).expect("the word is there");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn what_does_not_work_is_said() {
    in_namespace("what_does_not_work_is_said", || {
        each_mode(|mode| {
            let script = "ping 10.0.2.2; net static 10.0.2.15/24; ping 192.0.2.1; \
                          echo-client 10.0.2.2 4711 x; echo-client 10.0.2.99 7 x; ping 10.0.2.98 9; \
                          net static 10.0.2.15/24 gw 10.0.3.1; net eth7 dhcp";
            let ran = on_tap(mode, script);
            assert_eq!(ran.status(), 1, "{}", ran.output);
            let lines: Vec<_> = ran.output.lines().skip(1).collect();
            let no_host = "no route to host: nobody answers for its address";
            let mut expected = vec![
                "the interface has no address; `net dhcp` or `net static` gives it one",
                "eth0  10.0.2.15/24 static",
                "network is unreachable",
                "connection refused",
                no_host,
            ];
            // How often it asks until it knows that nobody is there is a matter of time.
            let (timed, rest) = lines.split_at(5);
            assert_eq!(timed, expected);
            let rest = rest.iter().filter(|line| !line.contains(": timed out"));
            expected = vec![
                no_host,
                "this is no address to talk to",
                "there is no such device; `lsdev` shows those that there are",
            ];
            assert_eq!(rest.copied().collect::<Vec<_>>(), expected);
        });
    });
}

#[test]
fn a_network_over_a_socket_works_without_a_tap() {
    each_mode(|mode| {
        let peer = Peer::at(NEAR);
        let text = "0123456789".repeat(20);
        let script = format!("{STATIC}; ping 10.0.2.2 3; echo-client 10.0.2.2 7 {text}; net");
        let ran = on_socket(mode, &peer, &script);
        let lines = ran.lines();
        assert!(lines.contains(&"3 sent, 3 received"), "{lines:?}");
        assert!(lines.contains(&text.as_str()), "{lines:?}");
        assert_says(&ran, "0 dropped, 0 damaged, 0 bad checksums, 0 refused;");
        assert!(!ran.output.contains("tso"), "a socket cuts nothing");
        assert!(peer.frames() >= 8, "{}", peer.frames());
    });
}

#[test]
fn frames_cost_no_exit_for_registers() {
    each_mode(|mode| {
        let few = on_socket(mode, &Peer::at(NEAR), &format!("{STATIC}; ping 10.0.2.2 1"));
        let many = on_socket(
            mode,
            &Peer::at(NEAR),
            &format!("{STATIC}; ping 10.0.2.2 40"),
        );
        assert!(many.lines().contains(&"40 sent, 40 received"));
        many.assert_free_doorbells(&few);
    });
}

#[test]
fn an_answer_while_the_guest_polls_interrupts_nobody() {
    each_mode(|mode| {
        // So distant that a guest is asleep by then if it does not poll.
        let interrupts = |poll_us: u32| {
            let peer = Peer::at(Duration::from_millis(200));
            let script = format!("{STATIC}; net poll {poll_us}; ping 10.0.2.2 6; net");
            let ran = on_socket(mode, &peer, &script);
            assert!(ran.lines().contains(&"6 sent, 6 received"));
            assert_says(&ran, &format!("polled {poll_us} us after news"));
            // Behind the source of random numbers.
            let network = ran.outcome.devices.last();
            network.expect("it counts").interrupts
        };
        let (announced, polled) = (interrupts(0), interrupts(1_000_000));
        // The slowest guest is late for one now and then; and the first news find the other one asleep.
        assert!(announced >= 4, "{announced} interrupts for 6 answers");
        assert!(polled <= 2, "{polled} interrupts where the guest polls");
    });
}

#[test]
fn a_guest_with_a_network_sleeps_while_nothing_comes() {
    need_kvm!();
    // In the others each privileged instruction on the way to sleep is an exit.
    for mode in [Mode::Hvm, Mode::Pv] {
        let exits = |ms: u32| {
            let script = format!("{STATIC}; echo-client 10.0.2.2 7 x; sleep {ms}");
            let ran = on_socket(mode, &Peer::at(NEAR), &script);
            assert_eq!(ran.status(), 0, "{}", ran.output);
            ran.exits()
        };
        let (short, long) = (exits(20), exits(600));
        assert!(short.abs_diff(long) <= 2, "{mode:?}: {short} {long}");
    }
}
