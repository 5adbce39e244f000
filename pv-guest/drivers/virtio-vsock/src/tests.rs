//! The driver against a socket device in plain memory, whose other side the tests play.

use super::Vsock;
use super::connection::BUFFER;
use super::wire::*;
use driver_api::{Env, HOST_CID, SocketAddress, SocketClient, SocketDevice, SocketError, SocketId};
use std::boxed::Box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;
use virtio::fake::{Answer, Chain, Device, FakeEnv, Machine};
use virtio::wire::{F_EVENT_IDX, ID_VSOCK};
use virtio::{Transport, VirtioError};

const CID: u64 = 7;
const HOST: SocketAddress = SocketAddress {
    cid: HOST_CID,
    port: 99,
};

type Sent = Arc<Mutex<Vec<(Header, Vec<u8>)>>>;

#[derive(Default)]
struct Client(AtomicUsize);

impl SocketClient for Client {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Rig {
    machine: Arc<Machine>,
    vsock: Arc<Vsock<FakeEnv>>,
    sent: Sent,
    client: Arc<Client>,
}

fn open(
    cid: u64,
    sent: &Sent,
    change: fn(Answer) -> Answer,
) -> (Arc<Machine>, Result<Arc<Vsock<FakeEnv>>, VirtioError>) {
    let shared = sent.clone();
    let handler = move |chain: &Chain| {
        assert_eq!((chain.queue, chain.room), (1, 0));
        let (header, data) = chain.readable.split_at(HEADER);
        let header = Header::parse(header.try_into().unwrap());
        assert_eq!(header.len as usize, data.len());
        shared.lock().unwrap().push((header, data.to_vec()));
        change(Answer::default())
    };
    let mut device = Device::new(ID_VSOCK, F_STREAM | F_EVENT_IDX, 3, Box::new(handler));
    device.patient = vec![0, 2];
    device.config = cid.to_le_bytes().to_vec();
    let machine = Machine::new(device);
    let env = machine.env();
    let transport = Transport::new(env.mmio(0, 0x200).unwrap()).unwrap();
    let vsock = Vsock::new(env, transport, 0x31);
    (machine, vsock)
}

fn rig_of(change: fn(Answer) -> Answer) -> Rig {
    let sent = Sent::default();
    let (machine, vsock) = open(CID, &sent, change);
    let vsock = vsock.unwrap();
    let client = Arc::new(Client::default());
    vsock.set_client(client.clone());
    Rig {
        machine,
        vsock,
        sent,
        client,
    }
}

fn rig() -> Rig {
    rig_of(|answer| answer)
}

impl Rig {
    /// The packets that were sent since the last call.
    fn sent(&self) -> Vec<(Header, Vec<u8>)> {
        while self.machine.run() {}
        core::mem::take(&mut *self.sent.lock().unwrap())
    }

