//! A disk and a network that another process serves (vhost-user), in each mode. The other process is this
//! test's own executable, run again as `back_end::serve_for_ever` or `bridge::bridge_for_ever`.

mod back_end;
mod bridge;
#[path = "../net/wire.rs"]
mod wire;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::io::{Device, Disk, Net, NetCarrier};
use hypervisor::{Config, Vm};
use tests::disk::assert_written;
use tests::{Output, each_mode, kernel, need_kvm, run};

/// The disk's size.
const SECTORS: u64 = 2048;

/// A process that serves a disk; it is killed when this is dropped.
struct BackEnd {
    directory: tempfile::TempDir,
    process: Option<Child>,
}

impl BackEnd {
    /// Start it. It says a line when it listens, and one when it was asked for [`back_end::DEADLY`].
    fn start() -> BackEnd {
        let directory = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(directory.path().join("disk")).expect("a file");
        file.set_len(SECTORS * 512).expect("room");
        let place = directory.path().to_owned();
        BackEnd::run("back_end::serve_for_ever", directory, &place)
    }

    /// Run one that works in a place.
    fn run(name: &str, directory: tempfile::TempDir, place: &std::path::Path) -> BackEnd {
        let mut process = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(back_end::DIRECTORY, place)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test runs");
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        let mut wait = move |word: &str| {
            lines
                .by_ref()
                .any(|line| line.is_ok_and(|line| line.ends_with(word)))
        };
        assert!(wait(back_end::LISTENS), "it listens");
        let id = process.id().to_string();
        thread::spawn(move || {
            if wait(back_end::STRUCK) {
                let killed = Command::new("kill").args(["-KILL", &id]).status();
                assert!(killed.expect("kill runs").success());
            }
        });
        BackEnd {
            directory,
            process: Some(process),
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("disk")).expect("the disk")
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have been killed already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn disk(socket: PathBuf) -> Disk {
    Disk {
        vhost_user: true,
        ..Disk::new(socket)
    }
}

fn with(mode: Mode, disk: Disk, script: &str) -> Config {
    let mut config = kernel(mode, script);
    config.devices = vec![Device::Disk(disk)];
    config
}

/// Why a machine with this disk cannot be built.
fn refused(disk: Disk) -> String {
    let config = with(Mode::Hvm, disk, "echo");
    match Vm::new(config, Box::new(Output::default())) {
        Ok(_) => panic!("it was built"),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error} {}", source.unwrap_or_default())
        }
    }
}

#[test]
fn what_is_written_is_in_the_file_and_read_back_without_an_exit() {
    each_mode(|mode| {
        for queues in [1, 2] {
            let back_end = BackEnd::start();
            let disk = || Disk {
                queues,
                ..disk(back_end.socket())
            };
            let none = run(with(mode, disk(), "lsdev"));
            assert!(none.output.contains("1024 KiB"), "{}", none.output);
            let script = "disk vda write 3 300 7; disk vda flush; disk vda verify 3 300 7; disk";
            let ran = run(with(mode, disk(), script));
            assert_eq!(ran.status(), 0, "{}", ran.output);
            assert!(
                ran.lines().contains(&"300 sectors, 0 wrong"),
                "{}",
                ran.output
            );
            ran.assert_free_doorbells(&none);
            let interrupts = ran
                .outcome
                .devices
                .first()
                .map_or(0, |counts| counts.interrupts);
            assert!(interrupts > 0, "requests end by interrupts");
            assert_written(&back_end.bytes(), 3, 300);
        }
    });
}

#[test]
fn a_back_end_that_is_killed_fails_the_request_and_is_named() {
    each_mode(|mode| {
        let back_end = BackEnd::start();
        let deadly = format!(
            "disk vda write 0 8 1; disk vda read {} 1; disk vda read 0 1",
            back_end::DEADLY
        );
        let ran = run(with(mode, disk(back_end.socket()), &deadly));
        assert_ne!(ran.status(), 0, "{}", ran.output);
        let device = ran.outcome.devices.first().expect("a disk");
        let fault = device.fault.as_deref().unwrap_or_default();
        let socket = back_end.socket().display().to_string();
        assert!(
            fault.contains(&socket) && fault.contains("is gone"),
            "{fault}: {}",
            ran.output
        );
    });
}

