//! A source of random numbers.

use std::io;

use fastrand::Rng;
use virtio_devices::Device;

use crate::random::Choose;
use crate::tally::Tally;
use crate::virtio::driver::Driver;
use crate::virtio::layout::BUFFERS;
use crate::virtio::maker::{Maker, Request};
use crate::virtio::plan::Mark;

/// What cases should come to.
pub const OUTCOMES: &[&str] = &[
    "random bytes",
    "queue : the driver wrote to the entropy device",
];

/// See the module.
pub struct Subject;

impl crate::virtio::Subject for Subject {
    fn device(&mut self, _: &mut Rng) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(virtio_devices::rng::Rng))
    }

    fn request(&mut self, maker: &mut Maker<'_>, _: usize) -> Option<Request> {
        let mut request = Request::default();
        let at = maker.status();
        request.writes(at, 1);
        let most = maker.rng.one_of(&[64, 1000, 1000, 0x1_0000]);
        let len = maker.rng.u32(1..most);
        maker.pieces(&mut request, len, 3, true);
        request.mark = Some(Mark {
            at,
            means: |byte| (byte != 0xee).then_some("random bytes"),
            bytes: 0,
        });
        Some(request)
    }

    fn probe(&mut self, driver: &mut Driver<'_>, _: &mut Tally) -> Result<(), String> {
        let at = BUFFERS[0].start;
        driver.put(at, &[0; 80]);
        let written = driver.ask(0, &[(at, 64, true)])?;
        let found = driver.get(at, 80);
        // 64 zeros come once in 2^512 times.
        let is_random = found[..64].iter().any(|byte| *byte != 0) && found[64..] == [0; 16];
        match (written, is_random) {
            (64, true) => Ok(()),
            _ => Err(format!("{written} random bytes: {found:?}")),
        }
    }
}
