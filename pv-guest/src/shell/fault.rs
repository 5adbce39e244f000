//! `fault`: do something wrong on purpose, to see what is reported.

use super::{Command, CommandError};
use crate::arch::raise;
use crate::mm;

const USAGE: &str = "fault divide|page|gp|ud|stack|text|panic";

pub const COMMANDS: &[Command] = &[Command {
    name: "fault",
    args: "divide|page|gp|ud|stack|text|panic",
    about: "do something wrong: the kernel reports it and ends",
    run: fault,
}];

/// An address at which nothing is ever mapped.
const NOWHERE: u64 = 8;

fn fault(args: &str) -> Result<(), CommandError<'_>> {
    match args {
        "divide" => raise::divide_error(),
        "page" => raise::read(NOWHERE),
        "gp" => raise::read(raise::NOT_CANONICAL),
        "ud" => raise::undefined_instruction(),
        "stack" => drop(overflow(0)),
        "text" => raise::rewrite(mm::image().text.start),
        "panic" => panic!("the shell was asked to"),
        _ => return Err(CommandError::Usage(USAGE)),
    }
    Err(CommandError::Survived)
}

/// Call deeper and deeper until the stack is full.
#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let pad = core::hint::black_box([depth; 32]);
    overflow(depth.wrapping_add(1)).wrapping_add(pad.iter().sum())
}