#[test]
fn who_is_not_there_or_does_not_speak_is_told_apart() {
    need_kvm!();
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("socket");
    let missing = refused(disk(socket.clone()));
    assert!(missing.contains("start the program"), "{missing}");
    let listener = UnixListener::bind(&socket).expect("a socket");
    // It listens, and never answers.
    let silent = refused(disk(socket.clone()));
    assert!(silent.contains("did not answer for 5 s"), "{silent}");
    // It takes the connection, and hangs up.
    let closes = thread::spawn(move || {
        let first = listener.accept();
        let second = listener.accept();
        drop((first, second));
        listener
    });
    let gone = refused(disk(socket.clone()));
    assert!(gone.contains("is gone"), "{gone}");
    let listener = closes.join().expect("it closes");
    // It answers nonsense.
    let babbles = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().expect("a machine");
        socket.write_all(&[0xa5; 4096]).expect("it takes it");
        let _ = socket.read_to_end(&mut Vec::new());
        listener
    });
    let nonsense = refused(disk(socket.clone()));
    assert!(nonsense.contains("nonsense"), "{nonsense}");
    drop(babbles.join().expect("it babbles"));
    let nobody = refused(disk(socket));
    assert!(nobody.contains("nobody listens"), "{nobody}");
}

#[test]
fn what_only_the_back_end_can_grant_is_refused() {
    need_kvm!();
    let back_end = BackEnd::start();
    let read_only = Disk {
        read_only: true,
        ..disk(back_end.socket())
    };
    assert!(refused(read_only).contains("queues= alone"));
    let wide = Disk {
        queues: 3,
        ..disk(back_end.socket())
    };
    let wide = refused(wide);
    assert!(wide.contains("has 2 queues, not 3"), "{wide}");
}

#[test]
fn a_disk_works_beside_a_balloon_that_takes_shared_pages() {
    each_mode(|mode| {
        let back_end = BackEnd::start();
        let script = "disk vda write 0 64 5; sleep 300; disk vda verify 0 64 5";
        let mut config = with(mode, disk(back_end.socket()), script);
        config.devices.push(Device::Balloon(16 << 20));
        let ran = run(config);
        assert_eq!(ran.status(), 0, "{}", ran.output);
    });
}

#[test]
fn a_network_of_another_process_carries_pings_and_streams() {
    each_mode(|mode| {
        // A guest that is slow enough finds near answers before it lets interrupts in: in hvm where that is interpreted.
        let peer = wire::Peer::at(Duration::from_millis(50));
        let place = peer.path().parent().expect("a directory").to_owned();
        let unused = tempfile::tempdir().expect("a directory");
        let back_end = BackEnd::run("bridge::bridge_for_ever", unused, &place);
        let script = "net static 10.0.2.15/24; ping 10.0.2.2 3; echo-client 10.0.2.2 7 hello; net";
        let mut config = kernel(mode, script);
        let carrier = NetCarrier::VhostUser(place.join("socket"));
        config.devices = vec![Device::Rng, Device::Net(Net::new(carrier))];
        let ran = run(config);
        assert_eq!(ran.status(), 0, "{}", ran.output);
        assert!(ran.output.contains("3 sent, 3 received"), "{}", ran.output);
        assert!(ran.output.contains("02:"), "{}", ran.output);
        let counts = ran.outcome.devices.get(1).expect("a network");
        assert!(counts.interrupts > 0 && counts.copied == 0, "{counts:?}");
        assert!(peer.frames() >= 5, "{}", peer.frames());
        drop(back_end);
    });
}
