//! `disk`: commands on disks, for people and for tests of the driver.

use alloc::vec::Vec;

use hypercall_abi::Vector;

use driver_api::{BlockError, BlockInfo, Dma, ID_BYTES, Operation, Request, SECTOR_SIZE};

use netstack::hash::Fnv;

use super::disk_bench::{self, Bench};
use super::{Command, CommandError};
use crate::dev::block::{self, Finished};
use crate::dev::{self, Disk, DmaMemory, NamedDisk};
use crate::text::words;
use crate::{irq, print, println};

const USAGE: &str = "disk [NAME read SECTOR COUNT | NAME write SECTOR COUNT SEED | \
                     NAME verify SECTOR COUNT SEED | NAME flush | NAME id | \
                     NAME bench read|write|sread|swrite BYTES DEPTH COUNT SEED]";

/// Sectors of a request.
const CHUNK: u32 = 16;
/// Requests under way at once.
const WINDOW: u64 = 32;

pub const COMMANDS: &[Command] = &[Command {
    name: "disk",
    args: "[NAME read|write|verify|flush|id|bench ..]",
    about: "list disks, or move their sectors",
    run: disk,
}];

/// What is to be done with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Read(Sectors),
    Write(Sectors, u64),
    Verify(Sectors, u64),
    Flush,
    Id,
    Bench(Bench),
}

/// Adjacent sectors, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sectors {
    first: u64,
    count: u32,
}

fn disk(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    let Some((name, task)) = words.split_first() else {
        return list();
    };
    let task = parse(task).ok_or(CommandError::Usage(USAGE))?;
    let mut disks = dev::disks().into_iter();
    let disk = disks.find(|disk| disk.name == *name);
    let named = disk.ok_or(CommandError::NoDevice)?;
    let disk = &named.disk;
    match task {
        Task::Read(sectors) => read(disk, sectors),
        Task::Write(sectors, seed) => write(disk, sectors, seed),
        Task::Verify(sectors, seed) => verify(disk, sectors, seed),
        Task::Flush => flush(disk),
        Task::Id => id(disk),
        Task::Bench(bench) => disk_bench::run(&named, bench),
    }
}

fn parse(words: &[&str]) -> Option<Task> {
    let sectors = |first: &str, count: &str| {
        let (first, count) = (first.parse().ok()?, count.parse().ok()?);
        (count > 0).then_some(Sectors { first, count })
    };
    Some(match *words {
        ["read", first, count] => Task::Read(sectors(first, count)?),
        ["write", first, count, seed] => Task::Write(sectors(first, count)?, seed.parse().ok()?),
        ["verify", first, count, seed] => Task::Verify(sectors(first, count)?, seed.parse().ok()?),
        ["flush"] => Task::Flush,
        ["id"] => Task::Id,
        ["bench", ref words @ ..] => Task::Bench(Bench::parse(words)?),
        _ => return None,
    })
}

fn list() -> Result<(), CommandError<'static>> {
    for NamedDisk { name, vector, disk } in dev::disks() {
        let BlockInfo { sectors, depth, .. } = disk.info();
        let interrupts = Vector::new(vector).map_or(0, irq::count);
        println!("{name}  {sectors} sectors, {interrupts} interrupts, {depth} requests at once");
    }
    Ok(())
}

fn id(disk: &Disk) -> Result<(), CommandError<'static>> {
    println!("{}", name_of(disk)?.escape_ascii());
    Ok(())
}

/// The disk's own name, without the zeros behind it.
fn name_of(disk: &Disk) -> Result<Vec<u8>, CommandError<'static>> {
    let request = with_buffer(Operation::GetId, 0, 1)?;
    let done = block::run_one(disk, request).map_err(CommandError::Disk)?;
    let mut name = alloc::vec![0; ID_BYTES];
    if let Some(buffer) = &done.buffer {
        buffer.read(0, &mut name);
    }
    let end = name.iter().position(|byte| *byte == 0);
    name.truncate(end.unwrap_or(ID_BYTES));
    Ok(name)
}

fn with_buffer(
    operation: Operation,
    sector: u64,
    count: u32,
) -> Result<Request<DmaMemory>, CommandError<'static>> {
    block::with_buffer(operation, sector, count).map_err(|_| CommandError::NoMemory)
}

