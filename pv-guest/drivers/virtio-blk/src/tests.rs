//! The driver against a disk in plain memory.

use super::Disk;
use super::wire::*;
use driver_api::{BlockDevice, BlockError, BlockInfo, Completion, Dma, Env, Operation, Request};
use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;
use virtio::fake::{Answer, Chain, Device, FakeDma, FakeEnv, Machine};
use virtio::wire::{F_EVENT_IDX, F_INDIRECT_DESC};
use virtio::{Transport, VirtioError};

const SECTORS: u64 = 64;
const ALL: u64 = F_FLUSH | F_MQ | F_DISCARD | F_WRITE_ZEROES | F_INDIRECT_DESC | F_EVENT_IDX;

/// What a disk of the fake machine does: bytes, and the requests it saw, in order.
#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    seen: Vec<(u32, u64)>,
    queues: Vec<usize>,
}

impl Model {
    fn answer(&mut self, chain: &Chain) -> Answer {
        let word = |at: usize| u32::from_le_bytes(chain.readable[at..at + 4].try_into().unwrap());
        let (kind, sector) = (word(0), u64::from(word(8)) | u64::from(word(12)) << 32);
        self.seen.push((kind, sector));
        self.queues.push(chain.queue);
        let at = sector as usize * 512;
        let mut bytes = match kind {
            T_IN => self.bytes[at..at + chain.room - 1].to_vec(),
            T_OUT => {
                let data = &chain.readable[16..];
                self.bytes[at..at + data.len()].copy_from_slice(data);
                Vec::new()
            }
            T_GET_ID => b"paravane-disk-0\0\0\0\0\0".to_vec(),
            T_FLUSH => Vec::new(),
            T_DISCARD | T_WRITE_ZEROES => {
                assert_eq!((chain.readable.len(), word(28)), (32, 0));
                let (at, len) = (word(16) as usize * 512, word(24) as usize * 512);
                self.bytes[at..at + len].fill(0);
                Vec::new()
            }
            _ => panic!("request of type {kind}"),
        };
        assert_eq!(chain.room, bytes.len() + 1);
        bytes.push(S_OK);
        Answer {
            bytes,
            ..Answer::default()
        }
    }
}

/// What came back.
#[derive(Default)]
struct Client(Mutex<Vec<Completed>>);

type Completed = (Request<FakeDma>, Result<(), BlockError>);

impl Completion<FakeDma> for Client {
    fn complete(&self, request: Request<FakeDma>, result: Result<(), BlockError>) {
        self.0.lock().unwrap().push((request, result));
    }
}

struct Rig {
    machine: Arc<Machine>,
    model: Arc<Mutex<Model>>,
    disk: Arc<Disk<FakeEnv>>,
    client: Arc<Client>,
}

fn config(queues: u16) -> Vec<u8> {
    let mut config = vec![0; 60];
    config[..8].copy_from_slice(&SECTORS.to_le_bytes());
    config[34..36].copy_from_slice(&queues.to_le_bytes());
    config[36..40].copy_from_slice(&16u32.to_le_bytes());
    config[48..52].copy_from_slice(&8u32.to_le_bytes());
    config
}

fn open(device: Device) -> (Arc<Machine>, Result<Arc<Disk<FakeEnv>>, VirtioError>) {
    let machine = Machine::new(device);
    let env = machine.env();
    let transport = Transport::new(env.mmio(0, 0x200).unwrap()).unwrap();
    let disk = Disk::new(env, transport, 0x31);
    (machine, disk)
}

/// A disk whose answers are changed on their way.
fn rig_with(
    features: u64,
    queues: u16,
    mut change: impl FnMut(Answer) -> Answer + Send + 'static,
) -> Rig {
    let model = Arc::new(Mutex::new(Model {
        bytes: vec![0; SECTORS as usize * 512],
        ..Model::default()
    }));
    let shared = model.clone();
    let handler = move |chain: &Chain| change(shared.lock().unwrap().answer(chain));
    let mut device = Device::new(2, features, queues.into(), Box::new(handler));
    device.config = config(queues);
    let (machine, disk) = open(device);
    Rig {
        machine,
        model,
        disk: disk.unwrap(),
        client: Arc::default(),
    }
}

