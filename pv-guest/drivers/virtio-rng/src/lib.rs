//! The driver of virtio sources of entropy (virtio 1.3, 5.4): a [`RandomSource`] on any [`Env`].
//!
//! One request at a time, of a page at most; who asks while one is under way waits.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

use alloc::sync::Arc;

use driver_api::{Dma, Env, Halves, Lock, RandomError, RandomSource, Waiters};
use virtio::wire::{F_EVENT_IDX, ID_RNG, INTERRUPT_CONFIG};
use virtio::{Queue, Segment, Transport, VirtioError};

/// The most bytes of a request.
const CHUNK: usize = 4096;
/// One request at a time needs no more.
const QUEUE_MOST: u16 = 2;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Idle,
    /// Somebody waits for the device.
    Asked,
    /// The device has written so many bytes.
    Done(u32),
    /// The device broke the protocol.
    Broken,
}

struct Inner<D> {
    queue: Queue<D>,
    state: State,
}

/// What an interrupt was for.
enum Served {
    Something,
    Nothing,
    /// The device breaks the protocol.
    Breaks,
    /// It did so before.
    Broken,
}

impl<D: Dma> Inner<D> {
    fn serve(&mut self) -> Served {
        let mut served = Served::Nothing;
        loop {
            if self.state == State::Broken {
                return Served::Broken;
            }
            match self.queue.pop() {
                Ok(Some(used)) => {
                    self.state = State::Done(used.written);
                    served = Served::Something;
                }
                Ok(None) if self.queue.allow_interrupts() => {}
                Ok(None) => return served,
                Err(_) => return Served::Breaks,
            }
        }
    }
}

/// A virtio source of entropy.
pub struct Rng<E: Env> {
    env: E,
    transport: Transport<E::Mmio>,
    features: u64,
    /// What the device writes.
    buffer: E::Dma,
    inner: E::Lock<Inner<E::Dma>>,
    waiters: E::Waiters,
}

impl<E: Env> Rng<E> {
    /// Take over a device, whose interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`VirtioError`].
    pub fn new(
        env: E,
        transport: Transport<E::Mmio>,
        vector: u8,
    ) -> Result<Arc<Self>, VirtioError> {
        let id = transport.device_id();
        if id != ID_RNG {
            return Err(VirtioError::OtherDevice(id));
        }
        let features = transport.negotiate(F_EVENT_IDX)?;
        let mut queue = Queue::new(&env, &transport, 0, QUEUE_MOST, features)
            .inspect_err(|_| transport.fail())?;
        // Nothing was asked, so nothing can be there.
        let _ = queue.allow_interrupts();
        let state = State::Idle;
        let rng = Arc::new(Self {
            buffer: env.dma(CHUNK)?,
            inner: E::Lock::new(Inner { queue, state }),
            waiters: E::Waiters::new(),
            env,
            transport,
            features,
        });
        if let Err(error) = rng.env.irq(vector, rng.clone()) {
            rng.transport.fail();
            return Err(error.into());
        }
        rng.transport.begin();
        Ok(rng)
    }

    /// The features that device and driver agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Ask for so many bytes; `None` while somebody else does.
    fn ask(&self, len: u32) -> Option<Result<(), RandomError>> {
        let segment = Segment {
            phys: self.buffer.phys(),
            len,
            is_writable: true,
        };
        let needs_kick = self.inner.with(|inner| match inner.state {
            State::Broken => Some(Err(RandomError::Broken)),
            State::Asked | State::Done(_) => None,
            State::Idle => {
                inner.state = State::Asked;
                let added = inner.queue.add(&[segment]);
                Some(
                    added
                        .map_err(|_| RandomError::Broken)
                        .map(|_| inner.queue.needs_kick()),
                )
            }
        })?;
        Some(needs_kick.map(|needs_kick| {
            if needs_kick {
                self.transport.notify(0);
            }
        }))
    }

    /// Take the device's answer out of the buffer; `None` until there is one.
    fn take(&self, into: &mut [u8]) -> Option<Result<usize, RandomError>> {
        self.inner.with(|inner| match inner.state {
            State::Idle | State::Asked => None,
            State::Broken => Some(Err(RandomError::Broken)),
            State::Done(written) => {
                inner.state = State::Idle;
                let count = into.len().min(written as usize);
                self.buffer.read(0, into.get_mut(..count)?);
                Some(Ok(count))
            }
        })
    }

    fn break_off(&self) {
        self.env
            .log(format_args!("virtio-rng: the device cannot go on"));
        // One page is the device's for good if it does not obey: the driver is never freed.
        let _ = self.transport.reset();
    }
}

