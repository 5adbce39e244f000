//! Echo requests, and their answers (RFC 792).

use core::net::Ipv4Addr;

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp::{self, Endpoint, PacketBuffer, PacketMetadata};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpAddress};

use crate::error::NetFail;
use crate::port::zeros;
use crate::stack::Stack;

/// Bytes of data in a request, as the program `ping` has it.
pub const PING_BYTES: usize = 56;

/// Requests or answers that wait.
const PLACES: usize = 8;
/// Bytes for all of them.
const BUFFER: usize = 2048;

/// Somebody who asks, and hears answers. Given back by [`Stack::end_ping`].
#[derive(Debug)]
pub struct Ping {
    handle: SocketHandle,
    ident: u16,
    to: Ipv4Addr,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Who answers.
    pub from: Ipv4Addr,
    /// The request's number.
    pub sequence: u16,
    /// Bytes of data in it.
    pub len: usize,
    /// Whether the data is that of the request.
    pub is_intact: bool,
}

/// What is in a request, from its identifier and number.
fn data(ident: u16, sequence: u16) -> [u8; PING_BYTES] {
    let [a, b] = ident.to_be_bytes();
    let [c, d] = sequence.to_be_bytes();
    let mut bytes = [0; PING_BYTES];
    for (at, byte) in (0u8..).zip(&mut bytes) {
        *byte = at.wrapping_mul(7) ^ [a, b, c, d][usize::from(at % 4)];
    }
    bytes
}

impl Stack {
    /// Prepare to ask somebody.
    ///
    /// # Errors
    /// [`NetFail`].
    pub fn begin_ping(&mut self, to: Ipv4Addr) -> Result<Ping, NetFail> {
        self.check_link()?;
        self.ask_anew(to)?;
        let buffer = || -> Result<_, NetFail> {
            let metadata = alloc::vec![PacketMetadata::EMPTY; PLACES];
            Ok(PacketBuffer::new(metadata, zeros(BUFFER)?))
        };
        let mut socket = icmp::Socket::new(buffer()?, buffer()?);
        let ident = self.take_number();
        // A socket that was just made is not bound, and an identifier is always good.
        socket
            .bind(Endpoint::Ident(ident))
            .map_err(|_| NetFail::InUse)?;
        let handle = self.sockets.add(socket);
        Ok(Ping { handle, ident, to })
    }

    /// Ask.
    ///
    /// # Errors
    /// [`NetFail::InUse`] while earlier requests wait.
    pub fn ask(&mut self, ping: &Ping, sequence: u16) -> Result<(), NetFail> {
        let data = data(ping.ident, sequence);
        let request = Icmpv4Repr::EchoRequest {
            ident: ping.ident,
            seq_no: sequence,
            data: &data,
        };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(ping.handle);
        let place = socket.send(request.buffer_len(), IpAddress::Ipv4(ping.to));
        let place = place.map_err(|_| NetFail::InUse)?;
        let mut packet = Icmpv4Packet::new_unchecked(place);
        request.emit(&mut packet, &ChecksumCapabilities::default());
        Ok(())
    }

    /// The next answer; `Ok(None)` while there is none.
    ///
    /// # Errors
    /// [`NetFail::NoHost`] and its like.
    pub fn answer(&mut self, ping: &Ping) -> Result<Option<Echo>, NetFail> {
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(ping.handle);
        while let Ok((bytes, from)) = socket.recv() {
            let (IpAddress::Ipv4(from), Ok(packet)) = (from, Icmpv4Packet::new_checked(bytes))
            else {
                continue;
            };
            let parsed = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::ignored());
            if let Ok(Icmpv4Repr::EchoReply {
                ident,
                seq_no: sequence,
                data: echoed,
            }) = parsed
                && ident == ping.ident
            {
                return Ok(Some(Echo {
                    from,
                    sequence,
                    len: echoed.len(),
                    is_intact: echoed == data(ident, sequence),
                }));
            }
        }
        self.check_way(ping.to).map(|()| None)
    }

    /// Ask nobody any more.
    pub fn end_ping(&mut self, ping: Ping) {
        self.sockets.remove(ping.handle);
    }
}
