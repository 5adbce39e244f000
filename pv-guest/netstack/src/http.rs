//! As much of HTTP as it takes to get a file: a request of HTTP/1.0 (RFC 1945), whose answer ends with
//! the connection, and the head of that answer.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

/// The most bytes of an answer's head.
const HEAD_MOST: usize = 8192;
/// The port of a URL that names none.
const PORT: u16 = 80;

/// What a URL names, of the form `http://ADDRESS[:PORT][/PATH]`. There are no names of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// Whom to ask.
    pub host: SocketAddrV4,
    /// What for, from the first slash on.
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// Read a URL; `None` when it is none of this form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("http://")?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at_checked(end)?;
        let (ip, port) = match host.split_once(':') {
            Some((ip, port)) => (ip, number(port)?),
            None => (host, PORT),
        };
        let ip: Ipv4Addr = ip.parse().ok()?;
        let path = if path.is_empty() { "/" } else { path };
        // What is not plain would be read as more than a path.
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then_some(Self {
            host: SocketAddrV4::new(ip, port),
            path,
        })
    }

    /// The request.
    pub fn request(&self) -> String {
        format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: paravane\r\nConnection: close\r\n\r\n",
            self.path, self.host
        )
    }
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// It does not begin as an answer of HTTP does, or its head has no end.
    NoHttp,
    /// It ended early, or late.
    WrongLength,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHttp => "the answer is none of HTTP",
            Self::WrongLength => "the answer is shorter or longer than it says",
        })
    }
}

impl core::error::Error for HttpError {}

/// An answer, as it comes.
#[derive(Debug, Default)]
pub struct Answer {
    head: Vec<u8>,
    is_in_body: bool,
    status: u16,
    reason: String,
    promised: Option<u64>,
    len: u64,
}

impl Answer {
    /// Nothing came yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Take what came next; returns the part of it that is the body's.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], HttpError> {
        let mut body = bytes;
        if !self.is_in_body {
            let before = self.head.len();
            let room = HEAD_MOST - before.min(HEAD_MOST);
            self.head.extend(bytes.iter().take(room));
            let Some(end) = end_of_head(&self.head) else {
                let is_open = self.head.len() < HEAD_MOST;
                return is_open.then_some(&[][..]).ok_or(HttpError::NoHttp);
            };
            self.head.truncate(end);
            self.read_head().ok_or(HttpError::NoHttp)?;
            self.is_in_body = true;
            body = bytes.get(end - before..).unwrap_or_default();
        }
        self.len = self.len.saturating_add(body.len() as u64);
        Ok(body)
    }

    fn read_head(&mut self) -> Option<()> {
        let head = core::str::from_utf8(&self.head).ok()?;
        let mut lines = head.lines();
        let mut words = lines.next()?.splitn(3, ' ');
        let version = words.next()?;
        let status = words.next()?;
        let is_status = version.starts_with("HTTP/1.") && status.len() == 3;
        self.status = number(status).filter(|_| is_status)?;
        self.reason = words.next().unwrap_or_default().trim().into();
        for line in lines {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                self.promised = Some(number(value.trim())?);
            }
        }
        Some(())
    }

    /// The connection has ended. Returns the status, its reason, and the body's length in bytes.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn end(&self) -> Result<(u16, &str, u64), HttpError> {
        if !self.is_in_body {
            return Err(HttpError::NoHttp);
        }
        if self.promised.is_some_and(|promised| promised != self.len) {
            return Err(HttpError::WrongLength);
        }
        Ok((self.status, &self.reason, self.len))
    }
}

/// A number of digits alone: the parser would take a sign as well.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// Where the body begins: behind an empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let full = bytes.windows(4).position(|end| end == b"\r\n\r\n");
    let lean = bytes.windows(2).position(|end| end == b"\n\n");
    match (full, lean) {
        (Some(full), Some(lean)) => Some((full + 4).min(lean + 2)),
        (Some(full), None) => Some(full + 4),
        (None, Some(lean)) => Some(lean + 2),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_by_its_address() {
        let url = Url::parse("http://10.0.2.2:8000/a/b.bin?x=1").unwrap();
        assert_eq!(url.host, "10.0.2.2:8000".parse().unwrap());
        assert_eq!(url.path, "/a/b.bin?x=1");
        assert!(
            url.request()
                .starts_with("GET /a/b.bin?x=1 HTTP/1.0\r\nHost: 10.0.2.2:8000\r\n")
        );
        let bare = Url::parse("http://10.0.2.2").unwrap();
        assert_eq!((bare.host.port(), bare.path), (80, "/"));
        for text in [
            "",
            "10.0.2.2/x",
            "https://10.0.2.2/",
            "http://",
            "http://host/",
            "http://10.0.2/",
            "http://10.0.2.2:/",
            "http://10.0.2.2:65536/",
            "http://10.0.2.2:+80/",
            "http://10.0.2.2/a b",
            "http://10.0.2.2/a\r\nX: y",
        ] {
            assert_eq!(Url::parse(text), None, "{text:?}");
        }
    }

    /// Feed an answer in parts of a size; what came of it.
    fn fed(text: &[u8], size: usize) -> Result<(u16, String, u64, Vec<u8>), HttpError> {
        let (mut answer, mut body) = (Answer::new(), Vec::new());
        for part in text.chunks(size) {
            body.extend_from_slice(answer.feed(part)?);
        }
        let (status, reason, len) = answer.end()?;
        Ok((status, reason.into(), len, body))
    }

    #[test]
    fn an_answer_is_the_same_however_it_comes() {
        let text = b"HTTP/1.0 404 Not Found\r\nServer: x\r\ncontent-LENGTH:  7\r\n\r\na\n\nb\r\n\r";
        for size in 1..text.len() + 1 {
            let (status, reason, len, body) = fed(text, size).unwrap();
            assert_eq!(
                (status, reason.as_str(), len),
                (404, "Not Found", 7),
                "{size}"
            );
            assert_eq!(body, b"a\n\nb\r\n\r");
        }
        let lean = fed(b"HTTP/1.1 200\nA: b\n\nbody", 5).unwrap();
        assert_eq!((lean.0, lean.1.as_str(), lean.2), (200, "", 4));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            &b""[..],
            b"HTTP/1.0 200 OK\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.0 2x0 OK\r\n\r\n",
            b"HTTP/1.0 +20 OK\r\n\r\n",
            b"HTTP/1.0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.0 200 \xff\r\n\r\n",
        ] {
            assert_eq!(fed(text, 3), Err(HttpError::NoHttp), "{text:?}");
        }
        let endless = [b'x'; 3 * HEAD_MOST];
        assert_eq!(fed(&endless, 1000), Err(HttpError::NoHttp));
        for len in ["3", "5"] {
            let text = format!("HTTP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\nbody");
            assert_eq!(fed(text.as_bytes(), 9), Err(HttpError::WrongLength));
        }
    }
}
