//! The server of DHCP (RFC 2131). There is one guest, so there is one address, and whoever asks gets
//! it: nothing is remembered. Called by the thread.

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, IpProtocol, Ipv4Repr,
    UdpPacket, UdpRepr,
};

use super::common::Common;
use super::local::HOP_LIMIT;
use super::{GATEWAY, GUEST, PREFIX, RESOLVER};

/// The ports of server and client (RFC 2131, 4.1).
pub(super) const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// How long an address may be kept, in seconds: a day.
const LEASE: u32 = 86_400;
/// The length that every message has at least (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// The option that tells the MTU (RFC 2132, 5.1).
const MTU: u8 = 26;

/// Answer a message to the server's port.
pub(super) fn answer(common: &mut Common, mtu: u16, message: &[u8]) {
    let Ok(packet) = DhcpPacket::new_checked(message) else {
        return;
    };
    let Ok(request) = DhcpRepr::parse(&packet) else {
        return;
    };
    let Some(kind) = kind_of_answer(&request) else {
        return;
    };
    let mtu = mtu.to_be_bytes();
    let options = [DhcpOption {
        kind: MTU,
        data: &mtu,
    }];
    let answer = answer_to(&request, kind, common.is_restricted, &options);
    send(common, &request, &answer);
}

/// What a client is told, if anything (RFC 2131, 4.3).
fn kind_of_answer(request: &DhcpRepr) -> Option<DhcpMessageType> {
    let is_for_another = request
        .server_identifier
        .is_some_and(|server| server != GATEWAY);
    match request.message_type {
        DhcpMessageType::Discover => Some(DhcpMessageType::Offer),
        DhcpMessageType::Request if is_for_another => None,
        DhcpMessageType::Request => {
            // 4.3.2: who renews has its address, others ask for one.
            let wanted = request.requested_ip.unwrap_or(request.client_ip);
            match wanted == GUEST {
                true => Some(DhcpMessageType::Ack),
                false => Some(DhcpMessageType::Nak),
            }
        }
        DhcpMessageType::Inform => Some(DhcpMessageType::Ack),
        _ => None,
    }
}

fn answer_to<'a>(
    request: &DhcpRepr,
    kind: DhcpMessageType,
    is_restricted: bool,
    options: &'a [DhcpOption<'a>],
) -> DhcpRepr<'a> {
    let has_configuration = kind != DhcpMessageType::Nak;
    let has_lease = has_configuration && request.message_type != DhcpMessageType::Inform;
    // Who may go nowhere needs no way there.
    let has_way_out = has_configuration && !is_restricted;
    let mask = u32::MAX << (32 - u32::from(PREFIX));
    DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        // Table 3: an ACK repeats it, others have none.
        client_ip: match kind {
            DhcpMessageType::Ack => request.client_ip,
            _ => Ipv4Addr::UNSPECIFIED,
        },
        your_ip: match has_lease {
            true => GUEST,
            false => Ipv4Addr::UNSPECIFIED,
        },
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: has_way_out.then_some(GATEWAY),
        subnet_mask: has_configuration.then_some(Ipv4Addr::from_bits(mask)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(GATEWAY),
        parameter_request_list: None,
        dns_servers: has_way_out.then(|| [RESOLVER].into_iter().collect()),
        max_size: None,
        lease_duration: has_lease.then_some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if has_configuration { options } else { &[] },
    }
}

/// Send an answer to where the client hears it (RFC 2131, 4.1).
fn send(common: &mut Common, request: &DhcpRepr, answer: &DhcpRepr) {
    let mut message = vec![0; answer.buffer_len().max(SHORTEST)];
    if answer
        .emit(&mut DhcpPacket::new_unchecked(&mut message))
        .is_err()
    {
        return;
    }
    let has_address = request.client_ip != Ipv4Addr::UNSPECIFIED;
    let is_refused = answer.message_type == DhcpMessageType::Nak;
    let (to, station) = if has_address && !is_refused {
        (request.client_ip, request.client_hardware_address)
    } else if request.broadcast || is_refused {
        (Ipv4Addr::BROADCAST, EthernetAddress::BROADCAST)
    } else {
        (answer.your_ip, request.client_hardware_address)
    };
    let udp = UdpRepr {
        src_port: SERVER,
        dst_port: CLIENT,
    };
    let mut datagram = vec![0; udp.header_len() + message.len()];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut datagram),
        &GATEWAY.into(),
        &to.into(),
        message.len(),
        |payload| payload.copy_from_slice(&message),
        &ChecksumCapabilities::default(),
    );
    let header = Ipv4Repr {
        src_addr: GATEWAY,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: datagram.len(),
        hop_limit: HOP_LIMIT,
    };
    common.link.send(&header, &datagram, Some(station));
}
