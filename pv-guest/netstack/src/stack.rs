//! A network interface: its addresses, and the work that frames and time make.

use alloc::sync::Arc;
use core::fmt;
use core::net::Ipv4Addr;

use driver_api::NetDevice;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

use crate::error::NetFail;
use crate::port::{Port, PortCounts};

/// The most frames of one poll, so that a flood keeps nobody from the stack.
const FRAMES_MOST: usize = 64;
/// A neighbour that was asked for so often, a second apart, is not there.
const ASKED_MOST: u32 = 3;
/// The first port of those that are chosen for who does not care (RFC 6335, 6).
pub(crate) const EPHEMERAL: u16 = 49152;

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody chose it.
    Static,
    /// A server of DHCP lends it.
    Dhcp,
}

/// An interface's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// How many bits of it are the network's, at most 32.
    pub prefix: u8,
    /// Who forwards what is for other networks.
    pub gateway: Option<Ipv4Addr>,
    /// Where it comes from.
    pub source: Source,
}

impl Address {
    /// Whether another address is on the same network.
    pub fn holds(&self, other: Ipv4Addr) -> bool {
        Ipv4Cidr::new(self.ip, self.prefix).contains_addr(&other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, " gw {gateway}")?;
        }
        f.write_str(match self.source {
            Source::Static => " static",
            Source::Dhcp => " dhcp",
        })
    }
}

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Who waits for something may find it now.
    pub has_changed: bool,
    /// There is more to do at once.
    pub has_more: bool,
    /// Something waits for room in the device, which tells only who listens.
    pub is_short: bool,
    /// When the next poll is due, in nanoseconds, if only time makes one.
    pub due_ns: Option<u64>,
}

/// An interface, and what uses it.
pub struct Stack {
    pub(crate) interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) port: Port,
    pub(crate) now: Instant,
    /// The next ephemeral port, and the next identifier of a ping.
    pub(crate) next_port: u16,
    address: Option<Address>,
    dhcp: Option<SocketHandle>,
}

