//! The device: the registers of section 4.2.2, and queues that lead each chain to a handler.
//!
//! Written from the specification's device side, independently of the driver's queue, and strict:
//! what a driver must not do is a failed assertion.

use std::boxed::Box;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use super::Memory;
use crate::wire::{self, register, status};

/// A request that the device took from a queue.
#[derive(Debug)]
pub struct Chain {
    /// The queue.
    pub queue: usize,
    /// What the driver gave.
    pub readable: Vec<u8>,
    /// How many bytes it has room for.
    pub room: usize,
}

/// What the device does with a request.
#[derive(Debug, Default)]
pub struct Answer {
    /// Bytes for the driver.
    pub bytes: Vec<u8>,
    /// A wrong id to answer with.
    pub id: Option<u32>,
    /// A wrong length to answer with.
    pub len: Option<u32>,
    /// Whether the used ring's index goes up by more than the answers.
    pub is_ahead: bool,
}

/// What answers requests.
pub type Handler = Box<dyn FnMut(&Chain) -> Answer + Send>;

#[derive(Clone, Debug, Default)]
struct Queue {
    size: u16,
    is_ready: bool,
    rings: [u64; 3],
    seen: u16,
    used: u16,
    is_notified: bool,
}

/// A device.
pub struct Device {
    /// What it is.
    pub id: u32,
    /// What it can do.
    pub features: u64,
    /// Its configuration.
    pub config: Vec<u8>,
    /// The largest queue.
    pub max_queue: u32,
    /// Whether it answers the last request first.
    pub is_reversed: bool,
    /// Whether it refuses the features it offered.
    pub is_refusing: bool,
    /// What it says its magic is.
    pub magic: u32,
    /// Whether the configuration changes at each look.
    pub is_restless: bool,
    /// A queue whose requests wait until [`Device::give`] has an answer for them.
    pub patient: Option<usize>,
    /// Those answers.
    gifts: VecDeque<Answer>,
    handler: Handler,
    agreed: u64,
    selected: [u32; 3],
    status: u32,
    generation: u32,
    interrupt: u32,
    must_interrupt: bool,
    queues: Vec<Queue>,
}

impl Device {
    /// A device with so many queues.
    pub fn new(id: u32, features: u64, queues: usize, handler: Handler) -> Self {
        Self {
            id,
            features: features | wire::F_VERSION_1,
            config: Vec::new(),
            max_queue: 256,
            is_reversed: false,
            is_refusing: false,
            magic: wire::MAGIC,
            is_restless: false,
            patient: None,
            gifts: VecDeque::new(),
            handler,
            agreed: 0,
            selected: [0; 3],
            status: 0,
            generation: 0,
            interrupt: 0,
            must_interrupt: false,
            queues: vec![Queue::default(); queues],
        }
    }

    /// The status register.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// What the driver agreed to.
    pub fn agreed(&self) -> u64 {
        self.agreed
    }

    /// The interrupts that were not acknowledged.
    pub fn interrupt_status(&self) -> u32 {
        self.interrupt
    }

    /// Change the configuration, and raise an interrupt for it at the next run.
    pub fn change_config(&mut self, config: Vec<u8>) {
        self.config = config;
        self.generation += 1;
        self.interrupt |= wire::INTERRUPT_CONFIG;
        self.must_interrupt = true;
    }

    /// Say that it cannot go on, with an interrupt at the next run (2.1.2).
    pub fn stop(&mut self) {
        self.status |= status::NEEDS_RESET;
        self.interrupt |= wire::INTERRUPT_CONFIG;
        self.must_interrupt = true;
    }

    /// Answer the next request of the patient queue with this, at the next run.
    pub fn give(&mut self, answer: Answer) {
        self.gifts.push_back(answer);
    }

    /// How many answers wait for requests.
    pub fn given(&self) -> usize {
        self.gifts.len()
    }

    fn queue(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(self.selected[2] as usize)
    }

