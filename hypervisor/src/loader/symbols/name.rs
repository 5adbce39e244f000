//! Turns a name from the string table into one that is safe to print. The file chose its bytes:
//! they are bounded in length, and nothing in them reaches a terminal as a control character.

use std::fmt::{self, Write};

/// Bytes of a mangled name that are read, and characters of a demangled one that are kept.
const MANGLED_LIMIT: usize = 4096;
const SHOWN_LIMIT: usize = 512;

/// The demangled name at `offset` of the string table.
pub(super) fn demangled(names: &[u8], offset: u32) -> String {
    let tail = usize::try_from(offset)
        .ok()
        .and_then(|offset| names.get(offset..));
    let bytes = tail.unwrap_or_default().iter().copied();
    let name: Vec<u8> = bytes
        .take_while(|byte| *byte != 0)
        .take(MANGLED_LIMIT)
        .collect();
    let mut shown = Shown::default();
    // An error says only that the limit is reached; what was written until then is the answer.
    // `#` leaves out the hash.
    let _ = write!(
        shown,
        "{:#}",
        rustc_demangle::demangle(&String::from_utf8_lossy(&name))
    );
    shown.text
}

#[derive(Default)]
struct Shown {
    text: String,
    count: usize,
}

impl Write for Shown {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        part.chars().try_for_each(|letter| self.push(letter))
    }
}

impl Shown {
    fn push(&mut self, letter: char) -> fmt::Result {
        self.count = self.count.saturating_add(1);
        match self.count {
            ..=SHOWN_LIMIT => self.text.push(printable(letter)),
            // Once: some writers go on after an error.
            count if count == SHOWN_LIMIT.saturating_add(1) => self.text.push_str("..."),
            _ => {}
        }
        if self.count > SHOWN_LIMIT {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

fn printable(letter: char) -> char {
    let is_safe = letter == ' ' || letter.is_ascii_graphic() || letter.is_alphanumeric();
    if is_safe { letter } else { '?' }
}
