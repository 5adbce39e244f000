//! A driver for tests: it fills a queue by hand, well or badly, and drives a device through its registers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::Device;
use crate::transport::mmio::{Interrupt, MmioTransport, QUEUE_NOTIFY, VERSION_1, status};

pub const MEMORY: usize = 1 << 20;
pub const DESC: u64 = 0x1000;
pub const AVAIL: u64 = 0x2000;
pub const USED: u64 = 0x3000;
pub const BUFFERS: u64 = 0x10000;
/// Descriptors of the queue.
pub const SIZE: u16 = 16;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// A descriptor: address, length, flags, next.
pub type Descriptor = (u64, u32, u16, u16);

struct Bell(Sender<()>);

impl Interrupt for Bell {
    fn signal(&self) {
        let _ = self.0.send(());
    }
}

pub struct Driver {
    pub memory: GuestMemoryMmap,
    pub transport: MmioTransport,
    interrupts: Receiver<()>,
    available: u16,
}

impl Driver {
    /// A device that has been reset.
    pub fn found(device: impl Device + 'static) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let (send, interrupts) = channel();
        let transport =
            MmioTransport::new(Box::new(device), memory.clone(), Arc::new(Bell(send))).unwrap();
        Self {
            memory,
            transport,
            interrupts,
            available: 0,
        }
    }

    /// One that is driven, with these features.
    pub fn ready(device: impl Device + 'static, features: u64) -> Self {
        let mut driver = Self::found(device);
        driver.start(features);
        driver
    }

    pub fn start(&mut self, features: u64) {
        self.memory
            .write_slice(&[0; 0x3000], GuestAddress(DESC))
            .unwrap();
        self.available = 0;
        self.set(0x70, status::ACKNOWLEDGE);
        self.set(0x70, status::ACKNOWLEDGE | status::DRIVER);
        self.accept(features | VERSION_1);
        self.set(0x70, 11);
        assert_eq!(self.get(0x70), 11, "features are accepted");
        self.set_queue();
        assert_eq!(self.get(0x44), 1, "the queue is ready");
        self.set(0x70, 15);
        assert_eq!(self.get(0x70), 15);
    }

    pub fn accept(&mut self, features: u64) {
        for half in [0, 1] {
            self.set(0x24, half);
            self.set(0x20, (features >> (32 * half)) as u32);
        }
    }

    pub fn set_queue(&mut self) {
        self.set(0x30, 0);
        self.set(0x38, SIZE.into());
        for (register, at) in [(0x80, DESC), (0x90, AVAIL), (0xa0, USED)] {
            self.set(register, at as u32);
            self.set(register + 4, (at >> 32) as u32);
        }
        self.set(0x44, 1);
    }

    pub fn get(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        self.transport.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub fn set(&mut self, register: u64, value: u32) {
        self.transport.write(register, &value.to_le_bytes());
    }

    pub fn write_descriptor(&self, table: u64, index: u16, descriptor: Descriptor) {
        let (at, len, flags, next) = descriptor;
        let place = table + u64::from(index) * 16;
        self.put(place, &at.to_le_bytes());
        self.put(place + 8, &len.to_le_bytes());
        self.put(place + 12, &flags.to_le_bytes());
        self.put(place + 14, &next.to_le_bytes());
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .unwrap();
        bytes
    }

    /// Make descriptors from index 0 on available, the first one the head.
    pub fn offer(&mut self, descriptors: &[Descriptor]) {
        for (index, descriptor) in descriptors.iter().enumerate() {
            self.write_descriptor(DESC, index as u16, *descriptor);
        }
        self.offer_head(0);
    }

    pub fn offer_head(&mut self, head: u16) {
        let slot = AVAIL + 4 + u64::from(self.available % SIZE) * 2;
        self.put(slot, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.put(AVAIL + 2, &self.available.to_le_bytes());
    }

    pub fn ring(&mut self) {
        self.set(QUEUE_NOTIFY, 0);
    }

    /// Wait for an interrupt.
    pub fn wait(&self) {
        let limit = Duration::from_secs(20);
        self.interrupts.recv_timeout(limit).expect("an interrupt");
    }

    /// Whether no interrupt has come.
    pub fn is_quiet(&self) -> bool {
        self.interrupts.try_recv().is_err()
    }

    pub fn used(&self) -> u16 {
        let bytes = self.bytes(USED + 2, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// What was used last: head, and bytes written.
    pub fn last_used(&self) -> (u32, u32) {
        let slot = USED + 4 + u64::from(self.used().wrapping_sub(1) % SIZE) * 8;
        let bytes = self.bytes(slot, 8);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }

    /// Offer, ring, and wait until it is used.
    pub fn ask(&mut self, descriptors: &[Descriptor]) -> (u32, u32) {
        let before = self.used();
        self.offer(descriptors);
        self.ring();
        self.wait();
        assert_eq!(self.used(), before.wrapping_add(1));
        self.last_used()
    }

    /// Offer, ring, and see that the device cannot go on.
    pub fn break_it(&mut self, descriptors: &[Descriptor]) {
        self.offer(descriptors);
        self.ring();
        self.wait();
        assert_eq!(self.get(0x70), 15 | status::NEEDS_RESET);
        assert_eq!(
            self.get(0x60) & 2,
            2,
            "the interrupt is one of the configuration"
        );
    }
}
