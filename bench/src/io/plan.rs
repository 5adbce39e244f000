//! Which cases there are: work, medium, and who does it.

use hypercall_abi::Mode;
use hypervisor::IoKind;
use hypervisor::io::{Engine, Wiring};
use serde::Serialize;

use super::IoOptions;
use super::image::Images;
use crate::columns::MODES;

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Whether it is written.
    pub is_write: bool,
    /// Whether requests jump, instead of following each other.
    pub is_random: bool,
    /// Bytes of a request.
    pub bytes: u64,
    /// Requests under way at once.
    pub depth: u32,
}

impl Work {
    const fn random(is_write: bool, depth: u32) -> Self {
        Self {
            is_write,
            is_random: true,
            bytes: 4096,
            depth,
        }
    }

    const fn sequential(is_write: bool) -> Self {
        Self {
            is_write,
            is_random: false,
            bytes: 1 << 20,
            depth: 8,
        }
    }

    /// The guest shell's word for it.
    pub fn verb(&self) -> &'static str {
        match (self.is_random, self.is_write) {
            (true, false) => "read",
            (true, true) => "write",
            (false, false) => "sread",
            (false, true) => "swrite",
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        let order = if self.is_random {
            "random"
        } else {
            "sequential"
        };
        let way = if self.is_write { "write" } else { "read" };
        let size = match self.bytes {
            bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
            bytes => format!("{} KiB", bytes >> 10),
        };
        format!("{order} {way} {size}, depth {}", self.depth)
    }
}

/// Where the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// A file in memory (tmpfs).
    Memory,
    /// A file on a disk, in the page cache.
    Cached,
    /// A file on a disk, past the page cache (O_DIRECT).
    Direct,
}

impl Medium {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "tmpfs",
            Self::Cached => "page cache",
            Self::Direct => "O_DIRECT",
        }
    }
}

/// A guest's way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    pub mode: Mode,
    /// The device, and what is unusual about it.
    pub device: &'static str,
    pub wiring: Wiring,
    pub engine: Engine,
    pub queues: u16,
    pub io: IoKind,
}

impl Guest {
    /// As it is by default.
    pub fn usual(mode: Mode) -> Self {
        Self {
            mode,
            device: VIRTIO,
            wiring: Wiring::default(),
            engine: Engine::Auto,
            queues: 1,
            io: IoKind::Pv,
        }
    }

    fn trapped(mode: Mode) -> Self {
        Self {
            device: ATA,
            io: IoKind::Trapped,
            ..Self::usual(mode)
        }
    }
}

/// The trapped disk.
pub const ATA: &str = "ata";
/// The device as it is by default.
pub const VIRTIO: &str = "virtio-blk";

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A guest.
    Guest(Guest),
    /// This process, with the engine that serves the guest.
    Host,
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub work: Work,
    pub medium: Medium,
    pub who: Who,
}

impl Case {
    /// What it is, in a line.
    pub fn title(&self) -> String {
        let who = match self.who {
            Who::Guest(guest) => format!("{} in {}", guest.device, guest.mode.name()),
            Who::Host => "host".to_owned(),
        };
        format!("{}, {}, {who}", self.work.name(), self.medium.name())
    }

    /// How many requests to make where so many fit the time: at least as many as are under way twice,
    /// and of writes no block twice, so that each can be checked.
    pub fn fitting(&self, wanted: f64, disk: u64) -> u64 {
        let places = disk / self.work.bytes;
        let most = if self.work.is_write {
            places
        } else {
            places * 8
        };
        let least = (u64::from(self.work.depth) * 2)
            .max(super::FIRST)
            .min(places);
        // A float's conversion keeps within the integer's bounds.
        (wanted as u64).clamp(least, most.max(least))
    }
}

/// The work that modes and devices are compared by.
pub const MAIN: Work = Work::random(false, 32);

/// All cases.
pub fn cases(options: &IoOptions, images: &Images) -> Vec<Case> {
    let mut works = vec![
        Work::random(false, 1),
        MAIN,
        Work::random(true, 32),
        Work::sequential(false),
    ];
    if !options.quick {
        works.extend([
            Work::random(false, 8),
            Work::random(true, 1),
            Work::random(true, 8),
            Work::sequential(true),
        ]);
    }
    let mut media = vec![Medium::Memory];
    if images.has_direct() {
        media.push(Medium::Direct);
    }
    if !options.quick {
        media.push(Medium::Cached);
    }
    let mut cases = Vec::new();
    for medium in media {
        for work in &works {
            let work = *work;
            let mut add = |who| cases.push(Case { work, medium, who });
            add(Who::Host);
            add(Who::Guest(Guest::usual(Mode::Pv)));
        }
    }
    let mut others = Vec::new();
    let slower = MODES.iter().copied().filter(|mode| *mode != Mode::Pv);
    others.extend(slower.map(Guest::usual));
    others.extend(variants());
    others.extend(MODES.iter().copied().map(Guest::trapped));
    cases.extend(others.into_iter().map(|guest| Case {
        work: MAIN,
        medium: Medium::Memory,
        who: Who::Guest(guest),
    }));
    cases
}

/// What is left away, or doubled, one at a time.
fn variants() -> impl Iterator<Item = Guest> {
    let usual = Guest::usual(Mode::Pv);
    let wired = wirings().map(move |(device, wiring)| Guest {
        device,
        wiring,
        ..usual
    });
    wired.into_iter().chain([
        Guest {
            device: "two queues",
            queues: 2,
            ..usual
        },
        Guest {
            device: "engine sync",
            engine: Engine::Sync,
            ..usual
        },
    ])
}

/// What can be left away of any virtio device, one at a time.
pub fn wirings() -> [(&'static str, Wiring); 3] {
    let all = Wiring::default();
    let (event_idx, ioeventfd, irqfd) = (false, false, false);
    [
        ("without EVENT_IDX", Wiring { event_idx, ..all }),
        ("doorbell exits", Wiring { ioeventfd, ..all }),
        ("interrupt injected", Wiring { irqfd, ..all }),
    ]
}
