//! The guest's NE2000 driver on the hypervisor's card, over plain memory and without KVM; and on a card that
//! answers nonsense.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use driver_api::{NetClient, NetDevice, NetError, PortEnv, ReceivedFrame, SendOptions};
use hypervisor::legacy::{Ne2000, Sent};
use ne2000::{Card, Ne2000Error, PORTS};
use proptest::prelude::*;
use tests::board::{Board, Bus, VECTOR};

const MAC: [u8; 6] = [2, 0xfc, 0, 0, 0, 7];
const FIRST: u16 = 0x300;

/// What is at the ports.
enum Model {
    Real {
        card: Ne2000,
        /// Frames that were sent, and whether the wire has room for more.
        wire: Vec<Vec<u8>>,
        has_room: bool,
    },
    /// Every byte read is the next of these.
    Nonsense(VecDeque<u8>),
}

impl Bus for Model {
    fn read(&mut self, port: u16, into: &mut [u8]) {
        match self {
            Self::Real { card, .. } => card.read(port - FIRST, into),
            Self::Nonsense(bytes) => into.fill_with(|| bytes.pop_front().unwrap_or(0xff)),
        }
    }

    fn write(&mut self, port: u16, from: &[u8]) {
        if let Self::Real {
            card,
            wire,
            has_room,
        } = self
        {
            card.write(port - FIRST, from, &mut |frame| put(wire, *has_room, frame));
        }
    }

    fn interrupt(&mut self) -> bool {
        match self {
            Self::Real { card, .. } => card.interrupt(),
            Self::Nonsense(bytes) => bytes.front().is_some_and(|byte| byte & 1 != 0),
        }
    }
}

fn put(wire: &mut Vec<Vec<u8>>, has_room: bool, frame: &[u8]) -> Sent {
    if !has_room {
        return Sent::Later;
    }
    wire.push(frame.to_vec());
    Sent::Gone
}

type TestBoard = Board<Model>;

/// A board with a card, and its driver, whose client counts how often it is notified.
fn board() -> (TestBoard, Arc<Card<TestBoard>>, Arc<Client>) {
    let model = Model::Real {
        card: Ne2000::new(MAC),
        wire: Vec::new(),
        has_room: true,
    };
    let board = Board::new(model, true);
    let card = driver(&board).expect("a card");
    let client = Arc::new(Client::default());
    card.set_client(client.clone());
    (board, card, client)
}

fn driver(board: &TestBoard) -> Result<Arc<Card<TestBoard>>, Ne2000Error> {
    let ports = board.ports(FIRST, PORTS).expect("they are there");
    Card::new(board.clone(), ports, VECTOR)
}

#[derive(Default)]
struct Client(AtomicU64);

