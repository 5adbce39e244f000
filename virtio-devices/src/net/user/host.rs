//! Sockets of the host's: which address a guest's stands for, and how to open one without waiting.
//! Called by connections and flows of datagrams.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use smoltcp::wire::Icmpv4DstUnreachable;

use super::common::Common;
use super::{GATEWAY, RESOLVER, is_inside};

/// The port of name servers.
const NAMES: u16 = 53;

/// Which address of the host's side a guest's destination stands for.
///
/// # Errors
/// What the guest is told: there is nothing there, or it may not go there.
pub(super) fn destination(
    common: &Common,
    to: SocketAddrV4,
) -> Result<SocketAddr, Icmpv4DstUnreachable> {
    if common.is_restricted {
        return Err(Icmpv4DstUnreachable::HostProhibited);
    }
    match *to.ip() {
        GATEWAY => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, to.port()))),
        RESOLVER if to.port() == NAMES => Ok(common.resolver),
        RESOLVER => Err(Icmpv4DstUnreachable::PortUnreachable),
        address if is_inside(address) || !is_routed(address) => {
            Err(Icmpv4DstUnreachable::HostUnreachable)
        }
        _ => Ok(to.into()),
    }
}

/// Whether routers forward packets to an address: not to a loopback (RFC 1122, 3.2.1.3), not to what is
/// local to a link (RFC 3927, 2.7), not to groups, and to nothing reserved (RFC 6890).
pub(super) fn is_routed(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !(address.is_loopback() || address.is_link_local() || first == 0 || first >= 224)
}

/// Begin a connection; the socket is writable when it has come to something.
///
/// # Errors
/// The host's, if it knows at once.
pub(super) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family(to), SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// What a connection that was begun came to.
///
/// # Errors
/// Why there is none.
pub(super) fn connected(stream: &TcpStream) -> io::Result<()> {
    if let Err(error) = sockopt::socket_error(stream)? {
        return Err(error.into());
    }
    // A port of this host that nobody listens at may be the one that this socket got itself: then TCP
    // has connected it with itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)
}

/// Close a connection so that the other end sees it reset.
pub(super) fn reset(stream: TcpStream) {
    // Closed it is in any case.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}

/// A socket for datagrams to one address and from it.
///
/// # Errors
/// The host's.
pub(super) fn datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family(to), SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

/// A socket for echo requests to one address and for their answers: the kernel chooses the identifier.
///
/// # Errors
/// The host's: its `net.ipv4.ping_group_range` says who may.
pub(super) fn echoes(to: Ipv4Addr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let kind = SocketType::DGRAM;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, Some(ipproto::ICMP))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(to, 0))?;
    Ok(socket)
}

/// What a guest is told of an error of the host's.
pub(super) fn reason(error: &io::Error) -> Icmpv4DstUnreachable {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Icmpv4DstUnreachable::PortUnreachable,
        io::ErrorKind::NetworkUnreachable => Icmpv4DstUnreachable::NetUnreachable,
        io::ErrorKind::PermissionDenied => Icmpv4DstUnreachable::HostProhibited,
        _ => Icmpv4DstUnreachable::HostUnreachable,
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_no_router_forwards_go_nowhere() {
        let address = |text: &str| text.parse().expect("an address");
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_routed(address(text)), "{text}");
        }
        for text in ["192.0.2.1", "8.8.8.8", "10.1.2.3"] {
            assert!(is_routed(address(text)), "{text}");
        }
    }

    /// An echo request, as an unprivileged socket takes it: identifier and checksum are the kernel's.
    const REQUEST: [u8; 10] = [8, 0, 0, 0, 0, 0, 0, 7, b'h', b'i'];

    #[test]
    fn pings_are_the_hosts_to_allow() {
        match echoes(Ipv4Addr::LOCALHOST) {
            Ok(socket) => {
                rustix::net::send(&socket, &REQUEST, rustix::net::SendFlags::empty())
                    .expect("a request goes out");
                let mut answer = [0; 100];
                let start = std::time::Instant::now();
                let len = loop {
                    match rustix::io::read(&socket, &mut answer) {
                        Ok(len) => break len,
                        Err(error) => assert_eq!(error, rustix::io::Errno::AGAIN),
                    }
                    assert!(start.elapsed() < crate::driver::PATIENCE, "no answer");
                };
                assert_eq!((len, answer[0]), (REQUEST.len(), 0));
                assert_eq!(answer[6..10], REQUEST[6..]);
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
