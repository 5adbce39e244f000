use std::os::unix::fs::FileExt;

use super::backend::{Command, Engine, Finished, Span};
use super::job::Job;
use super::tests::{KINDS, image, open};
use super::*;
use crate::chain::Buffer;
use crate::driver::{Driver, WRITE, memory};
use crate::raw_io::{IoVecs, Operation};
use vm_memory::{GuestAddress, GuestMemoryMmap};

fn options(is_read_only: bool, engine: EngineKind) -> DiskOptions {
    DiskOptions {
        is_read_only,
        engine,
        is_direct: false,
    }
}

fn refused(path: &std::path::Path, options: DiskOptions) -> String {
    let Err(error) = FileDisk::open(path, options) else {
        panic!("{} was taken", path.display());
    };
    let text = error.to_string();
    assert!(text.contains(&*path.to_string_lossy()), "{text}");
    text
}

#[test]
fn a_disk_in_use_is_refused_unless_both_only_read() {
    let file = image();
    let writer = open(&file, EngineKind::Sync);
    for is_read_only in [false, true] {
        assert!(refused(file.path(), options(is_read_only, EngineKind::Sync)).contains("in use"));
    }
    drop(writer);
    let reader = FileDisk::open(file.path(), options(true, EngineKind::Sync));
    let other = FileDisk::open(file.path(), options(true, EngineKind::Sync));
    assert!(reader.is_ok() && other.is_ok());
    assert!(refused(file.path(), options(false, EngineKind::Sync)).contains("in use"));
    drop((reader, other));
    assert!(FileDisk::open(file.path(), options(false, EngineKind::Sync)).is_ok());
}

#[test]
fn the_lock_lasts_as_long_as_the_engine() {
    for kind in KINDS {
        let file = image();
        let disk = open(&file, kind);
        let engine = disk.engine(4, &memory()).expect("an engine");
        drop(disk);
        assert!(refused(file.path(), options(false, kind)).contains("in use"));
        drop(engine);
        assert!(FileDisk::open(file.path(), options(false, kind)).is_ok());
    }
}

#[test]
fn what_is_no_disk_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let sync = options(true, EngineKind::Sync);
    assert!(refused(&folder.path().join("none"), sync).contains("cannot open"));
    assert!(refused(folder.path(), sync).contains("neither"));
    assert!(refused(std::path::Path::new("/dev/null"), sync).contains("neither"));
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a pipe");
    assert!(refused(&pipe, sync).contains("neither"));
    for len in [0, 511, 513] {
        let path = folder.path().join("odd");
        std::fs::write(&path, vec![0; len]).expect("room");
        assert!(refused(&path, sync).contains(&format!("has {len} bytes")));
    }
}

#[test]
fn auto_is_one_of_the_two() {
    let file = image();
    assert_ne!(
        open(&file, EngineKind::Auto).engine_kind(),
        EngineKind::Auto
    );
}

/// Feed a job scripted results; returns the calls that it made and its end.
fn walk(
    command: Command,
    buffers: &[Buffer],
    results: &[Result<usize, i32>],
) -> (Vec<String>, std::io::Result<()>) {
    let mut io = IoVecs::new(memory());
    io.set(buffers).expect("in memory");
    let mut job = Job::new(command);
    let mut calls = Vec::new();
    let mut results = results.iter();
    while let Some(what) = job.next(&mut io) {
        calls.push(match what {
            Operation::Read { at } => format!("read {at}"),
            Operation::Write {
                at,
                is_durable: false,
            } => format!("write {at}"),
            Operation::Write { at, .. } => format!("write {at} through"),
            Operation::Sync => "sync".into(),
            Operation::Allocate { mode, at, len } => format!("allocate {mode:#x} {at} {len}"),
        });
        let result = results.next().expect("no more calls than results");
        let result = result.map_err(std::io::Error::from_raw_os_error);
        if let Err(error) = job.took(what, result, &mut io) {
            return (calls, Err(error));
        }
    }
    assert_eq!(results.next(), None, "every result is used");
    (calls, Ok(()))
}

const BUFFER: [Buffer; 1] = [Buffer {
    at: GuestAddress(0x1000),
    len: 1024,
}];
const SPAN: Span = Span {
    at: 4096,
    len: 3 << 20,
};

#[test]
fn what_was_moved_in_part_goes_on_and_what_does_not_move_is_an_error() {
    let read = || Command::Read { at: 512 };
    let (calls, end) = walk(read(), &BUFFER, &[Ok(100), Err(libc::EINTR), Ok(924)]);
    assert_eq!(calls, ["read 512", "read 612", "read 612"]);
    assert!(end.is_ok());
    let (_, end) = walk(read(), &BUFFER, &[Ok(1000), Ok(0)]);
    assert_eq!(
        end.map_err(|e| e.kind()),
        Err(std::io::ErrorKind::UnexpectedEof)
    );
    let write = |is_durable| Command::Write { at: 0, is_durable };
    let (calls, end) = walk(write(true), &BUFFER, &[Ok(512), Err(libc::ENOSPC)]);
    assert_eq!(calls, ["write 0 through", "write 512 through"]);
    assert_eq!(end.map_err(|e| e.raw_os_error()), Err(Some(libc::ENOSPC)));
    assert!(walk(write(false), &BUFFER, &[Ok(0)]).1.is_err());
    assert!(walk(Command::Flush, &[], &[Err(libc::EIO)]).1.is_err());
}

