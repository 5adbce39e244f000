//! Virtio consoles, driven by the kernel in each mode, over files and sockets of the host's.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::Config;
use hypervisor::io::{Console, Device};
use tests::{each_mode, kernel, run, run_with};

fn with(mode: Mode, consoles: Vec<Console>, script: &str) -> Config {
    let mut config = kernel(mode, script);
    config.devices = consoles.into_iter().map(Device::Console).collect();
    config
}

#[test]
fn what_the_guest_writes_is_in_the_file() {
    each_mode(|mode| {
        let directory = tempfile::tempdir().expect("a directory");
        let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
        let long = "0123456789".repeat(60);
        let script =
            format!("hvc write hello; hvc hvc1 write {long}; hvc write \"a  b\"; hvc; lsdev");
        let consoles = vec![Console::File(first.clone()), Console::File(second.clone())];
        let ran = run(with(mode, consoles, &script));
        let lines = ran.lines();
        assert!(
            lines.contains(&"hvc0") && lines.contains(&"hvc1"),
            "{lines:?}"
        );
        let tree = "  hvc1                       console  virtio-mmio  virtio-console";
        assert!(ran.output.contains(tree), "{}", ran.output);
        let read = |path| fs::read_to_string(path).expect("the file");
        assert_eq!(read(&first), "hello\na  b\n");
        assert_eq!(read(&second), format!("{long}\n"));
    });
}

#[test]
fn lines_that_are_typed_come_back() {
    each_mode(|mode| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("console");
        let lines: Vec<String> = (1..30).map(|len| "x".repeat(len * 11)).collect();
        let typed = lines.clone();
        let at = path.clone();
        let mut client = None;
        let ran = run_with(
            with(mode, vec![Console::Socket(path)], "hvc echo 29; echo done"),
            |_| {
                client = Some(thread::spawn(move || {
                    let mut stream = UnixStream::connect(at).expect("the socket is there");
                    let limit = Some(Duration::from_secs(60));
                    stream.set_read_timeout(limit).expect("a time-out");
                    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
                    for line in &typed {
                        writeln!(stream, "{line}").expect("it is typed");
                        let mut back = String::new();
                        reader.read_line(&mut back).expect("it comes back");
                        assert_eq!(back.trim_end(), line);
                    }
                }));
            },
        );
        let client = client.expect("the machine was built");
        client.join().expect("every line came back");
        assert_eq!(ran.lines().last(), Some(&"done"));
    });
}
