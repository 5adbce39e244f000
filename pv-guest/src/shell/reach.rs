//! Commands that reach other hosts: `ping`, `echo-server`, `echo-client`, `get`.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use netstack::hash::Fnv;
use netstack::http::{Answer, Url};
use netstack::{Echo, NetFail, Ping};

use super::{Command, CommandError};
use crate::net::{self, Deadline, Link, Listener, Stream};
use crate::println;
use crate::text::{first_word, unquote, words};
use crate::time::{MICROSECOND, SECOND, now_ns};

const PING: &str = "ping ADDRESS [COUNT], up to 65535";
const ECHO_SERVER: &str = "echo-server PORT [COUNT]";
const ECHO_CLIENT: &str = "echo-client ADDRESS PORT TEXT";
const GET: &str = "get http://ADDRESS[:PORT]/PATH";

/// How long an answer to a ping may take, in nanoseconds.
const ECHO_PATIENCE: u64 = SECOND;
/// How often `ping` asks unless it is told.
const PINGS: u16 = 3;
/// How long a connection may stand still, in nanoseconds.
pub const PATIENCE: u64 = 15 * SECOND;
/// The most bytes that are moved from a connection to another place at once.
const CHUNK: usize = 16 << 10;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "ping",
        args: "ADDRESS [COUNT]",
        about: "ask a host for echoes",
        run: ping,
    },
    Command {
        name: "echo-server",
        args: "PORT [COUNT]",
        about: "send back what comes, for so many connections or for good",
        run: echo_server,
    },
    Command {
        name: "echo-client",
        args: "ADDRESS PORT TEXT",
        about: "send a text to a server of echoes, and show what comes back",
        run: echo_client,
    },
    Command {
        name: "get",
        args: "http://ADDRESS[:PORT]/PATH",
        about: "get a file by HTTP, and show its length and hash",
        run: get,
    },
];

/// A number of digits alone, from 1 on.
pub fn number<T: core::str::FromStr + Default + PartialEq>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|_| is_plain)?;
    (value != T::default()).then_some(value)
}

/// A host and a port.
pub fn endpoint(ip: &str, port: &str) -> Option<SocketAddrV4> {
    Some(SocketAddrV4::new(ip.parse().ok()?, number(port)?))
}

fn ping(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    let parsed = match *words {
        [ip] => ip.parse().ok().map(|ip| (ip, PINGS)),
        [ip, count] => ip.parse().ok().zip(number(count)),
        _ => None,
    };
    let (to, count): (Ipv4Addr, u16) = parsed.ok_or(CommandError::Usage(PING))?;
    let link = net::route(to)?;
    let ping = link.with(|stack| stack.begin_ping(to))??;
    let result = ask(&link, &ping, count);
    link.with(|stack| stack.end_ping(ping))?;
    Ok(result?)
}

/// Ask so often; an error if no answer came at all.
fn ask(link: &Link, ping: &Ping, count: u16) -> Result<(), NetFail> {
    let mut answers = 0;
    for sequence in 1..=count {
        let begin = now_ns();
        link.with(|stack| stack.ask(ping, sequence))??;
        match echo(link, ping, sequence) {
            Ok(Echo {
                from,
                len,
                is_intact,
                ..
            }) => {
                let us = (now_ns() - begin) / MICROSECOND;
                let damage = if is_intact { "" } else { ", damaged" };
                println!("{len} bytes from {from}: seq {sequence}, {us} us{damage}");
                answers += u32::from(is_intact);
            }
            Err(NetFail::TimedOut) => println!("seq {sequence}: timed out"),
            Err(error) => return Err(error),
        }
    }
    println!("{count} sent, {answers} received");
    (answers > 0).then_some(()).ok_or(NetFail::TimedOut)
}

