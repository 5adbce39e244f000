//! The keyboard controller, an i8042, for the one thing that it does without a keyboard: it resets the
//! processor.

use driver_api::{PortEnv, Ports};

use crate::BoardError;

/// The controller's port of status and commands is the fifth from that of data on; what is between belongs
/// to others.
const DATA_BEFORE: u16 = 4;
/// How often the status is looked at: each look costs an exit.
const LOOKS: usize = 10_000;

/// Status: there is data to read; a command has not been taken yet.
const DATA: u8 = 1 << 0;
const FULL: u8 = 1 << 1;

/// Commands: a test, and its answer; the reset.
const SELF_TEST: u8 = 0xaa;
const PASSED: u8 = 0x55;
const RESET: u8 = 0xfe;

/// The controller.
pub struct Controller<E: PortEnv> {
    command: E::Ports,
}

impl<E: PortEnv> Controller<E> {
    /// Take over the controller with this port of commands, if it passes its own test.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn new(env: &E, command: u16) -> Result<Self, BoardError> {
        let data = command
            .checked_sub(DATA_BEFORE)
            .ok_or(BoardError::NoDevice)?;
        let data = env.ports(data, 1)?;
        let controller = Self {
            command: env.ports(command, 1)?,
        };
        controller.wait(|now| now & FULL == 0)?;
        controller.command.write(0, SELF_TEST);
        controller.wait(|now| now & DATA != 0)?;
        match data.read(0) {
            PASSED => Ok(controller),
            _ => Err(BoardError::NoDevice),
        }
    }

    /// Reset the processor. Returns only if that does not happen.
    pub fn reset(&self) {
        if self.wait(|now| now & FULL == 0).is_ok() {
            self.command.write(0, RESET);
        }
    }

    fn wait(&self, is_over: impl Fn(u8) -> bool) -> Result<(), BoardError> {
        let mut looks = (0..LOOKS).map(|_| self.command.read(0));
        // On a bus that floats all bits are set.
        let found = looks.find(|now| is_over(*now) && *now != 0xff);
        found.map(drop).ok_or(BoardError::NoDevice)
    }
}
