//! The device: how it is set up, what an interrupt does, and its requests.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use driver_api::{BalloonClient, BalloonDevice, BalloonError, Env, Halves, Lock, PageRun, Waiters};
use virtio::wire::{F_EVENT_IDX, F_INDIRECT_DESC, ID_BALLOON, INTERRUPT_CONFIG};
use virtio::{MAX_SEGMENTS, Transport, VirtioError};

use crate::channel::Channel;

/// Feature: pages may be used again without being asked for, when there are no others (5.5.3).
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
/// Feature: free pages can be reported.
const F_REPORTING: u64 = 1 << 5;

/// The names of these features, for people.
pub const FEATURES: &[(u64, &str)] = &[
    (F_DEFLATE_ON_OOM, "deflate-on-oom"),
    (F_REPORTING, "reporting"),
];

/// The queues. That of reports is the third that exists: Linux and the devices count those.
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const REPORT: u16 = 2;

/// Offsets in the configuration (5.5.4).
const CONFIG_WANTED: u64 = 0;
const CONFIG_ACTUAL: u64 = 4;

type Shared<E> = Arc<<E as Env>::Lock<Channel<<E as Env>::Dma>>>;

/// A virtio memory balloon.
pub struct Balloon<E: Env> {
    env: E,
    transport: Transport<E::Mmio>,
    features: u64,
    wanted: AtomicU32,
    /// By their queue's index. Shared, so that a device that does not let go can keep them for good.
    channels: Vec<Shared<E>>,
    waiters: E::Waiters,
    client: E::Lock<Option<Arc<dyn BalloonClient>>>,
    is_broken: AtomicBool,
}

impl<E: Env> Balloon<E> {
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
        if id != ID_BALLOON {
            return Err(VirtioError::OtherDevice(id));
        }
        let wanted = F_DEFLATE_ON_OOM | F_REPORTING | F_INDIRECT_DESC | F_EVENT_IDX;
        let features = transport.negotiate(wanted)?;
        let made = Self::set_up(&env, &transport, features);
        let (channels, wanted) = made.inspect_err(|_| transport.fail())?;
        let balloon = Arc::new(Self {
            env,
            transport,
            features,
            wanted: AtomicU32::new(wanted),
            channels,
            waiters: E::Waiters::new(),
            client: E::Lock::new(None),
            is_broken: AtomicBool::new(false),
        });
        if let Err(error) = balloon.env.irq(vector, balloon.clone()) {
            balloon.transport.fail();
            return Err(error.into());
        }
        balloon.transport.begin();
        Ok(balloon)
    }

    fn set_up(
        env: &E,
        transport: &Transport<E::Mmio>,
        features: u64,
    ) -> Result<(Vec<Shared<E>>, u32), VirtioError> {
        let count = if features & F_REPORTING == 0 { 2 } else { 3 };
        let channels = (0..count).map(|index| {
            let channel = Channel::new(env, transport, index, features)?;
            Ok(Arc::new(E::Lock::new(channel)))
        });
        let channels = channels.collect::<Result<_, VirtioError>>()?;
        let wanted = transport.read_config(|transport| transport.config_u32(CONFIG_WANTED))?;
        Ok((channels, wanted))
    }

    /// The features that device and driver agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    fn channel(&self, index: u16) -> Result<&E::Lock<Channel<E::Dma>>, BalloonError> {
        let channel = self.channels.get(usize::from(index));
        channel
            .map(|channel| &**channel)
            .ok_or(BalloonError::Unsupported)
    }

    /// Do a request, and sleep until it is done.
    fn run<T>(
        &self,
        index: u16,
        mut ask: impl FnMut(&mut Channel<E::Dma>) -> Option<Result<T, BalloonError>>,
    ) -> Result<T, BalloonError> {
        let channel = self.channel(index)?;
        let value = self.waiters.wait_until(|| channel.with(&mut ask))?;
        if channel.with(Channel::needs_kick) {
            self.transport.notify(index);
        }
        self.waiters.wait_until(|| channel.with(Channel::take))?;
        // Somebody else may ask now.
        self.waiters.wake_all();
        Ok(value)
    }

    /// Do requests with the numbers of all pages.
    fn list(&self, index: u16, runs: &[PageRun]) -> Result<(), BalloonError> {
        let all = || {
            runs.iter()
                .flat_map(|run| run.first..run.first.saturating_add(run.count))
        };
        let mut total = 0u64;
        for run in runs {
            // Numbers have 32 bits (5.5.6).
            let end = run.first.checked_add(run.count);
            if end.is_none_or(|end| end > 1 << 32) {
                return Err(BalloonError::BadRequest);
            }
            total = total.saturating_add(run.count);
        }
        let mut done = 0;
        while done < total {
            // The list is bounded, and so is what a client has: a machine's memory.
            let skip = usize::try_from(done).map_err(|_| BalloonError::BadRequest)?;
            // At least one each time, as there are so many.
            done += self.run(index, |channel| channel.ask_list(all().skip(skip)))? as u64;
        }
        Ok(())
    }

    /// The device broke the protocol.
    fn break_off(&self) {
        if self.is_broken.swap(true, Ordering::Relaxed) {
            return;
        }
        for channel in &self.channels {
            channel.with(Channel::break_off);
        }
        self.env
            .log(format_args!("virtio-balloon: the device cannot go on"));
        let _ = self.transport.reset();
    }

    /// Find out whether the configuration has changed. Returns whether it has.
    fn look_at_configuration(&self) -> bool {
        if self.transport.take_interrupt() & INTERRUPT_CONFIG == 0 {
            return false;
        }
        if self.transport.needs_reset() {
            self.break_off();
            return true;
        }
        let read = |transport: &Transport<E::Mmio>| transport.config_u32(CONFIG_WANTED);
        if let Ok(wanted) = self.transport.read_config(read) {
            self.wanted.store(wanted, Ordering::Relaxed);
        }
        true
    }
}

