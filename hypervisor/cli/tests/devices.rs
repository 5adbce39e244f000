//! Devices from the command line and from a machine file; every example of docs/devices.md.

mod common;

use std::os::unix::net::UnixStream;

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

/// The shell examples of the document that end by themselves, each a line.
#[test]
fn the_examples_of_the_document_work() {
    if !has_kvm() {
        return;
    }
    let room = std::env::temp_dir().join(format!("paravane-devices-{}", std::process::id()));
    std::fs::create_dir(&room).expect("a directory");
    let binary = env!("CARGO_BIN_EXE_paravane");
    let mut count = 0;
    let blocks = DEVICES
        .split("\n```")
        .filter_map(|part| part.strip_prefix("sh\n"));
    for block in blocks {
        let script = block.replace("paravane run", &format!("{binary} run"));
        let shell = std::process::Command::new("sh");
        let ran = { shell }
            .args(["-ec", &script])
            .current_dir(&room)
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{script}\n{said}");
        count += 1;
    }
    assert!(count > 0);
    std::fs::remove_dir_all(room).expect("it exists");
}
