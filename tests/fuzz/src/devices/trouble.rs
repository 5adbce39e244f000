//! Targets that go wrong on purpose, one way each, to see that the fuzzer notices. No part of `all`.

use std::fs::File;
use std::time::Duration;

use fastrand::Rng;

use crate::tally::Tally;
use crate::target::Target;

/// The case that goes wrong.
const CASE: u64 = 3;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// A check fails.
    Check,
    /// The case's own thread panics.
    Panic,
    /// Another thread panics.
    Thread,
    /// The case does not end.
    Hang,
    /// The stack is used up.
    Stack,
    /// Each case leaves a file open.
    Files,
    /// Each case leaves a thread.
    Threads,
    /// Each case leaves memory.
    Memory,
}

/// See the module.
pub struct Troubled {
    what: Trouble,
    cases: u64,
    files: Vec<File>,
    memory: Vec<Vec<u8>>,
}

impl Troubled {
    /// A target with a trouble.
    #[must_use]
    pub fn new(what: Trouble) -> Self {
        Troubled {
            what,
            cases: 0,
            files: Vec::new(),
            memory: Vec::new(),
        }
    }
}

impl Target for Troubled {
    fn case(&mut self, mut rng: Rng, _: &mut Tally) -> Result<(), String> {
        self.cases += 1;
        match self.what {
            Trouble::Files => self
                .files
                .push(File::open("/dev/null").map_err(|error| error.to_string())?),
            Trouble::Threads => {
                std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60)));
            }
            Trouble::Memory => self.memory.push(vec![rng.u8(1..); 4 << 20]),
            _ => {}
        }
        if self.cases <= CASE {
            return Ok(());
        }
        match self.what {
            Trouble::Check => return Err("as it was wished".into()),
            Trouble::Panic => panic!("as it was wished"),
            // It ends the process, so nobody waits for it in vain.
            Trouble::Thread => drop(std::thread::spawn(|| panic!("as it was wished")).join()),
            Trouble::Hang => std::thread::sleep(Duration::from_secs(3600)),
            Trouble::Stack => {
                std::hint::black_box(deep(rng.u64(..)));
            }
            _ => {}
        }
        Ok(())
    }

    fn show(&mut self, _: Rng) -> String {
        format!("{:?}", self.what)
    }
}

/// Call oneself for ever.
#[allow(unconditional_recursion)]
fn deep(value: u64) -> u64 {
    let words = std::hint::black_box([value; 64]);
    deep(value ^ 1) + words[(value % 64) as usize]
}
