//! Commands on what a PC's board has: `date`, `ticks`, `reboot`.

use super::{Command, CommandError};
use crate::text::words;
use crate::time::{MICROSECOND, MILLISECOND, now_ns};
use crate::{dev, hooks, println, sched};

const TICKS: &str = "ticks pit|rtc HZ MILLISECONDS";

pub const COMMANDS: &[Command] = &[
    Command {
        name: "date",
        args: "",
        about: "show the time of day, in UTC",
        run: date,
    },
    Command {
        name: "ticks",
        args: "pit|rtc HZ MILLISECONDS",
        about: "count the interrupts of the timer or the clock",
        run: ticks,
    },
    Command {
        name: "reboot",
        args: "",
        about: "reset the machine",
        run: reboot,
    },
];

fn date(_: &str) -> Result<(), CommandError<'_>> {
    let clock = dev::clock().ok_or(CommandError::NoDevice)?;
    println!("{} UTC", clock.now().map_err(CommandError::Board)?);
    Ok(())
}

fn ticks(args: &str) -> Result<(), CommandError<'_>> {
    let mut words = words(args);
    let (which, hz, ms) = (words.next(), words.next(), words.next());
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u32>().ok());
    let (Some(which), Some(hz), Some(ms), None) = (which, number(hz), number(ms), words.next())
    else {
        return Err(CommandError::Usage(TICKS));
    };
    let sleep = || sched::sleep_ns(u64::from(ms) * MILLISECOND);
    let start = now_ns();
    let count = match which {
        "pit" => {
            let timer = dev::timer().ok_or(CommandError::NoDevice)?;
            timer.start(hz).map_err(CommandError::Board)?;
            sleep();
            timer.stop();
            timer.ticks()
        }
        "rtc" => {
            let clock = dev::clock().ok_or(CommandError::NoDevice)?;
            clock.start(hz).map_err(CommandError::Board)?;
            sleep();
            clock.stop();
            clock.ticks()
        }
        _ => return Err(CommandError::Usage(TICKS)),
    };
    let us = (now_ns() - start) / MICROSECOND;
    println!("{count} ticks in {us} us");
    Ok(())
}

fn reboot(_: &str) -> Result<(), CommandError<'_>> {
    let controller = dev::controller().ok_or(CommandError::NoDevice)?;
    hooks::console_flush();
    controller.reset();
    Err(CommandError::Survived)
}
