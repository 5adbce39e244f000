//! `hvc`: the virtio consoles, for people and for tests of the driver.

use alloc::vec::Vec;

use super::reach::number;
use super::{Command, CommandError};
use crate::dev::{self, Console};
use crate::println;
use crate::text::{first_word, unquote};

const USAGE: &str = "hvc [[NAME] write TEXT | [NAME] echo LINES]";

/// The longest line that is sent back whole, in bytes; of a longer one each part is a line.
const LINE: usize = 4096;

pub const COMMANDS: &[Command] = &[Command {
    name: "hvc",
    args: "[[NAME] write TEXT | [NAME] echo LINES]",
    about: "list virtio consoles, write to one, or send back lines that are typed there",
    run: hvc,
}];

fn hvc(args: &str) -> Result<(), CommandError<'_>> {
    if args.is_empty() {
        list();
        return Ok(());
    }
    let (first, rest) = first_word(args);
    let (index, (task, rest)) = match first.strip_prefix("hvc") {
        Some(index) => (index.parse().ok(), first_word(rest)),
        None => (Some(0), (first, rest)),
    };
    let index: usize = index.ok_or(CommandError::NoDevice)?;
    let lines = number(rest);
    if !matches!((task, rest, lines), ("write", text, _) if !text.is_empty())
        && !matches!((task, lines), ("echo", Some(_)))
    {
        return Err(CommandError::Usage(USAGE));
    }
    let console = dev::consoles().get(index).cloned();
    let console = console.ok_or(CommandError::NoDevice)?;
    match lines.filter(|_| task == "echo") {
        Some(lines) => echo(&console, lines),
        None => write(&console, unquote(rest)),
    }
}

fn list() {
    for (index, console) in dev::consoles().iter().enumerate() {
        match console.size() {
            Some((columns, rows)) => println!("hvc{index}  {columns} columns, {rows} rows"),
            None => println!("hvc{index}"),
        }
    }
}

fn write(console: &Console, text: &str) -> Result<(), CommandError<'static>> {
    let written = console.write(text.as_bytes());
    let ended = written.and_then(|()| console.write(b"\n"));
    ended.map_err(CommandError::Console)
}

/// Send back so many lines, each as soon as it has ended.
fn echo(console: &Console, lines: u32) -> Result<(), CommandError<'static>> {
    let (mut left, mut line, mut bytes) = (lines, Vec::new(), [0; 256]);
    while left > 0 {
        let count = console.read(&mut bytes).map_err(CommandError::Console)?;
        for byte in bytes.iter().take(count) {
            line.push(*byte);
            // A terminal's return key sends "\r".
            let is_end = matches!(byte, b'\n' | b'\r') || line.len() == LINE;
            if is_end && left > 0 {
                console.write(&line).map_err(CommandError::Console)?;
                line.clear();
                left -= 1;
            }
        }
    }
    Ok(())
}
