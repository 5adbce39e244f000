//! An NE2000 on a wire that is full now and then.

use std::collections::VecDeque;

use fastrand::Rng;
use hypervisor::legacy::{Ne2000, Sent};

use super::{Step, byte, bytes, show, steps};
use crate::random::Choose;
use crate::tally::Tally;
use crate::target::Target;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &["frame sent", "frame waits", "an interrupt"];

/// A network card.
pub struct Card;

/// How many bytes of memory a card has: no frame is longer.
const CARD: usize = 0x4000;

/// What a card sent.
#[derive(Default)]
struct Wire {
    frames: VecDeque<Vec<u8>>,
    is_full: bool,
}

impl Wire {
    fn take(&mut self, frame: &[u8]) -> Sent {
        if self.is_full {
            return Sent::Later;
        }
        self.frames.truncate(4);
        self.frames.push_front(frame.to_vec());
        Sent::Gone
    }
}

/// Events: a frame comes, of a length and to an address; the wire has room, or not.
const FRAME: &str = "a frame comes";
const ROOM: &str = "the wire has room";

/// One step of a driver that may be wrong, or of the wire.
fn step(rng: &mut Rng, steps: &mut Vec<Step>) {
    let some = rng.u8(..);
    steps.push(match rng.u32(..12) {
        0..3 => {
            let commands = [
                0x22, 0x22, 0x21, 0x26, 0x26, 0x0a, 0x12, 0x1a, 0x62, 0xa2, 0xe2, 0x02, some,
            ];
            byte(0, rng.one_of(&commands))
        }
        3..6 => {
            let page = rng.one_of(&[0x40, 0x46, 0x4c, 0x7f, 0x80, some]);
            let small = rng.u8(..8);
            let value = rng.one_of(&[page, page, small, 0, 0xff, some]);
            byte(rng.u64(1..16), value)
        }
        6 => Step::Read {
            at: rng.u64(..0x22),
            len: rng.one_of(&[0, 1, 1, 2, 4]),
        },
        7 => Step::Write {
            at: 0x10,
            bytes: bytes(rng, &[0, 1, 2, 4, 60, 0x2000]),
        },
        8 => Step::Read {
            at: 0x10,
            len: rng.one_of(&[1, 2, 4, 60, 0x2000]),
        },
        9 => Step::Event {
            what: ROOM,
            first: rng.u64(..2),
            second: 0,
        },
        _ => Step::Event {
            what: FRAME,
            first: rng.one_of(&[0, 5, 6, 60, 60, 600, 1514, 1518, 1519, 9000]),
            second: rng.one_of(&[0xff, 0x02, 0x01, some]).into(),
        },
    });
}

fn apply(card: &mut Ne2000, wire: &mut Wire, step: &Step) {
    match step {
        // Offsets are below a page.
        Step::Read { at, len } => card.read(*at as u16, &mut vec![0; *len]),
        Step::Write { at, bytes } => card.write(*at as u16, bytes, &mut |frame| wire.take(frame)),
        Step::Event {
            what: ROOM, first, ..
        } => {
            wire.is_full = *first == 0;
            card.go_on_sending(&mut |frame| wire.take(frame));
        }
        Step::Event { first, second, .. } => card.receive(&vec![*second as u8; *first as usize]),
    }
}

/// Write registers.
fn set(card: &mut Ne2000, wire: &mut Wire, writes: &[(u16, u8)]) {
    for (offset, value) in writes {
        card.write(*offset, &[*value], &mut |frame| wire.take(frame));
    }
}

/// A card is set up as drivers do it, sends a frame, and receives one.
fn probe_card(card: &mut Ne2000, wire: &mut Wire) -> Result<(), String> {
    wire.is_full = false;
    wire.frames.clear();
    card.read(0x1f, &mut [0]);
    let ring = [
        (0, 0x21),
        (0x0e, 0x49),
        (0x0a, 0),
        (0x0b, 0),
        (0x0c, 0x10),
        (0x0d, 0),
        (1, 0x46),
        (2, 0x80),
    ];
    set(card, wire, &ring);
    set(
        card,
        wire,
        &[
            (3, 0x46),
            (7, 0xff),
            (0x0f, 1),
            (0, 0x61),
            (7, 0x47),
            (0, 0x22),
        ],
    );
    let frame: Vec<u8> = (0..100).map(|at| at as u8 ^ 0x5a).collect();
    set(
        card,
        wire,
        &[(8, 0), (9, 0x40), (0x0a, 100), (0x0b, 0), (0, 0x12)],
    );
    card.write(0x10, &frame, &mut |_| Sent::Gone);
    set(card, wire, &[(4, 0x40), (5, 100), (6, 0), (0, 0x26)]);
    if wire.frames.pop_front().as_ref() != Some(&frame) {
        return Err("the known frame does not go out".into());
    }
    card.receive(&frame);
    if !card.interrupt() {
        return Err("a known frame comes without an interrupt".into());
    }
    set(
        card,
        wire,
        &[(8, 0), (9, 0x47), (0x0a, 104), (0x0b, 0), (0, 0x0a)],
    );
    let mut found = [0; 104];
    card.read(0x10, &mut found);
    // Status, the next page, the length with the check sequence; then the frame.
    match found[1..4] == [0x48, 104, 0] && found[4..] == frame {
        true => Ok(()),
        false => Err(format!("the known frame comes as {found:x?}")),
    }
}

impl Target for Card {
    fn case(&mut self, mut rng: Rng, tally: &mut Tally) -> Result<(), String> {
        let mut card = Ne2000::new([2, 0, 0, 0, 0, 1]);
        let mut wire = Wire::default();
        for step in steps(&mut rng, step) {
            apply(&mut card, &mut wire, &step);
            tally.operations += 1;
            if card.interrupt() {
                tally.reached("an interrupt");
            }
            if card.is_sending() {
                tally.reached("frame waits");
            }
            if let Some(frame) = wire.frames.pop_front() {
                tally.reached("frame sent");
                tally.finished += 1;
                tally.bytes += frame.len() as u64;
                if frame.is_empty() || frame.len() > CARD {
                    return Err(format!("a frame of {} bytes goes out", frame.len()));
                }
            }
        }
        probe_card(&mut card, &mut wire)
    }

    fn show(&mut self, mut rng: Rng) -> String {
        show(&steps(&mut rng, step))
    }
}
