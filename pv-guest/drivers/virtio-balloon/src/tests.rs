//! The driver against a balloon in plain memory.

use super::Balloon;
use driver_api::{BalloonClient, BalloonDevice, BalloonError, Env, PageRun};
use std::boxed::Box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;
use virtio::Transport;
use virtio::fake::{Answer, Chain, Device, FakeEnv, Machine};
use virtio::wire::{F_EVENT_IDX, ID_BALLOON};

const REPORTING: u64 = 1 << 5;

/// What the device saw: the queue, the pages' numbers, and bytes of room.
type Seen = Arc<Mutex<Vec<(usize, Vec<u32>, usize)>>>;

#[derive(Default)]
struct Client(AtomicUsize);

impl BalloonClient for Client {
    fn notify(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Rig {
    machine: Arc<Machine>,
    balloon: Arc<Balloon<FakeEnv>>,
    client: Arc<Client>,
    seen: Seen,
}

fn rig_of(features: u64, change: fn(Answer) -> Answer) -> Rig {
    let seen = Seen::default();
    let shared = seen.clone();
    let handler = move |chain: &Chain| {
        let (words, rest) = chain.readable.as_chunks::<4>();
        assert!(rest.is_empty());
        let pages = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        shared
            .lock()
            .unwrap()
            .push((chain.queue, pages, chain.room));
        change(Answer::default())
    };
    let mut device = Device::new(ID_BALLOON, features, 3, Box::new(handler));
    device.config = vec![100, 1, 0, 0, 0, 0, 0, 0];
    let machine = Machine::new(device);
    let env = machine.env();
    let transport = Transport::new(env.mmio(0, 0x200).unwrap()).unwrap();
    let balloon = Balloon::new(env, transport, 0x31).unwrap();
    let client = Arc::new(Client::default());
    balloon.set_client(client.clone());
    Rig {
        machine,
        balloon,
        client,
        seen,
    }
}

fn rig() -> Rig {
    rig_of(F_EVENT_IDX | REPORTING, |answer| answer)
}

fn run(first: u64, count: u64) -> PageRun {
    PageRun { first, count }
}

#[test]
fn pages_are_listed_in_order_however_many() {
    let rig = rig();
    let runs = [run(7, 1), run(1000, 1500), run(100, 2)];
    assert_eq!(rig.balloon.inflate(&runs), Ok(()));
    assert_eq!(rig.balloon.deflate(&[run(8, 3)]), Ok(()));
    assert_eq!(rig.balloon.deflate(&[]), Ok(()));
    let seen = rig.seen.lock().unwrap();
    let queues: Vec<_> = seen
        .iter()
        .map(|(queue, pages, _)| (*queue, pages.len()))
        .collect();
    assert_eq!(queues, [(0, 1024), (0, 479), (1, 3)]);
    let all: Vec<u32> = seen
        .iter()
        .flat_map(|(_, pages, _)| pages.clone())
        .collect();
    let expected = [7]
        .into_iter()
        .chain(1000..2500)
        .chain([100, 101])
        .chain(8..11);
    assert!(all == expected.collect::<Vec<_>>());
}

#[test]
fn free_pages_are_reported_by_themselves() {
    let rig = rig();
    assert_eq!(rig.balloon.reports_at_once(), 4);
    let runs = [run(256, 3), run(300, 1)];
    assert_eq!(rig.balloon.report(&runs), Ok(()));
    assert_eq!(rig.balloon.report(&[]), Ok(()));
    assert_eq!(*rig.seen.lock().unwrap(), [(2, vec![], 4 * 4096)]);
    let none = rig_of(F_EVENT_IDX, |answer| answer);
    assert_eq!(none.balloon.reports_at_once(), 0);
    let result = none.balloon.report(&runs);
    assert_eq!(result, Err(BalloonError::Unsupported));
}

#[test]
fn pages_that_do_not_fit_a_request_are_refused() {
    let rig = rig();
    let bad = Err(BalloonError::BadRequest);
    assert_eq!(rig.balloon.inflate(&[run(1 << 32, 1)]), bad);
    assert_eq!(rig.balloon.inflate(&[run(u64::MAX, 1)]), bad);
    assert_eq!(rig.balloon.report(&[run(1, 1); 5]), bad);
    assert_eq!(rig.balloon.report(&[run(0, 1 << 20)]), bad);
    assert_eq!(rig.balloon.report(&[run(1 << 60, 1)]), bad);
    assert!(rig.seen.lock().unwrap().is_empty());
    assert_eq!(rig.balloon.inflate(&[run(1, 1)]), Ok(()));
}

#[test]
fn the_host_s_wish_is_followed_and_answered() {
    let rig = rig();
    assert_eq!(rig.balloon.wanted(), 356);
    rig.machine
        .device(|device| device.change_config(vec![5, 0, 0, 0, 0, 0, 0, 0]));
    rig.machine.run();
    assert_eq!(
        (rig.balloon.wanted(), rig.client.0.load(Ordering::Relaxed)),
        (5, 1)
    );
    rig.balloon.say(4);
    assert_eq!(
        rig.machine.device(|device| device.config.clone()),
        [5, 0, 0, 0, 4, 0, 0, 0]
    );
}

#[test]
fn wrong_answers_break_the_balloon_and_nothing_else() {
    let wrong: [fn(Answer) -> Answer; 3] = [
        |answer| Answer {
            len: Some(1),
            ..answer
        },
        |answer| Answer {
            id: Some(3),
            ..answer
        },
        |answer| Answer {
            is_ahead: true,
            ..answer
        },
    ];
    for change in wrong {
        let rig = rig_of(F_EVENT_IDX, change);
        for _ in 0..2 {
            let result = rig.balloon.inflate(&[run(1, 2)]);
            assert_eq!(result, Err(BalloonError::Broken));
        }
        rig.balloon.say(7);
        assert_eq!(rig.machine.device(|device| device.status()), 0);
        assert_eq!(rig.machine.log().len(), 1);
    }
}

#[test]
fn a_device_that_stops_is_an_error() {
    let rig = rig();
    rig.machine.device(Device::stop);
    rig.machine.run();
    assert_eq!(rig.client.0.load(Ordering::Relaxed), 1);
    assert_eq!(rig.balloon.deflate(&[run(1, 2)]), Err(BalloonError::Broken));
}
