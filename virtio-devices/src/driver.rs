//! The driver's half, for tests: rings written by hand, so that they can be wrong in every way.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virtio_bindings::virtio_mmio as register;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::device::feature;
use crate::transport::{Interrupt, MmioTransport};

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How much memory the guest has.
pub const MEMORY: usize = 0x40_0000;

/// One descriptor: address, length, flags, next.
pub type Raw = (u64, u32, u16, u16);

pub fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("anonymous memory")
}

/// Counts interrupts, and lets a test wait for one.
pub struct Line {
    sender: Mutex<Sender<()>>,
}

impl Line {
    pub fn new() -> (Arc<Line>, Receiver<()>) {
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        (Arc::new(Line { sender }), receiver)
    }
}

impl Interrupt for Line {
    fn signal(&self) {
        let _ = self.sender.lock().expect("no test panics here").send(());
    }
}

/// Where a queue's parts are.
#[derive(Clone, Copy)]
pub struct Rings {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

impl Rings {
    /// The place of queue `index`, 64 KiB each, below the buffers.
    pub fn at(index: usize, size: u16) -> Rings {
        let base = 0x1_0000 * (index as u64 + 1);
        Rings {
            size,
            descriptors: base,
            available: base + 0x8000,
            used: base + 0xa000,
        }
    }

    pub fn describe(&self, memory: &GuestMemoryMmap, index: u16, raw: Raw) {
        describe_at(memory, self.descriptors, index, raw);
    }

    /// Write an entry of the available ring, and move its index on.
    pub fn offer(&self, memory: &GuestMemoryMmap, head: u16) {
        let index = self.available_index(memory);
        let slot = self.available + 4 + 2 * u64::from(index % self.size);
        memory
            .write_obj(head, GuestAddress(slot))
            .expect("in memory");
        self.set_available_index(memory, index.wrapping_add(1));
    }

    pub fn available_index(&self, memory: &GuestMemoryMmap) -> u16 {
        memory
            .load(GuestAddress(self.available + 2), Ordering::SeqCst)
            .expect("in memory")
    }

    pub fn set_available_index(&self, memory: &GuestMemoryMmap, index: u16) {
        memory
            .store(index, GuestAddress(self.available + 2), Ordering::SeqCst)
            .expect("in memory");
    }

    pub fn used_index(&self, memory: &GuestMemoryMmap) -> u16 {
        memory
            .load(GuestAddress(self.used + 2), Ordering::SeqCst)
            .expect("in memory")
    }

    /// The used ring's entry `index`: head and length.
    pub fn used(&self, memory: &GuestMemoryMmap, index: u16) -> (u32, u32) {
        let at = self.used + 4 + 8 * u64::from(index % self.size);
        let read = |at| memory.read_obj(GuestAddress(at)).expect("in memory");
        (read(at), read(at + 4))
    }

    /// used_event, when EVENT_IDX is negotiated.
    pub fn set_used_event(&self, memory: &GuestMemoryMmap, index: u16) {
        let at = self.available + 4 + 2 * u64::from(self.size);
        memory
            .store(index, GuestAddress(at), Ordering::SeqCst)
            .expect("in memory");
    }

    /// avail_event, when EVENT_IDX is negotiated.
    pub fn available_event(&self, memory: &GuestMemoryMmap) -> u16 {
        let at = self.used + 4 + 8 * u64::from(self.size);
        memory
            .load(GuestAddress(at), Ordering::SeqCst)
            .expect("in memory")
    }
}

pub fn describe_at(memory: &GuestMemoryMmap, table: u64, index: u16, raw: Raw) {
    let at = table + 16 * u64::from(index);
    let write = |offset, bytes: &[u8]| {
        memory
            .write_slice(bytes, GuestAddress(at + offset))
            .expect("in memory");
    };
    write(0, &raw.0.to_le_bytes());
    write(8, &raw.1.to_le_bytes());
    write(12, &raw.2.to_le_bytes());
    write(14, &raw.3.to_le_bytes());
}

/// A driver of a device behind MMIO registers.
pub struct Driver {
    pub transport: MmioTransport,
    pub memory: GuestMemoryMmap,
    pub rings: Vec<Rings>,
    interrupts: Receiver<()>,
}

impl Driver {
    pub fn new(device: Box<dyn crate::Device>) -> Driver {
        let memory = memory();
        let sizes = device.queue_sizes().iter().enumerate();
        let rings = sizes.map(|(index, size)| Rings::at(index, *size)).collect();
        let (line, interrupts) = Line::new();
        let transport =
            MmioTransport::new(device, memory.clone(), line).expect("doorbells to be had");
        Driver {
            transport,
            memory,
            rings,
            interrupts,
        }
    }

