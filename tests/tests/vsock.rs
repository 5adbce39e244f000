//! Streams between the guest and programs of the host's over a socket device, in each mode.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use hypervisor::Config;
use hypervisor::io::{Device, Vsock};
use tests::{each_mode, kernel, run};

const PATIENCE: Duration = Duration::from_secs(60);
/// More than a stream keeps on either side.
const BYTES: usize = 100_000;

fn with(mode: Mode, path: &Path, script: &str) -> Config {
    let mut config = kernel(mode, script);
    let path = path.to_owned();
    config.devices = vec![Device::Vsock(Vsock { cid: 42, path })];
    config
}

/// A directory, and the socket in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("vsock");
    (directory, path)
}

#[test]
fn the_guest_reaches_a_program_of_the_host_s() {
    each_mode(|mode| {
        let (directory, path) = place();
        let listener = UnixListener::bind(directory.path().join("vsock_7")).expect("a socket");
        let host = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                let mut reader = stream.try_clone().expect("a clone");
                io::copy(&mut reader, &mut stream).expect("it goes back");
            }
        });
        let long = "0123456789".repeat(70);
        let script = format!("vsock; vsock echo 2 7 hello; vsock echo 2 7 {long}; lsdev");
        let ran = run(with(mode, &path, &script));
        let lines = ran.lines();
        assert!(
            lines.contains(&"cid 42") && lines.contains(&"hello"),
            "{lines:?}"
        );
        assert!(lines.contains(&long.as_str()), "{lines:?}");
        let tree = "  vsock                      net      virtio-mmio  virtio-vsock";
        assert!(ran.output.contains(tree), "{}", ran.output);
        host.join().expect("the host served both");
    });
}

#[test]
fn who_listens_nowhere_is_refused() {
    each_mode(|mode| {
        let (_directory, path) = place();
        let ran = run(with(mode, &path, "vsock echo 2 8 x; vsock echo 2 9 x"));
        assert_eq!(ran.status(), 1);
        let refused = ran.output.matches("connection refused\n").count();
        assert_eq!(refused, 2, "{}", ran.output);
    });
}

/// Connect to the guest's port as soon as somebody listens there.
fn dial(path: &Path, port: u32) -> BufReader<UnixStream> {
    let begin = Instant::now();
    loop {
        let stream = UnixStream::connect(path).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            writeln!(stream, "CONNECT {port}")?;
            let (mut reader, mut line) = (BufReader::new(stream), String::new());
            reader.read_line(&mut line)?;
            Ok((reader, line))
        });
        if let Ok((reader, line)) = stream
            && line.starts_with("OK ")
        {
            return reader;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody listens at {port}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn programs_of_the_host_s_reach_the_guest() {
    each_mode(|mode| {
        let (_directory, path) = place();
        let at = path.clone();
        let host = thread::spawn(move || {
            for turn in 0..3 {
                let sent: Vec<u8> = (0..BYTES + turn).map(|at| (at % 251) as u8).collect();
                let mut reader = dial(&at, 70);
                let mut writer = reader.get_ref().try_clone().expect("a clone");
                let writing = sent.clone();
                let writes = thread::spawn(move || {
                    writer.write_all(&writing).expect("it is sent");
                    writer.shutdown(Shutdown::Write).expect("it is closed");
                });
                let mut came = Vec::new();
                reader.read_to_end(&mut came).expect("it comes back");
                writes.join().expect("the writer writes");
                assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
            }
        });
        let ran = run(with(mode, &path, "vsock serve 70 3"));
        host.join().expect("the host got its bytes back");
        assert_eq!(ran.status(), 0, "{}", ran.output);
        for turn in 0..3 {
            let line = format!(": {} bytes\n", BYTES + turn);
            assert!(ran.output.contains(&line), "{line}{}", ran.output);
        }
    });
}