impl<E: Env> Halves for Rng<E> {
    /// The bottom half: look at the used ring, and only if it has nothing new at the device, which
    /// costs exits, and may have stopped.
    fn bottom(&self) {
        let is_good = match self.inner.with(Inner::serve) {
            Served::Something => true,
            Served::Nothing => {
                self.transport.take_interrupt() & INTERRUPT_CONFIG == 0
                    || !self.transport.needs_reset()
            }
            Served::Broken => return,
            Served::Breaks => false,
        };
        if !is_good {
            self.inner.with(|inner| inner.state = State::Broken);
            self.break_off();
        }
        self.waiters.wake_all();
    }
}

impl<E: Env> RandomSource for Rng<E> {
    fn fill(&self, into: &mut [u8]) -> Result<(), RandomError> {
        let mut rest = into;
        while !rest.is_empty() {
            let len = rest.len().min(CHUNK);
            self.waiters.wait_until(|| self.ask(len as u32))?;
            let (now, _) = rest.split_at_mut(len);
            let count = self.waiters.wait_until(|| self.take(now))?;
            // Somebody else may ask now.
            self.waiters.wake_all();
            if count == 0 {
                return Err(RandomError::Empty);
            }
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }
}

impl<E: Env> Drop for Rng<E> {
    fn drop(&mut self) {
        // Only an interrupt that was refused leads here: the device was never told to begin.
        let _ = self.transport.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;
    use virtio::fake::{Answer, Device, FakeEnv, Machine};

    /// A device that gives at most so many bytes at once: 0, 1, 2 and so on.
    fn rig(
        most: usize,
        change: fn(Answer) -> Answer,
    ) -> (Arc<Machine>, Result<Arc<Rng<FakeEnv>>, VirtioError>) {
        let mut next = 0u8;
        let device = Device::new(
            4,
            F_EVENT_IDX,
            1,
            Box::new(move |chain| {
                assert!(chain.readable.is_empty());
                let mut byte = || {
                    next = next.wrapping_add(1);
                    next
                };
                let bytes = (0..chain.room.min(most)).map(|_| byte()).collect();
                change(Answer {
                    bytes,
                    ..Answer::default()
                })
            }),
        );
        let machine = Machine::new(device);
        let env = machine.env();
        let registers = driver_api::Env::mmio(&env, 0, 0x200).unwrap();
        let rng = Rng::new(env, Transport::new(registers).unwrap(), 0x32);
        (machine, rng)
    }

    #[test]
    fn bytes_come_in_order_however_few_at_once() {
        for (most, len) in [(9999, 16), (7, 100), (9999, 10_000), (1, 3)] {
            let (machine, rng) = rig(most, |answer| answer);
            let rng = rng.unwrap();
            let before = machine.accesses();
            let mut bytes = std::vec![0; len];
            assert_eq!(rng.fill(&mut bytes), Ok(()));
            let expected: Vec<u8> = (1..=len).map(|n| n as u8).collect();
            assert!(bytes == expected, "{most} {len}");
            let requests = len.div_ceil(most.min(CHUNK)) as u64;
            assert_eq!(machine.notifications(), requests);
            assert_eq!(machine.interrupts(), requests);
            assert_eq!(machine.accesses(), before);
        }
    }

    #[test]
    fn a_device_that_stops_is_an_error() {
        let (machine, rng) = rig(9, |answer| answer);
        let rng = rng.unwrap();
        machine.device(Device::stop);
        machine.run();
        assert_eq!(rng.fill(&mut [0; 4]), Err(RandomError::Broken));
        assert_eq!(machine.device(|device| device.status()), 0);
    }

    #[test]
    fn a_source_that_is_empty_or_wrong_is_an_error() {
        let (_machine, rng) = rig(0, |answer| answer);
        assert_eq!(rng.unwrap().fill(&mut [0; 4]), Err(RandomError::Empty));
        let wrong: [fn(Answer) -> Answer; 3] = [
            |answer| Answer {
                len: Some(99),
                ..answer
            },
            |answer| Answer {
                id: Some(1),
                ..answer
            },
            |answer| Answer {
                is_ahead: true,
                ..answer
            },
        ];
        for change in wrong {
            let (machine, rng) = rig(9, change);
            let rng = rng.unwrap();
            for _ in 0..2 {
                assert_eq!(rng.fill(&mut [0; 4]), Err(RandomError::Broken));
            }
            assert_eq!(machine.device(|device| device.status()), 0);
            assert_eq!(machine.log().len(), 1);
        }
    }
}
