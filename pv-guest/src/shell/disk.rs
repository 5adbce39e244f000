//! Commands for devices: `lsdev`, `disk`, `random`.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::{Command, CommandError};
use crate::dev::virtio::{Disk, DiskError, disks, random};
use crate::mm::dma::DmaBuffer;
use crate::text::words;
use crate::{dev, print, println};

const DISK: &str = "disk [NAME read|write|verify SECTOR COUNT [SEED] | NAME flush]";
const RANDOM: &str = "random COUNT, a number up to 256";
/// Bytes of a sector.
const SECTOR: usize = 512;
/// Sectors that one request moves.
const CHUNK: usize = 128;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "lsdev",
        args: "",
        about: "show the tree of devices",
        run: lsdev,
    },
    Command {
        name: "disk",
        args: "[NAME read|write|verify|flush ..]",
        about: "list disks, or move their sectors",
        run: disk,
    },
    Command {
        name: "random",
        args: "COUNT",
        about: "show so many random bytes",
        run: show_random,
    },
];

fn lsdev(_: &str) -> Result<(), CommandError<'_>> {
    println!("device                       class    bus          driver       vector  about");
    for (depth, device) in dev::tree() {
        let name = format!("{:indent$}{}", "", device.name, indent = depth * 2);
        let vector = device
            .vector
            .map_or(String::new(), |vector| format!("{vector}"));
        println!(
            "{name:<28} {:<8} {:<12} {:<12} {vector:<7} {}",
            device.class.name(),
            device.bus,
            device.driver.unwrap_or("-"),
            device.about,
        );
    }
    Ok(())
}

fn disk(args: &str) -> Result<(), CommandError<'_>> {
    let mut words = words(args);
    let Some(name) = words.next() else {
        for disk in disks() {
            let interrupts = disk.interrupts();
            println!(
                "{}  {} sectors, {interrupts} interrupts",
                disk.name, disk.sectors
            );
        }
        return Ok(());
    };
    let usage = || CommandError::Usage(DISK);
    let disk = disks().into_iter().find(|disk| disk.name == name);
    let disk = disk.ok_or(CommandError::NoDevice)?;
    let what = words.next().ok_or_else(usage)?;
    if what == "flush" {
        return disk.flush().map_err(CommandError::Disk);
    }
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (sector, count) = (number().ok_or_else(usage)?, number().ok_or_else(usage)?);
    let seed = number();
    let result = match (what, seed) {
        ("read", None) => read(&disk, sector, count),
        ("write", Some(seed)) => write(&disk, sector, count, seed),
        ("verify", Some(seed)) => verify(&disk, sector, count, seed),
        _ => return Err(usage()),
    };
    result.map_err(CommandError::Disk)
}

/// Go through sectors, a buffer at a time: `each` gets the first one's number, the buffer, and its length.
fn in_chunks(
    sector: u64,
    count: u64,
    mut each: impl FnMut(u64, &mut DmaBuffer, usize) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let mut buffer = DmaBuffer::new(CHUNK * SECTOR).ok_or(DiskError::NoMemory)?;
    let mut done = 0;
    while done < count {
        let sectors = (count - done).min(CHUNK as u64);
        let at = sector.checked_add(done).ok_or(DiskError::OutOfRange)?;
        each(at, &mut buffer, sectors as usize * SECTOR)?;
        done += sectors;
    }
    Ok(())
}

fn read(disk: &Arc<Disk>, sector: u64, count: u64) -> Result<(), DiskError> {
    let mut hash = Hash::new();
    in_chunks(sector, count, |at, buffer, len| {
        disk.read(at, buffer, len)?;
        hash.add(buffer.get(..len).unwrap_or_default());
        Ok(())
    })?;
    println!("{count} sectors, fnv1a {:016x}", hash.0);
    Ok(())
}

fn write(disk: &Arc<Disk>, sector: u64, count: u64, seed: u64) -> Result<(), DiskError> {
    in_chunks(sector, count, |at, buffer, len| {
        fill(buffer, at, seed);
        disk.write(at, buffer, len)
    })?;
    println!("{count} sectors written");
    Ok(())
}

fn verify(disk: &Arc<Disk>, sector: u64, count: u64, seed: u64) -> Result<(), DiskError> {
    let mut expected = DmaBuffer::new(CHUNK * SECTOR).ok_or(DiskError::NoMemory)?;
    let mut wrong = 0;
    in_chunks(sector, count, |at, buffer, len| {
        disk.read(at, buffer, len)?;
        fill(&mut expected, at, seed);
        let pairs = buffer.chunks(SECTOR).zip(expected.chunks(SECTOR));
        wrong += pairs.take(len / SECTOR).filter(|(a, b)| a != b).count();
        Ok(())
    })?;
    println!("{count} sectors, {wrong} wrong");
    if wrong > 0 {
        Err(DiskError::Io)
    } else {
        Ok(())
    }
}

/// What a sector holds for a seed: words that depend on both.
fn fill(buffer: &mut DmaBuffer, sector: u64, seed: u64) {
    for (number, word) in buffer.chunks_exact_mut(8).enumerate() {
        let at = sector * (SECTOR as u64 / 8) + number as u64;
        // splitmix64's finish.
        let mut value = (at ^ seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word.copy_from_slice(&(value ^ value >> 27).to_le_bytes());
    }
}

/// FNV-1a, of 64 bits.
struct Hash(u64);

impl Hash {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn show_random(args: &str) -> Result<(), CommandError<'_>> {
    let count = args.parse().ok().filter(|count| (1..=256).contains(count));
    let count = count.ok_or(CommandError::Usage(RANDOM))?;
    for byte in random(count).ok_or(CommandError::NoDevice)? {
        print!("{byte:02x}");
    }
    println!();
    Ok(())
}
