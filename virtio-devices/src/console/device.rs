//! The half of a console that answers for it. Called by the transport, and by who resizes it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use virtio_bindings::virtio_ids;

use super::path::ConsolePath;
use crate::device::{Activation, ConfigChanged, DataPath, Device, DeviceError, feature};

/// How many descriptors each queue has at most.
const QUEUE_SIZE: u16 = 64;
/// VIRTIO_CONSOLE_F_SIZE (5.3.3).
const SIZE: u64 = 1 << 0;

/// A console device.
pub struct Console {
    input: Arc<File>,
    output: Arc<File>,
    size: Arc<Size>,
}

/// The size in characters: columns in the low half, rows above, and whom to tell.
#[derive(Default)]
struct Size {
    packed: AtomicU32,
    tell: OnceLock<ConfigChanged>,
}

/// Tells a console's driver its size; callable from any thread.
#[derive(Clone)]
pub struct Resizer(Arc<Size>);

impl Resizer {
    /// The terminal has another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let packed = u32::from(columns) | u32::from(rows) << 16;
        if self.0.packed.swap(packed, Ordering::SeqCst) != packed
            && let Some(tell) = self.0.tell.get()
        {
            tell();
        }
    }
}

impl Console {
    /// A console that reads the one and writes the other, which nobody else may read meanwhile. They
    /// may be two descriptors of one file.
    #[must_use]
    pub fn new(input: OwnedFd, output: OwnedFd) -> Console {
        Console {
            input: Arc::new(input.into()),
            output: Arc::new(output.into()),
            size: Arc::default(),
        }
    }

    /// How to tell the driver the console's size.
    #[must_use]
    pub fn resizer(&self) -> Resizer {
        Resizer(Arc::clone(&self.size))
    }
}

impl Device for Console {
    fn device_type(&self) -> u32 {
        virtio_ids::VIRTIO_ID_CONSOLE
    }

    fn features(&self) -> u64 {
        feature::QUEUE | SIZE
    }

    /// Receive, transmit (5.3.2).
    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE; 2]
    }

    /// Columns and rows, then what is for features that are not offered (5.3.4).
    fn read_config(&self, offset: u64, into: &mut [u8]) {
        let size = self.size.packed.load(Ordering::SeqCst);
        crate::memory::read_config(&size.to_le_bytes(), offset, into);
    }

    fn on_config_change(&mut self, tell: ConfigChanged) {
        // It is called once.
        let _ = self.size.tell.set(tell);
    }

    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        let (input, output) = (Arc::clone(&self.input), Arc::clone(&self.output));
        let path = ConsolePath::new(activation.memory, activation.queues, input, output);
        path.map(|path| Box::new(path) as Box<dyn DataPath>)
            .map_err(|source| DeviceError::Host {
                what: "the console's files",
                source,
            })
    }
}
