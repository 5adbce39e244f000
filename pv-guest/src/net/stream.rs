//! A connection over TCP, for one thread that sleeps until it goes on. Dropped, it is broken off.

use alloc::sync::Arc;
use core::net::{Ipv4Addr, SocketAddrV4};

use netstack::{NetFail, Tcp};

use super::link::{Deadline, Link};
use super::route;

/// A connection.
pub struct Stream {
    link: Arc<Link>,
    /// `None` only while this is dropped.
    tcp: Option<Tcp>,
}

impl Stream {
    /// Connect, by a moment.
    ///
    /// # Errors
    /// [`NetFail`].
    pub fn connect(to: SocketAddrV4, deadline: Deadline) -> Result<Self, NetFail> {
        let link = route(*to.ip())?;
        let tcp = link.with(|stack| stack.connect(to))??;
        let stream = Self::new(link, tcp);
        stream.until(deadline, |stack, tcp| stack.established(tcp))??;
        Ok(stream)
    }

    fn new(link: Arc<Link>, tcp: Tcp) -> Self {
        Self {
            link,
            tcp: Some(tcp),
        }
    }

    fn until<T>(
        &self,
        deadline: Deadline,
        mut work: impl FnMut(&mut netstack::Stack, &Tcp) -> Option<T>,
    ) -> Result<T, NetFail> {
        let tcp = self.tcp.as_ref().ok_or(NetFail::Closed)?;
        self.link.until(deadline, |stack| work(stack, tcp))
    }

    /// Send all of these bytes; each part must find room by a moment that `patience_ns` from then on
    /// is.
    ///
    /// # Errors
    /// [`NetFail`]; some may be sent.
    pub fn write_all(&self, bytes: &[u8], patience_ns: u64) -> Result<(), NetFail> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let deadline = Deadline::after(patience_ns);
            let count = self.until(deadline, |stack, tcp| match stack.write(tcp, rest) {
                Ok(0) => None,
                other => Some(other),
            })??;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Take some of what came, at least a byte: `take` sees bytes, and returns how many it has used.
    ///
    /// # Errors
    /// [`NetFail::Closed`] at the end of what the other side sends; others.
    pub fn read(
        &self,
        patience_ns: u64,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Result<usize, NetFail> {
        let deadline = Deadline::after(patience_ns);
        self.until(deadline, |stack, tcp| match stack.read(tcp, &mut take) {
            Ok(None) => None,
            Ok(Some(count)) => Some(Ok(count)),
            Err(error) => Some(Err(error)),
        })?
    }

    /// Send nothing more, and wait until the other side has everything.
    ///
    /// # Errors
    /// [`NetFail`].
    pub fn close(&self, patience_ns: u64) -> Result<(), NetFail> {
        let deadline = Deadline::after(patience_ns);
        self.until(deadline, |stack, tcp| {
            stack.close(tcp);
            Some(())
        })?;
        self.until(deadline, |stack, tcp| stack.delivered(tcp))?
    }

    /// Close this side, and wait until the other one has closed as well.
    ///
    /// # Errors
    /// [`NetFail`]; then the connection is broken off.
    pub fn finish(self, patience_ns: u64) -> Result<(), NetFail> {
        self.close(patience_ns)?;
        let deadline = Deadline::after(patience_ns);
        self.until(deadline, |stack, tcp| stack.finished(tcp))?
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tcp) = self.tcp.take() {
            // The link is configured: the connection came from its stack.
            let _ = self.link.with(|stack| stack.discard(tcp));
        }
    }
}

/// Somebody who waits for connections to a port.
pub struct Listener {
    link: Arc<Link>,
    port: u16,
    /// Who waits now: there is always one, so that no connection is refused between two.
    next: Option<Stream>,
}

impl Listener {
    /// Wait at a port of the interface that has a way to everybody, from now on.
    ///
    /// # Errors
    /// [`NetFail`].
    pub fn bind(port: u16) -> Result<Self, NetFail> {
        let link = route(Ipv4Addr::UNSPECIFIED)?;
        let mut listener = Self {
            link,
            port,
            next: None,
        };
        listener.next = Some(listener.listen()?);
        Ok(listener)
    }

    fn listen(&self) -> Result<Stream, NetFail> {
        let tcp = self.link.with(|stack| stack.accept_at(self.port))??;
        Ok(Stream::new(self.link.clone(), tcp))
    }

    /// The next connection, and with whom.
    ///
    /// # Errors
    /// [`NetFail`].
    pub fn accept(&mut self, deadline: Deadline) -> Result<(Stream, SocketAddrV4), NetFail> {
        let stream = match self.next.take() {
            Some(stream) => stream,
            None => self.listen()?,
        };
        let peer = stream.until(deadline, |stack, tcp| stack.established(tcp))??;
        self.next = Some(self.listen()?);
        Ok((stream, peer))
    }
}
