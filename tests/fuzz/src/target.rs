//! The list of targets. A target is added by a row here.

use std::io;
use std::path::Path;

use fastrand::Rng;

use crate::devices::trouble::{Trouble, Troubled};
use crate::devices::{balloon, blk, console, echo, image, legacy, net, rng, vsock};
use crate::tally::Tally;
use crate::virtio;

/// Something that is fuzzed.
pub trait Target {
    /// Make a case and run it.
    ///
    /// # Errors
    /// What was wrong.
    fn case(&mut self, rng: Rng, tally: &mut Tally) -> Result<(), String>;

    /// A case in words, without running it.
    fn show(&mut self, rng: Rng) -> String;
}

/// A row of the list.
pub struct Entry {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Make it, with a folder for files.
    pub make: fn(&Path) -> io::Result<Box<dyn Target>>,
    /// What cases should come to at some time, besides [`Entry::is_virtio`]'s.
    pub outcomes: &'static [&'static str],
    /// Whether a driver is played, and each complaint of a queue should be heard.
    pub is_virtio: bool,
}

/// The targets.
pub const TARGETS: &[Entry] = &[
    Entry {
        name: "mmio",
        about: "the registers, above all: a device that gives back what it is given",
        make: |_| {
            Ok(Box::new(virtio::Virtio::new(
                echo::Subject,
                virtio::Weights::REGISTERS,
            )?))
        },
        outcomes: echo::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "blk",
        about: "a disk in a raw file, by io_uring, threads and system calls in turn, 1 to 4 queues",
        make: |folder| {
            let subject = blk::Subject::raw(folder)?;
            Ok(Box::new(virtio::Virtio::new(
                subject,
                virtio::Weights::QUEUES,
            )?))
        },
        outcomes: blk::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "blk-qcow2",
        about: "a disk in a qcow2 image",
        make: |folder| {
            let subject = blk::Subject::qcow2(folder)?;
            Ok(Box::new(virtio::Virtio::new(
                subject,
                virtio::Weights::QUEUES,
            )?))
        },
        outcomes: blk::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "rng",
        about: "a source of random numbers",
        make: |_| {
            Ok(Box::new(virtio::Virtio::new(
                rng::Subject,
                virtio::Weights::QUEUES,
            )?))
        },
        outcomes: rng::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "console",
        about: "a console between two pipes, which stop and end",
        make: |_| {
            let subject = console::Subject::default();
            Ok(Box::new(virtio::Virtio::new(
                subject,
                virtio::Weights::QUEUES,
            )?))
        },
        outcomes: console::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "balloon",
        about: "a balloon, whose pages are checked",
        make: |_| {
            let subject = balloon::Subject::default();
            Ok(Box::new(virtio::Virtio::new(
                subject,
                virtio::Weights::QUEUES,
            )?))
        },
        outcomes: balloon::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "net",
        about: "a network card on a socket, whose other end sends frames and takes them, or does not",
        make: |_| {
            let subject = net::Subject::default();
            Ok(Box::new(virtio::Virtio::new(
                subject,
                virtio::Weights::QUEUES,
            )?))
        },
        outcomes: net::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "vsock",
        about: "a socket device, and programs that come, speak, hear and go",
        make: |folder| {
            let subject = vsock::Subject::new(folder)?;
            Ok(Box::new(virtio::Virtio::new(
                subject,
                virtio::Weights::QUEUES,
            )?))
        },
        outcomes: vsock::OUTCOMES,
        is_virtio: true,
    },
    Entry {
        name: "image",
        about: "damaged qcow2 images: opened, and used as disks",
        make: |folder| Ok(Box::new(image::Images::new(folder)?)),
        outcomes: image::OUTCOMES,
        is_virtio: false,
    },
    Entry {
        name: "ata",
        about: "two trapped drives on a channel: registers alone",
        make: |_| Ok(Box::new(legacy::Ata)),
        outcomes: legacy::ATA_OUTCOMES,
        is_virtio: false,
    },
    Entry {
        name: "ne2000",
        about: "a trapped network card: registers alone",
        make: |_| Ok(Box::new(legacy::Card)),
        outcomes: legacy::NE2000_OUTCOMES,
        is_virtio: false,
    },
    Entry {
        name: "ioapic",
        about: "the I/O APIC: registers and lines",
        make: |_| Ok(Box::new(legacy::Apic)),
        outcomes: legacy::IOAPIC_OUTCOMES,
        is_virtio: false,
    },
    Entry {
        name: "clocks",
        about: "the timer, the clock and the keyboard controller: ports, and time that passes",
        make: |_| Ok(Box::new(legacy::Clocks)),
        outcomes: legacy::CLOCKS_OUTCOMES,
        is_virtio: false,
    },
];

/// What goes wrong on purpose, for tests of the fuzzer itself. In no list.
pub const TROUBLES: &[Entry] = &[
    trouble("trouble-check", |_| {
        Ok(Box::new(Troubled::new(Trouble::Check)))
    }),
    trouble("trouble-panic", |_| {
        Ok(Box::new(Troubled::new(Trouble::Panic)))
    }),
    trouble("trouble-thread", |_| {
        Ok(Box::new(Troubled::new(Trouble::Thread)))
    }),
    trouble("trouble-hang", |_| {
        Ok(Box::new(Troubled::new(Trouble::Hang)))
    }),
    trouble("trouble-stack", |_| {
        Ok(Box::new(Troubled::new(Trouble::Stack)))
    }),
    trouble("trouble-files", |_| {
        Ok(Box::new(Troubled::new(Trouble::Files)))
    }),
    trouble("trouble-threads", |_| {
        Ok(Box::new(Troubled::new(Trouble::Threads)))
    }),
    trouble("trouble-memory", |_| {
        Ok(Box::new(Troubled::new(Trouble::Memory)))
    }),
];

const fn trouble(name: &'static str, make: fn(&Path) -> io::Result<Box<dyn Target>>) -> Entry {
    Entry {
        name,
        about: "goes wrong on purpose",
        make,
        outcomes: &[],
        is_virtio: false,
    }
}

impl Entry {
    /// The target of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Entry> {
        let all = TARGETS.iter().chain(TROUBLES);
        all.into_iter().find(|entry| entry.name == name)
    }

    /// All that cases should come to at some time.
    #[must_use]
    pub fn wanted(&self) -> Vec<&'static str> {
        let generic = virtio::outcomes::NAMES.iter().filter(|_| self.is_virtio);
        generic.chain(self.outcomes).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for entry in TARGETS {
            assert_eq!(
                TARGETS
                    .iter()
                    .filter(|other| other.name == entry.name)
                    .count(),
                1
            );
        }
    }
}
