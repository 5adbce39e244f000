//! Credit: neither side gets more than it has room for.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::{Guest, ROOM, packet, pattern};
use crate::device::feature;
use crate::vsock::BUFFER;
use crate::vsock::wire::{Header, NO_SEND, op};

#[test]
fn a_guest_gets_no_more_than_it_has_room_for() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let request = Header {
        room: 100,
        ..packet(ports.0, ports.1, op::REQUEST, 0)
    };
    guest.send_with(request, &[]);
    guest.expect(op::RESPONSE);
    let (mut program, _) = listener.accept().expect("a connection");
    let bytes = pattern(250);
    program.write_all(&bytes).expect("room");
    let (header, data) = guest.next();
    assert_eq!((header.op, &data[..]), (op::RW, &bytes[..100]));
    guest.expect(op::CREDIT_REQUEST);
    guest.expect_silence();
    let mut update = Header {
        room: 100,
        taken: 60,
        ..packet(ports.0, ports.1, op::CREDIT_UPDATE, 0)
    };
    guest.send_with(update, &[]);
    assert_eq!(guest.next().1, bytes[100..160]);
    guest.expect(op::CREDIT_REQUEST);
    // An end is told without credit, but after what came before it.
    program.shutdown(Shutdown::Write).expect("is open");
    guest.expect_silence();
    update.taken = 160;
    guest.send_with(update, &[]);
    assert_eq!(guest.next().1, bytes[160..]);
    assert_eq!(guest.expect(op::SHUTDOWN).flags, NO_SEND);
}

#[test]
fn what_a_guest_says_of_its_room_may_be_nonsense() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let mut program = guest.connect(&listener, (5000, 40));
    for (room, taken) in [
        (0, u32::MAX),
        (u32::MAX, u32::MAX),
        (1, 0x8000_0000),
        (u32::MAX, 0),
    ] {
        let header = packet(5000, 40, op::CREDIT_UPDATE, 0);
        guest.send_with(
            Header {
                room,
                taken,
                ..header
            },
            &[],
        );
    }
    program.write_all(b"on").expect("room");
    assert_eq!(guest.next().1, b"on");
}

#[test]
fn a_megabyte_goes_each_way_within_credit() {
    let mut guest = Guest::new(feature::EVENT_IDX);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    let bytes = pattern(1 << 20);
    let expected = bytes.clone();
    let echo = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        program.read_exact(&mut got).expect("all comes");
        assert!(got == expected);
        program.write_all(&got).expect("all goes");
        program
    });
    // To the program: never more under way than it has room for.
    let (mut sent, mut taken) = (0u32, 0u32);
    while (sent as usize) < bytes.len() {
        let free = BUFFER - (sent - taken);
        if free < 3000 {
            let (header, _) = guest.next();
            assert_eq!(header.op, op::CREDIT_UPDATE);
            taken = header.taken;
            continue;
        }
        let from = sent as usize;
        let part = &bytes[from..(from + 3000).min(bytes.len())];
        guest.send(ports, op::RW, 0, part);
        sent += part.len() as u32;
    }
    // And back: never more than the guest said.
    let mut got = Vec::new();
    let mut told = 0;
    while got.len() < bytes.len() {
        let (header, data) = guest.next();
        match header.op {
            op::RW => got.extend(data),
            op::CREDIT_UPDATE | op::CREDIT_REQUEST => {}
            other => panic!("operation {other}"),
        }
        assert!(got.len() - told <= ROOM as usize);
        if got.len() - told > ROOM as usize / 2 {
            told = got.len();
            let update = packet(ports.0, ports.1, op::CREDIT_UPDATE, 0);
            let taken = told as u32;
            guest.send_with(Header { taken, ..update }, &[]);
        }
    }
    assert!(got == bytes);
    drop(echo.join().expect("the program had all"));
}

#[test]
fn a_guest_that_sends_beyond_its_credit_is_reset_and_costs_no_memory() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    let part = pattern(4000);
    let mut sent = 0;
    let reset = loop {
        guest.send(ports, op::RW, 0, &part);
        sent += part.len();
        assert!(sent < 64 << 20, "the device keeps everything");
        if let Some((header, _)) = guest.next_within(Duration::ZERO)
            && header.op == op::RST
        {
            break header;
        }
    };
    assert_eq!(reset.from_port, 5000);
    // What the stream had taken is there, whole packets of it or parts.
    let mut got = Vec::new();
    program.read_to_end(&mut got).expect("an end");
    assert!(!got.is_empty() && got.len() < sent);
    let expected = part.iter().cycle();
    assert!(got.iter().eq(expected.take(got.len())));
}

#[test]
fn a_program_that_reads_gives_credit() {
    let mut guest = Guest::new(0);
    let listener = guest.listen(5000);
    let ports = (5000, 40);
    let mut program = guest.connect(&listener, ports);
    guest.send(ports, op::RW, 0, &pattern(4000));
    guest.expect_silence();
    guest.send(ports, op::CREDIT_REQUEST, 0, &[]);
    assert_eq!(guest.expect(op::CREDIT_UPDATE).taken, 4000);
    for _ in 0..4 {
        guest.send(ports, op::RW, 0, &pattern(4000));
    }
    guest.send(ports, op::RW, 0, &pattern(500));
    let update = guest.expect(op::CREDIT_UPDATE);
    assert_eq!((update.room, update.taken), (BUFFER, 4000 + 16_500));
    let mut got = vec![0; 20_500];
    program.read_exact(&mut got).expect("all of it");
}
