//! A line editor: what a terminal's keys do to a line, and what the terminal shows.
//!
//! Printable ASCII is added and echoed; Backspace and Delete remove a character, Ctrl-U the line,
//! Ctrl-C gives it up, Ctrl-D on an empty line ends the input. Carriage return or newline ends the
//! line; both together count once. Every other byte is ignored.

/// The longest line, in bytes.
pub const LINE_MAX: usize = 256;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// What a byte did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The line goes on.
    More,
    /// The line is complete.
    Line,
    /// The line was given up.
    Aborted,
    /// The input has ended.
    End,
}

/// The line that is being typed.
#[derive(Debug)]
pub struct Editor {
    line: [u8; LINE_MAX],
    len: usize,
    /// The last byte was a carriage return: a newline after it belongs to it.
    after_return: bool,
}

impl Editor {
    /// An empty line.
    pub const fn new() -> Self {
        Self {
            line: [0; LINE_MAX],
            len: 0,
            after_return: false,
        }
    }

    /// The line so far.
    pub fn line(&self) -> &str {
        let bytes = self.line.get(..self.len).unwrap_or_default();
        // Only ASCII is ever added.
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Begin a new line.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Apply a byte that was typed; `echo` gets what the terminal shall show.
    pub fn feed(&mut self, byte: u8, echo: &mut impl FnMut(&str)) -> Outcome {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => Outcome::More,
            b'\r' | b'\n' => {
                echo("\n");
                Outcome::Line
            }
            CTRL_C => {
                echo("^C\n");
                self.clear();
                Outcome::Aborted
            }
            CTRL_D if self.len == 0 => {
                echo("\n");
                Outcome::End
            }
            CTRL_U => {
                while self.erase(echo) {}
                Outcome::More
            }
            BACKSPACE | DELETE => {
                self.erase(echo);
                Outcome::More
            }
            b' '..=b'~' => {
                self.add(byte, echo);
                Outcome::More
            }
            _ => Outcome::More,
        }
    }

    fn add(&mut self, byte: u8, echo: &mut impl FnMut(&str)) {
        let Some(place) = self.line.get_mut(self.len) else {
            return echo("\x07");
        };
        *place = byte;
        self.len += 1;
        echo(core::str::from_utf8(&[byte]).unwrap_or_default());
    }

    fn erase(&mut self, echo: &mut impl FnMut(&str)) -> bool {
        let Some(shorter) = self.len.checked_sub(1) else {
            return false;
        };
        self.len = shorter;
        echo("\x08 \x08");
        true
    }
}

impl Default for Editor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    /// Feed bytes; return the lines and what was shown.
    fn typed(bytes: &[u8]) -> (Vec<(Outcome, String)>, String) {
        let (mut editor, mut shown, mut lines) = (Editor::new(), String::new(), Vec::new());
        for byte in bytes {
            let outcome = editor.feed(*byte, &mut |text| shown.push_str(text));
            if outcome != Outcome::More {
                lines.push((outcome, editor.line().into()));
                editor.clear();
            }
        }
        (lines, shown)
    }

    #[test]
    fn either_end_of_line_ends_it_once() {
        let (lines, shown) = typed(b"mem\rhelp\nuptime\r\n\n");
        let texts: Vec<_> = lines.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["mem", "help", "uptime", ""]);
        assert_eq!(shown, "mem\nhelp\nuptime\n\n");
    }

    #[test]
    fn backspace_and_delete_remove_and_stop_at_the_start() {
        let (lines, shown) = typed(b"ab\x7f\x08\x08c\n");
        assert_eq!(lines, [(Outcome::Line, "c".into())]);
        assert_eq!(shown, "ab\x08 \x08\x08 \x08c\n");
    }

    #[test]
    fn control_keys_clear_give_up_and_end() {
        let (lines, shown) = typed(b"abc\x15x\x03\x04");
        let expected = [(Outcome::Aborted, "".into()), (Outcome::End, "".into())];
        assert_eq!(lines, expected);
        assert!(shown.ends_with("x^C\n\n"));
        assert_eq!(typed(b"a\x04\n").0, [(Outcome::Line, "a".into())]);
    }

    #[test]
    fn a_line_is_bounded_and_other_bytes_are_ignored() {
        let mut bytes = std::vec![b'x'; LINE_MAX + 3];
        bytes.extend_from_slice(&[0, 0x1b, 0x80, 0xff, b'\n']);
        let (lines, shown) = typed(&bytes);
        assert_eq!(lines[0].1.len(), LINE_MAX);
        assert_eq!(shown.matches('\x07').count(), 3);
    }
}
