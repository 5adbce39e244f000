//! The numbers of virtio 1.3 that more than one driver needs. `virtio-bindings` has them too, but
//! links the standard library; a test compares them.

/// The offset of each register (4.2.2).
pub mod register {
    #![allow(missing_docs, reason = "the names of the specification's table 4.1")]
    pub const MAGIC_VALUE: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const DEVICE_ID: u64 = 0x08;
    pub const DEVICE_FEATURES: u64 = 0x10;
    pub const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub const DRIVER_FEATURES: u64 = 0x20;
    pub const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub const QUEUE_SEL: u64 = 0x30;
    pub const QUEUE_NUM_MAX: u64 = 0x34;
    pub const QUEUE_NUM: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const QUEUE_NOTIFY: u64 = 0x50;
    pub const INTERRUPT_STATUS: u64 = 0x60;
    pub const INTERRUPT_ACK: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const QUEUE_DESC_LOW: u64 = 0x80;
    pub const QUEUE_AVAIL_LOW: u64 = 0x90;
    pub const QUEUE_USED_LOW: u64 = 0xa0;
    pub const CONFIG_GENERATION: u64 = 0xfc;
    pub const CONFIG: u64 = 0x100;
}

/// "virt", little-endian.
pub const MAGIC: u32 = 0x7472_6976;
/// The registers' version since virtio 1.0.
pub const VERSION: u32 = 2;

/// DeviceID of a network card (5).
pub const ID_NET: u32 = 1;
/// DeviceID of a disk.
pub const ID_BLOCK: u32 = 2;
/// DeviceID of a console.
pub const ID_CONSOLE: u32 = 3;
/// DeviceID of a source of entropy.
pub const ID_RNG: u32 = 4;
/// DeviceID of a memory balloon.
pub const ID_BALLOON: u32 = 5;

/// Bits of the device status (2.1).
pub mod status {
    #![allow(missing_docs, reason = "the names of the specification's section 2.1")]
    pub const ACKNOWLEDGE: u32 = 1;
    pub const DRIVER: u32 = 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const NEEDS_RESET: u32 = 64;
    pub const FAILED: u32 = 128;
}

/// Bits of InterruptStatus: a queue has something new.
pub const INTERRUPT_QUEUE: u32 = 1;
/// Bits of InterruptStatus: the configuration changed.
pub const INTERRUPT_CONFIG: u32 = 2;

/// Feature: chains may lie in tables of their own (2.7.5.3).
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// Feature: each side says which entry it wants to hear of (2.7.7, 2.7.10).
pub const F_EVENT_IDX: u64 = 1 << 29;
/// Feature: the device follows virtio 1.0 or later.
pub const F_VERSION_1: u64 = 1 << 32;

/// The names of these features, for people.
pub const FEATURES: &[(u64, &str)] = &[
    (F_INDIRECT_DESC, "indirect-desc"),
    (F_EVENT_IDX, "event-idx"),
    (F_VERSION_1, "version-1"),
];

/// A descriptor goes on in another one.
pub const DESC_NEXT: u16 = 1;
/// The device writes a descriptor's bytes.
pub const DESC_WRITE: u16 = 2;
/// A descriptor's bytes are a table of descriptors.
pub const DESC_INDIRECT: u16 = 4;

/// The driver wants no interrupt: the flag of the available ring.
pub const AVAIL_NO_INTERRUPT: u16 = 1;
/// The device wants no notification: the flag of the used ring.
pub const USED_NO_NOTIFY: u16 = 1;
