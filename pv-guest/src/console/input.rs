//! What was typed: the top half wakes the reader, who empties the device.

use hypercall_abi::{Vector, layout};

use crate::sync::{SpinLock, WaitQueue};
use crate::{hooks, irq};

/// Bytes taken from the device at once.
const CHUNK: usize = 64;

/// Who waits for input.
static READERS: WaitQueue = WaitQueue::new();
/// What was taken and not read yet. In the image, so that a hypervisor can be told its address.
static TAKEN: SpinLock<Taken> = SpinLock::new(Taken::new());

/// Let input wake whoever waits for it.
pub fn init() {
    if let Some(vector) = Vector::new(layout::CONSOLE_VECTOR) {
        irq::register(vector, || READERS.wake_one());
    }
}

/// The next byte that was typed; sleeps until there is one.
pub fn read_byte() -> u8 {
    READERS.wait_until(|| TAKEN.lock().next())
}

/// Bytes between the device and the reader.
struct Taken {
    bytes: [u8; CHUNK],
    at: usize,
    len: usize,
}

impl Taken {
    const fn new() -> Self {
        Self {
            bytes: [0; CHUNK],
            at: 0,
            len: 0,
        }
    }

    fn next(&mut self) -> Option<u8> {
        if self.at >= self.len {
            self.len = hooks::console_read(&mut self.bytes).min(CHUNK);
            self.at = 0;
        }
        let byte = self.bytes.get(..self.len)?.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::fake;

    #[test]
    fn bytes_come_in_order_across_chunks() {
        let typed: std::vec::Vec<u8> = (0..150).collect();
        fake::type_in(&typed);
        let mut taken = Taken::new();
        let read: std::vec::Vec<u8> = core::iter::from_fn(|| taken.next()).collect();
        assert_eq!(read, typed);
        assert_eq!(taken.next(), None);
        fake::type_in(b"x");
        assert_eq!(taken.next(), Some(b'x'));
    }
}
