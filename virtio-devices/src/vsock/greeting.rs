//! A program that has connected and not said yet where it wants to. Called by the table. Reads no byte
//! beyond the line that says so: what follows is the guest's.

use std::fs::File;
use std::io;

use rustix::net::RecvFlags;

/// The longest line: `CONNECT 4294967295`, with room for spaces.
const LONGEST: usize = 32;

/// What a program has said so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Not all of a line.
    Unfinished,
    /// Where it wants to.
    Port(u32),
    /// Nothing that makes sense, or an end.
    Wrong,
}

/// Look at what a stream has, and take the line if it is whole.
pub(super) fn read(stream: &File) -> Greeting {
    let mut bytes = [0; LONGEST];
    let peeked = rustix::net::recv(stream, &mut bytes[..], RecvFlags::PEEK);
    let line = match peeked {
        Ok((0, _)) => return Greeting::Wrong,
        Ok((len, _)) => bytes.get(..len).unwrap_or_default(),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Greeting::Unfinished,
            _ => return Greeting::Wrong,
        },
    };
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return match line.len() {
            LONGEST => Greeting::Wrong,
            _ => Greeting::Unfinished,
        };
    };
    let line = line.get(..end).unwrap_or_default();
    let Some(port) = port(line) else {
        return Greeting::Wrong;
    };
    let mut taken = [0; LONGEST];
    let place = taken.get_mut(..=end).unwrap_or_default();
    // It is there, so all of it comes.
    match rustix::net::recv(stream, place, RecvFlags::empty()) {
        Ok((len, _)) if len == end + 1 => Greeting::Port(port),
        _ => Greeting::Wrong,
    }
}

/// The port of a line, in any case as Firecracker takes it.
fn port(line: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let is_connect = words.next()?.eq_ignore_ascii_case("connect");
    let port = words.next()?.parse().ok()?;
    (is_connect && words.next().is_none()).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_line_is_read_and_nothing_behind_it() {
        let (mut program, ours) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a stream");
        let mut ours = File::from(OwnedFd::from(ours));
        assert_eq!(read(&ours), Greeting::Unfinished);
        for part in ["CONN", "ECT 52"] {
            program.write_all(part.as_bytes()).expect("room");
            assert_eq!(read(&ours), Greeting::Unfinished);
        }
        program.write_all(b"00\nhello").expect("room");
        assert_eq!(read(&ours), Greeting::Port(5200));
        let mut rest = [0; 10];
        assert_eq!(ours.read(&mut rest).expect("five"), 5);
        assert_eq!(&rest[..5], b"hello");
    }

    #[test]
    fn what_is_no_line_is_wrong() {
        for text in [
            "HELLO 1\n",
            "CONNECT\n",
            "CONNECT x\n",
            "CONNECT 4294967296\n",
            "CONNECT -1\n",
            "CONNECT 1 2\n",
            "\n",
            "CONNECT 1234567890123456789012345",
            "\u{fffd}\n",
        ] {
            let (mut program, ours) = UnixStream::pair().expect("a pair");
            ours.set_nonblocking(true).expect("a stream");
            program.write_all(text.as_bytes()).expect("room");
            assert_eq!(read(&OwnedFd::from(ours).into()), Greeting::Wrong, "{text}");
        }
        let (program, ours) = UnixStream::pair().expect("a pair");
        drop(program);
        assert_eq!(read(&OwnedFd::from(ours).into()), Greeting::Wrong);
    }
}
