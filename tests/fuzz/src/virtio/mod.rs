//! A virtio device and a driver that is mostly legal, and then wrong in one place or in many.
//!
//! In walking order: [`maker`] makes a [`plan`] from random numbers (`bend` says what is wrong with a
//! descriptor, `registers` with a setup); [`play`] plays it; [`ledger`] says what the device was allowed
//! to do; [`driver`] has a known request served afterwards. [`layout`] is the guest's memory. What differs
//! from device to device is its [`Subject`].

mod bend;
pub mod driver;
pub mod layout;
pub mod ledger;
pub mod maker;
pub mod outcomes;
pub mod plan;
pub mod play;
mod registers;

use std::io;
use std::sync::Arc;

use fastrand::Rng;
use virtio_devices::{Device, MmioTransport};

use crate::tally::Tally;
use crate::target::Target;
use driver::{Driver, Line};
use layout::Guest;
use ledger::Ledger;
use maker::{Maker, Request};
use plan::{Mood, Op, Plan};
use play::Play;

/// What is behind a device, and what its requests are.
pub trait Subject {
    /// A device in a world of its own, for one case.
    ///
    /// # Errors
    /// The host's.
    fn device(&mut self, rng: &mut Rng) -> io::Result<Box<dyn Device>>;

    /// One request for a queue, as it should be. None: there is nothing to ask of that queue.
    fn request(&mut self, maker: &mut Maker<'_>, queue: usize) -> Option<Request>;

    /// Whether requests of a queue come back by themselves, without the device's other end.
    fn finishes(&self, queue: usize) -> bool {
        let _ = queue;
        true
    }

    /// The other end of the device does something.
    fn outside(&mut self, what: u64, tally: &mut Tally) {
        let _ = (what, tally);
    }

    /// See that the device did nothing to its world that it had no leave to; nothing runs.
    ///
    /// # Errors
    /// What it did.
    fn inspect(&mut self, ledger: &Ledger, tally: &mut Tally) -> Result<(), String> {
        let _ = (ledger, tally);
        Ok(())
    }

    /// Have a known request served.
    ///
    /// # Errors
    /// What went wrong.
    fn probe(&mut self, driver: &mut Driver<'_>, tally: &mut Tally) -> Result<(), String>;

    /// The case is over, and so is the device.
    fn close(&mut self) {}
}

/// What a target's cases are mostly about.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Of how many steps one is an access to a register.
    pub registers: u32,
}

impl Weights {
    /// Queues and their requests.
    pub const QUEUES: Weights = Weights { registers: 12 };
    /// Registers.
    pub const REGISTERS: Weights = Weights { registers: 2 };
}

/// See the module.
pub struct Virtio<S> {
    subject: S,
    weights: Weights,
    guest: Guest,
    /// What memory should look like, and what it does.
    expected: Vec<u8>,
    found: Vec<u8>,
}

impl<S: Subject> Virtio<S> {
    /// A target.
    ///
    /// # Errors
    /// The host has no memory for a guest.
    pub fn new(subject: S, weights: Weights) -> io::Result<Self> {
        let guest = Guest::new()?;
        Ok(Virtio {
            subject,
            weights,
            guest,
            expected: Vec::new(),
            found: Vec::new(),
        })
    }

    /// A device, and what a driver does to it.
    fn make(&mut self, mut rng: Rng) -> Result<(Box<dyn Device>, Plan), String> {
        let device = self.subject.device(&mut rng);
        let device = device.map_err(|error| format!("the host refuses a device: {error}"))?;
        let maker = Maker::new(&mut rng, device.as_ref(), self.weights);
        Ok((device, maker.plan(&mut self.subject)))
    }

    /// Play a plan, stop the device, and compare memory.
    fn play(
        &mut self,
        transport: &mut MmioTransport,
        plan: &Plan,
        tally: &mut Tally,
    ) -> Result<(), String> {
        self.guest.refill(&mut self.expected);
        let mut play = Play {
            transport,
            memory: &self.guest.memory,
            subject: &mut self.subject,
            tally,
            marks: Vec::new(),
            is_told: false,
        };
        play.all(plan)?;
        play.tell();
        driver::write(
            transport,
            virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS,
            0,
        );
        tally.resets += 1;
        let status = driver::read(transport, virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS);
        if status != 0 {
            return Err(format!("the status is {status} after a reset"));
        }
        let ledger = Ledger::of(plan);
        expect(&mut self.expected, plan);
        self.guest.copy(&mut self.found);
        if let Some(at) = ledger.first_wrong(&mut self.expected, &self.found) {
            return Err(format!(
                "guest memory at {at:#x} has changed, which no driver offered"
            ));
        }
        tally.exact += u64::from(ledger.is_exact());
        self.subject.inspect(&ledger, tally)?;
        if plan.mood == Mood::Legal {
            tally.reached("legal, and all done");
        }
        Ok(())
    }
}

impl<S: Subject> Target for Virtio<S> {
    fn case(&mut self, rng: Rng, tally: &mut Tally) -> Result<(), String> {
        let (device, plan) = self.make(rng)?;
        let line = Arc::new(Line::default());
        let transport = MmioTransport::new(device, self.guest.memory.clone(), line.clone());
        let mut transport =
            transport.map_err(|error| format!("the host refuses doorbells: {error}"))?;
        self.play(&mut transport, &plan, tally)?;
        let mut driver = Driver::start(&mut transport, &self.guest.memory, line)?;
        self.subject.probe(&mut driver, tally)?;
        drop(transport);
        self.subject.close();
        Ok(())
    }

    fn show(&mut self, rng: Rng) -> String {
        match self.make(rng) {
            Ok((_, plan)) => plan.to_string(),
            Err(why) => why,
        }
    }
}

/// What memory looks like where only the driver writes.
fn expect(memory: &mut [u8], plan: &Plan) {
    for op in &plan.ops {
        let Op::Store(store) = op else { continue };
        let (at, bytes) = store.parts();
        // Byte by byte: a buffer may lie where two mappings meet, or end where memory does.
        for (at, byte) in (at..).zip(bytes) {
            if let Some(place) = layout::place(at) {
                memory[place] = byte;
            }
        }
    }
}
