//! The hypervisor is killed in the middle of writes, again and again: what the guest was told is
//! flushed is in the file, for raw disks and for images.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{has_kvm, paravane};

/// How often each kind of disk loses its hypervisor.
const KILLS: u64 = 150;
/// Sectors of a write, and of the disk.
const WRITE: u64 = 24;
const SECTORS: u64 = WRITE * 64;

/// A guest whose shell is given commands.
struct Guest {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Guest {
    fn start(disk: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paravane"));
        command.args(["run", "--cmdline", "quiet", "--disk", disk]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the program starts");
        let output = process.stdout.take().expect("it is a pipe");
        Self {
            process,
            output: BufReader::new(output),
        }
    }

    fn tell(&mut self, commands: &str) {
        let input = self.process.stdin.as_mut().expect("it is a pipe");
        input.write_all(commands.as_bytes()).expect("it reads");
    }

    /// Wait for a line that is this word.
    fn wait_for(&mut self, word: &str) {
        let mut seen = String::new();
        for line in self.output.by_ref().lines() {
            let line = line.expect("it is text");
            // What is typed is shown behind the prompt: only the answer is alone.
            if line.trim_end() == word {
                return;
            }
            seen += &line;
            seen.push('\n');
        }
        panic!("no {word}: {seen}");
    }

    /// End it at once, as a crash of the host's process would.
    fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was started");
    }
}

/// What a round writes: where, and with which seed.
fn writes(round: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..8u64).map(move |turn| {
        let place = (round * 5 + turn * 11) % (SECTORS / WRITE);
        (place * WRITE, round * 100 + turn)
    })
}

/// Kill the hypervisor, again and again, at a moment that differs; then look at what was flushed.
fn crash(disk: &Path) {
    let disk = disk.to_str().expect("it is text");
    // The seed of what is surely there, of each place.
    let mut flushed = vec![None; (SECTORS / WRITE) as usize];
    for round in 0..KILLS {
        let mut guest = Guest::start(disk);
        let sure = 1 + round % 7;
        let mut script = String::new();
        for (turn, (sector, seed)) in writes(round).enumerate() {
            script += &format!(
                "disk vda write {sector} {WRITE} {seed}\ndisk vda flush\necho flushed-{turn}.\n"
            );
        }
        // As many as are waited for are given alone, so that it is sure which others began.
        guest.tell(&script);
        for turn in 0..sure {
            guest.wait_for(&format!("flushed-{turn}."));
        }
        // A moment that differs, for what goes on meanwhile.
        std::thread::sleep(std::time::Duration::from_micros(round * 37 % 1500));
        guest.kill();
        let of_round: Vec<(u64, u64)> = writes(round).take(sure as usize).collect();
        verify(disk, &of_round);
        for (turn, (sector, seed)) in writes(round).enumerate() {
            let place = &mut flushed[(sector / WRITE) as usize];
            // What was begun and not waited for may be there, or in part, or not.
            *place = ((turn as u64) < sure).then_some(seed);
        }
    }
    let all: Vec<(u64, u64)> = (0..)
        .zip(&flushed)
        .filter_map(|(place, seed)| Some((place * WRITE, (*seed)?)))
        .collect();
    assert!(all.len() > 16, "{} places are sure", all.len());
    verify(disk, &all);
}

/// Have a guest compare these places with what their seeds give.
fn verify(disk: &str, sure: &[(u64, u64)]) {
    let verify = |(sector, seed): &(u64, u64)| format!("disk vda verify {sector} {WRITE} {seed}");
    let script: Vec<String> = sure.iter().map(verify).collect();
    let script = format!("run='{}'", script.join("; "));
    let ran = paravane(&["run", "--disk", disk, "--cmdline", &script]).expect(0);
    let right = format!("{WRITE} sectors, 0 wrong");
    assert_eq!(ran.out.matches(&right).count(), sure.len(), "{}", ran.out);
}

fn place(name: &str) -> PathBuf {
    let name = format!("paravane-crash-{}-{name}", std::process::id());
    std::env::temp_dir().join(name)
}

#[test]
fn what_was_flushed_to_a_raw_disk_survives_the_hypervisor() {
    if !has_kvm() {
        return;
    }
    let path = place("a.img");
    let file = fs::File::create(&path).expect("a file");
    file.set_len(SECTORS * 512).expect("room");
    drop(file);
    crash(&path);
    fs::remove_file(path).expect("it is there");
}

#[test]
fn what_was_flushed_to_an_image_survives_the_hypervisor() {
    use imago::storage::Storage;
    use imago::{FormatCreateBuilder, StorageCreateOptions};
    if !has_kvm() {
        return;
    }
    let path = place("a.qcow2");
    let file = imago::file::File::create_open(StorageCreateOptions::new().filename(&path));
    let builder = imago::qcow2::Qcow2::<imago::file::File>::create_builder(file.expect("a file"));
    builder.size(SECTORS * 512).create().expect("an image");
    crash(&path);
    fs::remove_file(path).expect("it is there");
}
