//! `rate`: how fast random bytes come, or bytes go to the console. For the host's benchmark, `bench/src/io/rate.rs`,
//! which reads the lines that it prints.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::sync::atomic::Ordering;

use hypercall_abi::Vector;
use netstack::hash::WordFnv;

use super::reach::number;
use super::{Command, CommandError};
use crate::dev::{self, Class};
use crate::text::words;
use crate::time::now_ns;
use crate::{console, hooks, irq, print, println};

const USAGE: &str = "rate random|console BYTES";

/// Random bytes that are asked for at once.
const CHUNK: usize = 4096;
/// Lines of the console's text, which is written again and again.
const LINES: u64 = 64;
/// Bytes of each, with its end.
const LINE: usize = 64;

pub const COMMANDS: &[Command] = &[Command {
    name: "rate",
    args: "random|console BYTES",
    about: "take random bytes, or write to the console, and show how long that took",
    run: rate,
}];

fn rate(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    let parsed = match *words {
        [what @ ("random" | "console"), bytes] => number(bytes).map(|bytes| (what, bytes)),
        _ => None,
    };
    match parsed {
        Some(("random", bytes)) => random(bytes),
        Some((_, bytes)) => {
            write(bytes);
            Ok(())
        }
        None => Err(CommandError::Usage(USAGE)),
    }
}

fn exits() -> u64 {
    hooks::shared().exits.load(Ordering::Relaxed)
}

/// Take so many bytes. Two words that follow each other are never the same, but by a chance of 2^-64 each.
fn random(bytes: u64) -> Result<(), CommandError<'static>> {
    let source = dev::random().ok_or(CommandError::NoDevice)?;
    let mut vector = None;
    dev::for_each_device(|device, _| {
        if device.class == Class::Random {
            vector = device.vector.and_then(Vector::new);
        }
    });
    let interrupts = || vector.map_or(0, irq::count);
    let mut buffer = vec![0; CHUNK];
    let (mut left, mut last, mut repeated) = (bytes, 0, 0);
    let (begin, before) = (now_ns(), (exits(), interrupts()));
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let now = buffer.get_mut(..count).unwrap_or_default();
        source.fill(now).map_err(CommandError::Random)?;
        for word in now.as_chunks::<8>().0 {
            let word = u64::from_le_bytes(*word);
            repeated += u32::from(word == last);
            last = word;
        }
        left -= count as u64;
    }
    let ns = now_ns() - begin;
    let (exits, interrupts) = (exits() - before.0, interrupts() - before.1);
    println!("rate random: bytes={bytes} ns={ns} exits={exits} interrupts={interrupts}");
    (repeated == 0)
        .then_some(())
        .ok_or(CommandError::Failed(repeated))
}

/// Write so many bytes, rounded up to whole lines; each begins with `#`.
fn write(bytes: u64) {
    let text = text();
    let lines = bytes.div_ceil(LINE as u64);
    let mut hash = WordFnv::new();
    console::flush();
    let (begin, before) = (now_ns(), exits());
    // A line at a time, as whoever prints lines has it.
    for line in 0..lines {
        print!("{}", text.get(at(line)).unwrap_or_default());
    }
    console::flush();
    let (ns, exits) = (now_ns() - begin, exits() - before);
    // The hash is no part of what is timed.
    for line in 0..lines {
        hash.add(text.as_bytes().get(at(line)).unwrap_or_default());
    }
    let (bytes, hash) = (lines * LINE as u64, hash.finish());
    println!("rate console: bytes={bytes} ns={ns} exits={exits} interrupts=0 word-fnv {hash:016x}");
}

/// Where a line is in the text.
fn at(line: u64) -> core::ops::Range<usize> {
    let at = (line % LINES) as usize * LINE;
    at..at + LINE
}

/// Lines of which no two are alike.
fn text() -> String {
    let mut text = String::new();
    for line in 1..=LINES {
        let word = line.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Writing to a string does not fail.
        let _ = writeln!(text, "#{word:062x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::fake;

    #[test]
    fn the_console_gets_whole_lines_and_their_hash() {
        rate("console 9000").unwrap();
        let output = String::from_utf8(fake::output()).unwrap();
        let lines: Vec<&str> = output.split_inclusive('\n').collect();
        let (last, lines) = lines.split_last().unwrap();
        assert_eq!(lines.len(), 141);
        assert!(
            lines
                .iter()
                .all(|line| line.len() == LINE && line.starts_with('#'))
        );
        let mut hash = WordFnv::new();
        lines.iter().for_each(|line| hash.add(line.as_bytes()));
        let end = std::format!(" word-fnv {:016x}\n", hash.finish());
        assert!(last.starts_with("rate console: bytes=9024 ns=") && last.ends_with(&end));
    }
}
