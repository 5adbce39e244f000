//! The guest's ATA driver on the hypervisor's drives, over plain memory and without KVM; and on drives that
//! answer nonsense.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ata::{AtaError, COMMAND_PORTS, CONTROL_PORTS, Channel, Disk};
use driver_api::{BlockDevice, BlockError, Completion, ID_BYTES, Operation, PortEnv, Request};
use hypervisor::legacy::{self, SECTOR, Sectors};
use proptest::prelude::*;
use tests::board::{Board, Bus, Bytes, VECTOR, lock};

const COUNT: usize = 700;

/// Sectors in memory, one of which may be bad.
#[derive(Clone)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    bad: Arc<Mutex<Option<u64>>>,
    flushes: Arc<AtomicU64>,
    count: u64,
}

impl Memory {
    fn new() -> Self {
        let bytes = (0..COUNT * SECTOR).map(|at| (at / SECTOR * 7 + at) as u8);
        Self {
            bytes: Arc::new(Mutex::new(bytes.collect())),
            bad: Arc::default(),
            flushes: Arc::default(),
            count: COUNT as u64,
        }
    }

    fn range(&self, sector: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
        let end = sector + (len / SECTOR) as u64;
        if lock(&self.bad).is_some_and(|bad| (sector..end).contains(&bad)) {
            return Err(io::Error::other("a bad sector"));
        }
        // A disk of many sectors repeats the same few.
        let at = sector as usize % COUNT * SECTOR;
        Ok(at..at + len)
    }
}

