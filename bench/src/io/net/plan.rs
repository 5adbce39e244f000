//! Which cases there are: work, carrier, and who does it.

use hypercall_abi::Mode;
use hypervisor::IoKind;
use serde::Serialize;

use super::super::IoOptions;
use super::super::plan::{Guest, wirings};
use crate::columns::MODES;

pub use super::super::plan::Who;

/// The device as it is by default.
pub const VIRTIO: &str = "virtio-net";
/// The trapped device.
pub const NE2000: &str = "ne2000";
/// Virtio-net, with each piece of news announced by an interrupt (docs/network.md).
pub const NO_POLL: &str = "without polling";
/// Bytes of an operation of a stream.
const PIECE: u64 = 64 << 10;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NetWork {
    /// A TCP stream from the host; an operation is 64 KiB of it.
    Receive,
    /// One to the host.
    Send,
    /// A byte to the host over TCP, and back.
    RoundTrip,
    /// A ping of 56 bytes and its answer, 8 under way.
    Packets,
}

impl NetWork {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Receive, Self::Send, Self::RoundTrip, Self::Packets];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "TCP stream from the host, 64 KiB of it",
            Self::Send => "TCP stream to the host, 64 KiB of it",
            Self::RoundTrip => "round trip of 1 byte over TCP",
            Self::Packets => "ping of 56 bytes and its answer, 8 under way",
        }
    }

    /// Bytes of payload of an operation, one way.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Receive | Self::Send => PIECE,
            Self::RoundTrip => 1,
            Self::Packets => 56,
        }
    }

    /// Operations of the first run, which shows how many fit the time.
    pub fn first(self) -> u64 {
        match self {
            Self::Receive | Self::Send => 4,
            Self::RoundTrip => 16,
            Self::Packets => 32,
        }
    }

    /// How many operations to do where so many fit the time.
    pub fn fitting(self, wanted: f64) -> u64 {
        let most = match self {
            Self::Receive | Self::Send => 1 << 16,
            Self::RoundTrip | Self::Packets => 1 << 20,
        };
        // A float's conversion keeps within the integer's bounds.
        (wanted as u64).clamp(self.first(), most)
    }

    /// The guest's command that does it: docs/network.md.
    pub fn command(self, port: u16, count: u64) -> String {
        let bytes = count.saturating_mul(self.bytes());
        let host = super::namespace::HOST;
        match self {
            Self::Receive => format!("stream recv {host} {port} {bytes}"),
            Self::Send => format!("stream send {host} {port} {bytes}"),
            Self::RoundTrip => format!("rtt {host} {port} {count}"),
            Self::Packets => format!("flood {host} {count}"),
        }
    }

    /// What the line that the command prints begins with.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Receive => "stream recv: ",
            Self::Send => "stream send: ",
            Self::RoundTrip => "rtt: ",
            Self::Packets => "flood: ",
        }
    }
}

/// What carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// A tap: the host's kernel is the other end.
    Tap,
    /// The user-mode network of the hypervisor's process.
    User,
}

impl Over {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::User => "user-mode network",
        }
    }
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub work: NetWork,
    pub over: Over,
    pub who: Who,
}

impl Case {
    /// What it is, in a line.
    pub fn title(&self) -> String {
        let who = match self.who {
            Who::Guest(guest) => format!("{} in {}", guest.device, guest.mode.name()),
            Who::Host => "host".to_owned(),
        };
        format!("{}, {}, {who}", self.work.name(), self.over.name())
    }
}

/// All cases.
pub fn cases(options: &IoOptions) -> Vec<Case> {
    let usual = |mode| Guest {
        device: VIRTIO,
        ..Guest::usual(mode)
    };
    let trapped = |mode| Guest {
        device: NE2000,
        io: IoKind::Trapped,
        ..usual(mode)
    };
    // What modes and devices are compared by, where time is short.
    let main = [NetWork::Receive, NetWork::RoundTrip];
    let mut cases = Vec::new();
    for work in NetWork::ALL {
        let is_main = !options.quick || main.contains(&work);
        let mut who = vec![Who::Host, Who::Guest(usual(Mode::Pv))];
        if is_main {
            let others = MODES.iter().copied().filter(|mode| *mode != Mode::Pv);
            who.extend(others.map(usual).map(Who::Guest));
            who.extend(wirings().map(|(device, wiring)| {
                Who::Guest(Guest {
                    device,
                    wiring,
                    ..usual(Mode::Pv)
                })
            }));
            who.push(Who::Guest(Guest {
                device: NO_POLL,
                ..usual(Mode::Pv)
            }));
        }
        let modes = MODES.iter().copied();
        let modes = modes.filter(|mode| *mode == Mode::Pv || is_main && !options.quick);
        who.extend(modes.map(trapped).map(Who::Guest));
        let over = Over::Tap;
        cases.extend(who.into_iter().map(|who| Case { work, over, who }));
    }
    cases.push(Case {
        work: NetWork::Receive,
        over: Over::User,
        who: Who::Guest(usual(Mode::Pv)),
    });
    cases
}
