//! A guest's console: keeps a benchmark's lines, and the beginning of what else is written.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::watch::lock;

/// The longest line that is kept, and the most text beside the lines.
const KEPT: usize = 64 * 1024;

/// See the module.
#[derive(Clone)]
pub struct Console(Arc<Mutex<Text>>);

/// What was written.
#[derive(Default)]
pub struct Text {
    /// What the benchmark's lines begin with.
    mark: &'static str,
    /// The benchmark's lines.
    pub lines: Vec<String>,
    /// Everything else, but for what the console rows write.
    pub other: String,
    /// The line that has not ended yet.
    line: Vec<u8>,
}

impl Console {
    /// A console that keeps the lines that begin so.
    pub fn keeping(mark: &'static str) -> Self {
        let text = Text {
            mark,
            ..Text::default()
        };
        Self(Arc::new(Mutex::new(text)))
    }

    /// What was written so far; it is forgotten.
    pub fn take(&self) -> Text {
        let mut text = lock(&self.0);
        text.end_line();
        let mark = text.mark;
        let fresh = Text {
            mark,
            ..Text::default()
        };
        std::mem::replace(&mut text, fresh)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Text {
    fn write(&mut self, mut bytes: &[u8]) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..at]);
            self.end_line();
            bytes = &bytes[at + 1..];
        }
        self.append(bytes);
    }

    /// The rest of a line that is longer than any of use is dropped.
    fn append(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
    }

    fn end_line(&mut self) {
        let is_noise = self.line.iter().all(|byte| *byte == b'.');
        if !is_noise {
            let line = String::from_utf8_lossy(&self.line);
            if line.starts_with(self.mark) {
                self.lines.push(line.into_owned());
            } else if self.other.len() + line.len() < KEPT {
                self.other.push_str(&line);
                self.other.push('\n');
            }
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_keeps_lines_apart_from_what_the_rows_write() {
        let mut console = Console::keeping("@bench ");
        for part in [
            "@bench a ab",
            "sent\n...",
            "....\n\nkernel: odd\n",
            "@bench end\n> ",
        ] {
            console.write_all(part.as_bytes()).unwrap();
        }
        let text = console.take();
        assert_eq!(text.lines, ["@bench a absent", "@bench end"]);
        assert_eq!(text.other, "kernel: odd\n> \n");
    }

    #[test]
    fn a_guest_that_writes_without_end_takes_little_memory() {
        let mut console = Console::keeping("@bench ");
        for _ in 0..1000 {
            console.write_all(&[b'x'; 4096]).unwrap();
        }
        console.write_all(b"\n").unwrap();
        for _ in 0..100_000 {
            console.write_all(b"noise\n").unwrap();
        }
        let text = console.take();
        assert!(text.other.len() <= KEPT && text.line.len() <= KEPT);
    }
}
