//! The network: interfaces, and connections for callers that sleep until something happens.
//!
//! - `link`: an interface, its thread, and how callers wait on it;
//! - `stream`: a connection over TCP, for one thread;
//! - `vsock`: streams to the host's programs, over a socket device.
//!
//! Called by `dev`, which attaches devices, and by the shell. TCP/IP itself is the crate `netstack`.
//! An interface costs nothing until it is configured: its stack and its thread are made then.

mod link;
mod stream;
pub mod vsock;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

use driver_api::NetDevice;
use netstack::NetFail;

pub use link::{Deadline, Link};
pub use stream::{Listener, Stream};

use crate::sync::SpinLock;

/// An address of Ethernet, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

static LINKS: SpinLock<Vec<Arc<Link>>> = SpinLock::new(Vec::new());

/// Let everybody use a network device, and return the interface's name: `eth0`, `eth1` and so on, in
/// the order of their coming.
pub fn attach(device: Arc<dyn NetDevice>, vector: u8) -> String {
    let mut links = LINKS.lock();
    let name = format!("eth{}", links.len());
    links.push(Arc::new(Link::new(name.clone(), device, vector)));
    name
}

/// All interfaces.
pub fn links() -> Vec<Arc<Link>> {
    LINKS.lock().clone()
}

/// The interface that packets for an address leave by: one on whose network it is, else one with a
/// gateway, else any that has an address.
///
/// # Errors
/// [`NetFail::NoAddress`] when no interface has one.
pub fn route(to: Ipv4Addr) -> Result<Arc<Link>, NetFail> {
    let mut best: Option<(u32, Arc<Link>)> = None;
    for link in links() {
        let Some(address) = link.address() else {
            continue;
        };
        let rank = match (address.holds(to), address.gateway) {
            (true, _) => 3,
            (false, Some(_)) => 2,
            (false, None) => 1,
        };
        if best.as_ref().is_none_or(|(other, _)| rank > *other) {
            best = Some((rank, link));
        }
    }
    best.map(|(_, link)| link).ok_or(NetFail::NoAddress)
}
