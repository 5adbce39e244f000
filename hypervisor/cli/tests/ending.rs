//! Every way to end a run early: in time, with its status, with the terminal as before.

mod common;

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::pty::Pty;
use common::{HANGING, collect, command, finish, has_kvm, paravane, read_until, signal};

/// The longest that an ending may take on a busy or emulated host. One that hangs takes for ever.
const LIMIT: Duration = Duration::from_secs(60);

const SIGNALS: [(i32, i32); 3] = [
    (libc::SIGHUP, 129),
    (libc::SIGINT, 130),
    (libc::SIGTERM, 143),
];

/// A guest that says this and then writes more than any pipe holds.
const CHATTY_LINES: usize = 400;

fn chatty() -> String {
    format!("run='{}'", "help;".repeat(CHATTY_LINES))
}

#[test]
fn the_time_limit_ends_a_hanging_guest() {
    if !has_kvm() {
        return;
    }
    for mode in ["pv", "hvm"] {
        let start = Instant::now();
        let ran = paravane(&[
            "run",
            "--mode",
            mode,
            "--timeout",
            "0.5",
            "--cmdline",
            HANGING,
        ])
        .expect(124);
        assert!(
            (Duration::from_millis(500)..LIMIT).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
        assert!(ran.out.contains("Paravane"), "{}", ran.out);
        ran.says(&["the guest did not end within --timeout"]);
    }
}

#[test]
fn a_signal_ends_a_run() {
    if !has_kvm() {
        return;
    }
    for (number, status) in SIGNALS {
        let mut child = command(&["run", "--cmdline", HANGING])
            .spawn()
            .expect("it starts");
        let mut out = child.stdout.take().expect("a pipe");
        read_until(&mut out, "Paravane");
        let start = Instant::now();
        signal(&child, number);
        collect(child).expect(status).says(&["ended by "]);
        assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    }
}

#[test]
fn a_signal_ends_a_run_whose_output_nobody_reads() {
    if !has_kvm() {
        return;
    }
    let mut child = command(&["run", "--cmdline", &chatty()])
        .spawn()
        .expect("it starts");
    let mut out = child.stdout.take().expect("a pipe");
    read_until(&mut out, "Paravane");
    // By now, or soon, the pipe is full.
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    signal(&child, libc::SIGTERM);
    let ran = collect(child).expect(143).says(&["ended by SIGTERM"]);
    assert!(start.elapsed() < LIMIT, "{:?} {}", start.elapsed(), ran.err);
    drop(out);
}

#[test]
fn a_signal_ends_every_other_command_too() {
    // It reads an image that never comes.
    let folder = common::file("fifo", b"");
    std::fs::remove_file(&folder).expect("it exists");
    let name = std::ffi::CString::new(common::arg(&folder)).expect("a path");
    // SAFETY: the name is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let child = command(&["audit", common::arg(&folder)])
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, libc::SIGTERM);
    collect(child).expect(143).says(&["ended by SIGTERM"]);
    std::fs::remove_file(folder).expect("it exists");
}

#[test]
fn a_closed_stdout_is_a_sentence() {
    let mut commands = vec![
        vec!["hypercalls"],
        vec!["hypercalls", "--markdown"],
        vec!["audit"],
        vec!["audit", "--json"],
    ];
    if has_kvm() {
        commands.push(vec!["run", "--cmdline", "run=mem"]);
        commands.push(vec!["run", "--json", "--cmdline", "run=mem"]);
        commands.push(vec!["doctor"]);
    }
    for args in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = command(&args);
        command.stdout(Stdio::from(writer));
        finish(command)
            .expect(125)
            .says(&["cannot write the ", "output: Broken pipe"]);
    }
}

#[test]
fn a_full_disk_is_a_sentence() {
    let mut commands = vec![vec!["hypercalls"]];
    if has_kvm() {
        commands.push(vec!["run", "--cmdline", "run=mem"]);
    }
    for args in commands {
        let mut command = command(&args);
        command.stdout(
            File::options()
                .write(true)
                .open("/dev/full")
                .expect("/dev/full"),
        );
        finish(command).expect(125).says(&["output: No space left"]);
    }
    if has_kvm() {
        paravane(&["run", "--trace", "/dev/full", "--cmdline", "run=mem"])
            .expect(125)
            .says(&["the trace: No space left"]);
    }
}

#[test]
fn a_closed_stderr_changes_nothing() {
    if !has_kvm() {
        return;
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = command(&["run", "--stats", "--cmdline", "run='poweroff 7'"]);
    command.stderr(Stdio::from(writer));
    finish(command).expect(7);
}

#[test]
fn a_person_at_a_terminal_has_a_shell() {
    if !has_kvm() {
        return;
    }
    for mode in ["pv", "hvm"] {
        let mut pty = Pty::start(&["run", "--mode", mode]);
        pty.see("Ctrl-C ends the VM");
        pty.see("> ");
        assert!(!pty.is_restored(), "raw mode while it runs");
        pty.keys(b"mem\r");
        pty.see("heap");
        pty.see("> ");
        pty.keys(b"poweroff 3\r");
        assert_eq!(pty.status(), Some(3), "{}", pty.rest());
        assert!(pty.is_restored());
    }
}

#[test]
fn ctrl_c_ends_the_run_and_restores_the_terminal() {
    if !has_kvm() {
        return;
    }
    let mut pty = Pty::start(&["run"]);
    pty.see("> ");
    pty.keys(b"echo a");
    pty.see("echo a");
    // Ctrl-A C is the guest's own Ctrl-C: it gives up the line and goes on.
    pty.keys(b"\x01c");
    pty.see("^C");
    pty.see("> ");
    let start = Instant::now();
    pty.keys(b"\x03");
    assert_eq!(pty.status(), Some(130));
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    assert!(pty.is_restored());
    assert!(pty.rest().contains("\r\nparavane: ended by Ctrl-C\r\n"));
}

#[test]
fn ctrl_c_ends_a_guest_that_does_not_listen() {
    if !has_kvm() {
        return;
    }
    let mut pty = Pty::start(&["run", "--cmdline", HANGING]);
    pty.see("Paravane 0");
    pty.keys(b"\x03");
    assert_eq!(pty.status(), Some(130));
    assert!(pty.is_restored());
}

#[test]
fn a_signal_restores_the_terminal() {
    if !has_kvm() {
        return;
    }
    for (number, status) in SIGNALS {
        let mut pty = Pty::start(&["run"]);
        pty.see("> ");
        signal(&pty.child, number);
        assert_eq!(pty.status(), Some(status));
        assert!(pty.is_restored());
    }
}

#[test]
fn a_terminal_that_goes_away_ends_the_run() {
    if !has_kvm() {
        return;
    }
    let mut pty = Pty::start(&["run"]);
    pty.see("> ");
    pty.hang_up();
    let start = Instant::now();
    assert_eq!(pty.status(), Some(129));
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
}
