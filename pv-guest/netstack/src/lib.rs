//! TCP/IP on one network device: smoltcp, and what is around it. Called by the kernel's `net`, and by
//! the same client as a process of the host's, for comparison.
//!
//! - `port.rs`: frames between the device and smoltcp; offloads, and a place for frames that wait;
//! - `checks.rs`: checksums that neither side has made or checked yet;
//! - `neighbours.rs`: who does not answer on the wire;
//! - `stack.rs`: addresses, DHCP and polling; `tcp.rs`, `ping.rs`: connections and echoes on it;
//! - `http.rs`: a request, and what an answer says;
//! - `hash.rs`: what commands print of data that they moved.
//!
//! Nothing here sleeps or reads a clock: each call says what time it is, and what is not there yet is
//! `None`. IPv4 alone, without fragments: smoltcp 0.14 cuts segments only if it is built with IPv6 too,
//! of which nothing is used.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod checks;
mod error;
pub mod hash;
pub mod http;
mod neighbours;
mod ping;
mod port;
mod stack;
mod tcp;

pub use error::NetFail;
pub use ping::{Echo, PING_BYTES, Ping};
pub use port::PortCounts;
pub use stack::{Address, Polled, Source, Stack};
pub use tcp::Tcp;

#[cfg(test)]
mod tests;
