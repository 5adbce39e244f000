//! Writing: results to stdout, where an error ends the command; sentences to stderr, where nobody
//! is left to tell of one. Never `println!`, which panics on a closed pipe.

use std::io::{self, Write};
use std::ops::Range;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::status::Failure;

/// Write a result to stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::host(format!("cannot write the output: {error}")))
}

/// Write a result to stdout as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::host(format!("cannot write the output as JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Say a sentence on stderr.
pub fn say(sentence: &str) {
    note(&format!("paravane: {sentence}\n"));
}

/// Write text to stderr as it is.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The build that measured: figures of a debug build do not compare with a release's.
pub const BUILD: &str = if cfg!(debug_assertions) {
    "debug"
} else {
    "release"
};

/// An empty table with a head, for text of `width` columns at most.
pub fn table(head: &[&str], width: u16) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(head.iter().copied());
    table
}

/// The table as lines without blanks around them.
pub fn lines(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// Align columns of numbers.
pub fn align_right(table: &mut Table, columns: Range<usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Words in lines of `width` columns at most, each behind an indent.
pub fn wrapped(words: &str, indent: usize, width: usize) -> String {
    let mut text = String::new();
    let mut column = usize::MAX;
    for word in words.split_whitespace() {
        let len = word.chars().count();
        if column.saturating_add(1 + len) <= width {
            text.push(' ');
            column += 1 + len;
        } else {
            if !text.is_empty() {
                text.push('\n');
            }
            text += &" ".repeat(indent);
            column = indent + len;
        }
        text += word;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_at_the_width() {
        assert_eq!(
            wrapped("a bb  ccc dddddddd e", 2, 8),
            "  a bb\n  ccc\n  dddddddd\n  e\n"
        );
        assert_eq!(wrapped("four five", 0, 9), "four five\n");
    }
}
