use super::*;
use crate::{Args, CallError, Frame, Gate, GuestMemory, GuestPhys, GuestPtr, Slot, Tier};
use core::cell::Cell;

#[test]
fn numbers_are_unique_and_in_their_range() {
    for row in rows() {
        assert_eq!(
            rows().filter(|other| other.number == row.number).count(),
            1,
            "{}",
            row.name
        );
        assert_eq!(
            rows().filter(|other| other.name == row.name).count(),
            1,
            "{}",
            row.name
        );
        assert!(!VENDOR.contains(&row.number), "{}", row.name);
        assert_eq!(
            row.tier == Tier::Monitor,
            row.number < MONITOR_NUMBERS,
            "{}",
            row.name
        );
        assert!(
            row.args.len() <= 6 && !row.doc.trim().is_empty() && !row.modes.is_empty(),
            "{}",
            row.name
        );
    }
}

struct Recorder(Cell<Option<(Slot, u64, Args)>>, u64);

impl Gate for Recorder {
    fn call(&self, slot: Slot, number: u64, args: Args) -> u64 {
        self.0.set(Some((slot, number, args)));
        self.1
    }
}

#[test]
fn a_stub_puts_number_and_arguments_in_their_registers() {
    use super::{console::Guest as _, mmu::Guest as _};
    let gate = Recorder(Cell::new(None), 7);
    assert_eq!(gate.load_root(Frame(5)), Ok(()));
    assert_eq!(gate.0.get(), Some((Slot::Monitor, 1, [5, 0, 0, 0, 0, 0])));
    assert_eq!(gate.console_read(GuestPtr::new(GuestPhys(64)), 9), Ok(7));
    assert_eq!(
        gate.0.get(),
        Some((Slot::Machine, 0x32, [64, 9, 0, 0, 0, 0]))
    );
    let refusing = Recorder(Cell::new(None), CallError::Denied.to_word());
    assert_eq!(refusing.load_root(Frame(5)), Err(CallError::Denied));
}

struct NoMemory;

impl GuestMemory for NoMemory {
    fn read(&self, _: GuestPhys, _: &mut [u8]) -> Result<(), CallError> {
        Err(CallError::BadRange)
    }
    fn write(&self, _: GuestPhys, _: &[u8]) -> Result<(), CallError> {
        Err(CallError::BadRange)
    }
}

crate::hypercalls! {
    /// A vendor's topic.
    topic greeter {
        /// Greet.
        0x8001 greet(tag: u8, times: u32) -> u64 tier machine in [pv];
        /// Stay inside.
        0x8002 inside() -> () tier monitor in [pv];
    }
}

struct Twice;

impl greeter::Host for Twice {
    fn greet(&mut self, _: &dyn GuestMemory, tag: u8, times: u32) -> Result<u64, CallError> {
        Ok(u64::from(tag) * u64::from(times))
    }
}

#[test]
fn a_vendor_topic_dispatches_typed_arguments() {
    let call = |number, args| greeter::dispatch(&mut Twice, &NoMemory, number, &args);
    assert_eq!(call(0x8001, [3, 4, 0, 0, 0, 0]), Some(Ok(12)));
    assert_eq!(
        call(0x8001, [300, 4, 0, 0, 0, 0]),
        Some(Err(CallError::BadArgument))
    );
    assert_eq!(call(0x8002, [0; 6]), None);
    assert_eq!(call(0x8003, [0; 6]), None);
    assert_eq!(
        <greeter::calls::greet as crate::TypedCall>::ROW.name,
        "greet"
    );
}
