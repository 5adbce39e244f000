//! The shell: commands typed on the console, or given on the kernel's command line.

mod basic;
mod disk;
mod fault;
mod info;
mod lookup;
mod selftest;

use core::fmt;

use crate::console::{self, Editor, Outcome};
use crate::dev::virtio::DiskError;
use crate::{power, print, println, status, text};

pub use lookup::{Command, find};

/// Why a command did not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'a> {
    /// No command has this name.
    Unknown(&'a str),
    /// The arguments make no sense: this is how they go.
    Usage(&'static str),
    /// So many checks failed.
    Failed(u32),
    /// The command went on where it should have ended.
    Survived,
    /// There is no such device.
    NoDevice,
    /// A disk did not do it.
    Disk(DiskError),
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "{name}: no such command; `help` lists them"),
            Self::Usage(usage) => write!(f, "usage: {usage}"),
            Self::Failed(count) => write!(f, "{count} checks failed"),
            Self::Survived => f.write_str("nothing happened"),
            Self::NoDevice => {
                f.write_str("there is no such device; `lsdev` shows those that there are")
            }
            Self::Disk(error) => error.fmt(f),
        }
    }
}

/// Run a script, and power off: with [`status::SCRIPT`] when any of its commands failed.
pub fn run_script(script: &str) -> ! {
    let mut result = status::SUCCESS;
    for command in text::commands(script) {
        if let Err(error) = execute(command) {
            println!("{error}");
            result = status::SCRIPT;
        }
    }
    power::off(result)
}

/// Ask for commands until the input ends, and power off.
pub fn run_interactive() -> ! {
    let mut editor = Editor::new();
    while read_line(&mut editor) {
        for command in text::commands(editor.line()) {
            if let Err(error) = execute(command) {
                println!("{error}");
            }
        }
        editor.clear();
    }
    power::off(status::SUCCESS)
}

/// Run one command.
fn execute(command: &str) -> Result<(), CommandError<'_>> {
    let (name, args) = text::first_word(command);
    let command = find(name).ok_or(CommandError::Unknown(name))?;
    (command.run)(args)
}

/// Read a line after a prompt; `false` when there will be none.
fn read_line(editor: &mut Editor) -> bool {
    prompt();
    loop {
        let byte = console::read_byte();
        let outcome = editor.feed(byte, &mut |shown| print!("{shown}"));
        match outcome {
            Outcome::Line => return true,
            Outcome::End => return false,
            Outcome::Aborted => prompt(),
            Outcome::More => console::flush(),
        }
    }
}

fn prompt() {
    print!("> ");
    console::flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::fake;

    #[test]
    fn a_command_gets_its_arguments() {
        assert_eq!(execute("echo  'a  b' c"), Ok(()));
        assert_eq!(fake::output(), b"a  b c\n");
    }

    #[test]
    fn an_unknown_command_is_named() {
        let error = execute("frobnicate now").unwrap_err();
        assert_eq!(error, CommandError::Unknown("frobnicate"));
        let text = std::format!("{error}");
        assert_eq!(text, "frobnicate: no such command; `help` lists them");
    }

    #[test]
    #[should_panic(expected = "power off with status 3")]
    fn a_script_chooses_the_exit_status() {
        run_script("echo a; poweroff 3; echo b");
    }

    #[test]
    #[should_panic(expected = "power off with status 1")]
    fn a_script_with_a_failed_command_goes_on_and_says_so() {
        run_script("poweroff x; echo on");
    }

    #[test]
    #[should_panic(expected = "power off with status 0")]
    fn the_shell_ends_with_its_input() {
        fake::type_in(b"help\r\x04");
        run_interactive();
    }

    #[test]
    fn wrong_arguments_are_answered_with_the_usage() {
        for command in [
            "poweroff 256",
            "poweroff -1",
            "sleep",
            "sleep x",
            "fault",
            "fault us",
        ] {
            let result = execute(command);
            assert!(matches!(result, Err(CommandError::Usage(_))), "{command}");
        }
    }

    #[test]
    fn every_command_is_found_and_listed() {
        execute("help").unwrap();
        let shown = std::string::String::from_utf8(fake::output()).unwrap();
        for name in [
            "help", "mem", "threads", "uptime", "fault", "bench", "echo", "sleep",
        ] {
            assert!(find(name).is_some() && shown.contains(name), "{name}");
        }
    }
}
