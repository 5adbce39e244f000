//! What a transport needs of a device (virtio 1.2, 2: Basic Facilities of a Virtio Device).

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

/// The queues that a driver has set up, in the device's order.
pub type Queues = Vec<Queue>;

/// Why a device cannot go on; the transport then sets DEVICE_NEEDS_RESET (virtio 1.2, 2.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The driver activated the device with another number of queues than it has.
    #[error("the driver set up {given} queues, the device has {needed}")]
    Queues {
        /// How many the driver set up.
        given: usize,
        /// How many the device has.
        needed: usize,
    },
    /// The driver accepted a feature that the device did not offer.
    #[error("the driver accepted features {0:#x} that the device does not offer")]
    Features(u64),
    /// A chain of descriptors breaks the rules.
    #[error("queue {queue}: {what}")]
    Chain {
        /// The queue's index.
        queue: usize,
        /// What is wrong, as a sentence fragment.
        what: &'static str,
    },
}

/// A virtio device, whichever transport carries it.
///
/// A transport negotiates features, then activates the device with its queues; from then on each
/// doorbell is a [`Device::notify`]. A reset may come at any time.
pub trait Device: Send {
    /// The device's type (virtio 1.2, 5: Device Types).
    fn device_type(&self) -> u32;

    /// The features that the device offers, as bits.
    fn features(&self) -> u64;

    /// The largest size of each queue, in descriptors.
    fn queue_sizes(&self) -> &[u16];

    /// Read device configuration space; bytes beyond its end read as zero.
    fn read_config(&self, offset: u64, into: &mut [u8]);

    /// Write device configuration space; a write that the device does not take is ignored.
    fn write_config(&mut self, offset: u64, from: &[u8]) {
        let _ = (offset, from);
    }

    /// Start, with the features that the driver accepted and the queues that it set up.
    ///
    /// # Errors
    /// [`DeviceError::Queues`] or [`DeviceError::Features`].
    fn activate(
        &mut self,
        memory: GuestMemoryMmap,
        features: u64,
        queues: Queues,
    ) -> Result<(), DeviceError>;

    /// A queue's doorbell rang; returns whether the driver wants an interrupt.
    ///
    /// # Errors
    /// [`DeviceError::Chain`]: the queue stays stopped until a reset.
    fn notify(&mut self, queue: usize) -> Result<bool, DeviceError>;

    /// Forget driver, features and queues.
    fn reset(&mut self);
}

/// Check what a driver activates a device with.
///
/// # Errors
/// [`DeviceError::Queues`] and [`DeviceError::Features`].
pub fn check_activation(
    device: &dyn Device,
    features: u64,
    queues: &Queues,
) -> Result<(), DeviceError> {
    let (given, needed) = (queues.len(), device.queue_sizes().len());
    if given != needed {
        return Err(DeviceError::Queues { given, needed });
    }
    match features & !(device.features() | crate::transport::mmio::VERSION_1) {
        0 => Ok(()),
        extra => Err(DeviceError::Features(extra)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_queue::QueueT;
    use vm_memory::GuestAddress;

    /// Counts its doorbells.
    #[derive(Default)]
    struct Bell {
        active: bool,
        rung: u32,
    }

    impl Device for Bell {
        fn device_type(&self) -> u32 {
            4
        }
        fn features(&self) -> u64 {
            1 << 32
        }
        fn queue_sizes(&self) -> &[u16] {
            &[16]
        }
        fn read_config(&self, _: u64, into: &mut [u8]) {
            into.fill(0);
        }
        fn activate(
            &mut self,
            _: GuestMemoryMmap,
            features: u64,
            queues: Queues,
        ) -> Result<(), DeviceError> {
            check_activation(self, features, &queues)?;
            self.active = true;
            Ok(())
        }
        fn notify(&mut self, queue: usize) -> Result<bool, DeviceError> {
            if !self.active {
                return Err(DeviceError::Chain {
                    queue,
                    what: "the device is not active",
                });
            }
            self.rung += 1;
            Ok(true)
        }
        fn reset(&mut self) {
            self.active = false;
        }
    }

    #[test]
    fn a_device_starts_only_with_its_own_queues_and_features() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]).expect("a page");
        let queue = || Queue::new(16).expect("a power of two");
        let mut bell = Bell::default();
        assert!(bell.notify(0).is_err());
        let wrong = bell.activate(memory.clone(), 0, vec![]);
        assert_eq!(
            wrong,
            Err(DeviceError::Queues {
                given: 0,
                needed: 1
            })
        );
        assert_eq!(
            bell.activate(memory.clone(), 1, vec![queue()]),
            Err(DeviceError::Features(1))
        );
        assert_eq!(bell.activate(memory, 1 << 32, vec![queue()]), Ok(()));
        assert_eq!(bell.notify(0), Ok(true));
        bell.reset();
        assert!(bell.notify(0).is_err());
        assert_eq!(bell.rung, 1);
    }
}
