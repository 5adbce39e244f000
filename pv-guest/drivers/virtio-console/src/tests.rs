//! The driver against a console in plain memory.

use super::Console;
use super::console::F_SIZE;
use driver_api::{ConsoleDevice, ConsoleError, Env};
use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;
use virtio::Transport;
use virtio::fake::{Answer, Device, FakeEnv, Machine};
use virtio::wire::{F_EVENT_IDX, ID_CONSOLE};

struct Rig {
    machine: Arc<Machine>,
    console: Arc<Console<FakeEnv>>,
    shown: Arc<Mutex<Vec<u8>>>,
}

fn rig_of(features: u64, change: fn(Answer) -> Answer) -> Rig {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let shared = shown.clone();
    let handler = move |chain: &virtio::fake::Chain| {
        assert_eq!((chain.queue, chain.room), (1, 0));
        shared.lock().unwrap().extend(&chain.readable);
        change(Answer::default())
    };
    let mut device = Device::new(ID_CONSOLE, features, 2, Box::new(handler));
    device.patient = Some(0);
    device.config = vec![80, 0, 25, 0];
    let machine = Machine::new(device);
    let env = machine.env();
    let transport = Transport::new(env.mmio(0, 0x200).unwrap()).unwrap();
    let console = Console::new(env, transport, 0x31).unwrap();
    Rig {
        machine,
        console,
        shown,
    }
}

fn rig() -> Rig {
    rig_of(F_SIZE | F_EVENT_IDX, |answer| answer)
}

fn types(rig: &Rig, text: &[u8]) {
    rig.machine.device(|device| {
        device.give(Answer {
            bytes: text.to_vec(),
            ..Answer::default()
        });
    });
    rig.machine.run();
}

#[test]
fn text_goes_out_whole_and_in_order() {
    for features in [F_EVENT_IDX, 0] {
        let rig = rig_of(features, |answer| answer);
        let mut expected = Vec::new();
        for len in [0, 1, 512, 513, 5000, 20_000, 3] {
            let text: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            assert_eq!(rig.console.write(&text), Ok(()));
            expected.extend(text);
        }
        rig.machine.run();
        assert!(*rig.shown.lock().unwrap() == expected);
    }
}

#[test]
fn a_short_text_costs_a_notification_and_no_interrupt() {
    let rig = rig();
    let (kicks, accesses) = (rig.machine.notifications(), rig.machine.accesses());
    for _ in 0..5 {
        rig.console.write(b"hello\n").unwrap();
        rig.machine.run();
    }
    assert_eq!(rig.machine.notifications() - kicks, 5);
    assert_eq!(
        (rig.machine.interrupts(), rig.machine.accesses()),
        (0, accesses)
    );
}

#[test]
fn what_was_typed_is_read_in_order_however_it_fits() {
    let rig = rig();
    for turn in 0..30u8 {
        types(&rig, &[turn; 300]);
        types(&rig, b"");
        types(&rig, b"xyz");
        let mut bytes = [0; 256];
        assert_eq!(rig.console.read(&mut bytes), Ok(256));
        assert_eq!(bytes, [turn; 256]);
        assert_eq!(rig.console.read(&mut bytes), Ok(47));
        assert_eq!(bytes[..47], *[&[turn; 44][..], b"xyz"].concat());
        assert_eq!(rig.console.read(&mut []), Ok(0));
    }
}

#[test]
fn the_size_is_followed() {
    let rig = rig();
    assert_eq!(rig.console.size(), Some((80, 25)));
    rig.machine
        .device(|device| device.change_config(vec![132, 0, 43, 0]));
    rig.machine.run();
    assert_eq!(rig.console.size(), Some((132, 43)));
    assert_eq!(rig_of(0, |answer| answer).console.size(), None);
}

#[test]
fn wrong_answers_break_the_console_and_nothing_else() {
    let wrong: [fn(Answer) -> Answer; 3] = [
        |answer| Answer {
            len: Some(513),
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
    ];
    for change in wrong {
        let rig = rig();
        types(&rig, b"before");
        rig.machine.device(|device| {
            device.give(change(Answer {
                bytes: b"x".to_vec(),
                ..Answer::default()
            }));
        });
        rig.machine.run();
        check_broken(&rig, b"before");
        let rig = rig_of(F_EVENT_IDX, change);
        assert_eq!(rig.console.write(&[7; 20_000]), Err(ConsoleError::Broken));
        check_broken(&rig, b"");
    }
}

#[test]
fn a_device_that_stops_is_an_error() {
    let rig = rig();
    rig.machine.device(Device::stop);
    rig.machine.run();
    check_broken(&rig, b"");
}

fn check_broken(rig: &Rig, before: &[u8]) {
    let mut bytes = [0; 16];
    if !before.is_empty() {
        assert_eq!(rig.console.read(&mut bytes), Ok(before.len()));
        assert_eq!(bytes[..before.len()], *before);
    }
    for _ in 0..2 {
        assert_eq!(rig.console.read(&mut bytes), Err(ConsoleError::Broken));
        assert_eq!(rig.console.write(b"x"), Err(ConsoleError::Broken));
    }
    assert_eq!(rig.machine.device(|device| device.status()), 0);
    assert_eq!(rig.machine.log().len(), 1);
}
