//! The drive, by its registers, over sectors in memory.

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::{Channel, MULTIPLE, SECTOR, Sectors, error, register, status};

const COUNT: usize = 300;

/// Sectors in memory, which fail where they are told to.
#[derive(Clone, Default)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    bad: Option<u64>,
    read_only: bool,
    flushes: Arc<Mutex<u32>>,
}

impl Memory {
    fn new() -> Self {
        let bytes = (0..COUNT * SECTOR).map(|at| (at / SECTOR + at) as u8);
        Self {
            bytes: Arc::new(Mutex::new(bytes.collect())),
            ..Self::default()
        }
    }

    fn check(&self, sector: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
        let end = sector + (len / SECTOR) as u64;
        if self.bad.is_some_and(|bad| (sector..end).contains(&bad)) {
            return Err(io::Error::other("a bad sector"));
        }
        let at = sector as usize * SECTOR;
        Ok(at..at + len)
    }
}

impl Sectors for Memory {
    fn count(&self) -> u64 {
        COUNT as u64
    }
    fn is_read_only(&self) -> bool {
        self.read_only
    }
    fn serial(&self) -> &str {
        "a disk of mine.img"
    }
    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()> {
        let range = self.check(sector, into.len())?;
        into.copy_from_slice(&self.bytes.lock().unwrap()[range]);
        Ok(())
    }
    fn write(&mut self, sector: u64, from: &[u8]) -> io::Result<()> {
        let range = self.check(sector, from.len())?;
        self.bytes.lock().unwrap()[range].copy_from_slice(from);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        *self.flushes.lock().unwrap() += 1;
        Ok(())
    }
}

/// A driver as simple as can be.
struct Driver(Channel);

impl Driver {
    fn new(memory: &Memory) -> Self {
        Self(Channel::new(Box::new(memory.clone()), None))
    }

    fn get(&mut self, offset: u16) -> u8 {
        let mut byte = [0];
        self.0.read(offset, &mut byte);
        byte[0]
    }

    fn set(&mut self, offset: u16, value: u8) {
        self.0.write(offset, &[value]);
    }

    /// Give a command with an address of 28 bits.
    fn command(&mut self, which: u8, sector: u32, count: u8) {
        let [low, mid, high, top] = sector.to_le_bytes();
        self.set(register::DEVICE, 0x40 | top & 0xf);
        for (offset, value) in [
            (register::COUNT, count),
            (register::LOW, low),
            (register::MID, mid),
            (register::HIGH, high),
            (register::STATUS, which),
        ] {
            self.set(offset, value);
        }
    }

    /// With one of 48 bits.
    fn wide(&mut self, which: u8, sector: u64, count: u16) {
        let at = sector.to_le_bytes();
        let count = count.to_le_bytes();
        self.set(register::DEVICE, 0x40);
        for (offset, [low, high]) in [
            (register::COUNT, count),
            (register::LOW, [at[0], at[3]]),
            (register::MID, [at[1], at[4]]),
            (register::HIGH, [at[2], at[5]]),
        ] {
            self.set(offset, high);
            self.set(offset, low);
        }
        self.set(register::STATUS, which);
    }

    /// Take `len` bytes by words, and count the interrupts, each of which is answered by a look at the status.
    fn take(&mut self, len: usize) -> (Vec<u8>, u32) {
        let (mut bytes, mut interrupts) = (Vec::new(), 0);
        while bytes.len() < len {
            if self.0.interrupt() {
                interrupts += 1;
                assert_eq!(self.get(register::STATUS), READY | status::DATA);
                assert!(!self.0.interrupt());
            }
            let mut word = [0; 2];
            self.0.read(register::DATA, &mut word);
            bytes.extend(word);
        }
        (bytes, interrupts)
    }

    fn give(&mut self, bytes: &[u8]) -> u32 {
        let mut interrupts = 0;
        for word in bytes.chunks(2) {
            if self.0.interrupt() {
                interrupts += 1;
                self.get(register::STATUS);
            }
            assert_ne!(self.get(register::STATUS) & status::DATA, 0);
            self.0.write(register::DATA, word);
        }
        interrupts
    }

    fn refused(&mut self, why: u8) {
        assert!(self.0.interrupt());
        assert_eq!(self.get(register::STATUS), READY | status::ERROR);
        assert_eq!(self.get(register::ERROR), why);
    }
}