impl NetClient for Client {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Client {
    fn notified(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// A frame comes from the wire.
fn arrive(board: &TestBoard, frame: &[u8]) {
    board.access(|model| match model {
        Model::Real { card, .. } => card.receive(frame),
        Model::Nonsense(_) => {}
    });
    board.bottom();
}

/// What was sent since the last call.
fn sent(board: &TestBoard) -> Vec<Vec<u8>> {
    board.access(|model| match model {
        Model::Real { wire, .. } => std::mem::take(wire),
        Model::Nonsense(_) => Vec::new(),
    })
}

/// The wire has room from now on, or none.
fn set_room(board: &TestBoard, is_there: bool) {
    board.access(|model| {
        if let Model::Real {
            card,
            wire,
            has_room,
        } = model
        {
            *has_room = is_there;
            card.go_on_sending(&mut |frame| put(wire, is_there, frame));
        }
    });
    board.bottom();
}

fn frame(len: usize, seed: u8) -> Vec<u8> {
    let rest = (6..len).map(|at| (at as u8).wrapping_mul(seed | 1) ^ seed);
    MAC.into_iter().chain(rest).collect()
}

fn receive(card: &Card<TestBoard>) -> Option<Vec<u8>> {
    let mut into = vec![0; card.info().longest];
    let ReceivedFrame { len, .. } = card.receive(&mut into)?;
    into.truncate(len);
    Some(into)
}

fn send(card: &Card<TestBoard>, frame: &[u8]) -> Result<(), NetError> {
    card.send(frame, &SendOptions::default())
}

#[test]
fn a_card_is_known_by_its_prom() {
    let (_, card, _) = board();
    let info = card.info();
    assert_eq!((info.mac, info.mtu, info.is_up), (MAC, 1500, true));
    for byte in [0x00, 0xff, 0x80] {
        let board = Board::new(Model::Nonsense(vec![byte; 50_000].into()), true);
        assert!(driver(&board).is_err(), "{byte:#x}");
    }
    let board = Board::new(Model::Nonsense(vec![0; 50_000].into()), true);
    assert_eq!(driver(&board).err(), Some(Ne2000Error::NoReset));
}

#[test]
fn frames_are_sent_whole_and_padded() {
    let (board, card, _) = board();
    for len in [15, 59, 60, 61, 1000, 1513, 1514] {
        let whole = frame(len, len as u8);
        assert_eq!(send(&card, &whole), Ok(()));
        let mut padded = whole;
        padded.resize(len.max(60), 0);
        let came = sent(&board);
        // A frame of odd length has one byte more in the card's memory, and none more on the wire.
        assert_eq!(came, [padded], "{len}");
    }
    for len in [0, 14, 1515] {
        assert_eq!(send(&card, &vec![1; len]), Err(NetError::BadFrame), "{len}");
    }
    assert_eq!(
        (card.counts().sent, card.counts().sent_bytes),
        (7, 15 + 59 + 60 + 61 + 1000 + 1513 + 1514)
    );
}

#[test]
fn a_wire_without_room_makes_the_client_wait() {
    let (board, card, client) = board();
    set_room(&board, false);
    let frames = [frame(100, 1), frame(200, 2), frame(300, 3)];
    assert_eq!(send(&card, &frames[0]), Ok(()));
    assert_eq!(send(&card, &frames[1]), Ok(()));
    assert_eq!(send(&card, &frames[2]), Err(NetError::Busy));
    assert!(!card.listen());
    assert_eq!(client.notified(), 0);
    set_room(&board, true);
    assert_eq!(
        (sent(&board), client.notified()),
        (vec![frames[0].clone()], 1)
    );
    // The client looks again: the second goes, and there is room.
    assert_eq!(receive(&card), None);
    assert_eq!(sent(&board), [frames[1].clone()]);
    assert_eq!(send(&card, &frames[2]), Ok(()));
    assert_eq!(sent(&board), [frames[2].clone()]);
}

#[test]
fn a_burst_is_one_notification() {
    let (board, card, client) = board();
    assert!(!card.listen());
    for seed in 0..5 {
        arrive(&board, &frame(500, seed));
    }
    assert_eq!(client.notified(), 1);
    for seed in 0..5 {
        assert_eq!(receive(&card), Some(frame(500, seed)));
    }
    // One that comes before the client listens is said as soon as it does.
    assert_eq!(receive(&card), None);
    arrive(&board, &frame(60, 9));
    assert_eq!(client.notified(), 0);
    assert!(!card.listen());
    board.bottom();
    assert_eq!(client.notified(), 1);
    assert_eq!(receive(&card), Some(frame(60, 9)));
    assert_eq!(card.counts().received, 6);
}

#[test]
fn a_full_ring_is_emptied_and_what_was_missed_is_counted() {
    let (board, card, _) = board();
    for turn in 0..3 {
        let (mut kept, mut missed) = (0, 0);
        for seed in 0..60 {
            arrive(&board, &frame(1514, seed));
        }
        while let Some(came) = receive(&card) {
            // What fitted comes in order.
            assert_eq!(came, frame(1514, kept));
            kept += 1;
        }
        let dropped = card.counts().dropped;
        missed += dropped - turn * 52;
        assert_eq!((kept, missed), (8, 52), "51 pages, six a frame");
        // And it hears again.
        arrive(&board, &frame(99, 5));
        assert_eq!(receive(&card), Some(frame(99, 5)));
        // The frame's pages are read by now: each turn begins elsewhere in the ring.
    }
    assert!(card.info().is_up);
    assert_eq!(card.counts().errors, 0);
}

#[test]
fn a_buffer_that_is_too_short_drops_the_frame() {
    let (board, card, _) = board();
    arrive(&board, &frame(800, 1));
    arrive(&board, &frame(60, 2));
    let mut short = [0; 100];
    let came = card.receive(&mut short);
    assert_eq!(came.map(|frame| frame.len), Some(60));
    assert_eq!(short[..60], frame(60, 2));
    assert_eq!(card.counts().dropped, 1);
}

/// What a driver sees of a good card up to its start, and then these bytes.
fn introduced(rest: Vec<u8>) -> VecDeque<u8> {
    let mut card = Ne2000::new(MAC);
    for (offset, value) in [(8, 0), (9, 0), (0x0a, 32), (0x0b, 0), (0, 0x0a)] {
        card.write(offset, &[value], &mut |_| Sent::Gone);
    }
    let mut prom = [0; 32];
    card.read(0x10, &mut prom);
    let mut bytes = vec![0xff, 0x80];
    bytes.extend(prom);
    bytes.extend(rest);
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a card answers, the driver neither panics nor hangs, and no frame is longer than it may be.
    #[test]
    fn nonsense_is_borne(
        rest in prop::collection::vec(
            prop_oneof![3 => prop::sample::select(&[0x01_u8, 0x40, 0x41, 0x4d, 0x4e, 0x60, 0x00, 0x11, 0x80][..]), 1 => any::<u8>()],
            0..4000,
        ),
        steps in prop::collection::vec((0..4_u8, 0..1600_usize), 1..40),
    ) {
        let board = Board::new(Model::Nonsense(introduced(rest)), true);
        let card = driver(&board).expect("so far it is a card");
        card.set_client(Arc::new(Client::default()));
        for (step, len) in steps {
            match step {
                0 => {
                    let _ = send(&card, &frame(len.max(6), 3));
                }
                1 => {
                    let mut into = vec![0; len];
                    let came = card.receive(&mut into);
                    prop_assert!(came.is_none_or(|frame| frame.len <= len));
                }
                2 => {
                    let _ = card.listen();
                }
                _ => {
                    board.top();
                    board.bottom();
                }
            }
        }
    }

    /// Frames of any length, taken now and then: what was not missed comes out in order.
    #[test]
    fn what_fits_comes_out_in_order(
        steps in prop::collection::vec((any::<bool>(), 60..1515_usize), 1..120),
    ) {
        let (board, card, _) = board();
        let (mut arrived, mut came) = (Vec::new(), Vec::new());
        for (at, (is_frame, len)) in steps.into_iter().enumerate() {
            if is_frame {
                arrive(&board, &frame(len, at as u8));
                arrived.push(frame(len, at as u8));
            } else {
                came.extend(receive(&card));
            }
        }
        while let Some(frame) = receive(&card) {
            came.push(frame);
        }
        prop_assert_eq!(came.len() as u64 + card.counts().dropped, arrived.len() as u64);
        let mut rest = arrived.iter();
        prop_assert!(came.iter().all(|frame| rest.any(|one| one == frame)));
        prop_assert_eq!(card.counts().errors, 0);
    }
}