impl Sectors for Memory {
    fn count(&self) -> u64 {
        self.count
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn serial(&self) -> &str {
        "serial number 7"
    }
    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(&lock(&self.bytes)[self.range(sector, into.len())?]);
        Ok(())
    }
    fn write(&mut self, sector: u64, from: &[u8]) -> io::Result<()> {
        let range = self.range(sector, from.len())?;
        lock(&self.bytes)[range].copy_from_slice(from);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What is at the ports.
enum Model {
    Real(legacy::Channel),
    /// Every byte read is the next of these, and the line is raised where that is odd.
    Nonsense(VecDeque<u8>),
}

const COMMAND: u16 = 0x1f0;
const CONTROL: u16 = 0x3f6;

impl Bus for Model {
    fn read(&mut self, port: u16, into: &mut [u8]) {
        match self {
            Self::Real(channel) if port == CONTROL => channel.read_control(into),
            Self::Real(channel) => channel.read(port - COMMAND, into),
            Self::Nonsense(bytes) => into.fill_with(|| bytes.pop_front().unwrap_or(0x51)),
        }
    }

    fn write(&mut self, port: u16, from: &[u8]) {
        match self {
            Self::Real(channel) if port == CONTROL => channel.write_control(from),
            Self::Real(channel) => channel.write(port - COMMAND, from),
            Self::Nonsense(_) => {}
        }
    }

    fn interrupt(&mut self) -> bool {
        match self {
            Self::Real(channel) => channel.interrupt(),
            Self::Nonsense(bytes) => bytes.front().is_some_and(|byte| byte & 1 != 0),
        }
    }
}

type TestEnv = Board<Model>;

fn with(memory: &[&Memory]) -> TestEnv {
    let boxed = |memory: &&Memory| Box::new((*memory).clone()) as Box<dyn Sectors>;
    let second = memory.get(1).map(boxed);
    Board::new(
        Model::Real(legacy::Channel::new(boxed(&memory[0]), second)),
        false,
    )
}

fn nonsense(bytes: impl Into<VecDeque<u8>>) -> TestEnv {
    Board::new(Model::Nonsense(bytes.into()), false)
}

fn channel(env: &TestEnv) -> Result<Arc<Channel<TestEnv>>, AtaError> {
    let command = env.ports(COMMAND, COMMAND_PORTS).expect("they are there");
    let control = env.ports(CONTROL, CONTROL_PORTS).expect("they are there");
    Channel::new(env.clone(), command, control, VECTOR)
}

/// A request that is complete, and how.
type Done = (Request<Bytes>, Result<(), BlockError>);

/// Where complete requests go.
#[derive(Default)]
struct Inbox(Mutex<Vec<Done>>);

impl Completion<Bytes> for Inbox {
    fn complete(&self, request: Request<Bytes>, result: Result<(), BlockError>) {
        lock(&self.0).push((request, result));
    }
}

fn request(operation: Operation, sector: u64, count: u32, tag: u64) -> Request<Bytes> {
    let bytes = match operation {
        Operation::Read | Operation::Write => count as usize * SECTOR,
        Operation::GetId => ID_BYTES,
        _ => 0,
    };
    let mut content = vec![0; bytes];
    if operation == Operation::Write {
        content.fill_with({
            let mut next = tag as u8;
            move || {
                next = next.wrapping_mul(5).wrapping_add(3);
                next
            }
        });
    }
    Request {
        operation,
        sector,
        count,
        buffer: Some(Bytes::new(content)),
        tag,
    }
}

/// Do requests one after the other.
fn each(env: &TestEnv, disk: &Disk<TestEnv>, requests: Vec<Request<Bytes>>) -> Vec<Done> {
    let inbox = Arc::new(Inbox::default());
    let client: Arc<dyn Completion<Bytes>> = inbox.clone();
    for request in requests {
        match disk.submit(request, &client) {
            Ok(()) => disk.kick(),
            Err(refused) => lock(&inbox.0).push((refused.request, Err(refused.error))),
        }
        while env.bottom() {}
    }
    drop(client);
    Arc::into_inner(inbox)
        .expect("nobody has it")
        .0
        .into_inner()
        .expect("no panic")
}

fn one(env: &TestEnv, disk: &Disk<TestEnv>, request: Request<Bytes>) -> Done {
    let mut done = each(env, disk, vec![request]);
    assert_eq!(done.len(), 1, "it is complete, once");
    done.remove(0)
}

fn content(request: &Request<Bytes>) -> Vec<u8> {
    request.buffer.as_ref().expect("a buffer").content()
}

#[test]
fn a_disk_is_found_with_its_name_and_its_size() {
    let memory = Memory::new();
    let env = with(&[&memory]);
    let channel = channel(&env).expect("a disk");
    assert_eq!(
        channel
            .drives()
            .map(|(number, _)| number)
            .collect::<Vec<_>>(),
        [0]
    );
    let disk = Disk::new(channel.clone(), 0);
    assert_eq!(disk.info().sectors, COUNT as u64);
    assert!(disk.info().needs_flush);
    let (done, result) = one(&env, &disk, request(Operation::GetId, 0, 1, 0));
    assert_eq!(result, Ok(()));
    assert_eq!(content(&done), b"serial number 7\0\0\0\0\0");
    // The second drive is none.
    let none = Disk::new(channel, 1);
    assert_eq!(none.info().sectors, 0);
    assert_eq!(
        one(&env, &none, request(Operation::Read, 0, 1, 0)).1,
        Err(BlockError::Broken)
    );
}

#[test]
fn sectors_move_both_ways_in_blocks_of_any_number() {
    let memory = Memory::new();
    let env = with(&[&memory]);
    let disk = Disk::new(channel(&env).expect("a disk"), 0);
    for count in [1, 2, 15, 16, 17, 100, 256, 300] {
        let before = lock(&memory.bytes).clone();
        let (read, result) = one(&env, &disk, request(Operation::Read, 5, count, 0));
        assert_eq!(result, Ok(()));
        assert_eq!(
            content(&read),
            before[5 * SECTOR..(5 + count as usize) * SECTOR]
        );
        let (written, result) = one(
            &env,
            &disk,
            request(Operation::Write, 9, count, u64::from(count)),
        );
        assert_eq!(result, Ok(()));
        let after = lock(&memory.bytes).clone();
        let end = (9 + count as usize) * SECTOR;
        assert_eq!(after[9 * SECTOR..end], content(&written));
        assert_eq!(
            (&after[..9 * SECTOR], &after[end..]),
            (&before[..9 * SECTOR], &before[end..])
        );
    }
    assert_eq!(memory.flushes.load(Ordering::Relaxed), 0);
    assert_eq!(
        one(&env, &disk, request(Operation::Flush, 0, 0, 0)).1,
        Ok(())
    );
    assert_eq!(memory.flushes.load(Ordering::Relaxed), 1);
}

#[test]
fn addresses_beyond_28_bits_reach_their_sectors() {
    let memory = Memory {
        count: 1 << 40,
        ..Memory::new()
    };
    let env = with(&[&memory]);
    let disk = Disk::new(channel(&env).expect("a disk"), 0);
    // The last one of 28 bits, one that needs both, and far beyond.
    for sector in [
        (1 << 28) - 1,
        (1 << 28) - 2,
        1 << 28,
        0x12_3456_7890 / 700 * 700,
    ] {
        let (read, result) = one(&env, &disk, request(Operation::Read, sector, 3, 0));
        assert_eq!(result, Ok(()), "{sector:#x}");
        let at = sector as usize % COUNT * SECTOR;
        assert_eq!(
            content(&read),
            lock(&memory.bytes)[at..at + 3 * SECTOR],
            "{sector:#x}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused_and_what_fails_is_an_error() {
    let memory = Memory::new();
    let env = with(&[&memory]);
    let disk = Disk::new(channel(&env).expect("a disk"), 0);
    let before = env.accesses();
    for (operation, sector, count, error) in [
        (Operation::Read, COUNT as u64, 1, BlockError::OutOfRange),
        (Operation::Read, u64::MAX, 1, BlockError::OutOfRange),
        (
            Operation::Write,
            COUNT as u64 - 1,
            2,
            BlockError::OutOfRange,
        ),
        (Operation::Read, 0, 0, BlockError::BadRequest),
        (Operation::Discard, 0, 1, BlockError::Unsupported),
        (Operation::WriteZeroes, 0, 1, BlockError::Unsupported),
    ] {
        assert_eq!(
            one(&env, &disk, request(operation, sector, count, 0)).1,
            Err(error)
        );
    }
    let short = Request {
        count: 2,
        ..request(Operation::Read, 0, 1, 0)
    };
    assert_eq!(one(&env, &disk, short).1, Err(BlockError::BadRequest));
    assert_eq!(env.accesses(), before, "the drive was not asked");

    *lock(&memory.bad) = Some(20);
    for (operation, sector, result) in [
        (Operation::Read, 0, Err(BlockError::Io)),
        (Operation::Write, 10, Err(BlockError::Io)),
        (Operation::Read, 21, Ok(())),
    ] {
        assert_eq!(
            one(&env, &disk, request(operation, sector, 40, 0)).1,
            result
        );
    }
}

#[test]
fn requests_to_both_drives_take_turns_and_too_many_are_refused() {
    let (first, second) = (Memory::new(), Memory::new());
    lock(&second.bytes).fill(9);
    let env = with(&[&first, &second]);
    let channel = channel(&env).expect("disks");
    let disks = [0, 1].map(|number| Disk::new(channel.clone(), number));
    let inbox = Arc::new(Inbox::default());
    let client: Arc<dyn Completion<Bytes>> = inbox.clone();
    let depth = disks[0].info().depth as u64;
    for tag in 0..depth {
        for (number, disk) in disks.iter().enumerate() {
            let request = request(Operation::Read, tag * 20, 18, tag * 2 + number as u64);
            assert!(disk.submit(request, &client).is_ok());
        }
    }
    let refused = disks[0].submit(request(Operation::Read, 0, 1, 99), &client);
    assert_eq!(refused.expect_err("it is full").error, BlockError::Busy);
    disks[1].kick();
    while env.bottom() {}
    let done = std::mem::take(&mut *lock(&inbox.0));
    assert_eq!(done.len() as u64, 2 * depth);
    for (request, result) in &done {
        assert_eq!(*result, Ok(()));
        let memory = [&first, &second][request.tag as usize % 2];
        let at = request.sector as usize * SECTOR;
        assert_eq!(content(request), lock(&memory.bytes)[at..at + 18 * SECTOR]);
    }
    // First come, first served, over both drives.
    let tags: Vec<u64> = done.iter().map(|(request, _)| request.tag).collect();
    assert_eq!(tags, (0..2 * depth).collect::<Vec<_>>());
    assert!(
        disks[0]
            .submit(request(Operation::Read, 0, 1, 99), &client)
            .is_ok()
    );
}

/// A client that asks for the next sector as soon as it has one.
struct Chain {
    disk: Disk<TestEnv>,
    client: Mutex<Option<Arc<dyn Completion<Bytes>>>>,
    done: AtomicU64,
}

impl Completion<Bytes> for Chain {
    fn complete(&self, mut request: Request<Bytes>, result: Result<(), BlockError>) {
        assert_eq!(result, Ok(()));
        self.done.fetch_add(1, Ordering::Relaxed);
        request.sector += 1;
        let client = lock(&self.client).clone().expect("it is set");
        if request.sector < COUNT as u64 && self.disk.submit(request, &client).is_ok() {
            self.disk.kick();
        }
    }
}

#[test]
fn a_client_may_submit_from_its_completion_without_end() {
    let memory = Memory::new();
    let env = with(&[&memory]);
    let channel = channel(&env).expect("a disk");
    let chain = Arc::new(Chain {
        disk: Disk::new(channel.clone(), 0),
        client: Mutex::default(),
        done: AtomicU64::new(0),
    });
    let client: Arc<dyn Completion<Bytes>> = chain.clone();
    *lock(&chain.client) = Some(client.clone());
    assert!(
        chain
            .disk
            .submit(request(Operation::Read, 0, 1, 0), &client)
            .is_ok()
    );
    chain.disk.kick();
    while env.bottom() {}
    assert_eq!(chain.done.load(Ordering::Relaxed), COUNT as u64);
    *lock(&chain.client) = None;
}

#[test]
fn an_empty_channel_is_none() {
    for byte in [0xff, 0x00, 0x7f] {
        let found = channel(&nonsense(vec![byte; 4096]));
        assert_eq!(found.err(), Some(AtaError::NoDisk), "{byte:#x}");
    }
    let found = channel(&nonsense(vec![0x80; 1 << 20]));
    assert_eq!(found.err(), Some(AtaError::Busy));
}

/// A drive's description, at the point where the driver reads it.
fn described(rest: Vec<u8>) -> VecDeque<u8> {
    let mut drive = legacy::Channel::new(Box::new(Memory::new()), None);
    drive.write(6, &[0x40]);
    drive.write(7, &[0xec]);
    let mut words = [0; SECTOR];
    drive.read(0, &mut words);
    // The reset's wait, the selection's, the status, the answer with data; and the description.
    let mut bytes: Vec<u8> = vec![0x50, 0x50, 0x50, 0x58];
    bytes.extend(words);
    bytes.extend(rest);
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a drive answers, each request is refused or complete once, or the drive still owes an
    /// interrupt; the driver neither panics nor hangs.
    #[test]
    fn nonsense_ends_in_errors(
        rest in prop::collection::vec(
            prop_oneof![4 => prop::sample::select(&[0x50_u8, 0x58, 0x51, 0x59, 0x80, 0xd0, 0x70, 0][..]), 1 => any::<u8>()],
            0..3000,
        ),
        requests in prop::collection::vec(
            (prop::sample::select(&[Operation::Read, Operation::Write, Operation::Flush][..]), 0..800_u64, 0..40_u32),
            1..8,
        ),
    ) {
        let env = nonsense(described(rest));
        let Ok(channel) = channel(&env) else { return Ok(()) };
        let disk = Disk::new(channel, 0);
        let inbox = Arc::new(Inbox::default());
        let client: Arc<dyn Completion<Bytes>> = inbox.clone();
        let count = requests.len();
        let mut refused = 0;
        for (tag, (operation, sector, count)) in (0..).zip(requests) {
            match disk.submit(request(operation, sector, count, tag), &client) {
                Ok(()) => disk.kick(),
                Err(_) => refused += 1,
            }
            env.bottom();
        }
        // Interrupts for what is under way: from now on the drive has nothing but errors to say.
        env.access(|model| *model = Model::Nonsense(VecDeque::new()));
        for _ in 0..=2 * count {
            env.top();
            env.bottom();
        }
        let mut tags: Vec<u64> = lock(&inbox.0).iter().map(|(request, _)| request.tag).collect();
        prop_assert_eq!(tags.len() + refused, count);
        tags.sort_unstable();
        tags.dedup();
        prop_assert_eq!(tags.len() + refused, count);
    }
}