impl Stack {
    /// The interface of a device. `seed` should be random: ports and sequence numbers follow from it.
    ///
    /// # Errors
    /// [`NetFail::NoMemory`].
    pub fn new(device: Arc<dyn NetDevice>, seed: u64, now_ns: u64) -> Result<Self, NetFail> {
        let mac = device.info().mac;
        let mut port = Port::new(device)?;
        let hardware = HardwareAddress::Ethernet(EthernetAddress(mac));
        let mut config = Config::new(hardware);
        config.random_seed = seed;
        let now = instant(now_ns);
        Ok(Self {
            interface: Interface::new(config, &mut port, now),
            sockets: SocketSet::new(alloc::vec::Vec::new()),
            port,
            now,
            next_port: EPHEMERAL | (seed >> 32) as u16,
            address: None,
            dhcp: None,
        })
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn NetDevice> {
        self.port.device()
    }

    /// The interface's address.
    pub fn address(&self) -> Option<Address> {
        self.address
    }

    /// Whether DHCP is asked for an address, or has given one.
    pub fn has_dhcp(&self) -> bool {
        self.dhcp.is_some()
    }

    /// What did not pass between device and stack.
    pub fn counts(&self) -> PortCounts {
        self.port.counts()
    }

    /// Choose the address, and leave DHCP.
    ///
    /// # Errors
    /// [`NetFail::BadAddress`].
    pub fn set_static(
        &mut self,
        ip: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
    ) -> Result<(), NetFail> {
        let source = Source::Static;
        let address = Address {
            ip,
            prefix,
            gateway,
            source,
        };
        if !is_sensible(&address) {
            return Err(NetFail::BadAddress);
        }
        self.end_dhcp();
        self.apply(Some(address));
        Ok(())
    }

    /// Ask a server of DHCP (RFC 2131) for an address, from now on, and keep it.
    pub fn start_dhcp(&mut self) {
        self.end_dhcp();
        self.apply(None);
        self.dhcp = Some(self.sockets.add(dhcpv4::Socket::new()));
    }

    fn end_dhcp(&mut self) {
        if let Some(dhcp) = self.dhcp.take() {
            self.sockets.remove(dhcp);
        }
    }

    fn apply(&mut self, address: Option<Address>) {
        self.address = address;
        self.interface.update_ip_addrs(|all| {
            all.clear();
            if let Some(Address { ip, prefix, .. }) = address {
                // It is the only one.
                let _ = all.push(IpCidr::Ipv4(Ipv4Cidr::new(ip, prefix)));
            }
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(gateway) = address.and_then(|address| address.gateway) {
            // The only one as well.
            let _ = routes.add_default_ipv4_route(gateway);
        }
    }

    /// Do what there is to do: take frames, up to a bound, answer them, and send what is due.
    pub fn poll(&mut self, now_ns: u64) -> Polled {
        self.now = instant(now_ns);
        self.port.retry();
        let (mut has_changed, mut count) = (false, 0);
        while count < FRAMES_MOST {
            let (port, sockets) = (&mut self.port, &mut self.sockets);
            match self.interface.poll_ingress_single(self.now, port, sockets) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed => {}
                PollIngressSingleResult::SocketStateChanged => has_changed = true,
            }
            count += 1;
        }
        has_changed |= self.send() | self.follow_dhcp();
        let due = self.interface.poll_at(self.now, &self.sockets);
        Polled {
            has_changed,
            has_more: count == FRAMES_MOST,
            is_short: self.port.is_short(),
            due_ns: due.map(|at| nanoseconds(at).max(now_ns)),
        }
    }

    /// Send what is due, and tell the device. Returns whether a socket has changed.
    pub(crate) fn send(&mut self) -> bool {
        let (port, sockets) = (&mut self.port, &mut self.sockets);
        let result = self.interface.poll_egress(self.now, port, sockets);
        self.port.kick();
        result == PollResult::SocketStateChanged
    }

    /// Do as DHCP says. Returns whether the address has changed.
    fn follow_dhcp(&mut self) -> bool {
        let Some(dhcp) = self.dhcp else { return false };
        let event = self.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll();
        let address = match event {
            None => return false,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(config)) => Some(Address {
                ip: config.address.address(),
                prefix: config.address.prefix_len(),
                gateway: config.router,
                source: Source::Dhcp,
            }),
        };
        self.apply(address.filter(is_sensible));
        // An address has its first use at once.
        self.send();
        true
    }

    /// Let the device notify from now on. Returns `true` when there is something already.
    pub fn listen(&self) -> bool {
        self.port.device().listen()
    }

    /// Who on the wire gets what is for an address.
    pub(crate) fn next_hop(&self, to: Ipv4Addr) -> Result<Ipv4Addr, NetFail> {
        if to.is_unspecified() || to.is_broadcast() || to.is_multicast() {
            return Err(NetFail::BadAddress);
        }
        let address = self.address.ok_or(NetFail::NoAddress)?;
        match (address.holds(to), address.gateway) {
            (true, _) => Ok(to),
            (false, Some(gateway)) => Ok(gateway),
            (false, None) => Err(NetFail::Unreachable),
        }
    }

    /// Begin to count how often who is next on the way to an address does not answer.
    pub(crate) fn ask_anew(&mut self, to: Ipv4Addr) -> Result<(), NetFail> {
        let next = self.next_hop(to)?;
        self.port.neighbours().forget(next);
        Ok(())
    }

    /// Whether who is next on the way to an address can be talked to, as far as is known.
    ///
    /// # Errors
    /// [`NetFail::NoHost`] after a few questions without an answer, [`NetFail::Down`], or what
    /// [`Stack::next_hop`] says.
    pub(crate) fn check_way(&mut self, to: Ipv4Addr) -> Result<(), NetFail> {
        let next = self.next_hop(to)?;
        if self.port.neighbours().unanswered(next) >= ASKED_MOST {
            return Err(NetFail::NoHost);
        }
        self.check_link()
    }

    /// Whether the device works.
    pub(crate) fn check_link(&self) -> Result<(), NetFail> {
        let is_up = self.port.device().info().is_up;
        is_up.then_some(()).ok_or(NetFail::Down)
    }

    /// A number for who does not care, another one each time.
    pub(crate) fn take_number(&mut self) -> u16 {
        let number = self.next_port;
        self.next_port = number.checked_add(1).unwrap_or(EPHEMERAL);
        number
    }
}

/// Whether an interface can have an address.
fn is_sensible(address: &Address) -> bool {
    let is_host = |ip: Ipv4Addr| {
        !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast() && !ip.is_loopback()
    };
    let has_way = |gateway| is_host(gateway) && gateway != address.ip && address.holds(gateway);
    is_host(address.ip) && address.prefix <= 32 && address.gateway.is_none_or(has_way)
}

/// smoltcp counts microseconds.
fn instant(ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(ns / 1000).unwrap_or(i64::MAX))
}

fn nanoseconds(at: Instant) -> u64 {
    u64::try_from(at.total_micros())
        .unwrap_or_default()
        .saturating_mul(1000)
}