const READY: u8 = status::READY | status::SEEK;

#[test]
fn a_drive_says_what_it_is() {
    let mut driver = Driver::new(&Memory::new());
    // The signature of a drive that is no packet device.
    let signature = [
        register::COUNT,
        register::LOW,
        register::MID,
        register::HIGH,
    ];
    assert_eq!(signature.map(|offset| driver.get(offset)), [1, 1, 0, 0]);
    driver.command(0xec, 0, 0);
    let (block, interrupts) = driver.take(SECTOR);
    assert_eq!((interrupts, driver.get(register::STATUS)), (1, READY));
    let word = |at: usize| u16::from_le_bytes([block[at * 2], block[at * 2 + 1]]);
    assert_eq!(
        (word(60), word(61), word(100)),
        (COUNT as u16, 0, COUNT as u16)
    );
    assert_eq!(word(47) & 0xff, MULTIPLE as u16);
    let model: Vec<u8> = (27..32).flat_map(|at| word(at).to_be_bytes()).collect();
    assert_eq!(model, b"Paravane A");
    let serial: Vec<u8> = (10..20).flat_map(|at| word(at).to_be_bytes()).collect();
    assert_eq!(serial, b"a disk of mine.img  ");
}

#[test]
fn sectors_are_read_and_written_with_an_interrupt_each() {
    let memory = Memory::new();
    let mut driver = Driver::new(&memory);
    driver.command(0x20, 7, 3);
    let (bytes, interrupts) = driver.take(3 * SECTOR);
    assert_eq!(interrupts, 3);
    assert_eq!(bytes, memory.bytes.lock().unwrap()[7 * SECTOR..10 * SECTOR]);

    let new = vec![0xa5; 2 * SECTOR];
    driver.wide(0x34, 9, 2);
    assert!(!driver.0.interrupt(), "the first block is polled for");
    // One between the blocks, and one at the end.
    assert_eq!(driver.give(&new), 1);
    assert!(driver.0.interrupt());
    assert_eq!(driver.get(register::STATUS), READY);
    assert_eq!(memory.bytes.lock().unwrap()[9 * SECTOR..11 * SECTOR], new);
    driver.command(0xe7, 0, 0);
    assert!(driver.0.interrupt());
    assert_eq!(*memory.flushes.lock().unwrap(), 1);
}

#[test]
fn many_sectors_come_in_one_block_once_the_driver_has_said_how_many() {
    let memory = Memory::new();
    let mut driver = Driver::new(&memory);
    driver.command(0xc4, 0, 4);
    driver.refused(error::ABORT);
    driver.command(0xc6, 0, 3);
    driver.refused(error::ABORT);
    driver.command(0xc6, 0, 8);
    assert_eq!(driver.get(register::STATUS), READY);
    // 0 means 256, and 20 is no multiple of 8.
    for (count, sectors) in [(0, 256), (20, 20)] {
        driver.command(0xc4, 1, count);
        let (bytes, interrupts) = driver.take(sectors * SECTOR);
        assert_eq!(interrupts as usize, sectors.div_ceil(8));
        assert_eq!(
            bytes,
            memory.bytes.lock().unwrap()[SECTOR..(1 + sectors) * SECTOR]
        );
    }
    driver.command(0xc5, 2, 9);
    let new: Vec<u8> = (0..9 * SECTOR).map(|at| (at * 3) as u8).collect();
    assert_eq!(driver.give(&new), 1);
    assert_eq!(memory.bytes.lock().unwrap()[2 * SECTOR..11 * SECTOR], new);
}

#[test]
fn what_is_not_there_or_not_known_is_refused() {
    let mut driver = Driver::new(&Memory::new());
    driver.command(0x20, COUNT as u32 - 1, 2);
    driver.refused(error::NOT_FOUND);
    driver.wide(0x24, u64::MAX >> 16, 0);
    driver.refused(error::NOT_FOUND);
    driver.command(0xa1, 0, 0);
    driver.refused(error::ABORT);
    // 48 bits without LBA.
    driver.set(register::DEVICE, 0);
    driver.set(register::STATUS, 0x24);
    driver.refused(error::ABORT);

    let memory = Memory {
        read_only: true,
        ..Memory::new()
    };
    let mut driver = Driver::new(&memory);
    driver.command(0x30, 0, 1);
    driver.refused(error::ABORT);
}

