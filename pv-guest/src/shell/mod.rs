//! The shell: commands typed on the console, or given on the kernel's command line.

mod basic;
mod board;
mod device;
mod disk;
mod disk_bench;
mod fault;
mod hvc;
mod info;
mod lookup;
mod meter;
mod net;
mod rate;
mod reach;
mod selftest;
mod stream;
mod vsock;

use core::fmt;

use driver_api::{BlockError, ConsoleError, RandomError, SocketError};
use netstack::NetFail;
use netstack::http::HttpError;
use pc::BoardError;

use crate::console::{self, Editor, Outcome};
use crate::net::vsock::StreamFail;
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
    /// There is no memory for it.
    NoMemory,
    /// A disk did not do it.
    Disk(BlockError),
    /// A console did not do it.
    Console(ConsoleError),
    /// A source of randomness did not do it.
    Random(RandomError),
    /// A device of the board did not do it.
    Board(BoardError),
    /// The network did not do it.
    Net(NetFail),
    /// A socket device, or the other side of a stream, did not do it.
    Socket(SocketError),
    /// What answered did not speak HTTP.
    Http(HttpError),
    /// A server of HTTP does not give it out.
    Status(u16),
    /// It did not happen for as long as the command waits.
    TimedOut,
    /// What came back is not what was sent.
    Differs,
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
            Self::NoMemory => f.write_str("no memory is left"),
            Self::Disk(error) => write!(f, "{error}"),
            Self::Console(error) => write!(f, "{error}"),
            Self::Random(error) => write!(f, "{error}"),
            Self::Board(error) => write!(f, "{error}"),
            Self::Net(error) => write!(f, "{error}"),
            Self::Socket(error) => write!(f, "{error}"),
            Self::Http(error) => write!(f, "{error}"),
            Self::Status(status) => write!(f, "the server answered with status {status}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Differs => f.write_str("what came back is not what was sent"),
        }
    }
}

impl From<NetFail> for CommandError<'_> {
    fn from(error: NetFail) -> Self {
        Self::Net(error)
    }
}

impl From<StreamFail> for CommandError<'_> {
    fn from(error: StreamFail) -> Self {
        match error {
            StreamFail::TimedOut => Self::TimedOut,
            StreamFail::Socket(error) => Self::Socket(error),
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
            "disk vda",
            "disk vda read",
            "disk vda read 0",
            "disk vda read 0 0",
            "disk vda read -1 1",
            "disk vda read 0 4294967296",
            "disk vda read 0 1 1",
            "disk vda write 0 1",
            "disk vda verify 0 1 x",
            "disk vda flush 1",
            "vsock echo 2 7",
            "vsock echo host 7 x",
            "vsock serve",
            "vsock connect 2 7",
            "balloon x",
            "mem used",
            "mem use 0",
            "mem use x",
            "hvc write",
            "hvc echo 0",
            "hvc read 1",
            "net eth0",
            "net dhcp now",
            "net static",
            "net static 10.0.2.15",
            "net static 10.0.2.15/x",
            "net static 10.0.2/24",
            "net static 10.0.2.15/24 gw",
            "net static 10.0.2.15/24 via 10.0.2.2",
            "ping",
            "ping host",
            "ping 10.0.2.2 0",
            "echo-server",
            "echo-server 65536",
            "echo-client 10.0.2.2 7",
            "get",
            "get 10.0.2.2/x",
            "stream send 10.0.2.2 7",
            "stream get 10.0.2.2 7 1",
            "stream recv 10.0.2.2 0x7 1",
            "rtt 10.0.2.2 7",
            "rtt 10.0.2.2 7 0",
            "flood 10.0.2.2",
            "flood host 1",
            "rate random",
            "rate disk 1",
            "rate console 0",
            "random",
            "random 0",
            "random 65537",
        ] {
            let result = execute(command);
            assert!(matches!(result, Err(CommandError::Usage(_))), "{command}");
        }
    }

    #[test]
    fn without_a_device_its_commands_say_so() {
        for command in [
            "disk vda read 0 1",
            "disk vda flush",
            "disk vdc verify 0 1 7",
            "random 8",
            "balloon",
            "vsock",
            "vsock echo 2 7 x",
            "hvc write a",
            "hvc hvc1 echo 1",
            "rate random 8",
            "net dhcp",
            "net eth1 static 10.0.2.15/24",
        ] {
            assert_eq!(execute(command), Err(CommandError::NoDevice), "{command}");
        }
        for command in [
            "ping 10.0.2.2",
            "echo-server 7",
            "echo-client 10.0.2.2 7 x",
            "get http://10.0.2.2/",
            "stream send 10.0.2.2 7 1",
            "rtt 10.0.2.2 7 1",
            "flood 10.0.2.2 1",
        ] {
            let error = CommandError::Net(NetFail::NoAddress);
            assert_eq!(execute(command), Err(error), "{command}");
        }
        assert_eq!(execute("disk"), Ok(()));
        assert_eq!(execute("net"), Ok(()));
        assert_eq!(fake::output(), b"");
    }

    #[test]
    fn the_device_tree_has_what_every_machine_has() {
        execute("lsdev").unwrap();
        let shown = std::string::String::from_utf8(fake::output()).unwrap();
        let lines: std::vec::Vec<_> = shown.lines().collect();
        assert!(lines[1].starts_with("console  ") && lines[1].contains(" 40 "));
        assert!(lines[2].starts_with("timer  ") && lines[2].contains(" 48 "));
    }

    #[test]
    fn every_command_is_found_and_listed() {
        execute("help").unwrap();
        let shown = std::string::String::from_utf8(fake::output()).unwrap();
        for name in [
            "help",
            "mem",
            "threads",
            "uptime",
            "fault",
            "bench",
            "echo",
            "sleep",
            "lsdev",
            "disk",
            "random",
            "net",
            "ping",
            "echo-server",
            "echo-client",
            "get",
            "stream",
            "rtt",
            "flood",
            "rate",
        ] {
            assert!(find(name).is_some() && shown.contains(name), "{name}");
        }
    }
}
