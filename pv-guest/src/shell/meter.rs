//! What an interface has cost between two moments: time, exits, interrupts, frames. For the commands that the
//! host's benchmark reads, `bench/src/net`, and for people.

use alloc::sync::Arc;
use core::fmt;
use core::net::Ipv4Addr;
use core::sync::atomic::Ordering;

use hypercall_abi::Vector;
use netstack::NetFail;

use crate::net::{self, Link};
use crate::time::now_ns;
use crate::{dev, hooks, irq};

/// Counts since it was started.
pub struct Meter {
    link: Arc<Link>,
    ns: u64,
    exits: u64,
    interrupts: u64,
    frames: u64,
}

/// What a meter has counted. Shown as words `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metered {
    ns: u64,
    exits: u64,
    interrupts: u64,
    frames: u64,
    driver: &'static str,
}

impl Meter {
    /// Count on the interface that leads to an address, from now on.
    ///
    /// # Errors
    /// [`NetFail::NoAddress`].
    pub fn start(to: Ipv4Addr) -> Result<Self, NetFail> {
        let mut meter = Self {
            link: net::route(to)?,
            ns: 0,
            exits: 0,
            interrupts: 0,
            frames: 0,
        };
        (meter.exits, meter.interrupts, meter.frames) = meter.counts();
        meter.ns = now_ns();
        Ok(meter)
    }

    fn counts(&self) -> (u64, u64, u64) {
        let interrupts = Vector::new(self.link.vector).map_or(0, irq::count);
        let exits = hooks::shared().exits.load(Ordering::Relaxed);
        let frames = self.link.device().counts();
        (exits, interrupts, frames.sent + frames.received)
    }

    /// What there was until now.
    pub fn stop(&self) -> Metered {
        let ns = now_ns().saturating_sub(self.ns);
        let (exits, interrupts, frames) = self.counts();
        Metered {
            ns,
            exits: exits.wrapping_sub(self.exits),
            interrupts: interrupts.wrapping_sub(self.interrupts),
            frames: frames.wrapping_sub(self.frames),
            driver: self.driver(),
        }
    }

    fn driver(&self) -> &'static str {
        let mut driver = "-";
        dev::for_each_device(|device, _| {
            if device.name == self.link.name {
                driver = device.driver.unwrap_or("-");
            }
        });
        driver
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ns,
            exits,
            interrupts,
            frames,
            driver,
        } = self;
        write!(
            f,
            "ns={ns} exits={exits} interrupts={interrupts} frames={frames} driver={driver}"
        )
    }
}
