//! The device: how it is set up, how requests find a queue, and what an interrupt does.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use driver_api::{BlockDevice, BlockError, BlockInfo, Completion, Env, Halves, Lock, Mmio};
use driver_api::{Refused, Request};
use virtio::wire::{F_EVENT_IDX, F_INDIRECT_DESC, ID_BLOCK, INTERRUPT_CONFIG};
use virtio::{Transport, VirtioError};

use crate::lane::Lane;
use crate::request::check;
use crate::wire::{self, F_DISCARD, F_FLUSH, F_MQ, F_RO, F_WRITE_ZEROES};

/// What the driver can use.
const WANTED: u64 =
    F_RO | F_FLUSH | F_MQ | F_DISCARD | F_WRITE_ZEROES | F_INDIRECT_DESC | F_EVENT_IDX;

/// The most queues that are used.
const LANES_MOST: u16 = 4;

type LaneLock<E> = <E as Env>::Lock<Lane<<E as Env>::Dma>>;

/// What is known and set up before the disk is told to begin.
type Parts<E> = (BlockInfo, Vec<Lane<<E as Env>::Dma>>);

/// A virtio disk.
pub struct Disk<E: Env> {
    env: E,
    transport: Transport<E::Mmio>,
    features: u64,
    info: E::Lock<BlockInfo>,
    lanes: Vec<LaneLock<E>>,
    /// Where the next request goes.
    turn: AtomicUsize,
}

impl<E: Env> Disk<E> {
    /// Take over a disk, whose interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`VirtioError`]; the device is left reset or failed, and uses no memory.
    pub fn new(
        env: E,
        transport: Transport<E::Mmio>,
        vector: u8,
    ) -> Result<Arc<Self>, VirtioError> {
        let id = transport.device_id();
        if id != ID_BLOCK {
            return Err(VirtioError::OtherDevice(id));
        }
        let features = transport.negotiate(WANTED)?;
        let made = Self::set_up(&env, &transport, features);
        let (info, lanes) = made.inspect_err(|_| transport.fail())?;
        let disk = Arc::new(Self {
            env,
            transport,
            features,
            info: E::Lock::new(info),
            lanes: lanes.into_iter().map(E::Lock::new).collect(),
            turn: AtomicUsize::new(0),
        });
        if let Err(error) = disk.env.irq(vector, disk.clone()) {
            disk.transport.fail();
            return Err(error.into());
        }
        // Only now: from here on the device may interrupt.
        disk.transport.begin();
        Ok(disk)
    }

    fn set_up(
        env: &E,
        transport: &Transport<E::Mmio>,
        features: u64,
    ) -> Result<Parts<E>, VirtioError> {
        let (mut info, queues) = transport.read_config(|t| read_config(t, features))?;
        let count = queues.clamp(1, LANES_MOST);
        let mut lanes = Vec::new();
        for index in 0..count {
            lanes.push(Lane::new(env, transport, index, features)?);
        }
        for lane in &mut lanes {
            // Nothing was submitted, so nothing can be there.
            let _ = lane.allow_interrupts();
        }
        info.depth = lanes.iter().map(Lane::depth).sum();
        Ok((info, lanes))
    }

    /// The features that device and driver agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// How many queues are in use.
    pub fn queues(&self) -> usize {
        self.lanes.len()
    }

    /// Deliver what a queue has to say. Returns whether there was anything.
    ///
    /// A request is delivered with no lock held, so that its client may submit the next one.
    fn serve(&self, lane: &LaneLock<E>) -> bool {
        let mut has_served = false;
        lane.with(Lane::hold_interrupts);
        loop {
            match lane.with(Lane::pop) {
                Ok(Some(done)) => {
                    has_served = true;
                    let is_broken = lane.with(|lane| lane.is_broken());
                    if is_broken {
                        self.break_off();
                    }
                    done.deliver();
                }
                Ok(None) if lane.with(Lane::allow_interrupts) => lane.with(Lane::hold_interrupts),
                Ok(None) => return has_served,
                Err(_) => {
                    self.break_off();
                    return true;
                }
            }
        }
    }

    /// The device broke the protocol. Reset it, so that it uses no buffer any longer, and then fail
    /// all that is under way.
    fn break_off(&self) {
        self.env
            .log(format_args!("virtio-blk: the device cannot go on"));
        self.lanes
            .iter()
            .for_each(|lane| lane.with(Lane::break_off));
        let is_reset = self.transport.reset().is_ok();
        for lane in &self.lanes {
            while let Some(done) = lane.with(|lane| lane.give_up(is_reset)) {
                done.deliver();
            }
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
        let read = self
            .transport
            .read_config(|t| read_config(t, self.features));
        if let Ok((new, _)) = read {
            self.info.with(|info| info.sectors = new.sectors);
            self.env
                .log(format_args!("virtio-blk: now {} sectors", new.sectors));
        }
    }
}

/// What the configuration says, and how many queues there are; the depth is not known yet.
fn read_config<M: Mmio>(transport: &Transport<M>, features: u64) -> (BlockInfo, u16) {
    let has = |feature| features & feature != 0;
    let word = |feature, at| match has(feature) {
        true => transport.config_u32(at),
        false => 0,
    };
    let info = BlockInfo {
        sectors: transport.config_u64(wire::CONFIG_CAPACITY),
        is_read_only: has(F_RO),
        needs_flush: has(F_FLUSH),
        max_discard: word(F_DISCARD, wire::CONFIG_MAX_DISCARD),
        max_write_zeroes: word(F_WRITE_ZEROES, wire::CONFIG_MAX_WRITE_ZEROES),
        depth: 0,
    };
    (info, (word(F_MQ, wire::CONFIG_QUEUES) >> 16) as u16)
}

impl<E: Env> Drop for Disk<E> {
    /// The device must let go of the queues and buffers before they are freed.
    fn drop(&mut self) {
        if self.transport.reset().is_err() {
            core::mem::forget(core::mem::take(&mut self.lanes));
        }
    }
}

impl<E: Env> Halves for Disk<E> {
    /// The bottom half: look at the used rings, and at the device only if they have nothing new.
    ///
    /// InterruptStatus costs an exit, InterruptACK another. An interrupt of a queue leaves its mark
    /// in the ring, so neither is needed: the interrupt is an edge, and comes again without an
    /// acknowledgement. The price: a change of the configuration that coincides with a completion
    /// is noticed at the next interrupt without one.
    fn bottom(&self) {
        let serve = |has_served, lane| self.serve(lane) | has_served;
        if !self.lanes.iter().fold(false, serve) {
            self.look_at_configuration();
        }
    }
}

impl<E: Env> BlockDevice<E::Dma> for Disk<E> {
    fn info(&self) -> BlockInfo {
        self.info.with(|info| *info)
    }

    fn submit(
        &self,
        request: Request<E::Dma>,
        client: &Arc<dyn Completion<E::Dma>>,
    ) -> Result<(), Refused<E::Dma>> {
        if let Err(error) = check(&request, &self.info()) {
            return Err(Refused { request, error });
        }
        let count = self.lanes.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut refused = Refused {
            request,
            error: BlockError::Busy,
        };
        for offset in 0..count {
            let lane = self.lanes.get(first.wrapping_add(offset) % count);
            let Some(lane) = lane else { break };
            match lane.with(|lane| lane.submit(refused.request, client)) {
                Ok(()) => return Ok(()),
                Err(back) => refused = back,
            }
        }
        Err(refused)
    }

    fn kick(&self) {
        for (index, lane) in (0..).zip(&self.lanes) {
            if lane.with(Lane::needs_kick) {
                self.transport.notify(index);
            }
        }
    }
}