#[test]
fn where_there_are_no_holes_zeros_are_written_out_and_discards_are_hints() {
    let zeroes = |may_unmap, is_durable| Command::WriteZeroes {
        spans: vec![(SPAN, may_unmap), (SPAN, may_unmap)],
        is_durable,
    };
    let (calls, end) = walk(
        zeroes(false, true),
        &[],
        &[
            Err(libc::EOPNOTSUPP),
            Ok(1 << 20),
            Ok(1 << 20),
            Ok(1 << 20),
            Ok(0),
            Ok(0),
        ],
    );
    assert!(end.is_ok());
    let zero = "allocate 0x11 4096 3145728";
    assert_eq!(
        calls,
        [
            zero,
            "write 4096",
            "write 1052672",
            "write 2101248",
            zero,
            "sync"
        ]
    );
    let (calls, end) = walk(zeroes(true, false), &[], &[Ok(0), Ok(0)]);
    assert!(end.is_ok());
    assert_eq!(calls, ["allocate 0x3 4096 3145728"; 2]);
    assert!(
        walk(zeroes(true, false), &[], &[Err(libc::ENOSPC)])
            .1
            .is_err()
    );
    let discard = Command::Discard {
        spans: vec![SPAN],
        is_durable: false,
    };
    let (calls, end) = walk(discard, &[], &[Err(libc::EOPNOTSUPP)]);
    assert_eq!((calls.len(), end.is_ok()), (1, true));
}

/// A backend whose commands end only when somebody waits.
struct Stuck;

#[derive(Default)]
struct StuckEngine {
    running: Vec<usize>,
    finished: Vec<usize>,
}

impl BlockBackend for Stuck {
    fn capacity(&self) -> u64 {
        1 << 20
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn block_size(&self) -> u32 {
        512
    }
    fn engine(&self, _: u16, _: &GuestMemoryMmap) -> std::io::Result<Box<dyn Engine>> {
        Ok(Box::new(StuckEngine::default()))
    }
}

impl Engine for StuckEngine {
    fn fd(&self) -> Option<std::os::fd::RawFd> {
        None
    }
    fn start(&mut self, slot: usize, _: Command, _: &[Buffer]) {
        assert!(!self.running.contains(&slot), "one command a slot");
        self.running.push(slot);
    }
    fn submit(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn finished(&mut self) -> std::io::Result<Option<Finished>> {
        let finished = self.finished.pop();
        Ok(finished.map(|slot| Finished {
            slot,
            result: Err(std::io::Error::from_raw_os_error(libc::EIO)),
        }))
    }
    fn wait(&mut self) -> std::io::Result<()> {
        self.finished.extend(self.running.pop());
        Ok(())
    }
    fn cancel(&mut self) {}
}

#[test]
fn more_requests_than_the_queue_has_descriptors_need_a_reset() {
    let mut driver = Driver::new(Box::new(Block::new(Box::new(Stuck), "", 1)));
    driver.rings[0].size = 8;
    driver.start(0);
    driver.put(0x10_0000, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // The same chain again and again: 8 are in flight, the ninth is one too many.
    for _ in 0..9 {
        driver.submit(0, &[(0x10_0000, 16, 0), (0x10_0100, 1, WRITE)]);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(driver.wait_fault().contains("more than 8 chains"));
}

#[test]
fn a_queue_that_is_disabled_is_drained_first() {
    let mut driver = Driver::new(Box::new(Block::new(Box::new(Stuck), "", 1)));
    driver.start(0);
    driver.put(0x10_0000, &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    driver.submit(0, &[(0x10_0000, 16, 0), (0x10_0100, 1, WRITE)]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(driver.rings[0].used_index(&driver.memory), 0);
    assert_eq!(driver.set_ready(0, 0), 0);
    assert_eq!(driver.rings[0].used_index(&driver.memory), 1);
    assert_eq!(driver.get(0x10_0100, 1), [1]);
}

#[test]
fn what_was_flushed_is_in_the_file_when_the_machine_is_gone() {
    for kind in KINDS {
        let file = image();
        let engine = open(&file, kind).engine(2, &memory());
        let mut engine = engine.expect("an engine");
        engine.start(
            0,
            Command::Write {
                at: 512,
                is_durable: true,
            },
            &BUFFER,
        );
        engine.submit().expect("starts");
        drop(engine);
        let mut bytes = [0xff; 1024];
        file.as_file()
            .read_exact_at(&mut bytes, 512)
            .expect("inside");
        assert_eq!(bytes, [0; 1024], "drop waits for what runs");
    }
}
