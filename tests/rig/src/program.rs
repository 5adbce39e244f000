//! `rig run`: one program in the rig, its output as it comes, its status as this process's own.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use clap::Args;

use crate::error::{OUT_OF_TIME, RIG_FAILED, RigError};
use crate::plan::{self, End, Job, Plan, Report, Stream};
use crate::setup::{RigOptions, Setup};
use crate::tools;

/// How much longer than its program the rig may be silent, in seconds.
pub const GRACE_S: u64 = 30;
/// What is added to the number of a signal, as a shell does.
const SIGNAL: i32 = 128;

/// Options of `rig run`.
#[derive(Args, Debug)]
pub struct RunOptions {
    /// How the rig is made.
    #[command(flatten)]
    pub rig: RigOptions,
    /// End the program after so many seconds, with status 124
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// The program, found as a shell would, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub command: Vec<OsString>,
}

/// Run a program in the rig, and return the exit status that stands for how it went.
///
/// # Errors
/// The rig itself failed.
pub fn run(options: &RunOptions) -> Result<u8, RigError> {
    let name = options.command.first().map_or(OsStr::new(""), |name| name);
    let program = tools::find(name).ok_or_else(|| RigError::NoProgram {
        name: name.to_string_lossy().into_owned(),
    })?;
    let mut setup = Setup::new(&options.rig)?;
    setup.archive.carry(&program)?;
    let words = options.command.iter().skip(1);
    let job = Job {
        program: program.display().to_string(),
        args: words
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        dir: "/root".to_owned(),
        env: setup.env(),
        timeout_s: options.timeout,
    };
    let machine = setup.boot(Plan {
        modules: Vec::new(),
        jobs: vec![job],
        at_once: 1,
    })?;
    let mut how = None;
    machine.watch(
        options.timeout.saturating_add(GRACE_S),
        |report, _| match report {
            Report::Output { stream, text, .. } => pass_on(stream, &text),
            Report::Ended { end, .. } => how = Some(end),
            _ => {}
        },
    )?;
    Ok(status(how, &program, options.timeout))
}

fn pass_on(stream: Stream, text: &str) {
    let bytes = plan::bytes_of(text);
    // A reader that has gone away does not change how the program ends.
    let _ = match stream {
        Stream::Out => io::stdout()
            .write_all(&bytes)
            .and_then(|()| io::stdout().flush()),
        Stream::Err => io::stderr().write_all(&bytes),
    };
}

fn status(how: Option<End>, program: &Path, timeout_s: u64) -> u8 {
    let (status, sentence) = match how {
        Some(End::Status(status)) => (status, None),
        Some(End::Signal(signal)) => (
            SIGNAL + signal,
            Some(format!("was ended by signal {signal}")),
        ),
        Some(End::OutOfTime) => {
            let sentence = format!("did not end in {timeout_s} s (--timeout)");
            (i32::from(OUT_OF_TIME), Some(sentence))
        }
        Some(End::NotStarted(why)) => {
            (i32::from(RIG_FAILED), Some(format!("did not start: {why}")))
        }
        None => (i32::from(RIG_FAILED), Some("was never run".to_owned())),
    };
    if let Some(sentence) = sentence {
        eprintln!("rig: {} {sentence}", program.display());
    }
    u8::try_from(status).unwrap_or(RIG_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_stands_for_how_the_program_ended() {
        let of = |how| status(Some(how), Path::new("/p"), 1);
        assert_eq!(of(End::Status(0)), 0);
        assert_eq!(of(End::Status(7)), 7);
        assert_eq!(of(End::Signal(6)), 134);
        assert_eq!(of(End::OutOfTime), 124);
        assert_eq!(of(End::NotStarted("no".to_owned())), 125);
        assert_eq!(status(None, Path::new("/p"), 1), 125);
    }
}
