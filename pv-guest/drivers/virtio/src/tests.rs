use super::fake::{Answer, Device, FakeDma, FakeEnv, FakeMmio, Machine};
use super::*;
use driver_api::{Dma, Env, Mmio};
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;
use virtio_bindings as spec;

const EVENTS: u64 = wire::F_EVENT_IDX;
const TABLES: u64 = wire::F_INDIRECT_DESC;

fn transport(env: &FakeEnv) -> Transport<FakeMmio> {
    Transport::new(env.mmio(0, 0x200).unwrap()).unwrap()
}

/// A machine whose device answers each chain with these bytes, and a queue of `most` entries.
fn queue(
    features: u64,
    most: u16,
    answer: impl FnMut(&fake::Chain) -> Answer + Send + 'static,
) -> (Arc<Machine>, Transport<FakeMmio>, Queue<FakeDma>) {
    let machine = Machine::new(Device::new(1, features, 1, Box::new(answer)));
    let env = machine.env();
    let transport = transport(&env);
    let agreed = transport.negotiate(EVENTS | TABLES).unwrap();
    let queue = Queue::new(&env, &transport, 0, most, agreed).unwrap();
    transport.begin();
    (machine, transport, queue)
}

fn bytes(bytes: &[u8]) -> Answer {
    Answer {
        bytes: bytes.to_vec(),
        ..Answer::default()
    }
}

/// Three segments in a buffer: two bytes to read, two bytes and one byte to write.
fn three(buffer: &FakeDma) -> [Segment; 3] {
    let segment = |at, len, is_writable| Segment {
        phys: buffer.phys() + at,
        len,
        is_writable,
    };
    [
        segment(0, 2, false),
        segment(8, 2, true),
        segment(16, 1, true),
    ]
}

#[test]
fn the_numbers_are_the_specification_s() {
    use spec::{virtio_config as c, virtio_ids as i, virtio_mmio as m, virtio_ring as r};
    let pairs = [
        (wire::register::MAGIC_VALUE, m::VIRTIO_MMIO_MAGIC_VALUE),
        (wire::register::VERSION, m::VIRTIO_MMIO_VERSION),
        (wire::register::DEVICE_ID, m::VIRTIO_MMIO_DEVICE_ID),
        (
            wire::register::DEVICE_FEATURES,
            m::VIRTIO_MMIO_DEVICE_FEATURES,
        ),
        (
            wire::register::DEVICE_FEATURES_SEL,
            m::VIRTIO_MMIO_DEVICE_FEATURES_SEL,
        ),
        (
            wire::register::DRIVER_FEATURES,
            m::VIRTIO_MMIO_DRIVER_FEATURES,
        ),
        (
            wire::register::DRIVER_FEATURES_SEL,
            m::VIRTIO_MMIO_DRIVER_FEATURES_SEL,
        ),
        (wire::register::QUEUE_SEL, m::VIRTIO_MMIO_QUEUE_SEL),
        (wire::register::QUEUE_NUM_MAX, m::VIRTIO_MMIO_QUEUE_NUM_MAX),
        (wire::register::QUEUE_NUM, m::VIRTIO_MMIO_QUEUE_NUM),
        (wire::register::QUEUE_READY, m::VIRTIO_MMIO_QUEUE_READY),
        (wire::register::QUEUE_NOTIFY, m::VIRTIO_MMIO_QUEUE_NOTIFY),
        (
            wire::register::INTERRUPT_STATUS,
            m::VIRTIO_MMIO_INTERRUPT_STATUS,
        ),
        (wire::register::INTERRUPT_ACK, m::VIRTIO_MMIO_INTERRUPT_ACK),
        (wire::register::STATUS, m::VIRTIO_MMIO_STATUS),
        (
            wire::register::QUEUE_DESC_LOW,
            m::VIRTIO_MMIO_QUEUE_DESC_LOW,
        ),
        (
            wire::register::QUEUE_AVAIL_LOW,
            m::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
        ),
        (
            wire::register::QUEUE_USED_LOW,
            m::VIRTIO_MMIO_QUEUE_USED_LOW,
        ),
        (
            wire::register::CONFIG_GENERATION,
            m::VIRTIO_MMIO_CONFIG_GENERATION,
        ),
        (wire::register::CONFIG, m::VIRTIO_MMIO_CONFIG),
        (wire::INTERRUPT_QUEUE.into(), m::VIRTIO_MMIO_INT_VRING),
        (wire::INTERRUPT_CONFIG.into(), m::VIRTIO_MMIO_INT_CONFIG),
        (wire::ID_NET.into(), i::VIRTIO_ID_NET),
        (wire::ID_BLOCK.into(), i::VIRTIO_ID_BLOCK),
        (wire::ID_CONSOLE.into(), i::VIRTIO_ID_CONSOLE),
        (wire::ID_RNG.into(), i::VIRTIO_ID_RNG),
        (wire::ID_BALLOON.into(), i::VIRTIO_ID_BALLOON),
        (
            wire::status::ACKNOWLEDGE.into(),
            c::VIRTIO_CONFIG_S_ACKNOWLEDGE,
        ),
        (wire::status::DRIVER.into(), c::VIRTIO_CONFIG_S_DRIVER),
        (wire::status::DRIVER_OK.into(), c::VIRTIO_CONFIG_S_DRIVER_OK),
        (
            wire::status::FEATURES_OK.into(),
            c::VIRTIO_CONFIG_S_FEATURES_OK,
        ),
        (
            wire::status::NEEDS_RESET.into(),
            c::VIRTIO_CONFIG_S_NEEDS_RESET,
        ),
        (wire::status::FAILED.into(), c::VIRTIO_CONFIG_S_FAILED),
        (wire::F_INDIRECT_DESC, 1 << r::VIRTIO_RING_F_INDIRECT_DESC),
        (wire::F_EVENT_IDX, 1 << r::VIRTIO_RING_F_EVENT_IDX),
        (wire::F_VERSION_1 >> 32, 1 << (c::VIRTIO_F_VERSION_1 - 32)),
        (wire::DESC_NEXT.into(), r::VRING_DESC_F_NEXT),
        (wire::DESC_WRITE.into(), r::VRING_DESC_F_WRITE),
        (wire::DESC_INDIRECT.into(), r::VRING_DESC_F_INDIRECT),
        (
            wire::AVAIL_NO_INTERRUPT.into(),
            r::VRING_AVAIL_F_NO_INTERRUPT,
        ),
        (wire::USED_NO_NOTIFY.into(), r::VRING_USED_F_NO_NOTIFY),
    ];
    for (at, (ours, theirs)) in pairs.into_iter().enumerate() {
        assert_eq!(ours, u64::from(theirs), "pair {at}");
    }
}

