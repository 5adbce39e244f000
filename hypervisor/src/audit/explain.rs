//! The text that documents classes and allowances, for `--help` and the documentation.

use std::fmt::Write;

use super::allow::{ALLOWANCES, Allowance};
use super::classes::{CLASSES, ClassInfo};
use super::sensitive::SENSITIVE;

const WIDTH: usize = 96;

/// What is counted, why, and what is allowed by name, as plain text of 96 columns.
pub fn explain() -> String {
    let mut text = String::new();
    text.push_str("Classes of finding:\n");
    for ClassInfo {
        class,
        what,
        why,
        source,
    } in CLASSES
    {
        paragraph(&mut text, 2, &format!("{class}: {what}."));
        paragraph(&mut text, 4, &format!("Why: {why}. Source: {source}."));
    }
    text.push_str("\nSensitive instructions:\n");
    for group in SENSITIVE {
        paragraph(
            &mut text,
            2,
            &format!("{}: {}.", group.instructions, group.why),
        );
    }
    text.push_str("\nAllowed by name:\n");
    for Allowance {
        mnemonic,
        place,
        why,
        ..
    } in ALLOWANCES
    {
        paragraph(&mut text, 2, &format!("{mnemonic} {place}: {why}."));
    }
    text
}

/// Append `words` wrapped to `WIDTH`, the second and later lines indented by two more.
fn paragraph(text: &mut String, indent: usize, words: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        if column > 0 && column + 1 + word.len() <= WIDTH {
            text.push(' ');
            column += 1;
        } else {
            let indent = if column == 0 { indent } else { indent + 2 };
            if column > 0 {
                text.push('\n');
            }
            // Writing to a String cannot fail.
            let _ = write!(text, "{:indent$}", "");
            column = indent;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}
