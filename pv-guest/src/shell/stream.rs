//! `stream`: many bytes over a connection, with the time that it took: for the benchmark.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use netstack::NetFail;
use netstack::hash::WordFnv;

use super::reach::{PATIENCE, endpoint, number};
use super::{Command, CommandError};
use crate::net::{Deadline, Stream};
use crate::println;
use crate::text::words;
use crate::time::now_ns;

const USAGE: &str = "stream send|recv ADDRESS PORT BYTES";

/// What is sent, again and again: bytes of the pattern, a multiple of 8.
const PATTERN: usize = 64 << 10;

pub const COMMANDS: &[Command] = &[Command {
    name: "stream",
    args: "send|recv ADDRESS PORT BYTES",
    about: "move bytes over a connection, and show how long that took",
    run: stream,
}];

fn stream(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    let parsed = match *words {
        [way @ ("send" | "recv"), ip, port, bytes] => {
            endpoint(ip, port).zip(number(bytes)).map(|to| (way, to))
        }
        _ => None,
    };
    let (way, (to, bytes)): (&str, (SocketAddrV4, u64)) =
        parsed.ok_or(CommandError::Usage(USAGE))?;
    let stream = Stream::connect(to, Deadline::after(PATIENCE))?;
    let begin = now_ns();
    let hash = match way {
        "send" => send(&stream, bytes),
        _ => receive(&stream, bytes),
    }?;
    let ns = now_ns() - begin;
    stream.finish(PATIENCE)?;
    println!("stream {way}: {bytes} bytes, {ns} ns, word-fnv {hash:016x}");
    Ok(())
}

/// Send the pattern until the other side has so many bytes.
fn send(stream: &Stream, bytes: u64) -> Result<u64, NetFail> {
    let pattern = pattern();
    let (mut left, mut hash) = (bytes, WordFnv::new());
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(PATTERN).min(PATTERN);
        let now = pattern.get(..count).unwrap_or(&pattern);
        stream.write_all(now, PATIENCE)?;
        hash.add(now);
        left -= now.len() as u64;
    }
    stream.close(PATIENCE)?;
    Ok(hash.finish())
}

/// Take so many bytes.
fn receive(stream: &Stream, bytes: u64) -> Result<u64, NetFail> {
    let (mut left, mut hash) = (bytes, WordFnv::new());
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let take = |came: &[u8]| {
            let now = came.get(..most).unwrap_or(came);
            hash.add(now);
            now.len()
        };
        left -= stream.read(PATIENCE, take)? as u64;
    }
    Ok(hash.finish())
}

/// Bytes of which no two words are alike (SplitMix64 of their numbers).
fn pattern() -> Vec<u8> {
    let words = (1..=PATTERN as u64 / 8).map(|number| {
        let value = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    });
    words.flat_map(u64::to_le_bytes).collect()
}
