//! A frame from the guest, taken apart and checked. Called by the thread. Answers nothing.

use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, Ipv4Packet, Ipv4Repr, TcpPacket,
    UdpPacket,
};

use super::GATEWAY_MAC;
use crate::net::HEADER_LEN;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum of TCP or UDP is not made yet (virtio 1.2, 5.1.6).
pub(super) const NEEDS_CHECKSUM: u8 = 1;

/// A frame.
pub(super) struct Frame<'a> {
    /// Who sent it.
    pub from: EthernetAddress,
    /// What is in it.
    pub content: Content<'a>,
}

/// What a frame may have in it.
pub(super) enum Content<'a> {
    /// A question about an address, or an answer.
    Arp(&'a [u8]),
    /// A packet of IPv4, or a fragment of one.
    Ipv4(Packet<'a>),
}

/// A packet of IPv4 whose header is right; what is behind the header is not looked at.
pub(super) struct Packet<'a> {
    /// All of it, without what the frame has behind it.
    pub bytes: &'a [u8],
    /// Its header.
    pub header: Ipv4Repr,
    /// What is behind the header.
    pub payload: &'a [u8],
    /// Whether the checksum of TCP or UDP is still to be made.
    pub is_unsummed: bool,
}

impl<'a> Frame<'a> {
    /// Take a virtio header and a frame apart; none if it is no frame for the gateway.
    pub fn parse(bytes: &'a [u8]) -> Option<Frame<'a>> {
        let (header, frame) = bytes.split_at_checked(HEADER_LEN)?;
        let is_unsummed = header.first()? & NEEDS_CHECKSUM != 0;
        let frame = EthernetFrame::new_checked(frame).ok()?;
        let (from, to) = (frame.src_addr(), frame.dst_addr());
        if !from.is_unicast() || (to != GATEWAY_MAC && !to.is_broadcast()) {
            return None;
        }
        let content = match frame.ethertype() {
            EthernetProtocol::Arp => Content::Arp(frame.payload()),
            EthernetProtocol::Ipv4 => Content::Ipv4(Packet::parse(frame.payload(), is_unsummed)?),
            _ => return None,
        };
        Some(Frame { from, content })
    }
}

impl<'a> Packet<'a> {
    /// Check a packet's header.
    pub fn parse(bytes: &'a [u8], is_unsummed: bool) -> Option<Packet<'a>> {
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        // RFC 791, 3.1: the header is five words at least.
        if packet.version() != 4 || packet.header_len() < 20 || packet.hop_limit() == 0 {
            return None;
        }
        if !packet.verify_checksum() {
            return None;
        }
        let bytes = bytes.get(..packet.total_len().into())?;
        let payload = bytes.get(packet.header_len().into()..)?;
        // Not smoltcp's parser, which takes no fragments.
        let header = Ipv4Repr {
            src_addr: packet.src_addr(),
            dst_addr: packet.dst_addr(),
            next_header: packet.next_header(),
            payload_len: payload.len(),
            hop_limit: packet.hop_limit(),
        };
        Some(Packet {
            bytes,
            header,
            payload,
            is_unsummed,
        })
    }

    /// The segment in it, if it is one that is right.
    pub fn tcp(&self) -> Option<TcpPacket<&'a [u8]>> {
        let segment = TcpPacket::new_checked(self.payload).ok()?;
        let (from, to) = self.addresses();
        let is_right = self.is_unsummed || segment.verify_checksum(&from, &to);
        (is_right && segment.src_port() != 0 && segment.dst_port() != 0).then_some(segment)
    }

    /// The datagram in it, if it is one that is right.
    pub fn udp(&self) -> Option<UdpPacket<&'a [u8]>> {
        let datagram = UdpPacket::new_checked(self.payload).ok()?;
        let (from, to) = self.addresses();
        let is_right = self.is_unsummed || datagram.verify_checksum(&from, &to);
        (is_right && datagram.src_port() != 0 && datagram.dst_port() != 0).then_some(datagram)
    }

    fn addresses(&self) -> (IpAddress, IpAddress) {
        (self.header.src_addr.into(), self.header.dst_addr.into())
    }
}
