//! `stream`, `rtt`, `flood`: many bytes, one byte at a time, and many packets, with what it took: for the
//! benchmark (`bench/src/net`), which reads the lines that they print. All that comes back is checked.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use netstack::hash::WordFnv;
use netstack::{NetFail, Ping};

use super::meter::Meter;
use super::reach::{PATIENCE, endpoint, number};
use super::{Command, CommandError};
use crate::net::{self, Deadline, Link, Stream};
use crate::println;
use crate::text::words;

const USAGE: &str = "stream send|recv ADDRESS PORT BYTES";
const RTT: &str = "rtt ADDRESS PORT COUNT";
const FLOOD: &str = "flood ADDRESS COUNT";

/// How many requests of `flood` are under way: as many as a [`Ping`] keeps answers of.
const UNDER_WAY: u64 = 8;

/// What is sent, again and again: bytes of the pattern, a multiple of 8.
const PATTERN: usize = 64 << 10;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "stream",
        args: "send|recv ADDRESS PORT BYTES",
        about: "move bytes over a connection, and show how long that took",
        run: stream,
    },
    Command {
        name: "rtt",
        args: "ADDRESS PORT COUNT",
        about: "send a byte to a server of echoes and wait for it, so often",
        run: rtt,
    },
    Command {
        name: "flood",
        args: "ADDRESS COUNT",
        about: "ask a host for echoes, several at a time",
        run: flood,
    },
];

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
    let meter = Meter::start(*to.ip())?;
    let hash = match way {
        "send" => send(&stream, bytes),
        _ => receive(&stream, bytes),
    }?;
    let metered = meter.stop();
    stream.finish(PATIENCE)?;
    println!("stream {way}: bytes={bytes} {metered} word-fnv {hash:016x}");
    Ok(())
}

/// One byte there and back, so often.
fn rtt(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    let parsed = match *words {
        [ip, port, count] => endpoint(ip, port).zip(number(count)),
        _ => None,
    };
    let (to, count): (SocketAddrV4, u64) = parsed.ok_or(CommandError::Usage(RTT))?;
    let stream = Stream::connect(to, Deadline::after(PATIENCE))?;
    let meter = Meter::start(*to.ip())?;
    for turn in 0..count {
        let sent = turn as u8;
        stream.write_all(&[sent], PATIENCE)?;
        let mut is_same = false;
        stream.read(PATIENCE, |came| {
            is_same = came == [sent];
            came.len()
        })?;
        is_same.then_some(()).ok_or(CommandError::Differs)?;
    }
    let metered = meter.stop();
    stream.finish(PATIENCE)?;
    println!("rtt: count={count} {metered}");
    Ok(())
}

/// Requests for echoes, a few under way at once.
fn flood(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    let parsed = match *words {
        [ip, count] => ip.parse().ok().zip(number(count)),
        _ => None,
    };
    let (to, count): (Ipv4Addr, u64) = parsed.ok_or(CommandError::Usage(FLOOD))?;
    let link = net::route(to)?;
    let ping = link.with(|stack| stack.begin_ping(to))??;
    // The first one has the neighbour asked for, too.
    let result = ask(&link, &ping, 0..1).and_then(|()| {
        let meter = Meter::start(to)?;
        ask(&link, &ping, 1..count.saturating_add(1))?;
        Ok(meter.stop())
    });
    link.with(|stack| stack.end_ping(ping))?;
    let metered = result?;
    println!("flood: count={count} {metered}");
    Ok(())
}

/// Ask with these numbers; each answer must be that of the next one.
fn ask(
    link: &Link,
    ping: &Ping,
    numbers: core::ops::Range<u64>,
) -> Result<(), CommandError<'static>> {
    // A request carries the number's low half.
    let (mut asked, mut answered) = (numbers.start, numbers.start);
    while answered < numbers.end {
        let before = answered;
        let turn = link.until(Deadline::after(PATIENCE), |stack| {
            loop {
                match stack.answer(ping) {
                    Ok(Some(echo)) if echo.is_intact && echo.sequence == answered as u16 => {
                        answered += 1;
                    }
                    Ok(Some(_)) => return Some(Err(CommandError::Differs)),
                    Ok(None) => break,
                    Err(error) => return Some(Err(error.into())),
                }
            }
            while asked < numbers.end
                && asked - answered < UNDER_WAY
                && stack.ask(ping, asked as u16).is_ok()
            {
                asked += 1;
            }
            (answered > before).then_some(Ok(()))
        });
        turn??;
    }
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
