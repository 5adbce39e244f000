//! Accesses to registers: a setup, which may be wrong in places, and what a driver does at any time.
//! Called by [`super::maker`].

use virtio_bindings::virtio_mmio as register;
use virtio_devices::transport::mmio::CONFIG;

use super::layout::{ENDS, Rings};
use super::maker::Maker;
use super::plan::{Mood, Op, Store};
use crate::random::Choose;

/// The registers that say something of a queue.
const OF_QUEUES: [u32; 8] = [
    register::VIRTIO_MMIO_QUEUE_SEL,
    register::VIRTIO_MMIO_QUEUE_NUM,
    register::VIRTIO_MMIO_QUEUE_READY,
    register::VIRTIO_MMIO_QUEUE_DESC_LOW,
    register::VIRTIO_MMIO_QUEUE_DESC_HIGH,
    register::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    register::VIRTIO_MMIO_QUEUE_USED_LOW,
    register::VIRTIO_MMIO_QUEUE_USED_HIGH,
];
/// Others that can be written.
const OTHERS: [u32; 8] = [
    register::VIRTIO_MMIO_DEVICE_FEATURES_SEL,
    register::VIRTIO_MMIO_DRIVER_FEATURES_SEL,
    register::VIRTIO_MMIO_DRIVER_FEATURES,
    register::VIRTIO_MMIO_QUEUE_NOTIFY,
    register::VIRTIO_MMIO_INTERRUPT_ACK,
    register::VIRTIO_MMIO_STATUS,
    register::VIRTIO_MMIO_SHM_SEL,
    0xc0,
];

fn write(register: u32, value: u32) -> Op {
    Op::Write {
        offset: register.into(),
        bytes: value.to_le_bytes().into(),
    }
}

fn half(at: u64, value: u16) -> Op {
    Op::Store(Store::Half { at, value })
}

