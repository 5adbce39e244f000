//! The same work without a guest: this process gives requests to the engine that serves a guest, waits
//! for them, and fills and checks the same buffers.

use std::path::Path;
use std::time::Instant;

use virtio_devices::blk::{BlockBackend, Command, DiskOptions, FileDisk};
use virtio_devices::chain::Buffer;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::image::{fill, place, places, wrong_blocks};
use super::plan::{Case, Medium};
use super::report::{Sample, thread_cpu_ns};
use crate::error::BenchError;

/// Do the work.
///
/// # Errors
/// [`BenchError::File`] and [`BenchError::Wrong`].
pub fn run(case: &Case, path: &Path, count: u64, seed: u64) -> Result<Sample, BenchError> {
    let fail = |source: std::io::Error| BenchError::File {
        path: path.to_owned(),
        source,
    };
    let options = DiskOptions {
        is_direct: case.medium == Medium::Direct,
        ..DiskOptions::default()
    };
    let disk = FileDisk::open(path, options).map_err(|error| fail(std::io::Error::other(error)))?;
    let work = case.work;
    let bytes = work.bytes as usize;
    let memory = [(GuestAddress(0), bytes * work.depth as usize)];
    let memory = GuestMemoryMmap::<()>::from_ranges(&memory)
        .map_err(|error| fail(std::io::Error::other(error)))?;
    let mut engine = disk.engine(work.depth as u16, &memory).map_err(fail)?;
    let places = places(disk.capacity(), work.bytes);
    let mut block = vec![0; bytes];
    // Of each slot: where its request goes.
    let mut under_way = vec![0; work.depth as usize];
    let mut idle: Vec<usize> = (0..under_way.len()).collect();
    let (mut begun, mut ended, mut wrong) = (0, 0, 0);
    let (start, cpu) = (Instant::now(), thread_cpu_ns());
    while ended < count {
        while begun < count
            && let Some(slot) = idle.pop()
        {
            let at = place(&work, seed, begun, places) * work.bytes;
            let room = GuestAddress((slot * bytes) as u64);
            let command = match work.is_write {
                true => {
                    fill(&mut block, at, seed);
                    let stored = memory.write_slice(&block, room);
                    stored.map_err(|error| fail(std::io::Error::other(error)))?;
                    Command::Write {
                        at,
                        is_durable: false,
                    }
                }
                false => Command::Read { at },
            };
            under_way[slot] = at;
            let buffer = Buffer {
                at: room,
                len: bytes as u32,
            };
            engine.start(slot, command, &[buffer]);
            begun += 1;
        }
        engine.submit().map_err(fail)?;
        let before = ended;
        while let Some(finished) = engine.finished().map_err(fail)? {
            finished.result.map_err(fail)?;
            if !work.is_write {
                let room = GuestAddress((finished.slot * bytes) as u64);
                let loaded = memory.read_slice(&mut block, room);
                loaded.map_err(|error| fail(std::io::Error::other(error)))?;
                wrong += wrong_blocks(&block, under_way[finished.slot], seed);
            }
            idle.push(finished.slot);
            ended += 1;
        }
        if ended == before {
            engine.wait().map_err(fail)?;
        }
    }
    let (ns, cpu) = (
        start.elapsed().as_nanos() as f64,
        thread_cpu_ns().saturating_sub(cpu),
    );
    if wrong > 0 {
        return Err(BenchError::Wrong {
            case: case.title(),
            blocks: wrong,
        });
    }
    Ok(Sample {
        count,
        ns,
        cpu_ns: [cpu, 0],
        ..Sample::default()
    })
}
