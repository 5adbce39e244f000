//! Why something on the network did not work, in the words that users of UNIX know.

use core::fmt;

/// Why something on the network did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetFail {
    /// The interface has no address yet.
    NoAddress,
    /// No route leads there.
    Unreachable,
    /// The host, or the gateway to it, does not answer on the wire.
    NoHost,
    /// The other side refuses.
    Refused,
    /// The other side broke the connection off.
    Reset,
    /// The other side has closed its half, and nothing more will come or go.
    Closed,
    /// Nothing happened for as long as one is willing to wait.
    TimedOut,
    /// The port is in use, or none is free.
    InUse,
    /// The address or the port makes no sense.
    BadAddress,
    /// There is no memory for it.
    NoMemory,
    /// The device cannot go on.
    Down,
}

impl fmt::Display for NetFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAddress => {
                "the interface has no address; `net dhcp` or `net static` gives it one"
            }
            Self::Unreachable => "network is unreachable",
            Self::NoHost => "no route to host: nobody answers for its address",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset by peer",
            Self::Closed => "the other side has closed the connection",
            Self::TimedOut => "timed out",
            Self::InUse => "address already in use",
            Self::BadAddress => "this is no address to talk to",
            Self::NoMemory => "no memory is left",
            Self::Down => "network is down: the device cannot go on",
        })
    }
}

impl core::error::Error for NetFail {}