fn rig(features: u64) -> Rig {
    rig_with(features, 1, |answer| answer)
}

impl Rig {
    fn buffer(&self, bytes: &[u8]) -> FakeDma {
        let buffer = self.machine.env().dma(bytes.len()).unwrap();
        buffer.write(0, bytes);
        buffer
    }

    fn submit(
        &self,
        operation: Operation,
        sector: u64,
        count: u32,
        buffer: Option<FakeDma>,
    ) -> Result<(), BlockError> {
        let request = Request {
            operation,
            sector,
            count,
            buffer,
            tag: sector,
        };
        let client: Arc<dyn Completion<FakeDma>> = self.client.clone();
        self.disk
            .submit(request, &client)
            .map_err(|refused| refused.error)
    }

    fn finish(&self) -> Vec<Completed> {
        self.disk.kick();
        while self.machine.run() {}
        std::mem::take(&mut self.client.0.lock().unwrap())
    }

    /// One request from beginning to end, and the first bytes of its buffer.
    fn one(
        &self,
        operation: Operation,
        sector: u64,
        count: u32,
        buffer: Option<FakeDma>,
    ) -> (Result<(), BlockError>, Vec<u8>) {
        if let Err(error) = self.submit(operation, sector, count, buffer) {
            return (Err(error), Vec::new());
        }
        let mut all = self.finish();
        assert_eq!(all.len(), 1);
        let (request, result) = all.remove(0);
        let mut bytes = vec![0; request.buffer.as_ref().map_or(0, FakeDma::len)];
        if let Some(buffer) = &request.buffer {
            buffer.read(0, &mut bytes);
        }
        (result, bytes)
    }
}

#[test]
fn the_numbers_are_the_specification_s() {
    use virtio_bindings::virtio_blk as spec;
    for (ours, theirs) in [
        (F_RO, 1 << spec::VIRTIO_BLK_F_RO),
        (F_FLUSH, 1 << spec::VIRTIO_BLK_F_FLUSH),
        (F_MQ, 1 << spec::VIRTIO_BLK_F_MQ),
        (F_DISCARD, 1 << spec::VIRTIO_BLK_F_DISCARD),
        (F_WRITE_ZEROES, 1 << spec::VIRTIO_BLK_F_WRITE_ZEROES),
        (T_IN.into(), spec::VIRTIO_BLK_T_IN.into()),
        (T_OUT.into(), spec::VIRTIO_BLK_T_OUT.into()),
        (T_FLUSH.into(), spec::VIRTIO_BLK_T_FLUSH.into()),
        (T_GET_ID.into(), spec::VIRTIO_BLK_T_GET_ID.into()),
        (T_DISCARD.into(), spec::VIRTIO_BLK_T_DISCARD.into()),
        (
            T_WRITE_ZEROES.into(),
            spec::VIRTIO_BLK_T_WRITE_ZEROES.into(),
        ),
        (S_OK.into(), spec::VIRTIO_BLK_S_OK.into()),
        (S_IOERR.into(), spec::VIRTIO_BLK_S_IOERR.into()),
        (S_UNSUPP.into(), spec::VIRTIO_BLK_S_UNSUPP.into()),
    ] as [(u64, u64); 14]
    {
        assert_eq!(ours, theirs);
    }
    type Config = spec::virtio_blk_config;
    use std::mem::offset_of;
    assert_eq!(CONFIG_CAPACITY as usize, offset_of!(Config, capacity));
    assert_eq!(CONFIG_QUEUES as usize + 2, offset_of!(Config, num_queues));
    assert_eq!(
        CONFIG_MAX_DISCARD as usize,
        offset_of!(Config, max_discard_sectors)
    );
    assert_eq!(
        CONFIG_MAX_WRITE_ZEROES as usize,
        offset_of!(Config, max_write_zeroes_sectors)
    );
}

