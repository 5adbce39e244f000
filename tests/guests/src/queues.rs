//! A driver by hand, without a library and without manners: what it offers a virtio disk is wrong in one way a
//! turn. It prints what the device made of each, and in the end reads a sector as it should.
//!
//! Shared by the tiny guests and the foreign kernel (`foreign/src/main.rs`), so the same driver runs in all
//! modes. Registers and memory are reached by their linear addresses, which the caller has mapped.

use core::ptr;

use crate::println;

/// Where things are.
#[derive(Clone, Copy)]
pub struct Place {
    /// The device's registers, linear.
    pub registers: u64,
    /// 64 KiB of memory that nobody else uses, linear.
    pub memory: u64,
    /// The same, guest-physical.
    pub phys: u64,
    /// The end of the guest's memory, guest-physical.
    pub end: u64,
}

/// Registers (virtio 1.2, 4.2.2).
const MAGIC: u64 = 0x000;
const DEVICE_FEATURES: u64 = 0x010;
const DEVICE_FEATURES_SELECT: u64 = 0x014;
const DRIVER_FEATURES: u64 = 0x020;
const DRIVER_FEATURES_SELECT: u64 = 0x024;
const QUEUE_SELECT: u64 = 0x030;
const QUEUE_NUM: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_NOTIFY: u64 = 0x050;
const STATUS: u64 = 0x070;
const QUEUE_DESC: u64 = 0x080;
const QUEUE_DRIVER: u64 = 0x090;
const QUEUE_DEVICE: u64 = 0x0a0;

/// Device status (2.1).
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;

/// Features: VERSION_1 in the upper word, INDIRECT_DESC in the lower.
const VERSION_1: u32 = 1;
const INDIRECT_DESC: u32 = 1 << 28;

/// Flags of a descriptor (2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// The queue: its size, and where its parts are in the memory.
const SIZE: u32 = 8;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADER: u64 = 0x3000;
const RESULT: u64 = 0x3100;
const DATA: u64 = 0x4000;
const TABLE: u64 = 0x5000;
/// What the result is until the device has written it.
const NO_RESULT: u8 = 0xee;

/// How often is looked for what must come, with an exit each time: for many seconds.
const PATIENCE: u64 = 3_000_000;

/// A descriptor: address, length, flags, next.
type Descriptor = (u64, u32, u16, u16);

/// All turns, and the good end.
pub fn run(place: Place) {
    let at = |offset: u64| place.phys + offset;
    let header = (at(HEADER), 16, NEXT, 1);
    let data = (at(DATA), 512, NEXT | WRITE, 2);
    let result = (at(RESULT), 1, WRITE, 0);
    let turns: [(&str, &[Descriptor]); 12] = [
        (
            "a chain that cycles",
            &[(at(HEADER), 16, NEXT, 1), (at(DATA), 512, NEXT | WRITE, 0)],
        ),
        (
            "a next descriptor beyond the table",
            &[(at(HEADER), 16, NEXT, 99)],
        ),
        (
            "memory that there is not",
            &[header, (place.end, 512, NEXT | WRITE, 2), result],
        ),
        (
            "memory that ends in the buffer",
            &[header, (place.end - 256, 512, NEXT | WRITE, 2), result],
        ),
        (
            "an address that overflows",
            &[header, (u64::MAX - 100, 512, NEXT | WRITE, 2), result],
        ),
        (
            "the local APIC as a buffer",
            &[header, (0xfee0_0000, 512, NEXT | WRITE, 2), result],
        ),
        (
            "a header that is to be written",
            &[(at(HEADER), 16, NEXT | WRITE, 1), data, result],
        ),
        (
            "what is read behind what is written",
            &[header, data, (at(RESULT), 1, 0, 0)],
        ),
        ("no place for the result", &[(at(HEADER), 16, 0, 0)]),
        (
            "a table that is no multiple of a descriptor",
            &[(at(TABLE), 17, INDIRECT, 0)],
        ),
        ("an empty table", &[(at(TABLE), 0, INDIRECT, 0)]),
        ("a table in a table", &[(at(TABLE), 16, INDIRECT, 0)]),
    ];
    descriptor(place, TABLE, (at(TABLE), 16, INDIRECT, 0));
    for (what, chain) in turns {
        begin(place);
        for (index, entry) in (0..).zip(chain) {
            descriptor(place, index * 16, *entry);
        }
        offer(place, 0, 1);
        println!("{what}: {}", verdict(place));
    }
    begin(place);
    offer(place, 77, 1);
    println!("a head beyond the table: {}", verdict(place));
    begin(place);
    offer(place, 0, 100);
    println!("an index too far ahead: {}", verdict(place));
    refusals(place);
    // A reset while a request is under way, and the same request afterwards.
    for is_waited_for in [false, true] {
        begin(place);
        for (index, entry) in (0..).zip([header, data, result]) {
            descriptor(place, index * 16, entry);
        }
        offer(place, 0, 1);
        if is_waited_for {
            println!("a good request: {}", verdict(place));
            println!("its first byte: {:#x}", byte(place, DATA));
        }
    }
    store(place, STATUS, 0);
}