/// The answer of a number; earlier ones come too late.
fn echo(link: &Link, ping: &Ping, sequence: u16) -> Result<Echo, NetFail> {
    let deadline = Deadline::after(ECHO_PATIENCE);
    link.until(deadline, |stack| {
        loop {
            match stack.answer(ping) {
                Ok(Some(echo)) if echo.sequence != sequence => {}
                Ok(echo) => return echo.map(Ok),
                // Who does not answer on the wire is not there, however patient one is.
                Err(error) => return Some(Err(error)),
            }
        }
    })?
}

fn echo_server(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    let parsed = match *words {
        [port] => number(port).map(|port| (port, u64::MAX)),
        [port, count] => number(port).zip(number(count)),
        _ => None,
    };
    let (port, count): (u16, u64) = parsed.ok_or(CommandError::Usage(ECHO_SERVER))?;
    let mut listener = Listener::bind(port)?;
    println!("waiting at port {port}");
    for _ in 0..count {
        let (stream, peer) = listener.accept(Deadline::never())?;
        // A connection that fails is no reason to serve nobody else.
        match echo_back(stream) {
            Ok(bytes) => println!("{peer}: {bytes} bytes"),
            Err(error) => println!("{peer}: {error}"),
        }
    }
    Ok(())
}

fn echo_back(stream: Stream) -> Result<u64, NetFail> {
    let (mut total, mut buffer) = (0, Vec::with_capacity(CHUNK));
    loop {
        buffer.clear();
        let take = |bytes: &[u8]| {
            let now = bytes.get(..CHUNK).unwrap_or(bytes);
            buffer.extend_from_slice(now);
            now.len()
        };
        match stream.read(PATIENCE, take) {
            Ok(count) => total += count as u64,
            Err(NetFail::Closed) => break,
            Err(error) => return Err(error),
        }
        stream.write_all(&buffer, PATIENCE)?;
    }
    stream.finish(PATIENCE).map(|()| total)
}

fn echo_client(args: &str) -> Result<(), CommandError<'_>> {
    let (ip, rest) = first_word(args);
    let (port, text) = first_word(rest);
    let text = unquote(text);
    let to = endpoint(ip, port).filter(|_| !text.is_empty());
    let to = to.ok_or(CommandError::Usage(ECHO_CLIENT))?;
    let stream = Stream::connect(to, Deadline::after(PATIENCE))?;
    stream.write_all(text.as_bytes(), PATIENCE)?;
    let mut came = Vec::new();
    while came.len() < text.len() {
        let room = text.len() - came.len();
        let take = |bytes: &[u8]| {
            let now = bytes.get(..room).unwrap_or(bytes);
            came.extend_from_slice(now);
            now.len()
        };
        stream.read(PATIENCE, take)?;
    }
    stream.finish(PATIENCE)?;
    println!("{}", came.escape_ascii());
    let is_same = came == text.as_bytes();
    is_same.then_some(()).ok_or(CommandError::Differs)
}

fn get(args: &str) -> Result<(), CommandError<'_>> {
    let url = Url::parse(unquote(args.trim())).ok_or(CommandError::Usage(GET))?;
    let stream = Stream::connect(url.host, Deadline::after(PATIENCE))?;
    stream.write_all(url.request().as_bytes(), PATIENCE)?;
    let (mut answer, mut hash) = (Answer::new(), Fnv::new());
    loop {
        let mut fed = Ok(());
        let take = |bytes: &[u8]| {
            let bytes = bytes.get(..CHUNK).unwrap_or(bytes);
            fed = answer.feed(bytes).map(|body| hash.add(body));
            bytes.len()
        };
        match stream.read(PATIENCE, take) {
            Ok(_) => fed.map_err(CommandError::Http)?,
            Err(NetFail::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let (status, reason, len) = answer.end().map_err(CommandError::Http)?;
    let reason = reason.escape_default().to_string();
    println!("{status} {reason}, {len} bytes, fnv1a {:016x}", hash.0);
    stream.finish(PATIENCE)?;
    match status {
        200..300 => Ok(()),
        status => Err(CommandError::Status(status)),
    }
}
