//! A driver that does all as it must, for the request after a case that has to be served. Waits for
//! everything, but never for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use virtio_bindings::virtio_mmio as register;
use virtio_devices::device::feature;
use virtio_devices::{Interrupt, MmioTransport};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::layout::Rings;

/// How long what must come is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// VIRTQ_DESC_F_NEXT.
pub const NEXT: u16 = 1;
/// VIRTQ_DESC_F_WRITE.
pub const WRITE: u16 = 2;
/// VIRTQ_DESC_F_INDIRECT.
pub const INDIRECT: u16 = 4;

/// Counts interrupts.
#[derive(Default)]
pub struct Line(AtomicU64);

impl Line {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Interrupt for Line {
    fn signal(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Read a register.
#[must_use]
pub fn read(transport: &MmioTransport, register: u32) -> u32 {
    let mut bytes = [0; 4];
    transport.read(register.into(), &mut bytes);
    u32::from_le_bytes(bytes)
}

/// Write a register.
pub fn write(transport: &mut MmioTransport, register: u32, value: u32) {
    transport.write(register.into(), &value.to_le_bytes());
}

/// Wait until something is so.
///
/// # Errors
/// It never was; says what.
pub fn wait(what: &str, mut is_so: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("{what} never happens"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// See the module.
pub struct Driver<'a> {
    transport: &'a mut MmioTransport,
    memory: &'a GuestMemoryMmap,
    line: Arc<Line>,
    queues: Vec<Queue>,
}

struct Queue {
    rings: Rings,
    available: u16,
}

impl<'a> Driver<'a> {
    /// Reset the device, agree on all that it offers, and set up its queues.
    ///
    /// # Errors
    /// What the device does not do.
    pub fn start(
        transport: &'a mut MmioTransport,
        memory: &'a GuestMemoryMmap,
        line: Arc<Line>,
    ) -> Result<Driver<'a>, String> {
        let queues = Vec::new();
        let mut driver = Driver {
            transport,
            memory,
            line,
            queues,
        };
        driver.set_status(0)?;
        driver.set_status(1)?;
        driver.set_status(3)?;
        for half in [0, 1] {
            driver.write(register::VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
            let offered = driver.read(register::VIRTIO_MMIO_DEVICE_FEATURES);
            driver.write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            driver.write(register::VIRTIO_MMIO_DRIVER_FEATURES, offered);
            let needed = (feature::QUEUE >> (32 * half)) as u32;
            if offered & needed != needed {
                return Err(format!(
                    "the device offers {offered:#x} in half {half}, which lacks a queue's"
                ));
            }
        }
        driver.set_status(11)?;
        for queue in 0.. {
            driver.write(register::VIRTIO_MMIO_QUEUE_SEL, queue);
            let Some(size) = u16::try_from(driver.read(register::VIRTIO_MMIO_QUEUE_NUM_MAX))
                .ok()
                .filter(|size| *size > 0)
            else {
                break;
            };
            driver.set_up(Rings::usual(queue as usize, size))?;
        }
        driver.set_status(15)?;
        Ok(driver)
    }

    fn set_up(&mut self, rings: Rings) -> Result<(), String> {
        let [_, available, used] = Rings::lengths(rings.size);
        for (at, len) in [(rings.available, available), (rings.used, used)] {
            self.put(at, &vec![0; len as usize]);
        }
        self.write(register::VIRTIO_MMIO_QUEUE_NUM, rings.size.into());
        for (register, at) in [
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, rings.descriptors),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, rings.available),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, rings.used),
        ] {
            self.write(register, at as u32);
            self.write(register + 4, (at >> 32) as u32);
        }
        self.write(register::VIRTIO_MMIO_QUEUE_READY, 1);
        if self.read(register::VIRTIO_MMIO_QUEUE_READY) != 1 {
            return Err(format!("a legal queue is not taken: {rings:?}"));
        }
        self.queues.push(Queue {
            rings,
            available: 0,
        });
        Ok(())
    }

    fn set_status(&mut self, value: u32) -> Result<(), String> {
        self.write(register::VIRTIO_MMIO_STATUS, value);
        match self.read(register::VIRTIO_MMIO_STATUS) {
            status if status == value => Ok(()),
            status => Err(format!(
                "the status is {status} after a legal write of {value}{}",
                self.transport
                    .fault()
                    .map(|why| format!(": {why}"))
                    .unwrap_or_default()
            )),
        }
    }