#[test]
fn a_device_is_recognized_by_its_registers() {
    let machine = Machine::new(Device::new(4, 0, 1, Box::new(|_| Answer::default())));
    let env = machine.env();
    assert_eq!(transport(&env).device_id(), 4);
    let short = Transport::new(env.mmio(0, 0x80).unwrap());
    assert!(matches!(short, Err(VirtioError::Configuration)));
    machine.device(|device| device.magic = 0);
    let other = Transport::new(env.mmio(0, 0x200).unwrap());
    assert!(matches!(other, Err(VirtioError::NotVirtio(0))));
}

#[test]
fn features_are_those_of_both_and_a_refusal_is_an_error() {
    let machine = Machine::new(Device::new(
        1,
        EVENTS | 1,
        1,
        Box::new(|_| Answer::default()),
    ));
    let transport = transport(&machine.env());
    let agreed = transport.negotiate(EVENTS | TABLES).unwrap();
    assert_eq!(agreed, EVENTS | wire::F_VERSION_1);
    assert_eq!(machine.device(|device| device.agreed()), agreed);
    machine.device(|device| device.is_refusing = true);
    assert_eq!(transport.negotiate(0), Err(VirtioError::FeaturesRefused));
    assert_ne!(
        machine.device(|device| device.status()) & wire::status::FAILED,
        0
    );
    machine.device(|device| (device.is_refusing, device.features) = (false, EVENTS));
    assert_eq!(transport.negotiate(EVENTS), Err(VirtioError::Legacy));
}

