//! Devices from the command line and from a machine file; every example of docs/devices.md.

mod common;

use std::os::unix::net::UnixStream;
use std::path::Path;

use common::{arg, file, has_kvm, paravane};

const DEVICES: &str = include_str!("../../../docs/devices.md");

/// A disk of 64 sectors.
fn image(name: &str) -> std::path::PathBuf {
    file(name, &[0; 64 * 512])
}

#[test]
fn a_machine_file_says_what_options_say_and_options_come_after_it() {
    if !has_kvm() {
        return;
    }
    let disk = image("machine.img");
    let name = arg(&disk);
    let toml = format!(
        "mode = \"hvm\"\nmem = \"32M\"\ncmdline = \"run='lsdev; poweroff 3'\"\ndisk = [\"{name},ro\"]\n\
         rng = true\nballoon = \"0\"\n"
    );
    let toml = file("machine.toml", toml.as_bytes());
    let ran = paravane(&["run", "--machine", arg(&toml)]).expect(3);
    assert!(
        ran.out.contains("vda") && ran.out.contains("rng"),
        "{}",
        ran.out
    );
    let other = [
        "run",
        "--machine",
        arg(&toml),
        "--cmdline",
        "run='poweroff 4'",
        "--rng",
    ];
    paravane(&other).expect(4);
    let json = serde_json::json!({"cmdline": "run='lsdev; poweroff 5'", "disk": [name]});
    let json = file("machine.json", json.to_string().as_bytes());
    let ran = paravane(&["run", "--machine", arg(&json)]).expect(5);
    assert!(
        ran.out.contains("vda") && !ran.out.contains("rng"),
        "{}",
        ran.out
    );
    for path in [disk, toml, json] {
        std::fs::remove_file(path).expect("it exists");
    }
}

#[test]
fn a_machine_file_that_makes_no_sense_is_refused() {
    for (name, text, mend) in [
        ("a.toml", "disks = []", "unknown field `disks`"),
        ("b.toml", "mode = \"fast\"", "invalid value 'fast'"),
        ("c.json", "{\"disk\": [\"a,fast\"]}", "use ro, direct"),
        ("d.json", "{", "EOF"),
        ("e.toml", "rng = 1", "boolean"),
    ] {
        let path = file(name, text.as_bytes());
        let ran = paravane(&["run", "--machine", arg(&path)]).expect(2);
        assert!(
            ran.err.contains("makes no sense") && ran.err.contains(mend),
            "{}",
            ran.err
        );
        std::fs::remove_file(path).expect("it exists");
    }
    let ran = paravane(&["run", "--machine", "/nonexistent"]).expect(125);
    assert!(ran.err.contains("docs/devices.md"), "{}", ran.err);
}

#[test]
fn devices_that_cannot_be_had_are_said_with_a_mend() {
    if !has_kvm() {
        return;
    }
    let there = file("there", b"");
    let socket = format!("socket={}", arg(&there));
    for (options, mends) in [
        (
            ["--net", "tap=a-name-that-is-too-long"],
            ["1 to 15 characters"; 1],
        ),
        (["--net", "socket=/nonexistent"], ["must listen there"]),
        (
            ["--console", "file=/nonexistent/a"],
            ["name a file that you may write"],
        ),
        (["--console", &socket], ["if nobody uses it"]),
        (["--balloon", "1G"], ["the guest has 67108864"]),
    ] {
        let ran = paravane(&[&["run"], &options[..]].concat()).expect(125);
        for mend in mends {
            assert!(ran.err.contains(mend), "{mend}: {}", ran.err);
        }
    }
    std::fs::remove_file(there).expect("it exists");
    let ran = paravane(&["run", "--json", "--console", "stdio"]).expect(2);
    assert!(ran.err.contains("another --console"), "{}", ran.err);
}

#[test]
fn a_terminal_and_a_socket_are_there_while_the_machine_runs() {
    if !has_kvm() {
        return;
    }
    let place = std::env::temp_dir().join(format!("paravane-console-{}", std::process::id()));
    let socket = format!("socket={}", arg(&place));
    let options = ["run", "--console", "pty", "--console", &socket];
    let ran = paravane(&[&options[..], &["--cmdline", "run=poweroff"]].concat()).expect(0);
    assert!(
        ran.err.contains("the console on a terminal is /dev/pts/"),
        "{}",
        ran.err
    );
    assert!(UnixStream::connect(&place).is_err() && !place.exists());
}

/// The words of devices' options that have a value, and those that have none.
const WORDS: [&str; 23] = [
    "ro",
    "direct",
    "snapshot",
    "format=",
    "backing=",
    "engine=auto",
    "engine=io_uring",
    "engine=threads",
    "engine=sync",
    "queues=",
    "rate=",
    "iops=",
    "user",
    "tap=",
    "socket=",
    "mac=",
    "mtu=",
    "pps=",
    "restrict",
    "hostfwd=",
    "pty",
    "stdio",
    "file=",
];