fn read(disk: &Disk, sectors: Sectors) -> Result<(), CommandError<'static>> {
    let mut hash = Fnv::new();
    let mut start = [0; 16];
    transfer(
        disk,
        Operation::Read,
        sectors,
        |_| (),
        |sector, bytes| {
            if sector == sectors.first {
                start
                    .iter_mut()
                    .zip(bytes)
                    .for_each(|(to, from)| *to = *from);
            }
            hash.add(bytes);
        },
    )?;
    let count = sectors.count;
    println!("{count} sectors, fnv1a {:016x}", hash.0);
    print!("{:08x} ", sectors.first.saturating_mul(SECTOR_SIZE as u64));
    start.iter().for_each(|byte| print!(" {byte:02x}"));
    println!();
    Ok(())
}

fn write(disk: &Disk, sectors: Sectors, seed: u64) -> Result<(), CommandError<'static>> {
    let fill = |request: &Request<DmaMemory>| {
        let Some(buffer) = &request.buffer else {
            return;
        };
        for index in 0..request.count {
            let bytes = pattern(request.sector + u64::from(index), seed);
            buffer.write(index as usize * SECTOR_SIZE, &bytes);
        }
    };
    transfer(disk, Operation::Write, sectors, fill, |_, _| ())?;
    println!("{} sectors written", sectors.count);
    Ok(())
}

fn verify(disk: &Disk, sectors: Sectors, seed: u64) -> Result<(), CommandError<'static>> {
    let mut wrong = 0;
    transfer(
        disk,
        Operation::Read,
        sectors,
        |_| (),
        |sector, bytes| {
            wrong += u32::from(bytes != pattern(sector, seed));
        },
    )?;
    println!("{} sectors, {wrong} wrong", sectors.count);
    let error = CommandError::Disk(BlockError::Io);
    (wrong == 0).then_some(()).ok_or(error)
}

fn flush(disk: &Disk) -> Result<(), CommandError<'static>> {
    let request = Request {
        operation: Operation::Flush,
        sector: 0,
        count: 0,
        buffer: None,
        tag: 0,
    };
    block::run_one(disk, request).map_err(CommandError::Disk)?;
    Ok(())
}

/// Move sectors, many requests at once, and visit each sector's bytes in order.
fn transfer(
    disk: &Disk,
    operation: Operation,
    sectors: Sectors,
    prepare: impl Fn(&Request<DmaMemory>),
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<(), CommandError<'static>> {
    // All of them are on the disk, or nothing is begun.
    let end = sectors.first.checked_add(sectors.count.into());
    let is_there = end.is_some_and(|end| end <= disk.info().sectors);
    let end = end.filter(|_| is_there);
    let end = end.ok_or(CommandError::Disk(BlockError::OutOfRange))?;
    let mut at = sectors.first;
    while at < end {
        let mut requests = Vec::new();
        while at < end && (requests.len() as u64) < WINDOW {
            let count = (end - at).min(CHUNK.into()) as u32;
            let request = with_buffer(operation, at, count)?;
            prepare(&request);
            requests.push(request);
            at += u64::from(count);
        }
        for finished in block::run(disk, requests) {
            visit_sectors(finished, &mut visit)?;
        }
    }
    Ok(())
}

fn visit_sectors(
    (request, result): Finished,
    visit: &mut impl FnMut(u64, &[u8]),
) -> Result<(), CommandError<'static>> {
    result.map_err(CommandError::Disk)?;
    let buffer = request.buffer.as_ref();
    let buffer = buffer.ok_or(CommandError::Disk(BlockError::Io))?;
    let mut bytes = [0; SECTOR_SIZE];
    for index in 0..request.count {
        buffer.read(index as usize * SECTOR_SIZE, &mut bytes);
        visit(request.sector + u64::from(index), &bytes);
    }
    Ok(())
}

/// What `write` writes: each word of each sector another one, and another one for each seed.
fn pattern(sector: u64, seed: u64) -> [u8; SECTOR_SIZE] {
    let mut bytes = [0; SECTOR_SIZE];
    for (word, place) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        let at = sector
            .wrapping_mul(SECTOR_SIZE as u64 / 8)
            .wrapping_add(word);
        let value = mix(seed ^ mix(at));
        place.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the argument.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_differ_by_sector_word_and_seed() {
        let mut words: Vec<[u8; 8]> = Vec::new();
        for (sector, seed) in [(0, 1), (1, 1), (0, 2), (1 << 40, 1), (u64::MAX, 1)] {
            let bytes = pattern(sector, seed);
            assert_eq!(bytes, pattern(sector, seed));
            words.extend(bytes.as_chunks::<8>().0);
        }
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count);
    }
}
