//! The console: one interface over the hooks, the same for every image and device.
//!
//! Output goes out in pieces of up to a line; input comes by interrupt. Lines end with "\n".

mod editor;
mod input;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::hooks;
use crate::sync::SpinLock;

pub use editor::{Editor, LINE_MAX, Outcome};
pub use input::{init, read_byte};

/// Print to the console.
#[macro_export]
macro_rules! print {
    ($($part:tt)*) => { $crate::console::print(format_args!($($part)*)) };
}

/// Print a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($part:tt)*) => { $crate::console::print_line(format_args!($($part)*)) };
}

/// One context writes at a time.
static OUTPUT: SpinLock<()> = SpinLock::new(());
/// Whether a report is under way: whoever holds the lock will not go on.
static IN_REPORT: AtomicBool = AtomicBool::new(false);

/// Print formatted text.
pub fn print(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    // Nothing below fails; an error could only come from a `Display` of the text's own.
    let _ = line.write_fmt(text);
}

/// Print formatted text and end the line.
pub fn print_line(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = line.write_fmt(text);
    let _ = line.write_str("\n");
}

/// Send what waits in the console's buffer: before waiting for an answer to a prompt.
pub fn flush() {
    hooks::console_flush();
}

/// Write bytes at once.
fn write(bytes: &[u8]) {
    let _guard = (!IN_REPORT.load(Ordering::Relaxed)).then(|| OUTPUT.lock());
    hooks::console_write(bytes);
}

/// From here on only the report of a fault is printed, and no lock is taken.
pub(crate) fn enter_report() {
    IN_REPORT.store(true, Ordering::Relaxed);
}

/// Text on its way out: the many small pieces of formatting become few calls.
struct Line {
    bytes: [u8; 128],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            bytes: [0; 128],
            len: 0,
        }
    }

    fn send(&mut self) {
        if let Some(bytes) = self.bytes.get(..self.len).filter(|b| !b.is_empty()) {
            write(bytes);
        }
        self.len = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let room = self.bytes.get_mut(self.len..).unwrap_or(&mut []);
            let count = rest.len().min(room.len());
            let (now, later) = rest.split_at(count);
            if let Some(place) = room.get_mut(..count) {
                place.copy_from_slice(now);
            }
            self.len += count;
            rest = later;
            if self.len == self.bytes.len() {
                self.send();
            }
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.send();
    }
}

#[cfg(test)]
mod tests {
    use crate::hooks::fake;

    #[test]
    fn text_arrives_whole_however_long_it_is() {
        let long = "0123456789".repeat(40);
        crate::println!("{long}-{}", 7);
        crate::print!("no newline");
        crate::println!();
        let expected = std::format!("{long}-7\nno newline\n");
        assert_eq!(fake::output(), expected.as_bytes());
    }
}