    pub fn read(&self, register: u32) -> u32 {
        let mut bytes = [0; 4];
        self.transport.read(register.into(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub fn write(&mut self, register: u32, value: u32) {
        self.transport.write(register.into(), &value.to_le_bytes());
    }

    pub fn status(&self) -> u32 {
        self.read(register::VIRTIO_MMIO_STATUS)
    }

    pub fn set_status(&mut self, value: u32) {
        self.write(register::VIRTIO_MMIO_STATUS, value);
    }

    pub fn offered(&mut self) -> u64 {
        let mut half = |select| {
            self.write(register::VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
            u64::from(self.read(register::VIRTIO_MMIO_DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    pub fn accept(&mut self, features: u64) {
        for (select, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES, value);
        }
    }

    /// Up to FEATURES_OK.
    pub fn negotiate(&mut self, features: u64) {
        self.set_status(0);
        self.set_status(1);
        self.set_status(3);
        self.accept(features);
        self.set_status(11);
        assert_eq!(self.status(), 11, "features {features:#x} are taken");
    }

    /// Write the registers of a queue; the caller makes it ready.
    pub fn place(&mut self, index: usize, rings: Rings) {
        self.write(register::VIRTIO_MMIO_QUEUE_SEL, index as u32);
        self.write(register::VIRTIO_MMIO_QUEUE_NUM, rings.size.into());
        for (register, value) in [
            (register::VIRTIO_MMIO_QUEUE_DESC_LOW, rings.descriptors),
            (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, rings.available),
            (register::VIRTIO_MMIO_QUEUE_USED_LOW, rings.used),
        ] {
            self.write(register, value as u32);
            self.write(register + 4, (value >> 32) as u32);
        }
    }

    pub fn set_ready(&mut self, index: usize, value: u32) -> u32 {
        self.write(register::VIRTIO_MMIO_QUEUE_SEL, index as u32);
        self.write(register::VIRTIO_MMIO_QUEUE_READY, value);
        self.read(register::VIRTIO_MMIO_QUEUE_READY)
    }

    /// Negotiate, set up every queue afresh, and set DRIVER_OK.
    pub fn start(&mut self, features: u64) {
        self.negotiate(features | feature::VERSION_1);
        for (index, rings) in self.rings.clone().into_iter().enumerate() {
            let zeros = [0; 0x1_0000];
            let base = GuestAddress(rings.descriptors);
            self.memory.write_slice(&zeros, base).expect("in memory");
            self.place(index, rings);
            assert_eq!(self.set_ready(index, 1), 1, "queue {index} is taken");
        }
        while self.interrupts.try_recv().is_ok() {}
        self.set_status(15);
        assert_eq!(self.status() & 15, 15);
    }

    pub fn kick(&mut self, queue: u32) {
        self.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, queue);
    }

    /// Wait for an interrupt, and return and acknowledge its causes.
    pub fn interrupted(&mut self) -> u32 {
        self.interrupts
            .recv_timeout(PATIENCE)
            .expect("an interrupt comes");
        let causes = self.read(register::VIRTIO_MMIO_INTERRUPT_STATUS);
        self.write(register::VIRTIO_MMIO_INTERRUPT_ACK, causes);
        causes
    }

    /// Whether an interrupt came within a while that is short for a test.
    pub fn is_interrupted_within(&mut self, time: Duration) -> bool {
        self.interrupts.recv_timeout(time).is_ok()
    }

    /// Put a chain of descriptors into the table from index 0 on, offer it, and ring.
    pub fn submit(&mut self, queue: usize, chain: &[(u64, u32, u16)]) {
        self.lay_out(queue, 0, chain);
        self.rings[queue].offer(&self.memory, 0);
        self.kick(queue as u32);
    }

    /// Put a chain into the table from `first` on, linked.
    pub fn lay_out(&self, queue: usize, first: u16, chain: &[(u64, u32, u16)]) {
        for (index, (at, len, flags)) in (first..).zip(chain) {
            let is_last = usize::from(index - first) + 1 == chain.len();
            let flags = flags | if is_last { 0 } else { NEXT };
            self.rings[queue].describe(&self.memory, index, (*at, *len, flags, index + 1));
        }
    }

    /// Wait until the used index is `index`; interrupts are taken meanwhile.
    pub fn wait_used(&mut self, queue: usize, index: u16) {
        let start = std::time::Instant::now();
        while self.rings[queue].used_index(&self.memory) != index {
            assert!(
                start.elapsed() < PATIENCE,
                "used index never becomes {index}"
            );
            assert_eq!(self.transport.fault(), None);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Wait until the device asks for a reset; returns why.
    pub fn wait_fault(&mut self) -> String {
        let start = std::time::Instant::now();
        while !self.transport.needs_reset() {
            assert!(start.elapsed() < PATIENCE, "the device never needs a reset");
            std::thread::sleep(Duration::from_micros(200));
        }
        self.transport.fault().expect("a reason")
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("in memory");
    }

    pub fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .expect("in memory");
        bytes
    }
}
