//! What a user may ask of the network. Called by who starts it. Opens nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

use super::{GUEST, is_guest};

/// The smallest MTU: what any host must take (RFC 791, 3.1).
pub(super) const MIN_MTU: u16 = 576;
/// The largest, which leaves the length of a packet below 2^16 with any header.
pub(super) const MAX_MTU: u16 = 65_520;

/// A network without privileges.
#[derive(Clone, Debug)]
pub struct UserNetOptions {
    /// The device's address: where frames go until the guest has shown another.
    pub mac: [u8; 6],
    /// The largest packet in a frame, in bytes, 576 to 65520: the device's.
    pub mtu: u16,
    /// Ports of the host's that lead into the guest.
    pub forwards: Vec<Forward>,
    /// Whom 10.0.2.3 asks; by default the first name server of the host's `/etc/resolv.conf`, as it
    /// is at the start.
    pub resolver: Option<SocketAddr>,
    /// Whether the guest may open nothing itself: forwards, DHCP and pings of the gateway are left.
    pub is_restricted: bool,
}

impl UserNetOptions {
    /// A network for a device with this address: the MTU of Ethernet, no forwards, no restriction.
    #[must_use]
    pub fn new(mac: [u8; 6]) -> UserNetOptions {
        UserNetOptions {
            mac,
            mtu: 1500,
            forwards: Vec::new(),
            resolver: None,
            is_restricted: false,
        }
    }
}

/// What a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port of the host's that leads into the guest. Written as QEMU does,
/// `tcp:127.0.0.1:8080-:80` or `udp:[::1]:5353-10.0.2.15:53`; but a host address that is left out
/// means 127.0.0.1, so that only `0.0.0.0` opens a guest to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Connections or datagrams.
    pub protocol: Protocol,
    /// Where the host listens; port 0 is any that is free.
    pub host: SocketAddr,
    /// Where it leads.
    pub guest: SocketAddrV4,
}

/// A forward that is not written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("forward {text:?}: {what}; write tcp:127.0.0.1:8080-:80, or udp")]
pub struct BadForward {
    /// What was written.
    pub text: String,
    /// What is wrong with it, as a sentence fragment.
    pub what: &'static str,
}

impl FromStr for Forward {
    type Err = BadForward;

    fn from_str(text: &str) -> Result<Forward, BadForward> {
        parse(text).map_err(|what| BadForward {
            text: text.into(),
            what,
        })
    }
}

fn parse(text: &str) -> Result<Forward, &'static str> {
    let (protocol, rest) = text.split_once(':').ok_or("there is no protocol")?;
    let protocol = match protocol {
        "tcp" | "" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err("the protocol is neither tcp nor udp"),
    };
    let (host, guest) = rest.split_once('-').ok_or("there is no - and guest")?;
    let (address, port) = address_and_port(host)?;
    let address = match address {
        "" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address
            .parse()
            .map_err(|_| "the host's address is no IP address")?,
    };
    let host = SocketAddr::new(address, port);
    let (address, port) = address_and_port(guest)?;
    let address = match address {
        "" => GUEST,
        address => address
            .parse()
            .map_err(|_| "the guest's address is no IPv4 address")?,
    };
    if !is_guest(address) {
        return Err("the guest's address is none of 10.0.2.0/24, or the gateway's");
    }
    if port == 0 {
        return Err("the guest's port is 0");
    }
    let guest = SocketAddrV4::new(address, port);
    Ok(Forward {
        protocol,
        host,
        guest,
    })
}

/// Take a port off the end; an IPv6 address is in brackets.
fn address_and_port(text: &str) -> Result<(&str, u16), &'static str> {
    let (address, port) = text.rsplit_once(':').ok_or("a port is missing")?;
    let port = port
        .parse()
        .map_err(|_| "a port is no number up to 65535")?;
    let inside = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'));
    match inside {
        Some(address) => Ok((address, port)),
        None if address.contains(':') => Err("an IPv6 address needs brackets"),
        None => Ok((address, port)),
    }
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum UserNetError {
    /// An MTU that IPv4 does not allow.
    #[error("an MTU of {mtu} is not between {MIN_MTU} and {MAX_MTU}")]
    Mtu {
        /// What was asked for.
        mtu: u16,
    },
    /// A port of the host's cannot be had.
    #[error("cannot listen at {address} ({source}): choose a port that is free, and above 1023")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The host refused what any network needs.
    #[error("the host refused {what} ({source})")]
    Host {
        /// What was asked for.
        what: &'static str,
        /// The host's reason.
        source: std::io::Error,
    },
}

/// Where the host sends its questions about names: the first server of `resolv.conf`, or the one on
/// this machine if there is none, as resolv.conf(5) has it.
pub(super) fn first_resolver(resolv_conf: &str) -> SocketAddr {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver");
        address.and(words.next())?.parse::<IpAddr>().ok()
    });
    let first = servers.into_iter().next();
    SocketAddr::new(first.unwrap_or(Ipv4Addr::LOCALHOST.into()), 53)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_as_qemu_writes_them() {
        let forward = |text: &str| text.parse::<Forward>();
        let expected = Forward {
            protocol: Protocol::Tcp,
            host: "127.0.0.1:8080".parse().expect("an address"),
            guest: "10.0.2.15:80".parse().expect("an address"),
        };
        for text in [
            "tcp:127.0.0.1:8080-:80",
            "tcp::8080-10.0.2.15:80",
            ":127.0.0.1:8080-:80",
        ] {
            assert_eq!(forward(text), Ok(expected), "{text}");
        }
        let udp = forward("udp:[::1]:53-10.0.2.9:5353").expect("a forward");
        assert_eq!(udp.protocol, Protocol::Udp);
        assert_eq!(udp.host.to_string(), "[::1]:53");
        assert_eq!(udp.guest.to_string(), "10.0.2.9:5353");
    }

    #[test]
    fn what_is_no_forward_is_said() {
        for (text, what) in [
            ("", "no protocol"),
            ("sctp:1-:2", "neither tcp nor udp"),
            ("tcp:8080", "no - and guest"),
            ("tcp:127.0.0.1-:80", "a port is missing"),
            ("tcp::80000-:80", "up to 65535"),
            ("tcp:::1:80-:80", "brackets"),
            ("tcp:host:80-:80", "host's address"),
            ("tcp::80-guest:80", "guest's address"),
            ("tcp::80-10.0.2.2:80", "none of 10.0.2.0/24"),
            ("tcp::80-192.168.0.1:80", "none of 10.0.2.0/24"),
            ("tcp::80-:0", "port is 0"),
        ] {
            let error = text.parse::<Forward>().expect_err(text).to_string();
            assert!(error.contains(what), "{error}");
            assert!(error.contains("write tcp:"), "{error}");
        }
    }

    #[test]
    fn the_first_name_server_that_is_an_address_is_asked() {
        let text =
            "# x\nsearch a b\nnameserver fe80::1%eth0\n nameserver 192.0.2.7 \nnameserver ::1";
        assert_eq!(first_resolver(text).to_string(), "192.0.2.7:53");
        assert_eq!(first_resolver("nameserver ::1").to_string(), "[::1]:53");
        assert_eq!(first_resolver("nameserver").to_string(), "127.0.0.1:53");
    }
}