    /// Read a register.
    #[must_use]
    pub fn read(&self, register: u32) -> u32 {
        read(self.transport, register)
    }

    fn write(&mut self, register: u32, value: u32) {
        write(self.transport, register, value);
    }

    /// Store bytes.
    ///
    /// # Panics
    /// When they are not in memory, a mistake of ours.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("in memory");
    }

    /// Load bytes.
    ///
    /// # Panics
    /// As [`Driver::put`].
    #[must_use]
    pub fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .expect("in memory");
        bytes
    }

    /// Have a request done: pieces of memory, each with whether the device may write it. Returns how
    /// many bytes the device says that it wrote.
    ///
    /// # Errors
    /// What the device does not do.
    pub fn ask(&mut self, queue: usize, pieces: &[(u64, u32, bool)]) -> Result<u32, String> {
        self.offer(queue, pieces)?;
        self.wait(queue)
    }

    /// Make a request available, and ring the doorbell. The one before it must have come back.
    ///
    /// # Errors
    /// There is no such queue.
    pub fn offer(&mut self, queue: usize, pieces: &[(u64, u32, bool)]) -> Result<(), String> {
        let Queue { rings, available } = self.queue(queue)?;
        for (index, (at, len, is_writable)) in (0u16..).zip(pieces) {
            let is_last = usize::from(index) + 1 == pieces.len();
            let flags = if is_last { 0 } else { NEXT } | if *is_writable { WRITE } else { 0 };
            let rest = u64::from(*len) | u64::from(flags) << 32 | u64::from(index + 1) << 48;
            let slot = rings.descriptors + 16 * u64::from(index);
            self.put(slot, &at.to_le_bytes());
            self.put(slot + 8, &rest.to_le_bytes());
        }
        let slot = rings.available + 4 + 2 * u64::from(available % rings.size);
        self.put(slot, &[0, 0]);
        // used_event: an interrupt for this one.
        self.store(rings.available + 4 + 2 * u64::from(rings.size), available);
        self.store(rings.available + 2, available.wrapping_add(1));
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.available = available.wrapping_add(1);
        }
        self.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
        Ok(())
    }

    /// Wait until the last request of a queue is back, and the interrupt for it has come. Returns how
    /// many bytes the device says that it wrote.
    ///
    /// # Errors
    /// It does not come; or the device wants a reset.
    pub fn wait(&mut self, queue: usize) -> Result<u32, String> {
        let Queue { rings, available } = self.queue(queue)?;
        wait(
            &format!("the end of a known request of queue {queue}"),
            || self.is_back(queue),
        )?;
        wait(
            &format!("the interrupt for a known request of queue {queue}"),
            || {
                let causes = self.read(register::VIRTIO_MMIO_INTERRUPT_STATUS);
                Ok(causes & register::VIRTIO_MMIO_INT_VRING != 0 && self.line.count() > 0)
            },
        )?;
        self.write(
            register::VIRTIO_MMIO_INTERRUPT_ACK,
            register::VIRTIO_MMIO_INT_VRING,
        );
        let slot = rings.used + 4 + 8 * u64::from(available.wrapping_sub(1) % rings.size);
        match self.get(slot, 8).as_slice() {
            [0, 0, 0, 0, len @ ..] => Ok(len
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte))),
            other => Err(format!(
                "a used element is {other:?} and should be that of descriptor 0"
            )),
        }
    }

    /// Whether the last request of a queue is back.
    ///
    /// # Errors
    /// The device wants a reset.
    pub fn is_back(&self, queue: usize) -> Result<bool, String> {
        let Queue { rings, available } = self.queue(queue)?;
        if let Some(why) = self.transport.fault() {
            return Err(format!(
                "the device needs a reset after a known request: {why}"
            ));
        }
        let at = GuestAddress(rings.used + 2);
        let used = self.memory.load::<u16>(at, Ordering::SeqCst);
        Ok(used.is_ok_and(|used| used == available))
    }

    fn queue(&self, queue: usize) -> Result<Queue, String> {
        let found = self
            .queues
            .get(queue)
            .map(|Queue { rings, available }| Queue {
                rings: *rings,
                available: *available,
            });
        found.ok_or_else(|| format!("the device has no queue {queue}"))
    }

    fn store(&self, at: u64, value: u16) {
        let stored = self.memory.store(value, GuestAddress(at), Ordering::SeqCst);
        stored.expect("in memory");
    }
}