impl Maker<'_> {
    /// Set the device up, from a reset to DRIVER_OK.
    pub(super) fn start(&mut self) {
        let mut ops = self.setup();
        if self.errs(8) {
            let times = if self.rng.once_in(5) {
                2 + self.rng.u32(..3)
            } else {
                1
            };
            self.is_messy |= times > 1;
            for _ in 0..times {
                self.bend_setup(&mut ops);
            }
        }
        self.ops.extend(ops);
    }

    /// As it should be (virtio 1.2, 3.1.1 and 4.2.3.1).
    fn setup(&mut self) -> Vec<Op> {
        let mut ops = vec![write(register::VIRTIO_MMIO_STATUS, 0)];
        ops.extend([1, 3].map(|status| write(register::VIRTIO_MMIO_STATUS, status)));
        for (select, half) in [(0, self.features as u32), (1, (self.features >> 32) as u32)] {
            ops.push(write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select));
            ops.push(write(register::VIRTIO_MMIO_DRIVER_FEATURES, half));
        }
        ops.push(write(register::VIRTIO_MMIO_STATUS, 11));
        let is_quiet = self.rng.once_in(8);
        for (queue, lane) in self.used_lanes() {
            let Rings {
                size,
                descriptors,
                available,
                used,
            } = lane.rings;
            ops.extend([
                half(available, is_quiet.into()),
                half(available + 2, 0),
                half(used + 2, 0),
            ]);
            ops.push(write(register::VIRTIO_MMIO_QUEUE_SEL, queue as u32));
            ops.push(write(register::VIRTIO_MMIO_QUEUE_NUM, size.into()));
            for (low, at) in [
                (register::VIRTIO_MMIO_QUEUE_DESC_LOW, descriptors),
                (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, available),
                (register::VIRTIO_MMIO_QUEUE_USED_LOW, used),
            ] {
                ops.extend([write(low, at as u32), write(low + 4, (at >> 32) as u32)]);
            }
            ops.push(write(register::VIRTIO_MMIO_QUEUE_READY, 1));
        }
        ops.push(write(register::VIRTIO_MMIO_STATUS, 15));
        ops
    }

    /// One thing wrong with a setup.
    fn bend_setup(&mut self, ops: &mut Vec<Op>) {
        let writes: Vec<usize> = (0..ops.len())
            .filter(|place| matches!(ops[*place], Op::Write { .. }))
            .collect();
        if writes.is_empty() {
            return;
        }
        let place = self.rng.one_of(&writes);
        let Op::Write { offset, bytes } = ops[place].clone() else {
            return;
        };
        let value = <[u8; 4]>::try_from(bytes).map_or(0, u32::from_le_bytes);
        match self.rng.u32(..10) {
            0 => {
                ops.remove(place);
            }
            1 => ops.insert(place, ops[place].clone()),
            2 if place + 1 < ops.len() => ops.swap(place, place + 1),
            3 => {
                let width = self.rng.one_of(&[0, 1, 2, 8]);
                let mut bytes = value.to_le_bytes().to_vec();
                bytes.resize(width, 0);
                ops[place] = Op::Write { offset, bytes };
            }
            _ => {
                // Registers are below a page.
                let value = self.other_value(offset as u32, value);
                ops[place] = write(offset as u32, value);
            }
        }
    }

    /// A value for a register that is nearly right.
    fn other_value(&mut self, register: u32, value: u32) -> u32 {
        let some = self.rng.u32(..);
        let bit = 1 << self.rng.u32(..32);
        let end = self.rng.one_of(&ENDS) as u32;
        match register {
            register::VIRTIO_MMIO_STATUS => {
                self.rng
                    .one_of(&[0, 1, 2, 3, 4, 8, 11, 15, 64, 128, value | 128, some])
            }
            register::VIRTIO_MMIO_QUEUE_SEL | register::VIRTIO_MMIO_QUEUE_NOTIFY => self
                .rng
                .one_of(&[value + 1, value.wrapping_sub(1), 8, 0xffff, some]),
            register::VIRTIO_MMIO_QUEUE_NUM => {
                self.rng
                    .one_of(&[0, 3, value * 2, value + 1, value | 0x1_0000, 0x8000, some])
            }
            register::VIRTIO_MMIO_QUEUE_READY => self.rng.one_of(&[0, 2, some]),
            register::VIRTIO_MMIO_QUEUE_DESC_LOW
            | register::VIRTIO_MMIO_QUEUE_AVAIL_LOW
            | register::VIRTIO_MMIO_QUEUE_USED_LOW => {
                let part = self.other_part(value);
                self.rng.one_of(&[
                    value + 1,
                    value + 2,
                    value + 4,
                    0,
                    end - 16,
                    end - 4,
                    end,
                    part,
                    part,
                    0xffff_fff0,
                    some,
                ])
            }
            register::VIRTIO_MMIO_QUEUE_DESC_HIGH
            | register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH
            | register::VIRTIO_MMIO_QUEUE_USED_HIGH => {
                self.rng.one_of(&[1, 0x8000_0000, 0xffff_ffff])
            }
            _ => self
                .rng
                .one_of(&[value ^ bit, value ^ 1, 0, 0xffff_ffff, some]),
        }
    }

    /// Where a part of some queue is, this one's for choice.
    fn other_part(&mut self, value: u32) -> u32 {
        let parts = |(_, lane): (usize, &super::maker::Lane)| {
            let Rings {
                descriptors,
                available,
                used,
                ..
            } = lane.rings;
            [descriptors, available, used].map(|at| at as u32)
        };
        let all: Vec<[u32; 3]> = self.used_lanes().map(parts).collect();
        let own: Vec<u32> = all
            .iter()
            .filter(|parts| parts.contains(&value))
            .flatten()
            .copied()
            .collect();
        let any: Vec<u32> = all.into_iter().flatten().collect();
        match (own.is_empty(), any.is_empty()) {
            (false, _) => self.rng.one_of(&own),
            (_, false) => self.rng.one_of(&any),
            _ => value,
        }
    }

    /// An access to the window at any time.
    pub(super) fn noise(&mut self) {
        let queues = self.lanes.len() as u32;
        match self
            .rng
            .u32(..if self.mood == Mood::Legal { 3 } else { 12 })
        {
            0 => {
                let offset = self.offset();
                let width = self.rng.one_of(&[1, 2, 4, 4, 4, 8, 3, 0, 16]);
                self.ops.push(Op::Read { offset, width });
            }
            1 => {
                let queue = self.rng.u32(..queues.max(1));
                self.register(register::VIRTIO_MMIO_QUEUE_NOTIFY, queue);
            }
            2 => self.register(register::VIRTIO_MMIO_INTERRUPT_ACK, 3),
            3 => {
                let (offset, len) = (CONFIG + self.rng.u64(..80), self.rng.usize(..9));
                let bytes = (0..len).map(|_| self.rng.u8(..)).collect();
                self.ops.push(Op::Write { offset, bytes });
            }
            4 => {
                let queue = self.rng.u32(..queues.max(1));
                self.register(register::VIRTIO_MMIO_QUEUE_SEL, queue);
                self.register(register::VIRTIO_MMIO_QUEUE_READY, 0);
            }
            5 | 6 => self.write_register(&OF_QUEUES),
            7 | 8 => self.write_register(&OTHERS),
            9 => {
                let offset = self.offset();
                let len = self.rng.one_of(&[0, 1, 2, 3, 5, 8, 16]);
                let bytes = (0..len).map(|_| self.rng.u8(..)).collect();
                self.ops.push(Op::Write { offset, bytes });
            }
            10 => {
                let value = self.rng.one_of(&[1, 2, 8, 15, 0x8f, 0xff, 64]);
                self.register(register::VIRTIO_MMIO_STATUS, value);
            }
            _ => self.register(register::VIRTIO_MMIO_STATUS, 0),
        }
    }

    fn write_register(&mut self, of: &[u32]) {
        let register = self.rng.one_of(of);
        let some = self.rng.u32(..4);
        let value = self.other_value(register, some);
        self.register(register, value);
        self.is_messy |= OF_QUEUES.contains(&register);
    }

    /// Somewhere in the window, or beyond.
    fn offset(&mut self) -> u64 {
        let (low, high, any) = (
            self.rng.u64(..0x100),
            CONFIG + self.rng.u64(..0x100),
            self.rng.u64(..),
        );
        self.rng.one_of(&[low, low & !3, low & !3, high, high, any])
    }
}
