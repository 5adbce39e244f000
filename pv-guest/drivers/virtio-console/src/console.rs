//! The device: how it is set up, and what an interrupt does.

use alloc::sync::Arc;

use driver_api::{ConsoleDevice, ConsoleError, Env, Halves, Lock, Mmio, Waiters};
use virtio::wire::{F_EVENT_IDX, ID_CONSOLE, INTERRUPT_CONFIG};
use virtio::{Transport, VirtioError};

use crate::queues::Queues;

/// Feature: the device says its size (5.3.3).
pub(crate) const F_SIZE: u64 = 1 << 0;

/// The names of features, for people.
pub const FEATURES: &[(u64, &str)] = &[(F_SIZE, "size")];

/// Columns and rows.
type Size = Option<(u16, u16)>;

/// A virtio console.
pub struct Console<E: Env> {
    env: E,
    transport: Transport<E::Mmio>,
    features: u64,
    size: E::Lock<Size>,
    /// Shared, so that a device that does not let go can keep it for good.
    queues: Arc<E::Lock<Queues<E::Dma>>>,
    waiters: E::Waiters,
}

impl<E: Env> Console<E> {
    /// Take over a device, whose interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`VirtioError`]; the device is left reset or failed, and uses no memory.
    pub fn new(
        env: E,
        transport: Transport<E::Mmio>,
        vector: u8,
    ) -> Result<Arc<Self>, VirtioError> {
        let id = transport.device_id();
        if id != ID_CONSOLE {
            return Err(VirtioError::OtherDevice(id));
        }
        let features = transport.negotiate(F_SIZE | F_EVENT_IDX)?;
        let made = Queues::new(&env, &transport, features);
        let queues = made.inspect_err(|_| transport.fail())?;
        let size = read_size(&transport, features).inspect_err(|_| transport.fail())?;
        let console = Arc::new(Self {
            env,
            transport,
            features,
            size: E::Lock::new(size),
            queues: Arc::new(E::Lock::new(queues)),
            waiters: E::Waiters::new(),
        });
        if let Err(error) = console.env.irq(vector, console.clone()) {
            console.transport.fail();
            return Err(error.into());
        }
        console.transport.begin();
        console.kick();
        Ok(console)
    }

    /// The features that device and driver agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    fn kick(&self) {
        for (queue, is_due) in self.queues.with(Queues::needs_kick) {
            if is_due {
                self.transport.notify(queue);
            }
        }
    }

    /// The device broke the protocol. Reset it, so that it uses no memory any longer.
    fn break_off(&self) {
        let is_new = self.queues.with(|queues| {
            let was_broken = queues.is_broken();
            queues.break_off();
            !was_broken
        });
        if is_new {
            self.env
                .log(format_args!("virtio-console: the device cannot go on"));
            let _ = self.transport.reset();
        }
    }

    /// Nothing is in the queues: find out why there was an interrupt.
    fn look_at_configuration(&self) {
        if self.transport.take_interrupt() & INTERRUPT_CONFIG == 0 {
            return;
        }
        if self.transport.needs_reset() {
            return self.break_off();
        }
        if let Ok(size) = read_size(&self.transport, self.features) {
            self.size.with(|place| *place = size);
        }
    }

    /// After work on the queues: tell the device, and give up on one that breaks the rules.
    fn settle<T>(&self, result: Result<T, ConsoleError>) -> Result<T, ConsoleError> {
        match result {
            Ok(_) => self.kick(),
            Err(_) => self.break_off(),
        }
        result
    }
}

/// Columns in the low half of the word, rows above (5.3.4).
fn read_size<M: Mmio>(transport: &Transport<M>, features: u64) -> Result<Size, VirtioError> {
    if features & F_SIZE == 0 {
        return Ok(None);
    }
    let word = transport.read_config(|transport| transport.config_u32(0))?;
    let (columns, rows) = (word as u16, (word >> 16) as u16);
    Ok((columns > 0 && rows > 0).then_some((columns, rows)))
}

impl<E: Env> Halves for Console<E> {
    /// The bottom half: look at the used rings, and at the device only if they have nothing new, as
    /// `virtio-blk` does, and for the same reasons.
    fn bottom(&self) {
        match self.queues.with(Queues::serve) {
            Ok(true) => {}
            Ok(false) => self.look_at_configuration(),
            Err(_) => self.break_off(),
        }
        self.kick();
        self.waiters.wake_all();
    }
}

impl<E: Env> ConsoleDevice for Console<E> {
    fn size(&self) -> Option<(u16, u16)> {
        self.size.with(|size| *size)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), ConsoleError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.waiters.wait_until(|| {
                let written = self.queues.with(|queues| queues.write(rest));
                let written = self.settle(written);
                (written != Ok(0)).then_some(written)
            })?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn read(&self, into: &mut [u8]) -> Result<usize, ConsoleError> {
        if into.is_empty() {
            return Ok(0);
        }
        self.waiters.wait_until(|| {
            let count = self.queues.with(|queues| queues.read(into));
            let count = self.settle(count);
            (count != Ok(0)).then_some(count)
        })
    }
}

impl<E: Env> Drop for Console<E> {
    /// The device must let go of the queues and buffers before they are freed.
    fn drop(&mut self) {
        if self.transport.reset().is_err() {
            core::mem::forget(self.queues.clone());
        }
    }
}
