//! A network without privileges, as QEMU's user mode has it: the guest has 10.0.2.15, and its
//! connections and datagrams come out of sockets of the VMM's own, which may do what any program of
//! its user may. See docs/decisions/0017.
//!
//! | address | is |
//! |---|---|
//! | 10.0.2.2 | the gateway: DHCP, answers to pings, and the host's loopback for TCP and UDP |
//! | 10.0.2.3 | a name server: the host's own, port 53 alone |
//! | 10.0.2.15 | what DHCP gives the guest |
//!
//! [`UserNet`] is the carrier, and its thread. In walking order: `options.rs` (what a user may ask
//! for), `carrier.rs` (the thread's start and end), `nat.rs` (the thread: waits, and leads to the
//! others), `packet.rs` (a frame, checked), `local.rs` (what the gateway itself answers), `tcp.rs` with
//! `connection.rs` and `host.rs`, `datagram.rs` (UDP and pings), `link.rs` (frames to the guest).
//!
//! Nothing that a guest sends makes this grow without bound: flows, buffers and waiting frames have
//! limits, all below.

mod carrier;
mod common;
mod connection;
mod datagram;
mod dhcp;
mod fragments;
mod host;
mod link;
mod local;
mod nat;
mod options;
mod packet;
mod tcp;
mod timers;

pub use carrier::UserNet;
pub use options::{BadForward, Forward, Protocol, UserNetError, UserNetOptions};

use std::net::Ipv4Addr;

use smoltcp::wire::EthernetAddress;

/// The network's prefix length.
const PREFIX: u8 = 24;
/// The gateway, which stands for the host.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The guest, as DHCP has it.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// All of the network.
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 255);
/// The address of the gateway and of the name server on the wire: QEMU's, too.
const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 10, 0, 2, 2]);

/// The most TCP connections.
const MAX_CONNECTIONS: usize = 512;
/// The most flows of datagrams.
const MAX_DATAGRAM_FLOWS: usize = 256;
/// A connection's buffers, in bytes: from the guest, and to it.
const FROM_GUEST: usize = 64 << 10;
const TO_GUEST: usize = 128 << 10;
/// How many frames wait for the wire before connections hold back.
const MAX_WAITING: usize = 64;
/// The most events, or frames, of one turn, so that no flood keeps the thread from anything else.
const TURN: usize = 64;

/// Whether an address is one that a guest may have.
fn is_guest(address: Ipv4Addr) -> bool {
    let [a, b, c, host] = address.octets();
    [a, b, c] == [10, 0, 2] && !matches!(host, 0 | 2 | 3 | 255)
}

/// Whether an address is in the guest's network.
fn is_inside(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [10, 0, 2, _])
}

#[cfg(test)]
mod tests;
