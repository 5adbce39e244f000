//! Two ATA drives on a channel, over sectors in memory that say when they are asked for what is not there.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use hypervisor::legacy::{Channel, SECTOR, Sectors};

use super::{Step, byte, bytes, show, steps};
use crate::random::Choose;
use crate::tally::Tally;
use crate::target::Target;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "sectors read",
    "sectors written",
    "flushed",
    "a bad sector",
    "an interrupt",
];

/// Sectors that differ, in memory; some are bad.
#[derive(Default)]
struct Medium {
    bytes: Vec<u8>,
    wrong: Option<String>,
    read: u64,
    written: u64,
    flushed: u64,
    failed: u64,
}

#[derive(Clone)]
struct Drive {
    medium: Arc<Mutex<Medium>>,
    is_read_only: bool,
}

/// How many sectors a drive has, and which one is bad.
const SECTORS: u64 = 600;
const BAD: u64 = 77;

impl Drive {
    fn new(is_read_only: bool) -> Drive {
        let bytes = (0..SECTORS as usize * SECTOR).map(|at| (at / SECTOR * 7 + at) as u8);
        let medium = Medium {
            bytes: bytes.collect(),
            ..Medium::default()
        };
        Drive {
            medium: Arc::new(Mutex::new(medium)),
            is_read_only,
        }
    }

