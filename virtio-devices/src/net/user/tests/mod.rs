//! The network against a guest whose TCP/IP is smoltcp, over the same wire that a device has. Its
//! outside is the loopback of the host that runs the tests.

mod datagram;
mod guest;
mod hostile;
mod local;
mod offload;
mod tcp;

use super::UserNetOptions;

/// A network without forwards, for the guest's address.
fn options() -> UserNetOptions {
    UserNetOptions {
        // Nobody is there: a test that wants one says so.
        resolver: Some(([127, 0, 0, 1], 9).into()),
        ..UserNetOptions::new(guest::MAC)
    }
}

/// Bytes that tell their place.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let byte = |index: u32| (index.wrapping_add(seed).wrapping_mul(0x9e37_79b1) >> 23) as u8;
    (0..len as u32).map(byte).collect()
}
