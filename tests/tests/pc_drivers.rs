//! The guest's drivers of timer, clock and reset, on devices that answer nonsense. On the real ones they run in
//! `trapped`.

use std::collections::VecDeque;

use pc::{BoardError, Clock, Controller, Timer};
use proptest::prelude::*;
use tests::board::{Board, Bus, VECTOR};

/// Every byte read is the next of these, and then a byte for ever.
struct Nonsense(VecDeque<u8>, u8);

impl Bus for Nonsense {
    fn read(&mut self, _: u16, into: &mut [u8]) {
        into.fill_with(|| self.0.pop_front().unwrap_or(self.1));
    }
    fn write(&mut self, _: u16, _: &[u8]) {}
    fn interrupt(&mut self) -> bool {
        self.0.front().is_some_and(|byte| byte & 1 != 0)
    }
}

fn board(bytes: impl Into<VecDeque<u8>>, rest: u8) -> Board<Nonsense> {
    Board::new(Nonsense(bytes.into(), rest), false)
}

#[test]
fn a_bus_that_floats_is_no_device() {
    let board = || board([], 0xff);
    assert_eq!(
        Timer::new(&board(), 0x40, VECTOR).err(),
        Some(BoardError::NoDevice)
    );
    assert_eq!(
        Clock::new(&board(), 0x70, VECTOR).err(),
        Some(BoardError::NoDevice)
    );
    assert_eq!(
        Controller::new(&board(), 0x64).err(),
        Some(BoardError::NoDevice)
    );
    assert_eq!(
        Controller::new(&board(), 3).err(),
        Some(BoardError::NoDevice)
    );
}

#[test]
fn a_clock_that_never_stands_still_is_busy() {
    // Always in its update, or never the same twice.
    let updating = Clock::new(&board([0x80], 0x80), 0x70, VECTOR).expect("its battery is good");
    assert_eq!(updating.now(), Err(BoardError::Busy));
    let start = [0x80, 0, 0];
    let changing = (0..200_u8).flat_map(|at| [0, 2, 1, 0x20, at, 1, 1, 1, at]);
    let bytes: Vec<u8> = start.into_iter().chain(changing).collect();
    let changing = Clock::new(&board(bytes, 0), 0x70, VECTOR).expect("its battery is good");
    assert_eq!(changing.now(), Err(BoardError::Busy));
}

#[test]
fn rates_that_a_device_does_not_have_are_refused() {
    let timer = Timer::new(&board([0x70], 0), 0x40, VECTOR).expect("it says that it has no count");
    for (hz, period) in [(19, 62_799), (100, 11_931), (596_591, 2)] {
        assert_eq!(timer.start(hz), Ok(period));
    }
    for hz in [0, 18, 1_000_000, u32::MAX] {
        assert_eq!(timer.start(hz), Err(BoardError::OutOfRange), "{hz}");
    }
    let clock = Clock::new(&board([0x80], 0), 0x70, VECTOR).expect("its battery is good");
    for hz in [2, 64, 8192] {
        assert_eq!(clock.start(hz), Ok(()));
    }
    for hz in [0, 1, 3, 8191, 16_384, u32::MAX] {
        assert_eq!(clock.start(hz), Err(BoardError::OutOfRange), "{hz}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the devices answer, the drivers neither panic nor hang.
    #[test]
    fn nonsense_is_borne(bytes in prop::collection::vec(any::<u8>(), 0..300), rest in any::<u8>(), hz in any::<u32>()) {
        let with = |start: &[u8]| {
            let bytes: Vec<u8> = start.iter().chain(&bytes).copied().collect();
            board(bytes, rest)
        };
        if let Ok(timer) = Timer::new(&with(&[0x70, 0, 0]), 0x40, VECTOR) {
            let _ = timer.start(hz);
            let _ = (timer.left(), timer.ticks());
            timer.stop();
        }
        let board = with(&[0x80]);
        if let Ok(clock) = Clock::new(&board, 0x70, VECTOR) {
            if let Ok(date) = clock.now() {
                prop_assert!(date.to_string().len() >= 19);
            }
            let _ = clock.start(hz);
            board.top();
            clock.stop();
        }
        if let Ok(controller) = Controller::new(&with(&[0x14, 0x15, 0x55]), 0x64) {
            controller.reset();
        }
    }
}