#[test]
fn a_disk_says_what_it_can() {
    let info = rig_with(ALL, 2, |answer| answer).disk.info();
    let expected = BlockInfo {
        sectors: SECTORS,
        is_read_only: false,
        needs_flush: true,
        max_discard: 16,
        max_write_zeroes: 8,
        depth: 512,
    };
    assert_eq!(info, expected);
    let plain = rig(F_RO).disk.info();
    assert!(plain.is_read_only && !plain.needs_flush);
    assert_eq!((plain.max_discard, plain.max_write_zeroes), (0, 0));
    assert!(plain.depth >= 32, "{}", plain.depth);
}

#[test]
fn what_was_written_is_read_back_whatever_the_device_offers() {
    for features in [0, F_INDIRECT_DESC, F_EVENT_IDX, ALL] {
        let rig = rig(features);
        let pattern: Vec<u8> = (0..1536u32).map(|at| (at * 7 % 251) as u8).collect();
        let written = rig.one(Operation::Write, 5, 3, Some(rig.buffer(&pattern)));
        assert_eq!(written.0, Ok(()));
        assert_eq!(rig.model.lock().unwrap().bytes[5 * 512..8 * 512], pattern);
        let read = rig.one(Operation::Read, 5, 3, Some(rig.buffer(&[0; 1536])));
        assert_eq!(read, (Ok(()), pattern));
    }
}

#[test]
fn the_other_operations_arrive_as_such() {
    let rig = rig(ALL);
    rig.model.lock().unwrap().bytes.fill(9);
    assert_eq!(rig.one(Operation::Flush, 0, 0, None).0, Ok(()));
    assert_eq!(rig.one(Operation::Discard, 3, 16, None).0, Ok(()));
    assert_eq!(rig.one(Operation::WriteZeroes, 40, 8, None).0, Ok(()));
    let (result, id) = rig.one(Operation::GetId, 0, 0, Some(rig.buffer(&[0; 20])));
    assert_eq!(result, Ok(()));
    assert_eq!(&id, b"paravane-disk-0\0\0\0\0\0");
    let model = rig.model.lock().unwrap();
    let zeros = model.bytes.iter().filter(|byte| **byte == 0).count();
    assert_eq!(zeros, (16 + 8) * 512);
    let kinds: Vec<_> = model.seen.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [T_FLUSH, T_DISCARD, T_WRITE_ZEROES, T_GET_ID]);
    assert!(model.seen.iter().all(|(_, sector)| *sector == 0));
}

#[test]
fn what_makes_no_sense_is_refused_before_the_device_sees_it() {
    let rig = rig(F_DISCARD);
    let sector = || Some(rig.buffer(&[0; 512]));
    for (operation, at, count, buffer, error) in [
        (Operation::Read, 0, 0, sector(), BlockError::BadRequest),
        (Operation::Read, 0, 2, sector(), BlockError::BadRequest),
        (Operation::Read, 0, 1, None, BlockError::BadRequest),
        (
            Operation::Read,
            SECTORS,
            1,
            sector(),
            BlockError::OutOfRange,
        ),
        (
            Operation::Write,
            u64::MAX,
            1,
            sector(),
            BlockError::OutOfRange,
        ),
        (
            Operation::GetId,
            0,
            0,
            Some(rig.buffer(&[0; 19])),
            BlockError::BadRequest,
        ),
        (Operation::Discard, 0, 17, None, BlockError::BadRequest),
        (Operation::WriteZeroes, 0, 1, None, BlockError::Unsupported),
    ] {
        assert_eq!(
            rig.submit(operation, at, count, buffer),
            Err(error),
            "{operation:?}"
        );
    }
    let read_only = self::rig(F_RO);
    let result = read_only.submit(Operation::Write, 0, 1, Some(read_only.buffer(&[0; 512])));
    assert_eq!(result, Err(BlockError::ReadOnly));
    assert!(rig.finish().is_empty() && read_only.finish().is_empty());
    assert!(rig.model.lock().unwrap().seen.is_empty());
}