/// The shell blocks of the document.
fn examples() -> impl Iterator<Item = &'static str> {
    let parts = DEVICES.split("\n```");
    parts.filter_map(|part| part.strip_prefix("sh\n"))
}

#[test]
fn every_option_and_word_of_a_device_has_an_example() {
    let commands: Vec<&str> = examples().flat_map(str::lines).collect();
    let has = |word: &str| {
        let is_there =
            |found: &str| found == word || word.ends_with('=') && found.starts_with(word);
        let mut words = commands.iter().flat_map(|line| line.split([' ', ',']));
        words.any(is_there)
    };
    let options = [
        "--disk",
        "--io",
        "--rng",
        "--net",
        "--console",
        "--vsock",
        "--balloon",
        "--machine",
    ];
    for word in options.iter().chain(&WORDS) {
        assert!(has(word), "docs/devices.md has no example of {word}");
    }
    // What the program itself says there is.
    for (option, wrong) in [
        ("--disk", "a,?"),
        ("--net", "user,?"),
        ("--net", "?"),
        ("--console", "?"),
        ("--vsock", "?"),
    ] {
        let said = paravane(&["run", option, wrong]).expect(2).err;
        let words = said
            .split([' ', ',', '\n'])
            .filter_map(|word| word.split_once('='));
        // It needs another program: `tests/tests/vhost_user` has one.
        for (key, _) in words.filter(|(key, _)| *key != "vhost-user") {
            assert!(
                has(&format!("{key}=")),
                "docs/devices.md has no example of {key}= of {option}"
            );
        }
    }
}

/// A program that listens at a Unix socket for frames, and takes one connection.
fn listen(at: &Path) -> std::thread::JoinHandle<()> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    let address = SocketAddrUnix::new(at).expect("a short name");
    let socket =
        rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("a socket");
    rustix::net::bind(&socket, &address).expect("a new name");
    rustix::net::listen(&socket, 1).expect("a socket");
    std::thread::spawn(move || {
        let peer = rustix::net::accept(&socket).expect("paravane connects");
        let mut frame = [0; 2048];
        // Until the other end is gone.
        while rustix::io::read(&peer, &mut frame).is_ok_and(|len| len > 0) {}
    })
}

/// An image of 64 MiB, maybe on top of a raw file.
fn qcow2(path: &Path, backing: Option<&Path>) {
    use imago::{FormatCreateBuilder as _, Storage as _};
    let options = imago::StorageCreateOptions::new().filename(path);
    let file = imago::file::File::create_open(options).expect("a file");
    let builder = imago::qcow2::Qcow2::<imago::file::File>::create_builder(file).size(64 << 20);
    let builder = match backing {
        Some(backing) => builder.backing(arg(backing).to_owned(), "raw".to_owned()),
        None => builder,
    };
    builder.create().expect("an image");
}

/// A shell that runs a script in a folder; what needs root runs in a network of its own. None: this host has
/// nothing to make taps with.
fn shell(script: &str, room: &Path) -> Option<std::process::Command> {
    let mut command = std::process::Command::new("sh");
    if script.contains("sudo ") {
        let taps = std::process::Command::new("ip")
            .args(["tuntap", "list"])
            .output();
        let is_wanted = std::env::var("PARAVANE_NO_TAP").as_deref() != Ok("1");
        if !is_wanted || !taps.is_ok_and(|ran| ran.status.success()) {
            return None;
        }
        command = std::process::Command::new("unshare");
        command.args(["--net", "--user", "--map-root-user", "sh"]);
    }
    command
        .args(["-ec", &script.replace("sudo ", "")])
        .current_dir(room);
    command
        .stdin(std::process::Stdio::null())
        .env("USER", "root");
    Some(command)
}

/// The shell examples of the document, in their order.
#[test]
fn the_examples_of_the_document_work() {
    if !has_kvm() {
        return;
    }
    let room = std::env::temp_dir().join(format!("paravane-devices-{}", std::process::id()));
    std::fs::create_dir(&room).expect("a directory");
    qcow2(&room.join("disk.qcow2"), None);
    qcow2(&room.join("top.qcow2"), Some(Path::new("my.img")));
    let listener = listen(&room.join("wire"));
    let binary = env!("CARGO_BIN_EXE_paravane");
    let mut count = 0;
    for block in examples() {
        let script = block.replace("paravane run", &format!("{binary} run"));
        let Some(mut shell) = shell(&script, &room) else {
            eprintln!("not run, for there are no taps, or no program `ip` to make them:\n{script}");
            continue;
        };
        let ran = shell.output().expect("a shell");
        let said = String::from_utf8_lossy(&ran.stderr);
        let out = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{script}\n{out}\n{said}");
        count += 1;
    }
    assert!(count > 7, "{count}");
    listener.join().expect("it has had its connection");
    std::fs::remove_dir_all(room).expect("it exists");
}