    fn medium(&self) -> std::sync::MutexGuard<'_, Medium> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of whole sectors that are there, as the drive must ask for them.
    fn range(
        &self,
        medium: &mut Medium,
        sector: u64,
        len: usize,
    ) -> io::Result<std::ops::Range<usize>> {
        let count = (len / SECTOR) as u64;
        let is_there = sector.checked_add(count).is_some_and(|end| end <= SECTORS);
        if len == 0 || !len.is_multiple_of(SECTOR) || !is_there {
            medium
                .wrong
                .get_or_insert(format!("{len} bytes are asked for from sector {sector} on"));
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if (sector..sector + count).contains(&BAD) {
            medium.failed += 1;
            return Err(io::Error::other("a bad sector"));
        }
        let at = sector as usize * SECTOR;
        Ok(at..at + len)
    }
}

impl Sectors for Drive {
    fn count(&self) -> u64 {
        SECTORS
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn serial(&self) -> &str {
        "fuzz"
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()> {
        let mut medium = self.medium();
        let range = self.range(&mut medium, sector, into.len())?;
        into.copy_from_slice(&medium.bytes[range]);
        medium.read += 1;
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> io::Result<()> {
        let mut medium = self.medium();
        if self.is_read_only {
            medium
                .wrong
                .get_or_insert("a read-only drive is written to".into());
        }
        let range = self.range(&mut medium, sector, from.len())?;
        medium.bytes[range].copy_from_slice(from);
        medium.written += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.medium().flushed += 1;
        Ok(())
    }
}

/// Two drives on a channel.
pub struct Ata;

/// Where the control block's register is, as in a PC: so far behind the command block.
const CONTROL: u64 = 0x206;

/// One step of a driver that may be wrong.
fn step(rng: &mut Rng, steps: &mut Vec<Step>) {
    let some = rng.u8(..);
    steps.push(match rng.u32(..10) {
        0..4 => return command(rng, steps),
        4..7 => {
            // Data, as much as a block or not.
            let len = rng.one_of(&[1, 2, 4, 512, 512, 512, 8192, 3, 513]);
            let bytes = vec![0x5c; len];
            match rng.bool() {
                true => Step::Read { at: 0, len },
                false => Step::Write { at: 0, bytes },
            }
        }
        7 => byte(CONTROL, rng.one_of(&[0, 0, 2, 4, 6, 0x80, some])),
        8 => Step::Write {
            at: rng.u64(..9),
            bytes: bytes(rng, &[0, 1, 1, 1, 2, 4, 8]),
        },
        _ => {
            let offset = rng.u64(..9);
            Step::Read {
                at: rng.one_of(&[offset, offset, offset, CONTROL]),
                len: rng.one_of(&[0, 1, 1, 2, 4, 8]),
            }
        }
    });
}

/// A command with its registers: mostly one that there is.
fn command(rng: &mut Rng, steps: &mut Vec<Step>) {
    let some = rng.u8(..);
    let code = rng.one_of(&[
        0x20, 0x20, 0x20, 0x24, 0x29, 0x30, 0x30, 0x34, 0x39, 0x40, 0x42, 0x90, 0x91, 0xc4, 0xc5,
        0xc6, 0xc6, 0xe0, 0xe5, 0xe7, 0xea, 0xec, 0xef, 0xf8, 0x27, 0x10, some,
    ]);
    let (near, odd) = (rng.u16(..SECTORS as u16 + 4), rng.u8(..));
    // The registers that a 48-bit command has twice come first with their high bytes.
    for high in [0, near.to_be_bytes()[0] & rng.one_of(&[0, 0, 3])] {
        steps.push(byte(2, rng.one_of(&[high, 1, 1, 2, 3, 8, 16, odd, 0])));
        steps.push(byte(3, near.to_le_bytes()[0]));
        steps.push(byte(4, near.to_le_bytes()[1]));
        steps.push(byte(5, rng.one_of(&[0, 0, 0, 0, odd])));
    }
    steps.push(byte(
        1,
        rng.one_of(&[0x02, 0x03, 0x55, 0x66, 0x82, 0xaa, 0xcc, odd]),
    ));
    steps.push(byte(
        6,
        rng.one_of(&[0xe0, 0xe0, 0xe0, 0xf0, 0xa0, 0xb0, odd]),
    ));
    steps.push(byte(7, code));
}

fn apply(channel: &mut Channel, step: &Step) {
    match step {
        Step::Read { at: CONTROL, len } => channel.read_control(&mut vec![0; *len]),
        // Offsets are below a page.
        Step::Read { at, len } => channel.read(*at as u16, &mut vec![0; *len]),
        Step::Write { at: CONTROL, bytes } => channel.write_control(bytes),
        Step::Write { at, bytes } => channel.write(*at as u16, bytes),
        Step::Event { .. } => {}
    }
}

fn get(channel: &mut Channel, offset: u16) -> u8 {
    let mut byte = [0];
    channel.read(offset, &mut byte);
    byte[0]
}

/// A sector is read, written and read after a reset, as a driver does that knows nothing of before.
fn probe_ata(channel: &mut Channel, drive: &Drive) -> Result<(), String> {
    channel.write_control(&[4]);
    channel.write_control(&[2]);
    for _ in 0..16 {
        if get(channel, 7) & 0x80 == 0 {
            break;
        }
    }
    let wanted: Vec<u8> = drive.medium().bytes[5 * SECTOR..6 * SECTOR].to_vec();
    let ask = |channel: &mut Channel, code| {
        for (offset, value) in [(6, 0xe0), (2, 1), (3, 5), (4, 0), (5, 0), (7, code)] {
            channel.write(offset, &[value]);
        }
        match get(channel, 7) {
            status if status & 0x89 == 0x08 => Ok(()),
            status => Err(format!(
                "a known command {code:#x} has the status {status:#x}"
            )),
        }
    };
    ask(channel, 0x20)?;
    let mut found = vec![0; SECTOR];
    channel.read(0, &mut found);
    if found != wanted {
        return Err("a known sector reads otherwise".into());
    }
    if !drive.is_read_only {
        ask(channel, 0x30)?;
        channel.write(0, &[0xab; SECTOR]);
        if drive.medium().bytes[5 * SECTOR..6 * SECTOR] != [0xab; SECTOR] {
            return Err("a known write is lost".into());
        }
    }
    match get(channel, 7) & 0x89 {
        0 => Ok(()),
        status => Err(format!("after known commands the status is {status:#x}")),
    }
}

impl Target for Ata {
    fn case(&mut self, mut rng: Rng, tally: &mut Tally) -> Result<(), String> {
        let steps = steps(&mut rng, step);
        let drives = [false, true].map(|is_read_only| Drive::new(is_read_only && rng.bool()));
        let [first, second] = drives
            .clone()
            .map(|drive| Box::new(drive) as Box<dyn Sectors>);
        let mut channel = Channel::new(first, rng.bool().then_some(second));
        for step in &steps {
            apply(&mut channel, step);
            tally.operations += 1;
            if let Step::Read { at: 0, len } = step {
                tally.bytes += *len as u64;
            }
            if channel.interrupt() {
                tally.reached("an interrupt");
            }
        }
        for drive in &drives {
            let mut medium = drive.medium();
            tally.finished += medium.read + medium.written + medium.flushed;
            for (count, outcome) in [
                (medium.read, "sectors read"),
                (medium.written, "sectors written"),
                (medium.flushed, "flushed"),
                (medium.failed, "a bad sector"),
            ] {
                if count > 0 {
                    tally.reached(outcome);
                }
            }
            medium.wrong.take().map_or(Ok(()), Err)?;
        }
        let [first, _] = &drives;
        probe_ata(&mut channel, first)?;
        first.medium().wrong.take().map_or(Ok(()), Err)
    }

    fn show(&mut self, mut rng: Rng) -> String {
        show(&steps(&mut rng, step))
    }
}