#[test]
fn many_requests_are_under_way_at_once_and_cost_one_notification_and_one_interrupt() {
    for (features, at_once) in [
        (ALL, 128),
        (F_INDIRECT_DESC, 128),
        (0, 64),
        (F_EVENT_IDX, 64),
    ] {
        let rig = rig(features);
        let before = rig.machine.accesses();
        for round in 1..40 {
            for number in 0..at_once {
                rig.submit(Operation::Flush, number, 0, None).unwrap();
            }
            rig.machine
                .device(|device| device.is_reversed = round % 2 == 0);
            let mut tags: Vec<_> = rig
                .finish()
                .iter()
                .map(|(r, result)| {
                    assert_eq!(*result, Ok(()));
                    r.tag
                })
                .collect();
            tags.sort_unstable();
            assert!(tags.into_iter().eq(0..at_once));
            assert_eq!(rig.machine.notifications(), round);
            assert_eq!(rig.machine.interrupts(), round);
        }
        // No register was touched on the way: no exit but the notifications.
        assert_eq!(rig.machine.accesses(), before);
    }
}

#[test]
fn a_full_disk_is_busy_and_gives_the_request_back() {
    for features in [0, ALL] {
        let rig = rig(features);
        let depth = rig.disk.info().depth;
        for _ in 0..3 {
            (0..depth).for_each(|_| rig.submit(Operation::Flush, 0, 0, None).unwrap());
            let refused = rig.submit(Operation::Flush, 0, 0, None);
            assert_eq!(refused, Err(BlockError::Busy));
            assert_eq!(rig.finish().len(), depth);
        }
    }
}

