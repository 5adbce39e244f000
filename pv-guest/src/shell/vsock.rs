//! `vsock`: streams to the host's programs and back, for people and for tests of the driver.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use driver_api::{SocketAddress, SocketError};

use super::reach::{PATIENCE, number};
use super::{Command, CommandError};
use crate::net::Deadline;
use crate::net::vsock::{self, SocketStream, Sockets, StreamFail};
use crate::println;
use crate::text::{first_word, unquote, words};

const USAGE: &str = "vsock [echo CID PORT TEXT | serve PORT [COUNT]]";

/// Bytes that are moved at once.
const CHUNK: usize = 2048;

pub const COMMANDS: &[Command] = &[Command {
    name: "vsock",
    args: "[echo CID PORT TEXT | serve PORT [COUNT]]",
    about: "show this machine's number, send a text to an echo on the host, or be one",
    run: command,
}];

/// What is to be done.
enum Task<'a> {
    Echo(SocketAddress, &'a str),
    Serve(u32, u64),
}

fn command(args: &str) -> Result<(), CommandError<'_>> {
    let task = match args {
        "" => None,
        _ => Some(parse(args).ok_or(CommandError::Usage(USAGE))?),
    };
    let sockets = vsock::sockets().ok_or(CommandError::NoDevice)?;
    match task {
        None => {
            println!("cid {}", sockets.cid());
            Ok(())
        }
        Some(Task::Echo(to, text)) => echo(&sockets, to, text),
        Some(Task::Serve(port, count)) => serve(&sockets, port, count),
    }
}

fn parse(args: &str) -> Option<Task<'_>> {
    match first_word(args) {
        ("echo", rest) => {
            let (cid, rest) = first_word(rest);
            let (port, text) = first_word(rest);
            let to = SocketAddress {
                cid: number(cid)?,
                port: number(port)?,
            };
            let text = unquote(text);
            (!text.is_empty()).then_some(Task::Echo(to, text))
        }
        ("serve", rest) => match *words(rest).collect::<Vec<_>>() {
            [port] => Some(Task::Serve(number(port)?, u64::MAX)),
            [port, count] => Some(Task::Serve(number(port)?, number(count)?)),
            _ => None,
        },
        _ => None,
    }
}

fn echo(
    sockets: &Arc<Sockets>,
    to: SocketAddress,
    text: &str,
) -> Result<(), CommandError<'static>> {
    let stream = sockets.connect(to, Deadline::after(PATIENCE))?;
    stream.write_all(text.as_bytes(), PATIENCE)?;
    let (mut came, mut bytes) = (Vec::new(), [0; CHUNK]);
    while came.len() < text.len() {
        let most = (text.len() - came.len()).min(CHUNK);
        let place = bytes.get_mut(..most).unwrap_or_default();
        let count = stream.read(place, PATIENCE)?;
        came.extend(bytes.iter().take(count));
    }
    stream.finish(PATIENCE)?;
    println!("{}", came.escape_ascii());
    let is_same = came == text.as_bytes();
    is_same.then_some(()).ok_or(CommandError::Differs)
}

fn serve(sockets: &Arc<Sockets>, port: u32, count: u64) -> Result<(), CommandError<'static>> {
    let listener = sockets.listen(port)?;
    println!("waiting at port {port}");
    for _ in 0..count {
        let (stream, peer) = listener.accept(Deadline::never())?;
        // A stream that fails is no reason to serve nobody else.
        match echo_back(stream) {
            Ok(bytes) => println!("{peer}: {bytes} bytes"),
            Err(error) => println!("{peer}: {}", CommandError::from(error).to_string()),
        }
    }
    Ok(())
}

fn echo_back(stream: SocketStream) -> Result<u64, StreamFail> {
    let (mut total, mut bytes) = (0, [0; CHUNK]);
    loop {
        match stream.read(&mut bytes, PATIENCE) {
            Ok(count) => {
                total += count as u64;
                stream.write_all(bytes.get(..count).unwrap_or_default(), PATIENCE)?;
            }
            Err(StreamFail::Socket(SocketError::Closed)) => break,
            Err(error) => return Err(error),
        }
    }
    stream.finish(PATIENCE).map(|()| total)
}
