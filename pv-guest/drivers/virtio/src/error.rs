//! What a device did wrong.

use core::fmt;

use driver_api::EnvError;

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioError {
    /// The registers have another magic number.
    NotVirtio(u32),
    /// The registers are of another version than 2.
    Version(u32),
    /// There is no device behind the registers, or another one than the driver's.
    OtherDevice(u32),
    /// The device lacks VIRTIO_F_VERSION_1.
    Legacy,
    /// The device does not accept a subset of what it offered.
    FeaturesRefused,
    /// The device does not finish its reset.
    NoReset,
    /// The device has no such queue, or it is in use already.
    NoQueue(u16),
    /// The device's configuration makes no sense, or does not stand still.
    Configuration,
    /// The environment refused something.
    Env(EnvError),
}

impl fmt::Display for VirtioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVirtio(magic) => write!(f, "no virtio device: the magic is {magic:#x}"),
            Self::Version(version) => write!(f, "version {version} of the registers, not 2"),
            Self::OtherDevice(id) => write!(f, "a device of kind {id}, which nobody drives"),
            Self::Legacy => f.write_str("the device is older than virtio 1.0"),
            Self::FeaturesRefused => f.write_str("the device refused its own features"),
            Self::NoReset => f.write_str("the device does not finish its reset"),
            Self::NoQueue(queue) => write!(f, "queue {queue} is missing or in use"),
            Self::Configuration => f.write_str("the device's configuration makes no sense"),
            Self::Env(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for VirtioError {}

impl From<EnvError> for VirtioError {
    fn from(error: EnvError) -> Self {
        Self::Env(error)
    }
}

/// What is wrong with a request, or with a device's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// There is no room; the driver tries again later.
    Full,
    /// The request has no segments, or more than a chain may have.
    BadRequest,
    /// The device used more chains than it was given.
    Ahead(u16),
    /// The device used a chain that it was not given, or used it twice.
    BadId(u32),
    /// The device says that it wrote more than there was room for.
    BadLength(u32),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::BadRequest => f.write_str("a request of no segments, or of too many"),
            Self::Ahead(count) => write!(f, "the device claims {count} answers, too many"),
            Self::BadId(id) => write!(f, "the device answered {id}, which it was not asked"),
            Self::BadLength(len) => write!(f, "the device wrote {len} bytes, too many"),
        }
    }
}

impl core::error::Error for QueueError {}
