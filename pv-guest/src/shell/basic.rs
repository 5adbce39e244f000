//! Commands that do something: `echo`, `sleep`, `bench`, `poweroff`.

use super::{Command, CommandError};
use crate::text::{unquote, words};
use crate::time::MILLISECOND;
use crate::{bench, power, print, println, sched, status};

const SLEEP: &str = "sleep MILLISECONDS";
const POWEROFF: &str = "poweroff [STATUS], a number up to 255";

pub const COMMANDS: &[Command] = &[
    Command {
        name: "echo",
        args: "TEXT",
        about: "print the text",
        run: echo,
    },
    Command {
        name: "sleep",
        args: "MILLISECONDS",
        about: "wait that long",
        run: sleep,
    },
    Command {
        name: "bench",
        args: "[NAME]",
        about: "run the benchmark",
        run: |args| {
            bench::command(args);
            Ok(())
        },
    },
    Command {
        name: "poweroff",
        args: "[STATUS]",
        about: "end the virtual machine with an exit status",
        run: poweroff,
    },
];

fn echo(args: &str) -> Result<(), CommandError<'_>> {
    for (at, word) in words(args).enumerate() {
        let gap = if at == 0 { "" } else { " " };
        print!("{gap}{}", unquote(word));
    }
    println!();
    Ok(())
}

fn sleep(args: &str) -> Result<(), CommandError<'_>> {
    let ms: u32 = args.parse().map_err(|_| CommandError::Usage(SLEEP))?;
    sched::sleep_ns(u64::from(ms) * MILLISECOND);
    Ok(())
}

fn poweroff(args: &str) -> Result<(), CommandError<'_>> {
    let status = match args {
        "" => status::SUCCESS,
        number => number.parse().map_err(|_| CommandError::Usage(POWEROFF))?,
    };
    power::off(status)
}