/// What the registers refuse.
fn refusals(place: Place) {
    reset(place);
    store(place, STATUS, ACKNOWLEDGE | DRIVER);
    let narrow = |address: u64| {
        let at = place.registers + address;
        // SAFETY: the caller mapped the registers; these accesses are of other widths, or misaligned.
        unsafe {
            ptr::write_volatile((at + STATUS) as *mut u8, 0);
            ptr::write_volatile((at + STATUS) as *mut u16, 0);
            [
                u64::from(ptr::read_volatile(at as *const u8)),
                u64::from(ptr::read_volatile(at as *const u16)),
                ptr::read_volatile(at as *const u64),
            ]
        }
    };
    println!(
        "registers by other widths: {:?}, status {}",
        narrow(MAGIC),
        load(place, STATUS)
    );
    store(place, DRIVER_FEATURES_SELECT, 1);
    store(place, DRIVER_FEATURES, u32::MAX);
    store(place, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    println!(
        "features that are not offered: status {}",
        load(place, STATUS)
    );
    store(place, QUEUE_READY, 1);
    println!(
        "a queue before its time: ready {}",
        load(place, QUEUE_READY)
    );
    negotiate(place);
    queue(place, 8);
    println!("a misaligned table: ready {}", load(place, QUEUE_READY));
    store(place, STATUS, load(place, STATUS) | DRIVER_OK);
    println!("and going on all the same: {}", verdict(place));
}

/// Reset, and set the device up as it should be.
fn begin(place: Place) {
    negotiate(place);
    for offset in (0..0x100)
        .chain(AVAILABLE..AVAILABLE + 0x100)
        .chain(USED..USED + 0x100)
    {
        set_byte(place, offset, 0);
    }
    for offset in HEADER..HEADER + 16 {
        // A read of sector 0.
        set_byte(place, offset, 0);
    }
    set_byte(place, RESULT, NO_RESULT);
    queue(place, 0);
    store(place, STATUS, load(place, STATUS) | DRIVER_OK);
}

fn reset(place: Place) {
    store(place, STATUS, 0);
    while load(place, STATUS) != 0 {}
}

fn negotiate(place: Place) {
    reset(place);
    store(place, STATUS, ACKNOWLEDGE);
    store(place, STATUS, ACKNOWLEDGE | DRIVER);
    store(place, DEVICE_FEATURES_SELECT, 0);
    let wanted = load(place, DEVICE_FEATURES) & INDIRECT_DESC;
    for (word, features) in [(0, wanted), (1, VERSION_1)] {
        store(place, DRIVER_FEATURES_SELECT, word);
        store(place, DRIVER_FEATURES, features);
    }
    store(place, STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
}

/// Tell where the queue is, with a table that is off by so much.
fn queue(place: Place, off: u64) {
    store(place, QUEUE_SELECT, 0);
    store(place, QUEUE_NUM, SIZE);
    for (register, offset) in [
        (QUEUE_DESC, off),
        (QUEUE_DRIVER, AVAILABLE),
        (QUEUE_DEVICE, USED),
    ] {
        let at = place.phys + offset;
        store(place, register, at as u32);
        store(place, register + 4, (at >> 32) as u32);
    }
    store(place, QUEUE_READY, 1);
}

/// Put a head into the available ring, say that the ring is so long, and ring.
fn offer(place: Place, head: u16, index: u16) {
    for (offset, value) in [(4, head), (2, index)] {
        for (at, byte) in (AVAILABLE + offset..).zip(value.to_le_bytes()) {
            set_byte(place, at, byte);
        }
    }
    store(place, QUEUE_NOTIFY, 0);
}

fn descriptor(place: Place, offset: u64, (at, len, flags, next): Descriptor) {
    let low = at.to_le_bytes();
    let (len, flags, next) = (len.to_le_bytes(), flags.to_le_bytes(), next.to_le_bytes());
    let bytes = low.iter().chain(&len).chain(&flags).chain(&next);
    for (at, byte) in (offset..).zip(bytes) {
        set_byte(place, at, *byte);
    }
}

/// What the device makes of it: whichever comes first.
fn verdict(place: Place) -> &'static str {
    for _ in 0..PATIENCE {
        // The result is in memory, and the status behind an exit: not each time.
        for _ in 0..1000 {
            match byte(place, RESULT) {
                NO_RESULT => {}
                0 => return "done",
                _ => return "an error",
            }
            core::hint::spin_loop();
        }
        if load(place, STATUS) & NEEDS_RESET != 0 {
            return "the device needs a reset";
        }
    }
    "nothing"
}

fn load(place: Place, register: u64) -> u32 {
    // SAFETY: the caller mapped the registers.
    unsafe { ptr::read_volatile((place.registers + register) as *const u32) }
}

fn store(place: Place, register: u64, value: u32) {
    // SAFETY: the caller mapped the registers.
    unsafe { ptr::write_volatile((place.registers + register) as *mut u32, value) };
}

fn byte(place: Place, offset: u64) -> u8 {
    // SAFETY: the memory is the caller's, mapped, and 64 KiB; the device may write it at any time.
    unsafe { ptr::read_volatile((place.memory + offset) as *const u8) }
}

fn set_byte(place: Place, offset: u64, value: u8) {
    // SAFETY: as above.
    unsafe { ptr::write_volatile((place.memory + offset) as *mut u8, value) };
}