#[test]
fn a_configuration_that_never_stands_still_is_an_error() {
    let machine = Machine::new(Device::new(1, 0, 1, Box::new(|_| Answer::default())));
    machine.device(|device| device.config = std::vec![1, 0, 0, 0, 2, 0, 0, 0]);
    let transport = transport(&machine.env());
    let read = |t: &Transport<FakeMmio>| t.config_u64(0);
    assert_eq!(transport.read_config(read), Ok(2 << 32 | 1));
    assert_eq!(transport.config_u32(0x1000), 0);
    machine.device(|device| device.is_restless = true);
    assert_eq!(transport.read_config(read), Err(VirtioError::Configuration));
}

#[test]
fn a_queue_is_as_large_as_both_want_and_a_power_of_two() {
    for (max, most, expected) in [
        (256, 128, 128),
        (100, 256, 64),
        (1, 8, 1),
        (40_000, 40_000, 32_768),
    ] {
        let machine = Machine::new(Device::new(1, 0, 1, Box::new(|_| Answer::default())));
        machine.device(|device| device.max_queue = max);
        let env = machine.env();
        let transport = transport(&env);
        transport.negotiate(0).unwrap();
        let queue = Queue::new(&env, &transport, 0, most, 0).unwrap();
        assert_eq!(queue.size(), expected);
        let again = Queue::new(&env, &transport, 0, most, 0);
        assert!(matches!(again, Err(VirtioError::NoQueue(0))));
        let missing = Queue::new(&env, &transport, 1, most, 0);
        assert!(matches!(missing, Err(VirtioError::NoQueue(1))));
    }
}

#[test]
fn a_chain_arrives_whole_and_its_answer_too_in_every_form() {
    for features in [0, EVENTS, TABLES, EVENTS | TABLES] {
        let (machine, transport, mut queue) = queue(features, 8, |chain| {
            assert_eq!((chain.readable.as_slice(), chain.room), (&b"ab"[..], 3));
            bytes(b"xyz")
        });
        let buffer = machine.env().dma(32).unwrap();
        buffer.write(0, b"ab");
        // Far beyond the wrap of the rings' indices.
        for _ in 0..70_000 {
            let token = queue.add(&three(&buffer)).unwrap();
            assert!(queue.needs_kick() && !queue.needs_kick());
            transport.notify(0);
            assert_eq!(queue.pop(), Ok(None));
            machine.run();
            let written = 3;
            assert_eq!(queue.pop(), Ok(Some(Used { token, written })));
        }
        let mut answer = [0; 9];
        buffer.read(8, &mut answer);
        assert_eq!((&answer[..2], answer[8]), (&b"xy"[..], b'z'));
    }
}

#[test]
fn a_full_queue_says_so_and_tables_make_it_deeper() {
    for (features, depth) in [(0, 2), (TABLES, 8)] {
        let (machine, transport, mut queue) = queue(features, 8, |_| bytes(b"xyz"));
        assert_eq!(queue.depth(3), depth);
        let buffer = machine.env().dma(32).unwrap();
        for _ in 0..3 {
            let tokens: Vec<_> = (0..depth)
                .map(|_| queue.add(&three(&buffer)).unwrap())
                .collect();
            assert_eq!(queue.add(&three(&buffer)), Err(QueueError::Full));
            transport.notify(0);
            machine.device(|device| device.is_reversed = true);
            machine.run();
            for token in tokens.into_iter().rev() {
                assert_eq!(queue.pop().unwrap().unwrap().token, token);
            }
            assert_eq!((queue.pop(), queue.in_flight()), (Ok(None), 0));
        }
    }
}

#[test]
fn a_request_without_segments_or_with_too_many_is_refused() {
    let (machine, _, mut queue) = queue(TABLES, 8, |_| bytes(b""));
    let buffer = machine.env().dma(32).unwrap();
    let one = three(&buffer)[0];
    assert_eq!(queue.add(&[]), Err(QueueError::BadRequest));
    assert_eq!(
        queue.add(&[one; MAX_SEGMENTS + 1]),
        Err(QueueError::BadRequest)
    );
    assert!(queue.add(&[one; MAX_SEGMENTS]).is_ok());
}