#[test]
fn all_queues_are_used() {
    let rig = rig_with(ALL, 9, |answer| answer);
    assert_eq!(rig.disk.queues(), 4);
    (0..8).for_each(|_| rig.submit(Operation::Flush, 0, 0, None).unwrap());
    assert_eq!(rig.finish().len(), 8);
    let mut queues = rig.model.lock().unwrap().queues.clone();
    queues.sort_unstable();
    assert_eq!(queues, [0, 0, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn the_disk_s_errors_reach_the_caller_and_it_goes_on() {
    for (status, error) in [
        (S_IOERR, BlockError::Io),
        (S_UNSUPP, BlockError::Unsupported),
    ] {
        let mut is_first = true;
        let rig = rig_with(ALL, 1, move |mut answer| {
            if core::mem::take(&mut is_first) {
                *answer.bytes.last_mut().unwrap() = status;
            }
            answer
        });
        let read = |rig: &Rig| {
            rig.one(Operation::Read, 0, 1, Some(rig.buffer(&[0; 512])))
                .0
        };
        assert_eq!(read(&rig), Err(error));
        assert_eq!(read(&rig), Ok(()));
    }
}

#[test]
fn a_device_that_breaks_the_protocol_is_reset_and_all_requests_fail() {
    let changes: [fn(Answer) -> Answer; 7] = [
        |answer| Answer {
            id: Some(200),
            ..answer
        },
        |answer| Answer {
            id: Some(u32::MAX),
            ..answer
        },
        |answer| Answer {
            len: Some(u32::MAX),
            ..answer
        },
        // Too short for the data, whatever the status byte says.
        |answer| Answer {
            len: Some(0),
            ..answer
        },
        |answer| Answer {
            is_ahead: true,
            ..answer
        },
        |mut answer| {
            *answer.bytes.last_mut().unwrap() = 77;
            answer
        },
        // No status byte at all.
        |mut answer| {
            answer.bytes.pop();
            answer
        },
    ];
    for features in [0, ALL] {
        for (number, change) in changes.into_iter().enumerate() {
            let rig = rig_with(features, 1, change);
            for sector in 0..5 {
                let buffer = Some(rig.buffer(&[0; 512]));
                rig.submit(Operation::Read, sector, 1, buffer).unwrap();
            }
            let all = rig.finish();
            assert_eq!(all.len(), 5, "{number}");
            for (request, result) in all {
                assert_eq!(result, Err(BlockError::Broken), "{number}");
                assert!(request.buffer.is_some());
            }
            assert_eq!(rig.machine.device(|device| device.status()), 0);
            let later = rig.submit(Operation::Flush, 0, 0, None);
            assert_eq!(later, Err(BlockError::Broken));
            assert_eq!(rig.machine.log().len(), 1);
        }
    }
}

#[test]
fn a_change_of_size_is_noticed_by_an_interrupt_without_completions() {
    let rig = rig(ALL);
    let mut larger = config(1);
    larger[0] = 100;
    rig.machine.device(|device| device.change_config(larger));
    assert_eq!(rig.disk.info().sectors, SECTORS);
    while rig.machine.run() {}
    assert_eq!(rig.disk.info().sectors, 100);
    assert_eq!(rig.machine.device(|device| device.interrupt_status()), 0);
}

#[test]
fn a_device_that_needs_a_reset_fails_what_is_under_way() {
    let rig = rig(ALL);
    rig.submit(Operation::Flush, 0, 0, None).unwrap();
    // The device stops before it is told of the request.
    rig.machine.device(Device::stop);
    while rig.machine.run() {}
    let all = std::mem::take(&mut *rig.client.0.lock().unwrap());
    let results: Vec<_> = all.into_iter().map(|(_, result)| result).collect();
    assert_eq!(results, [Err(BlockError::Broken)]);
    assert_eq!(rig.machine.device(|device| device.status()), 0);
}

#[test]
fn a_client_may_submit_from_its_completion() {
    struct Chained(
        Mutex<u64>,
        Arc<Disk<FakeEnv>>,
        Mutex<Option<Arc<dyn Completion<FakeDma>>>>,
    );
    impl Completion<FakeDma> for Chained {
        fn complete(&self, mut request: Request<FakeDma>, result: Result<(), BlockError>) {
            assert_eq!(result, Ok(()));
            *self.0.lock().unwrap() += 1;
            if request.tag > 0 {
                request.tag -= 1;
                let own = self.2.lock().unwrap().clone().unwrap();
                self.1.submit(request, &own).map_err(|r| r.error).unwrap();
                self.1.kick();
            }
        }
    }
    let rig = rig(ALL);
    let client = Arc::new(Chained(Mutex::new(0), rig.disk.clone(), Mutex::new(None)));
    let own: Arc<dyn Completion<FakeDma>> = client.clone();
    *client.2.lock().unwrap() = Some(own.clone());
    let request = Request {
        operation: Operation::Flush,
        sector: 0,
        count: 0,
        buffer: None,
        tag: 9,
    };
    rig.disk.submit(request, &own).map_err(|r| r.error).unwrap();
    rig.finish();
    assert_eq!(*client.0.lock().unwrap(), 10);
    *client.2.lock().unwrap() = None;
}

#[test]
fn a_device_that_cannot_be_used_is_an_error() {
    let device = |id, queues| {
        let mut device = Device::new(id, 0, queues, Box::new(|_| Answer::default()));
        device.config = config(1);
        device
    };
    let failed = |device| open(device).1.map(|_| ()).unwrap_err();
    assert_eq!(failed(device(4, 1)), VirtioError::OtherDevice(4));
    assert_eq!(failed(device(2, 0)), VirtioError::NoQueue(0));
    let mut tiny = device(2, 1);
    tiny.max_queue = 2;
    assert_eq!(failed(tiny), VirtioError::NoQueue(0));
    let mut restless = device(2, 1);
    restless.is_restless = true;
    assert_eq!(failed(restless), VirtioError::Configuration);
}
