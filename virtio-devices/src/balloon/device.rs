//! The half of a balloon that answers for it. Called by the transport, and by who sets its size.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use virtio_bindings::virtio_ids;

use super::Pages;
use super::path::BalloonPath;
use crate::device::{Activation, ConfigChanged, DataPath, Device, DeviceError, feature};

/// How many descriptors each queue has at most.
const QUEUE_SIZE: u16 = 128;
/// VIRTIO_BALLOON_F_DEFLATE_ON_OOM: the driver may take pages again when it has no others (5.5.3).
const DEFLATE_ON_OOM: u64 = 1 << 2;
/// VIRTIO_BALLOON_F_PAGE_REPORTING.
const REPORTING: u64 = 1 << 5;
/// Where `actual` is in the configuration: the one field that a driver writes (5.5.4).
const ACTUAL: u64 = 4;

/// A balloon device.
pub struct Balloon {
    pages: Arc<dyn Pages>,
    sizes: Arc<Sizes>,
}

#[derive(Default)]
struct Sizes {
    target: AtomicU32,
    actual: AtomicU32,
    tell: OnceLock<ConfigChanged>,
}

/// Sets and reads a balloon's size, in pages of 4096 bytes; callable from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Sizes>);

impl Handle {
    /// How many pages the driver should give up.
    pub fn set_target(&self, pages: u32) {
        if self.0.target.swap(pages, Ordering::SeqCst) != pages
            && let Some(tell) = self.0.tell.get()
        {
            tell();
        }
    }

    /// How many pages the driver says that it has given up: its word, not a measurement.
    #[must_use]
    pub fn actual(&self) -> u32 {
        self.0.actual.load(Ordering::SeqCst)
    }
}

impl Balloon {
    /// A balloon of no size.
    #[must_use]
    pub fn new(pages: Arc<dyn Pages>) -> Balloon {
        let sizes = Arc::default();
        Balloon { pages, sizes }
    }

    /// How to set and read the balloon's size.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.sizes))
    }

    /// `num_pages` and `actual`; the rest belongs to features that are not offered.
    fn config(&self) -> [u8; 8] {
        let [target, actual] = [&self.sizes.target, &self.sizes.actual]
            .map(|word| u64::from(word.load(Ordering::SeqCst)));
        (target | actual << 32).to_le_bytes()
    }
}

impl Device for Balloon {
    fn device_type(&self) -> u32 {
        virtio_ids::VIRTIO_ID_BALLOON
    }

    fn features(&self) -> u64 {
        feature::QUEUE | DEFLATE_ON_OOM | REPORTING
    }

    /// Inflate, deflate, report.
    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 3]
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        crate::memory::read_config(&self.config(), offset, into);
    }

    fn write_config(&mut self, offset: u64, from: &[u8]) {
        let mut bytes = self.config();
        let places = (offset..).zip(from);
        for (at, value) in places.filter(|(at, _)| *at >= ACTUAL) {
            let place = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at));
            if let Some(byte) = place {
                *byte = *value;
            }
        }
        let actual = (u64::from_le_bytes(bytes) >> 32) as u32;
        self.sizes.actual.store(actual, Ordering::SeqCst);
    }

    fn on_config_change(&mut self, tell: ConfigChanged) {
        // It is called once.
        let _ = self.sizes.tell.set(tell);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        let pages = Arc::clone(&self.pages);
        let is_reporting = activation.features & REPORTING != 0;
        Ok(Box::new(BalloonPath::new(
            activation.memory,
            activation.queues,
            pages,
            is_reporting,
        )))
    }

    /// A driver that is gone has given nothing up.
    fn reset(&mut self) {
        self.sizes.actual.store(0, Ordering::SeqCst);
    }
}
