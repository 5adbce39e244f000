//! What the gateway answers itself: questions about addresses, pings, and what cannot be delivered.
//! Called by the thread and by flows. Opens no socket.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv4DstUnreachable, Icmpv4Packet,
    Icmpv4Repr, IpProtocol, Ipv4Repr,
};

use super::common::Common;
use super::packet::Packet;
use super::{GATEWAY, GATEWAY_MAC, RESOLVER, is_guest};

/// The time to live of what is made here.
pub(super) const HOP_LIMIT: u8 = 64;
/// How much of a packet an error has behind the header, in bytes: as much as leaves the error within
/// what any host takes (RFC 1812, 4.3.2.3), since not every stack understands less.
const QUOTED: usize = 576 - 20 - 8 - 20;
/// A datagram's header, which is all that is left of one that went out before.
const UDP: usize = 8;

/// Say who has the gateway's addresses, and learn who has the guest's.
pub(super) fn arp(common: &mut Common, from: EthernetAddress, bytes: &[u8]) {
    let Ok(packet) = ArpPacket::new_checked(bytes) else {
        return;
    };
    let Ok(ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    }) = ArpRepr::parse(&packet)
    else {
        return;
    };
    if is_guest(source_protocol_addr) && source_hardware_addr.is_unicast() {
        common
            .link
            .learn(source_protocol_addr, source_hardware_addr);
    }
    let is_ours = matches!(target_protocol_addr, GATEWAY | RESOLVER);
    // A question from nowhere asks whether an address is free (RFC 5227, 2.1.1): ours are not.
    if operation == ArpOperation::Request && is_ours {
        let answer = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: GATEWAY_MAC,
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        common.link.send_arp(from, &answer);
    }
}

/// Answer a ping of the gateway.
pub(super) fn pong(common: &mut Common, packet: &Packet, ident: u16, seq_no: u16, data: &[u8]) {
    let (from, to) = (packet.header.dst_addr, packet.header.src_addr);
    send_icmp(
        common,
        from,
        to,
        &Icmpv4Repr::EchoReply {
            ident,
            seq_no,
            data,
        },
    );
}

/// Say that a packet of the guest's cannot be delivered.
pub(super) fn undelivered(common: &mut Common, packet: &Packet, reason: Icmpv4DstUnreachable) {
    let quoted = packet.payload.get(..QUOTED).unwrap_or(packet.payload);
    // RFC 1122, 3.2.2.1: the host itself says that a port is, who is between says the rest.
    let from = match reason {
        Icmpv4DstUnreachable::PortUnreachable | Icmpv4DstUnreachable::ProtoUnreachable => {
            packet.header.dst_addr
        }
        _ => GATEWAY,
    };
    let error = Icmpv4Repr::DstUnreachable {
        reason,
        header: packet.header,
        data: quoted,
    };
    send_icmp(common, from, packet.header.src_addr, &error);
}

/// The same of a datagram that went out before: its header is made again.
pub(super) fn undelivered_datagram(
    common: &mut Common,
    guest: SocketAddrV4,
    remote: SocketAddrV4,
    reason: Icmpv4DstUnreachable,
) {
    let header = Ipv4Repr {
        src_addr: *guest.ip(),
        dst_addr: *remote.ip(),
        next_header: IpProtocol::Udp,
        payload_len: UDP,
        hop_limit: HOP_LIMIT,
    };
    let [a, b] = guest.port().to_be_bytes();
    let [c, d] = remote.port().to_be_bytes();
    let [e, f] = (UDP as u16).to_be_bytes();
    let packet = Packet {
        bytes: &[],
        header,
        payload: &[a, b, c, d, e, f, 0, 0],
        is_unsummed: true,
    };
    undelivered(common, &packet, reason);
}

/// Send a message of ICMP.
pub(super) fn send_icmp(common: &mut Common, from: Ipv4Addr, to: Ipv4Addr, message: &Icmpv4Repr) {
    let mut bytes = vec![0; message.buffer_len()];
    let mut packet = Icmpv4Packet::new_unchecked(&mut bytes);
    message.emit(&mut packet, &ChecksumCapabilities::default());
    let header = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmp,
        payload_len: bytes.len(),
        hop_limit: HOP_LIMIT,
    };
    common.link.send(&header, &bytes, None);
}
