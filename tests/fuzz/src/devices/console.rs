//! A console between two pipes. Its other end writes, reads, stops, and now and then goes away.

use std::io::{self, PipeReader, PipeWriter, Read, Write};

use fastrand::Rng;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use virtio_devices::Device;
use virtio_devices::console::{Console, Resizer};

use crate::random::Choose;
use crate::tally::Tally;
use crate::virtio::driver::{self, Driver};
use crate::virtio::layout::BUFFERS;
use crate::virtio::maker::{Maker, Request};

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "input sent",
    "output came",
    "input ended",
    "output ended",
    "a full pipe",
];

/// The queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// See the module.
#[derive(Default)]
pub struct Subject {
    keyboard: Option<PipeWriter>,
    screen: Option<PipeReader>,
    resizer: Option<Resizer>,
}

impl crate::virtio::Subject for Subject {
    fn device(&mut self, _: &mut Rng) -> io::Result<Box<dyn Device>> {
        let (input, keyboard) = io::pipe()?;
        let (screen, output) = io::pipe()?;
        fcntl_setfl(&keyboard, fcntl_getfl(&keyboard)? | OFlags::NONBLOCK)?;
        fcntl_setfl(&screen, fcntl_getfl(&screen)? | OFlags::NONBLOCK)?;
        let console = Console::new(input.into(), output.into());
        self.resizer = Some(console.resizer());
        (self.keyboard, self.screen) = (Some(keyboard), Some(screen));
        Ok(Box::new(console))
    }

    fn request(&mut self, maker: &mut Maker<'_>, queue: usize) -> Option<Request> {
        let mut request = Request::default();
        let most = maker.rng.one_of(&[16, 600, 600, 6000, 0x1_8000]);
        let len = maker.rng.u32(1..most);
        maker.pieces(&mut request, len, 3, queue == RECEIVE);
        Some(request)
    }

    /// Both wait for the other end.
    fn finishes(&self, _: usize) -> bool {
        false
    }

    fn outside(&mut self, what: u64, tally: &mut Tally) {
        // Now and then more than a pipe has room for.
        let most = if what & 0x20 == 0 { 3000 } else { 0x1_8000 };
        let len = (what >> 8) as usize % most;
        match what % 32 {
            0 => {
                self.keyboard = None;
                tally.reached("input ended");
            }
            1 => {
                self.screen = None;
                tally.reached("output ended");
            }
            2..10 => {
                if let Some(resizer) = &self.resizer {
                    resizer.resize(len as u16, (what >> 40) as u16);
                }
            }
            10..22 => match self
                .keyboard
                .as_mut()
                .map(|keyboard| keyboard.write(&vec![0xbb; len]))
            {
                Some(Ok(count)) if count > 0 => tally.reached("input sent"),
                Some(Err(_)) => tally.reached("a full pipe"),
                _ => {}
            },
            _ => self.read(2 * most, tally),
        }
    }

    fn probe(&mut self, driver: &mut Driver<'_>, tally: &mut Tally) -> Result<(), String> {
        // What was on its way, in either direction, is out of the way first.
        self.read(1 << 20, tally);
        let at = BUFFERS[0].start;
        driver.put(at, b"a known request");
        driver.ask(TRANSMIT, &[(at, 15, false)])?;
        if let Some(screen) = &mut self.screen {
            let mut text = Vec::<u8>::new();
            driver::wait("a known request's text", || {
                let mut bytes = [0; 64];
                text.extend(
                    screen
                        .read(&mut bytes)
                        .ok()
                        .and_then(|count| bytes.get(..count))
                        .unwrap_or_default(),
                );
                Ok(text.len() >= 15)
            })?;
            if text != b"a known request" {
                return Err(format!(
                    "instead of the known request's text comes {text:?}"
                ));
            }
        }
        self.hear(driver)
    }

    fn close(&mut self) {
        *self = Subject::default();
    }
}

impl Subject {
    fn read(&mut self, most: usize, tally: &mut Tally) {
        let mut bytes = vec![0; most];
        if let Some(Ok(count)) = self.screen.as_mut().map(|screen| screen.read(&mut bytes))
            && count > 0
        {
            tally.bytes += count as u64;
            tally.reached("output came");
        }
    }

    /// What is typed after all that was typed before must come.
    fn hear(&mut self, driver: &mut Driver<'_>) -> Result<(), String> {
        let Some(keyboard) = &mut self.keyboard else {
            return Ok(());
        };
        let at = BUFFERS[1].start;
        let mut is_sent = false;
        driver::wait("known input", || {
            is_sent = is_sent || keyboard.write(b"\x01").is_ok_and(|count| count == 1);
            driver.offer(RECEIVE, &[(at, 4096, true)])?;
            // If the pipe was full, there is something to hear in any case.
            let len = driver.wait(RECEIVE)? as usize;
            Ok(driver.get(at, len.min(4096)).contains(&1))
        })
    }
}
