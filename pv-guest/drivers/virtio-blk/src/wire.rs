//! The numbers of virtio 1.3, 5.2. A test compares them with `virtio-bindings`.

/// Feature: the disk is read-only.
pub const F_RO: u64 = 1 << 5;
/// Feature: writes may wait in a cache until a flush.
pub const F_FLUSH: u64 = 1 << 9;
/// Feature: more than one queue.
pub const F_MQ: u64 = 1 << 12;
/// Feature: sectors can be discarded.
pub const F_DISCARD: u64 = 1 << 13;
/// Feature: sectors can be zeroed.
pub const F_WRITE_ZEROES: u64 = 1 << 14;

/// The names of these features, for people.
pub const FEATURES: &[(u64, &str)] = &[
    (F_RO, "ro"),
    (F_FLUSH, "flush"),
    (F_MQ, "mq"),
    (F_DISCARD, "discard"),
    (F_WRITE_ZEROES, "write-zeroes"),
];

/// Offset in the configuration: sectors, 64 bits.
pub const CONFIG_CAPACITY: u64 = 0;
/// Offset in the configuration: the word whose upper half is the number of queues.
pub const CONFIG_QUEUES: u64 = 32;
/// Offset in the configuration: the most sectors of a discard.
pub const CONFIG_MAX_DISCARD: u64 = 36;
/// Offset in the configuration: the most sectors of a write of zeroes.
pub const CONFIG_MAX_WRITE_ZEROES: u64 = 48;

/// Request types.
pub const T_IN: u32 = 0;
pub const T_OUT: u32 = 1;
pub const T_FLUSH: u32 = 4;
pub const T_GET_ID: u32 = 8;
pub const T_DISCARD: u32 = 11;
pub const T_WRITE_ZEROES: u32 = 13;

/// The status byte of an answer.
pub const S_OK: u8 = 0;
pub const S_IOERR: u8 = 1;
pub const S_UNSUPP: u8 = 2;