    /// The one packet that was sent since, without data.
    #[track_caller]
    fn sent_one(&self) -> Header {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].1.is_empty());
        sent[0].0
    }

    /// A packet comes, in answer to one that was sent.
    fn answers(&self, to: &Header, op: u16, change: impl Fn(&mut Header), data: &[u8]) {
        let mut header = Header {
            op,
            room: 1 << 20,
            len: data.len() as u32,
            ..to.reset()
        };
        change(&mut header);
        let bytes = [&header.bytes()[..], data].concat();
        self.machine.device(|device| {
            device.give(Answer {
                bytes,
                ..Answer::default()
            });
        });
        self.machine.run();
    }

    /// A stream to the host, and the header of its request.
    fn open(&self) -> (SocketId, Header) {
        let id = self.vsock.connect(HOST).unwrap();
        assert_eq!(self.vsock.established(id), None);
        let request = self.sent_one();
        self.answers(&request, op::RESPONSE, |_| (), &[]);
        assert_eq!(self.vsock.established(id), Some(Ok(())));
        (id, request)
    }

    fn read(&self, id: SocketId) -> Result<Vec<u8>, SocketError> {
        let mut bytes = vec![0; 100_000];
        let count = self.vsock.read(id, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

#[test]
fn a_stream_opens_carries_data_and_closes() {
    let rig = rig();
    let (id, request) = rig.open();
    assert_eq!(
        (request.op, request.kind, request.room),
        (op::REQUEST, STREAM, BUFFER)
    );
    assert_eq!(
        (request.from_cid, request.to_cid, request.to_port),
        (CID, 2, 99)
    );
    let data: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8).collect();
    assert_eq!(rig.vsock.write(id, &data), Ok(10_000));
    let sent = rig.sent();
    assert!(sent.iter().all(|(header, _)| header.op == op::RW));
    let all: Vec<u8> = sent.into_iter().flat_map(|(_, data)| data).collect();
    assert!(all == data);
    rig.answers(&request, op::RW, |_| (), b"hello");
    rig.answers(&request, op::RW, |_| (), &data[..4000]);
    assert_eq!(rig.read(id), Ok([b"hello", &data[..4000]].concat()));
    assert_eq!(rig.read(id), Ok(vec![]));
    rig.vsock.shut_down(id);
    let end = rig.sent_one();
    assert_eq!(
        (end.op, end.flags, end.taken),
        (op::SHUTDOWN, NO_SEND, 4005)
    );
    assert_eq!(rig.vsock.write(id, b"x"), Err(SocketError::Closed));
    rig.answers(&request, op::RW, |_| (), b"last");
    assert_eq!(rig.vsock.finished(id), None);
    rig.answers(&request, op::SHUTDOWN, |header| header.flags = 3, &[]);
    assert_eq!(rig.sent_one().op, op::RST, "both sides are done");
    assert_eq!(rig.vsock.finished(id), Some(Ok(())));
    assert_eq!(rig.read(id), Ok(b"last".to_vec()));
    assert_eq!(rig.read(id), Err(SocketError::Closed));
    rig.vsock.discard(id);
    assert_eq!(rig.vsock.established(id), Some(Err(SocketError::Unknown)));
    assert!(rig.sent().is_empty());
}

#[test]
fn who_is_refused_or_broken_off_hears_of_it() {
    let rig = rig();
    let id = rig.vsock.connect(HOST).unwrap();
    let request = rig.sent_one();
    rig.answers(&request, op::RST, |_| (), &[]);
    assert_eq!(rig.vsock.established(id), Some(Err(SocketError::Refused)));
    let (id, request) = rig.open();
    rig.answers(&request, op::RST, |_| (), &[]);
    assert_eq!(rig.vsock.write(id, b"x"), Err(SocketError::Reset));
    assert_eq!(rig.read(id), Err(SocketError::Reset));
    let (id, _) = rig.open();
    rig.machine.device(|device| {
        device.give_to(
            2,
            Answer {
                bytes: vec![0; 4],
                ..Answer::default()
            },
        );
        device.config = 8u64.to_le_bytes().to_vec();
    });
    rig.machine.run();
    assert_eq!(rig.read(id), Err(SocketError::Reset));
    assert_eq!(rig.vsock.cid(), 8);
    assert!(rig.sent().is_empty());
}

#[test]
fn no_more_is_sent_than_there_is_credit_for() {
    let rig = rig();
    let id = rig.vsock.connect(HOST).unwrap();
    let request = rig.sent_one();
    rig.answers(&request, op::RESPONSE, |header| header.room = 100, &[]);
    assert_eq!(rig.vsock.write(id, &[1; 500]), Ok(100));
    let sent = rig.sent();
    let ops: Vec<u16> = sent.iter().map(|(header, _)| header.op).collect();
    assert_eq!(ops, [op::RW, op::CREDIT_REQUEST]);
    assert_eq!(rig.vsock.write(id, &[1; 500]), Ok(0));
    assert!(rig.sent().is_empty(), "it was asked once");
    let more = |header: &mut Header| (header.room, header.taken) = (100, 30);
    rig.answers(&request, op::CREDIT_UPDATE, more, &[]);
    assert_eq!(rig.vsock.write(id, &[1; 500]), Ok(30));
    // Nonsense is no credit.
    let less = |header: &mut Header| (header.room, header.taken) = (100, 5000);
    rig.answers(&request, op::CREDIT_UPDATE, less, &[]);
    assert_eq!(rig.vsock.write(id, &[1; 500]), Ok(0));
}

#[test]
fn the_other_side_is_told_of_credit_and_kept_to_it() {
    let rig = rig();
    let (id, request) = rig.open();
    rig.answers(&request, op::CREDIT_REQUEST, |_| (), &[]);
    assert_eq!(rig.sent_one().op, op::CREDIT_UPDATE);
    let piece = [9; 4000];
    for _ in 0..16 {
        rig.answers(&request, op::RW, |_| (), &piece);
    }
    assert!(rig.sent().is_empty());
    assert_eq!(rig.read(id).map(|bytes| bytes.len()), Ok(64_000));
    let update = rig.sent_one();
    assert_eq!(
        (update.op, update.taken, update.room),
        (op::CREDIT_UPDATE, 64_000, BUFFER)
    );
    for _ in 0..16 {
        rig.answers(&request, op::RW, |_| (), &piece);
    }
    rig.answers(&request, op::RW, |_| (), &piece);
    assert_eq!(rig.sent_one().op, op::RST, "more than it keeps");
    assert_eq!(rig.read(id).map(|bytes| bytes.len()), Ok(64_000));
    assert_eq!(rig.read(id), Err(SocketError::Reset));
}

/// A request of the host's to a port.
fn request(from: u32, to: u32) -> Header {
    Header {
        from_cid: CID,
        to_cid: HOST_CID,
        from_port: to,
        to_port: from,
        kind: STREAM,
        ..Header::default()
    }
}

#[test]
fn who_listens_gets_streams_and_others_are_refused() {
    let rig = rig();
    rig.answers(&request(5, 7), op::REQUEST, |_| (), &[]);
    assert_eq!(rig.sent_one().op, op::RST);
    rig.vsock.listen(7).unwrap();
    assert_eq!(rig.vsock.listen(7), Err(SocketError::InUse));
    assert_eq!(rig.vsock.accept(7), None);
    for from in 0..9 {
        rig.answers(&request(from, 7), op::REQUEST, |_| (), &[]);
        let answer = rig.sent_one();
        let expected = if from < 8 { op::RESPONSE } else { op::RST };
        assert_eq!((answer.op, answer.to_port), (expected, from));
    }
    for port in 0..3 {
        let (id, peer) = rig.vsock.accept(7).unwrap();
        assert_eq!(peer, SocketAddress { cid: 2, port });
        rig.answers(&request(port, 7), op::RW, |_| (), &[port as u8]);
        assert_eq!(rig.read(id), Ok(vec![port as u8]));
        assert_eq!(rig.vsock.write(id, b"x"), Ok(1));
        assert_eq!(rig.sent()[0].0.to_port, port);
    }
    rig.vsock.stop_listening(7);
    let ends: Vec<u16> = rig.sent().iter().map(|(header, _)| header.op).collect();
    assert_eq!(ends, [op::SHUTDOWN; 5], "those that nobody accepted");
    rig.answers(&request(77, 7), op::REQUEST, |_| (), &[]);
    assert_eq!(rig.sent_one().op, op::RST);
}

#[test]
fn packets_that_make_no_sense_are_answered_with_a_reset_or_with_nothing() {
    let rig = rig();
    let stranger = request(1, 2);
    for op in [
        op::RESPONSE,
        op::RW,
        op::SHUTDOWN,
        op::CREDIT_UPDATE,
        0,
        9,
        0xffff,
    ] {
        rig.answers(&stranger, op, |_| (), &[]);
        assert_eq!(rig.sent_one().op, op::RST, "{op}");
    }
    rig.answers(&stranger, op::RST, |_| (), &[]);
    assert!(rig.sent().is_empty(), "no reset for a reset");
    rig.vsock.listen(2).unwrap();
    rig.answers(&stranger, op::REQUEST, |header| header.kind = 2, &[]);
    rig.answers(&stranger, op::REQUEST, |header| header.to_cid = 9, &[]);
    let ops: Vec<u16> = rig.sent().iter().map(|(header, _)| header.op).collect();
    assert_eq!((ops, rig.vsock.accept(2)), (vec![op::RST; 2], None));
    for op in [op::REQUEST, op::RESPONSE, 0, 8] {
        let (id, request) = rig.open();
        rig.answers(&request, op, |_| (), &[]);
        assert_eq!(rig.sent_one().op, op::RST, "{op}");
        assert_eq!(rig.read(id), Err(SocketError::Reset));
        rig.vsock.discard(id);
    }
}

#[test]
fn streams_that_nobody_ends_take_bounded_room() {
    let rig = rig();
    let mut ids = Vec::new();
    loop {
        match rig.vsock.connect(HOST) {
            Ok(id) => ids.push(id),
            Err(error) => {
                assert_eq!(error, SocketError::InUse);
                break;
            }
        }
    }
    assert_eq!(ids.len(), 64);
    let requests = rig.sent();
    for (request, _) in &requests {
        rig.answers(request, op::RESPONSE, |_| (), &[]);
    }
    // Forgotten ones, whose other sides never answer, make room.
    ids.iter().for_each(|id| rig.vsock.discard(*id));
    for _ in 0..100 {
        let id = rig.vsock.connect(HOST).unwrap();
        rig.vsock.discard(id);
        rig.sent();
    }
}

#[test]
fn much_data_passes_however_slow_the_device_is() {
    let rig = rig();
    let (id, _) = rig.open();
    let data: Vec<u8> = (0..500_000u32).map(|at| at.to_le_bytes()[1]).collect();
    let (mut written, mut came) = (0, Vec::new());
    while came.len() < data.len() {
        written += rig.vsock.write(id, &data[written..]).unwrap();
        let before = rig.client.0.load(Ordering::Relaxed);
        came.extend(rig.sent().into_iter().flat_map(|(_, data)| data));
        let after = rig.client.0.load(Ordering::Relaxed);
        assert!(
            written == data.len() || after > before,
            "who waits for room is told"
        );
    }
    assert!(came == data);
}

#[test]
fn wrong_answers_break_the_device_and_nothing_else() {
    let wrong: [fn(Answer) -> Answer; 5] = [
        |answer| Answer {
            len: Some(4097),
            ..answer
        },
        |answer| Answer {
            id: Some(77),
            ..answer
        },
        |answer| Answer {
            is_ahead: true,
            ..answer
        },
        // Less than a header, and less than it says.
        |answer| Answer {
            len: Some(43),
            ..answer
        },
        |answer| Answer {
            len: Some(46),
            ..answer
        },
    ];
    for change in wrong {
        let rig = rig();
        let (id, request) = rig.open();
        rig.answers(&request, op::RW, |_| (), b"before");
        let header = Header {
            op: op::RW,
            len: 5,
            ..request.reset()
        };
        rig.machine.device(|device| {
            device.give(change(Answer {
                bytes: [&header.bytes()[..], b"12345"].concat(),
                ..Answer::default()
            }));
        });
        rig.machine.run();
        assert_eq!(rig.read(id), Ok(b"before".to_vec()));
        for _ in 0..2 {
            assert_eq!(rig.read(id), Err(SocketError::Broken));
            assert_eq!(rig.vsock.write(id, b"x"), Err(SocketError::Broken));
            assert_eq!(rig.vsock.connect(HOST), Err(SocketError::Broken));
        }
        rig.vsock.discard(id);
        assert_eq!(rig.machine.device(|device| device.status()), 0);
        assert_eq!(rig.machine.log().len(), 1);
    }
}

#[test]
fn a_number_that_is_the_host_s_is_refused() {
    for cid in [0, 1, 2, u64::from(u32::MAX), 1 << 32] {
        let (_machine, vsock) = open(cid, &Sent::default(), |answer| answer);
        assert_eq!(vsock.err(), Some(VirtioError::Configuration));
    }
}