#[test]
fn wrong_answers_are_errors_and_stay() {
    let wrong = |answer: fn() -> Answer, features| {
        let (machine, transport, mut queue) = queue(features, 8, move |_| answer());
        let buffer = machine.env().dma(32).unwrap();
        queue.add(&three(&buffer)).unwrap();
        transport.notify(0);
        machine.run();
        let error = queue.pop().unwrap_err();
        assert_eq!(queue.pop(), Err(error));
        error
    };
    for features in [0, TABLES] {
        for (answer, expected) in [
            (
                || Answer {
                    id: Some(7),
                    ..Answer::default()
                },
                7,
            ),
            (
                || Answer {
                    id: Some(8),
                    ..Answer::default()
                },
                8,
            ),
            (
                || Answer {
                    id: Some(u32::MAX),
                    ..Answer::default()
                },
                u32::MAX,
            ),
            // The low half alone would be a token.
            (
                || Answer {
                    id: Some(0x1_0000),
                    ..Answer::default()
                },
                0x1_0000,
            ),
        ] as [(fn() -> Answer, u32); 4]
        {
            assert_eq!(wrong(answer, features), QueueError::BadId(expected));
        }
        let long = || Answer {
            len: Some(4),
            ..Answer::default()
        };
        assert_eq!(wrong(long, features), QueueError::BadLength(4));
        let ahead = || Answer {
            is_ahead: true,
            ..Answer::default()
        };
        assert_eq!(wrong(ahead, features), QueueError::Ahead(1000));
    }
}

#[test]
fn a_chain_that_is_answered_twice_is_an_error() {
    let (machine, transport, mut queue) = queue(TABLES, 8, |_| Answer {
        id: Some(0),
        ..bytes(b"xyz")
    });
    let buffer = machine.env().dma(32).unwrap();
    let first = queue.add(&three(&buffer)).unwrap();
    queue.add(&three(&buffer)).unwrap();
    assert_eq!(first, 0);
    transport.notify(0);
    machine.run();
    assert!(matches!(queue.pop(), Ok(Some(_))));
    assert_eq!(queue.pop(), Err(QueueError::BadId(0)));
}

#[test]
fn one_notification_and_one_interrupt_serve_many_requests() {
    for features in [0, EVENTS] {
        let (machine, transport, mut queue) = queue(features | TABLES, 64, |_| bytes(b"xyz"));
        let buffer = machine.env().dma(32).unwrap();
        for round in 1..3000 {
            (0..40).for_each(|_| assert!(queue.add(&three(&buffer)).is_ok()));
            assert!(queue.needs_kick(), "round {round}");
            assert!(!queue.allow_interrupts());
            transport.notify(0);
            machine.run();
            assert_eq!(
                (machine.interrupts(), machine.notifications()),
                (round, round)
            );
            queue.hold_interrupts();
            (0..40).for_each(|_| assert!(matches!(queue.pop(), Ok(Some(_)))));
        }
    }
}

#[test]
fn an_answer_before_interrupts_are_allowed_is_not_missed() {
    for features in [0, EVENTS] {
        let (machine, transport, mut queue) = queue(features, 8, |_| bytes(b"xyz"));
        let buffer = machine.env().dma(32).unwrap();
        let one = |queue: &mut Queue<FakeDma>| {
            queue.add(&three(&buffer)).unwrap();
            transport.notify(0);
            machine.run();
        };
        // The first answer interrupts; the second comes while interrupts are held.
        assert!(!queue.allow_interrupts());
        one(&mut queue);
        queue.hold_interrupts();
        one(&mut queue);
        assert_eq!(machine.interrupts(), 1);
        assert!(matches!(queue.pop(), Ok(Some(_))));
        assert!(queue.allow_interrupts());
        assert!(matches!(queue.pop(), Ok(Some(_))));
        assert!(!queue.allow_interrupts());
    }
}

#[test]
fn an_index_crosses_an_event_also_when_it_wraps() {
    use crate::queue::crosses;
    for (event, new, old, expected) in [
        (5, 6, 5, true),
        (5, 5, 4, false),
        (4, 6, 5, false),
        (0xfffe, 0, 0xfffd, true),
        (0xffff, 0, 0xfffd, true),
        (0, 1, 0xffff, true),
        (1, 1, 0xffff, false),
    ] {
        assert_eq!(crosses(event, new, old), expected, "{event} {new} {old}");
    }
}

#[test]
fn registers_are_used_by_words() {
    let machine = Machine::new(Device::new(1, 0, 1, Box::new(|_| Answer::default())));
    let registers = machine.env().mmio(0, 0x200).unwrap();
    assert_eq!(registers.len(), 0x200);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| registers.read(2)));
    assert!(result.is_err());
}