impl<E: Env> Halves for Balloon<E> {
    /// The bottom half. Other than with disks, the configuration is looked at each time: it is what the
    /// device is for, requests are few, and a change that coincides with one must not be missed.
    fn bottom(&self) {
        let was_broken = self.is_broken.load(Ordering::Relaxed);
        for channel in &self.channels {
            if channel.with(Channel::serve).is_err() {
                self.break_off();
            }
        }
        let has_news = match self.is_broken.load(Ordering::Relaxed) {
            true => !was_broken,
            false => self.look_at_configuration(),
        };
        self.waiters.wake_all();
        if has_news && let Some(client) = self.client.with(|client| client.clone()) {
            client.notify();
        }
    }
}

impl<E: Env> BalloonDevice for Balloon<E> {
    fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Relaxed)
    }

    fn set_client(&self, client: Arc<dyn BalloonClient>) {
        self.client.with(|place| *place = Some(client));
    }

    fn inflate(&self, runs: &[PageRun]) -> Result<(), BalloonError> {
        self.list(INFLATE, runs)
    }

    fn deflate(&self, runs: &[PageRun]) -> Result<(), BalloonError> {
        self.list(DEFLATE, runs)
    }

    fn reports_at_once(&self) -> usize {
        match self.features & F_REPORTING {
            0 => 0,
            _ => MAX_SEGMENTS,
        }
    }

    fn report(&self, runs: &[PageRun]) -> Result<(), BalloonError> {
        if runs.is_empty() {
            return Ok(());
        }
        self.run(REPORT, |channel| channel.ask_pages(runs))
    }

    fn say(&self, pages: u32) {
        if !self.is_broken.load(Ordering::Relaxed) {
            self.transport.write_config_u32(CONFIG_ACTUAL, pages);
        }
    }
}

impl<E: Env> Drop for Balloon<E> {
    /// The device must let go of the queues before they are freed.
    fn drop(&mut self) {
        if self.transport.reset().is_err() {
            core::mem::forget(core::mem::take(&mut self.channels));
        }
    }
}