#[test]
fn what_the_host_cannot_do_is_an_error_of_the_drive() {
    let memory = Memory {
        bad: Some(5),
        ..Memory::new()
    };
    let mut driver = Driver::new(&memory);
    driver.command(0x20, 4, 3);
    let (_, interrupts) = driver.take(SECTOR);
    assert_eq!(interrupts, 1);
    driver.refused(error::UNCORRECTABLE);
    driver.command(0x30, 5, 1);
    driver.give(&[1; SECTOR]);
    assert_ne!(driver.get(register::STATUS) & status::FAULT, 0);
}

#[test]
fn what_is_not_cached_is_on_the_disk_at_once() {
    let memory = Memory::new();
    let mut driver = Driver::new(&memory);
    driver.set(register::ERROR, 0x82);
    driver.command(0xef, 0, 0);
    assert_eq!(*memory.flushes.lock().unwrap(), 1, "what was in the cache");
    driver.command(0x30, 3, 2);
    driver.give(&[7; 2 * SECTOR]);
    assert_eq!(*memory.flushes.lock().unwrap(), 2);
    // A transfer mode with DMA is refused, PIO mode 4 is not.
    driver.set(register::ERROR, 0x03);
    driver.command(0xef, 0, 0x22);
    driver.refused(error::ABORT);
    driver.set(register::ERROR, 0x03);
    driver.command(0xef, 0, 0x0c);
    assert_eq!(driver.get(register::STATUS), READY);
}

#[test]
fn cylinders_and_heads_lead_to_the_same_sectors() {
    let memory = Memory::new();
    let mut driver = Driver::new(&memory);
    // Cylinder 0, head 1, sector 5: the one with the number 63 + 4.
    for (offset, value) in [
        (register::DEVICE, 1),
        (register::COUNT, 1),
        (register::LOW, 5),
        (register::MID, 0),
        (register::HIGH, 0),
        (register::STATUS, 0x20),
    ] {
        driver.set(offset, value);
    }
    let (bytes, _) = driver.take(SECTOR);
    assert_eq!(
        bytes,
        memory.bytes.lock().unwrap()[67 * SECTOR..68 * SECTOR]
    );
    // Tracks have no sector 0.
    driver.set(register::LOW, 0);
    driver.set(register::STATUS, 0x20);
    driver.refused(error::ABORT);
    driver.set(register::COUNT, 32);
    driver.set(register::STATUS, 0x91);
    driver.refused(error::ABORT);
}

#[test]
fn interrupts_can_be_off_and_a_reset_ends_a_command() {
    let mut driver = Driver::new(&Memory::new());
    driver.0.write_control(&[2]);
    driver.command(0xec, 0, 0);
    assert!(!driver.0.interrupt());
    driver.0.write_control(&[0]);
    assert!(driver.0.interrupt());
    let mut alternate = [0];
    driver.0.read_control(&mut alternate);
    assert_eq!(alternate[0], READY | status::DATA);
    assert!(driver.0.interrupt(), "the alternate status leaves the line");
    driver.0.write_control(&[4]);
    assert_eq!(driver.get(register::STATUS), status::BUSY);
    driver.set(register::STATUS, 0xec);
    driver.0.write_control(&[0]);
    assert_eq!(driver.get(register::STATUS), READY);
    let mut word = [0; 2];
    driver.0.read(register::DATA, &mut word);
    assert_eq!(word, [0xff; 2], "the reset ended the command");
}

#[test]
fn the_first_drive_answers_for_a_second_that_is_not_there() {
    let mut driver = Driver::new(&Memory::new());
    driver.command(0xec, 0, 0);
    driver.set(register::DEVICE, 0x50);
    driver.set(register::COUNT, 0x55);
    assert_eq!(driver.get(register::STATUS), 0);
    assert_eq!(driver.get(register::COUNT), 0x55);
    assert!(!driver.0.interrupt(), "the first is not selected");
    driver.set(register::STATUS, 0xec);
    assert_eq!(driver.get(register::STATUS), 0, "nobody takes the command");
    driver.set(register::DEVICE, 0x40);
    assert!(driver.0.interrupt(), "it waits for who selects it again");
    assert_eq!(driver.get(register::STATUS), READY | status::DATA);
}

