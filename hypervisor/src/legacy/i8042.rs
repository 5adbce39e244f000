//! The keyboard controller of a PC, an i8042, without a keyboard: what is left of it is the line that resets
//! the processor.

/// Bits of the status: there is data; the self-test was passed; the keyboard is not locked.
const DATA: u8 = 1 << 0;
const PASSED: u8 = 1 << 2;
const UNLOCKED: u8 = 1 << 4;

/// Commands, and their answers.
const SELF_TEST: u8 = 0xaa;
const SELF_TEST_PASSED: u8 = 0x55;
/// Pulse the processor's reset, which is the lowest of four lines that are low for the bits that are 0.
const PULSE: std::ops::RangeInclusive<u8> = 0xf0..=0xff;

/// The ports of data, and of status and commands.
pub const DATA_PORT: u16 = 0x60;
pub const COMMAND_PORT: u16 = 0x64;

/// The controller.
#[derive(Clone, Copy, Debug, Default)]
pub struct I8042 {
    answer: Option<u8>,
    resets: bool,
}

impl I8042 {
    /// Read a port.
    pub fn read(&mut self, port: u16) -> u8 {
        match port {
            COMMAND_PORT => PASSED | UNLOCKED | if self.answer.is_some() { DATA } else { 0 },
            _ => self.answer.take().unwrap_or(0),
        }
    }

    /// Write a port. What is meant for a keyboard reaches none, and it has nothing to say.
    pub fn write(&mut self, port: u16, value: u8) {
        match (port, value) {
            (COMMAND_PORT, SELF_TEST) => self.answer = Some(SELF_TEST_PASSED),
            (COMMAND_PORT, value) if PULSE.contains(&value) => self.resets |= value & 1 == 0,
            _ => {}
        }
    }

    /// Whether the processor is to be reset.
    pub fn resets(&self) -> bool {
        self.resets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pulse_of_the_lowest_line_resets() {
        let mut controller = I8042::default();
        assert_eq!(controller.read(COMMAND_PORT), 0x14);
        for value in (0..=0xff).filter(|value| !(PULSE.contains(value) && value & 1 == 0)) {
            controller.write(COMMAND_PORT, value);
            controller.write(DATA_PORT, value);
            assert!(!controller.resets(), "{value:#x}");
        }
        controller.write(COMMAND_PORT, 0xfe);
        assert!(controller.resets());
    }

    #[test]
    fn the_self_test_passes() {
        let mut controller = I8042::default();
        controller.write(COMMAND_PORT, SELF_TEST);
        assert_eq!(controller.read(COMMAND_PORT), 0x15);
        assert_eq!([(); 2].map(|()| controller.read(DATA_PORT)), [0x55, 0]);
    }
}
