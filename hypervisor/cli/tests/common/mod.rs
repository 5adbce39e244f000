//! Starts the real `paravane`, and never waits for it for ever.
#![allow(dead_code, reason = "each test file uses some of it")]

pub mod pty;

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A run that takes longer than this hangs: a whole quick benchmark of a debug build takes half a minute on a
/// busy host, and longer in the rig.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A guest that does nothing for longer than any test.
pub const HANGING: &str = "run='sleep 100000'";

/// What a process left.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// It ended with this status, and nothing in it panicked.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert!(!self.err.contains("panicked"), "{self:?}");
        assert_eq!(self.status, Some(status), "{}\n{}", self.out, self.err);
        self
    }

    /// stderr holds these words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {:?}", self.err);
        }
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// The program with arguments, and no input.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paravane"));
    // What other runs learned of a kernel's code is not theirs to know.
    for name in ["HOME", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: `default_signals` calls signal alone, which may be called between fork and exec.
    unsafe { command.pre_exec(default_signals) };
    command
}

/// Run it to its end.
#[track_caller]
pub fn paravane(args: &[&str]) -> Ran {
    finish(command(args))
}

/// Run it to its end with this input, which then ends.
#[track_caller]
pub fn with_input(args: &[&str], input: &[u8]) -> Ran {
    let mut command = command(args);
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("paravane starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // It may end without reading all of it.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let ran = collect(child);
    writer.join().expect("the writer ends");
    ran
}

/// Run a command to its end.
#[track_caller]
pub fn finish(mut command: Command) -> Ran {
    collect(command.spawn().expect("paravane starts"))
}

/// Wait for a child and gather its output.
#[track_caller]
pub fn collect(mut child: Child) -> Ran {
    let out = child.stdout.take().map(gather);
    let err = child.stderr.take().map(gather);
    let status = wait(&mut child, LIMIT);
    let text = |part: Option<JoinHandle<String>>| {
        part.map_or(String::new(), |part| part.join().expect("it reads"))
    };
    Ran {
        status: status.code(),
        out: text(out),
        err: text(err),
    }
}

fn gather(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Wait for a child; one that takes longer is killed, and the test fails.
#[track_caller]
pub fn wait(child: &mut Child, limit: Duration) -> ExitStatus {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    panic!("paravane did not end within {limit:?}");
}

/// Send a signal.
pub fn signal(child: &Child, number: i32) {
    let id = i32::try_from(child.id()).expect("a process number");
    // SAFETY: kill only sends; the child is ours and not waited for yet, so the number is its own.
    assert_eq!(unsafe { libc::kill(id, number) }, 0);
}

/// Whoever runs the tests may ignore some signals (nohup does, and a shell for what it runs behind),
/// and a child would, too.
fn default_signals() -> io::Result<()> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
        // SAFETY: SIG_DFL is a valid disposition, and runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Ok(())
}

/// Read from a child until `text` has come.
#[track_caller]
pub fn read_until(from: &mut impl Read, text: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains(text) {
        match from.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            other => panic!(
                "{other:?} before {text:?}: {:?}",
                String::from_utf8_lossy(&seen)
            ),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// Whether tests that need KVM run; without KVM they fail unless they were told to do nothing.
pub fn has_kvm() -> bool {
    if std::env::var("PARAVANE_NO_KVM").as_deref() == Ok("1") {
        println!("PARAVANE_NO_KVM=1: this test does nothing");
        return false;
    }
    hypervisor::vm::open_kvm()
        .expect("KVM is usable, or PARAVANE_NO_KVM=1 is set; see `paravane doctor`");
    true
}

/// As [`has_kvm`], and keeps a machine until these tests end: for those that would start and end the first one
/// of a system dozens of times (docs/decisions/0004).
pub fn holds_kvm() -> bool {
    static ONCE: Once = Once::new();
    let has_kvm = has_kvm();
    if has_kvm {
        ONCE.call_once(|| {
            let kvm = hypervisor::vm::open_kvm().expect("it was usable");
            std::mem::forget(kvm.create_vm().expect("a machine"));
        });
    }
    has_kvm
}

/// A file of this test's own with this content.
pub fn file(name: &str, content: &[u8]) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("the target folder takes files");
    path
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("the target folder's name is text")
}