    pub(super) fn read(&mut self, at: u64) -> u32 {
        match at {
            register::MAGIC_VALUE => self.magic,
            register::VERSION => wire::VERSION,
            register::DEVICE_ID => self.id,
            register::DEVICE_FEATURES => (self.features >> (32 * self.selected[0])) as u32,
            register::QUEUE_NUM_MAX => self
                .queues
                .get(self.selected[2] as usize)
                .map_or(0, |_| self.max_queue),
            register::QUEUE_READY => self.queue().is_some_and(|queue| queue.is_ready).into(),
            register::INTERRUPT_STATUS => self.interrupt,
            register::STATUS => self.status,
            register::CONFIG_GENERATION => {
                self.generation += u32::from(self.is_restless);
                self.generation
            }
            register::CONFIG.. => {
                let at = (at - register::CONFIG) as usize;
                let byte = |index: usize| self.config.get(at + index).copied().unwrap_or(0);
                u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
            }
            _ => panic!("the driver reads {at:#x}"),
        }
    }

    pub(super) fn write(&mut self, at: u64, value: u32) {
        match at {
            register::DEVICE_FEATURES_SEL => self.selected[0] = value,
            register::DRIVER_FEATURES_SEL => self.selected[1] = value,
            register::DRIVER_FEATURES => {
                let shift = 32 * self.selected[1];
                self.agreed = self.agreed & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
            register::QUEUE_SEL => self.selected[2] = value,
            register::QUEUE_NOTIFY => {
                assert_ne!(
                    self.status & status::DRIVER_OK,
                    0,
                    "notified before DRIVER_OK"
                );
                self.queues[value as usize].is_notified = true;
            }
            register::INTERRUPT_ACK => self.interrupt &= !value,
            register::STATUS => self.set_status(value),
            register::CONFIG.. => {
                let at = (at - register::CONFIG) as usize;
                self.config[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            _ => self.set_queue(at, value),
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.queues.fill(Queue::default());
            (self.agreed, self.interrupt) = (0, 0);
        }
        self.status = value;
        if self.is_refusing {
            self.status &= !status::FEATURES_OK;
        }
        assert_eq!(
            self.agreed & !self.features,
            0,
            "a feature that was not offered"
        );
    }

    fn set_queue(&mut self, at: u64, value: u32) {
        let queue = self.queue().expect("a queue that there is");
        assert!(!queue.is_ready, "a queue changes that is in use");
        let (low, shift) = (at & !4, if at & 4 == 0 { 0 } else { 32 });
        let ring = match low {
            _ if at == register::QUEUE_NUM => {
                assert!(value.is_power_of_two());
                queue.size = value as u16;
                return;
            }
            _ if at == register::QUEUE_READY => {
                queue.is_ready = value == 1;
                return;
            }
            register::QUEUE_DESC_LOW => 0,
            register::QUEUE_AVAIL_LOW => 1,
            register::QUEUE_USED_LOW => 2,
            _ => panic!("the driver writes {at:#x}"),
        };
        let mask = 0xffff_ffffu64 << shift;
        queue.rings[ring] = queue.rings[ring] & !mask | u64::from(value) << shift;
    }

    /// Answer all that the driver notified; return how many requests, and whether to interrupt.
    pub(super) fn run(&mut self, memory: &Memory) -> (usize, bool) {
        let (mut count, mut is_raised) = (0, core::mem::take(&mut self.must_interrupt));
        for index in 0..self.queues.len() {
            let mut queue = self.queues[index].clone();
            let is_patient = self.patient == Some(index);
            let is_due = match is_patient {
                true => queue.is_ready && !self.gifts.is_empty(),
                false => core::mem::take(&mut queue.is_notified),
            };
            if is_due {
                let (answered, wants) = self.serve(index, &mut queue, memory);
                count += answered;
                if wants {
                    self.interrupt |= wire::INTERRUPT_QUEUE;
                    is_raised = true;
                }
            }
            // The handler may not touch the queues, so nothing is lost here.
            self.queues[index] = queue;
        }
        (count, is_raised)
    }

    fn serve(&mut self, index: usize, queue: &mut Queue, memory: &Memory) -> (usize, bool) {
        let [_, avail, used] = queue.rings;
        let size = u64::from(queue.size);
        let has_events = self.agreed & wire::F_EVENT_IDX != 0;
        let end = u16_at(memory, avail + 2);
        let mut heads = Vec::new();
        let is_patient = self.patient == Some(index);
        while queue.seen != end && !(is_patient && heads.len() >= self.gifts.len()) {
            let slot = u64::from(queue.seen) % size;
            heads.push(u16_at(memory, avail + 4 + 2 * slot));
            queue.seen = queue.seen.wrapping_add(1);
        }
        assert!(heads.len() <= size as usize, "more requests than entries");
        if self.is_reversed {
            heads.reverse();
        }
        let old = queue.used;
        for head in &heads {
            self.answer(index, queue, *head, memory);
        }
        memory.write(used + 2, &queue.used.to_le_bytes());
        if has_events {
            memory.write(used + 4 + 8 * size, &queue.seen.to_le_bytes());
            let event = u16_at(memory, avail + 4 + 2 * size);
            return (heads.len(), crate::queue::crosses(event, queue.used, old));
        }
        let is_wanted = u16_at(memory, avail) & wire::AVAIL_NO_INTERRUPT == 0;
        (heads.len(), is_wanted && !heads.is_empty())
    }

    fn answer(&mut self, index: usize, queue: &mut Queue, head: u16, memory: &Memory) {
        let segments = segments(queue, head, memory, self.agreed);
        let mut chain = Chain {
            queue: index,
            readable: Vec::new(),
            room: 0,
        };
        for (phys, len, is_writable) in &segments {
            match is_writable {
                true => chain.room += len,
                false => {
                    assert_eq!(chain.room, 0, "a readable segment behind a writable one");
                    chain.readable.extend(memory.read(*phys, *len));
                }
            }
        }
        let answer = match self.patient == Some(index) {
            true => self.gifts.pop_front().expect("an answer each"),
            false => (self.handler)(&chain),
        };
        let mut rest = &answer.bytes[..];
        for (phys, len, _) in segments.iter().filter(|(_, _, is_writable)| *is_writable) {
            let (now, later) = rest.split_at(rest.len().min(*len));
            memory.write(*phys, now);
            rest = later;
        }
        let slot = u64::from(queue.used) % u64::from(queue.size);
        let id = answer.id.unwrap_or(head.into());
        let len = answer.len.unwrap_or(answer.bytes.len() as u32);
        let at = queue.rings[2] + 4 + 8 * slot;
        memory.write(at, &id.to_le_bytes());
        memory.write(at + 4, &len.to_le_bytes());
        queue.used = queue
            .used
            .wrapping_add(if answer.is_ahead { 1000 } else { 1 });
    }
}

fn u16_at(memory: &Memory, phys: u64) -> u16 {
    let bytes = memory.read(phys, 2);
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// The parts of a chain: address, length, and whether the device writes it.
fn segments(queue: &Queue, head: u16, memory: &Memory, agreed: u64) -> Vec<(u64, usize, bool)> {
    let (mut table, mut count, mut at) = (queue.rings[0], queue.size, head);
    let mut found = Vec::new();
    loop {
        assert!(at < count, "descriptor {at} of {count}");
        let bytes = memory.read(table + 16 * u64::from(at), 16);
        let phys = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
        let len = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        let flags = u16::from_le_bytes([bytes[12], bytes[13]]);
        let next = u16::from_le_bytes([bytes[14], bytes[15]]);
        if flags & wire::DESC_INDIRECT != 0 {
            assert_ne!(
                agreed & wire::F_INDIRECT_DESC,
                0,
                "a table was not agreed on"
            );
            assert!(found.is_empty() && flags == wire::DESC_INDIRECT);
            (table, count, at) = (phys, (len / 16) as u16, 0);
            continue;
        }
        found.push((phys, len as usize, flags & wire::DESC_WRITE != 0));
        assert!(found.len() <= 256, "the chain has no end");
        if flags & wire::DESC_NEXT == 0 {
            return found;
        }
        at = next;
    }
}