#[test]
fn two_drives_share_a_channel_and_nothing_else() {
    let (first, second) = (Memory::new(), Memory::new());
    second.bytes.lock().unwrap().fill(9);
    let drives = [&first, &second].map(|memory| Box::new(memory.clone()));
    let [one, two] = drives;
    let mut driver = Driver(Channel::new(one, Some(two)));
    driver.command(0x20, 0, 2);
    driver.set(register::DEVICE, 0x50);
    assert_eq!(driver.get(register::STATUS), READY, "the other one's");
    let mut word = [0; 2];
    driver.0.read(register::DATA, &mut word);
    assert_eq!(word, [0xff; 2]);
    driver.set(register::LOW, 0);
    driver.set(register::COUNT, 1);
    driver.set(register::STATUS, 0x20);
    assert_eq!(driver.take(SECTOR).0, [9; SECTOR]);
    // The first one's command waits where it was.
    driver.set(register::DEVICE, 0x40);
    let (bytes, interrupts) = driver.take(2 * SECTOR);
    assert_eq!(bytes, first.bytes.lock().unwrap()[..2 * SECTOR]);
    assert_eq!(interrupts, 2);
    // Both diagnose themselves, and the first says so.
    driver.set(register::DEVICE, 0x50);
    driver.set(register::STATUS, 0x90);
    assert!(driver.0.interrupt());
    for device in [0, 0x10] {
        driver.set(register::DEVICE, device);
        assert_eq!(driver.get(register::ERROR), 1);
    }
}

proptest! {
    /// Whatever a driver does, sectors outside of what it named stay, and nothing panics or grows.
    #[test]
    fn no_access_is_too_odd(
        accesses in prop::collection::vec((0..10_u16, any::<u8>(), 0..9_usize, any::<bool>()), 1..300),
        has_second: bool,
    ) {
        let memory = Memory { bad: Some(13), ..Memory::new() };
        let second = has_second.then(|| Box::new(memory.clone()) as Box<dyn Sectors>);
        let mut channel = Channel::new(Box::new(memory.clone()), second);
        for (offset, value, width, is_write) in accesses {
            // As many bytes as a string instruction may bring.
            let mut bytes = vec![value; if width == 8 { 4096 } else { width }];
            match (offset, is_write) {
                (8.., true) => channel.write_control(&bytes),
                (8.., false) => channel.read_control(&mut bytes),
                (_, true) => channel.write(offset, &bytes),
                (_, false) => channel.read(offset, &mut bytes),
            }
            prop_assert!(channel.held() <= 2 * MULTIPLE * SECTOR);
        }
        prop_assert_eq!(memory.bytes.lock().unwrap().len(), COUNT * SECTOR);
    }

    /// Sequences of legal commands with any address: what is in range is done, and the rest refused.
    #[test]
    fn commands_do_what_they_say_or_nothing(
        commands in prop::collection::vec(
            (prop::sample::select(&[0x20_u8, 0x24, 0x30, 0x34, 0xc4, 0x29, 0xc5, 0x39][..]), 0..320_u64, 0..40_u8),
            1..20,
        ),
    ) {
        let memory = Memory::new();
        let mut model = memory.bytes.lock().unwrap().clone();
        let mut driver = Driver::new(&memory);
        driver.command(0xc6, 0, 16);
        for (number, (which, sector, count)) in commands.into_iter().enumerate() {
            let is_wide = matches!(which, 0x24 | 0x34 | 0x29 | 0x39);
            match is_wide {
                true => driver.wide(which, sector, count.into()),
                false => driver.command(which, sector as u32, count),
            }
            let sectors = match (count, is_wide) {
                (0, true) => 65536,
                (0, false) => 256,
                _ => usize::from(count),
            };
            let range = sector as usize * SECTOR..(sector as usize + sectors) * SECTOR;
            if range.end > model.len() {
                driver.refused(error::NOT_FOUND);
                continue;
            }
            if matches!(which, 0x20 | 0x24 | 0xc4 | 0x29) {
                prop_assert_eq!(&driver.take(range.len()).0[..], &model[range]);
            } else {
                let new = vec![number as u8; range.len()];
                driver.give(&new);
                model[range].copy_from_slice(&new);
            }
            prop_assert_eq!(driver.get(register::STATUS), READY);
        }
        prop_assert_eq!(&*memory.bytes.lock().unwrap(), &model);
    }
}
