//! What passes between the two sides of the rig: the plan goes in with the initramfs, reports come
//! out over a serial port, one JSON text a line. Both sides are this crate, so there is no version.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// Where the initramfs has the plan.
pub const PLAN: &str = "/rig/plan.json";
/// Where the initramfs has this program.
pub const AGENT: &str = "/rig/agent";
/// The agent's subcommand.
pub const AGENT_COMMAND: &str = "agent";
/// The serial port, inside, that reports go to.
pub const PORT: &str = "/dev/ttyS1";
/// What each report's line begins with.
const MARK: &str = "RIG ";

/// What the agent is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Kernel modules, paths inside, in the order of loading.
    pub modules: Vec<String>,
    /// What to run.
    pub jobs: Vec<Job>,
    /// How many to run at a time.
    pub at_once: usize,
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its path.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory; made if it is not there.
    pub dir: String,
    /// Variables beside the agent's own.
    pub env: Vec<(String, String)>,
    /// When to end it, in seconds.
    pub timeout_s: u64,
}

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The rig is up, KVM is there, and the first job is next.
    Ready {
        /// The rig's kernel.
        kernel: String,
    },
    /// The rig is of no use.
    Broken(String),
    /// A job has begun.
    Started {
        /// Which, counted from 0.
        job: usize,
    },
    /// A job wrote something.
    Output {
        /// Which.
        job: usize,
        /// Where to.
        stream: Stream,
        /// What: see [`text_of`].
        text: String,
    },
    /// A job is over.
    Ended {
        /// Which.
        job: usize,
        /// How it ended.
        end: End,
        /// How long it ran, in milliseconds of the rig's clock.
        ms: u64,
    },
    /// All jobs are over.
    Done,
}

/// One of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With a status.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It was ended because its time was over.
    OutOfTime,
    /// It could not be started, and why.
    NotStarted(String),
}

/// Bytes as text for a report, a character for each byte, so that any bytes pass unharmed.
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The bytes again; a character that stands for none is left out.
pub fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .filter_map(|next| u8::try_from(next).ok())
        .collect()
}

/// Write a report as a line.
///
/// # Errors
/// The port's.
pub fn write(report: &Report, port: &mut impl Write) -> io::Result<()> {
    let line = format!("{MARK}{}\n", serde_json::to_string(report)?);
    port.write_all(line.as_bytes())?;
    port.flush()
}

/// Read a line of the port: `None` for a blank one.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str) -> Result<Option<Report>, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let json = line.strip_prefix(MARK).ok_or("no report")?;
    serde_json::from_str(json)
        .map(Some)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(report: &Report) -> Report {
        let mut line = Vec::new();
        write(report, &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert_eq!(
            line.matches('\n').count(),
            1,
            "a report is one line: {line}"
        );
        parse(&line).unwrap().unwrap()
    }

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        for report in [
            Report::Ready {
                kernel: "6.1".to_owned(),
            },
            Report::Ended {
                job: 3,
                end: End::Signal(9),
                ms: 12,
            },
            Report::Ended {
                job: 0,
                end: End::NotStarted("no".to_owned()),
                ms: 0,
            },
            Report::Done,
        ] {
            assert_eq!(there_and_back(&report), report);
        }
    }

    #[test]
    fn any_bytes_pass_as_text() {
        let all: Vec<u8> = (0..=255).collect();
        let report = Report::Output {
            job: 1,
            stream: Stream::Err,
            text: text_of(&all),
        };
        let Report::Output { text, .. } = there_and_back(&report) else {
            panic!("another report");
        };
        assert_eq!(bytes_of(&text), all);
    }

    #[test]
    fn a_line_of_something_else_is_refused_and_a_blank_one_is_nothing() {
        assert_eq!(parse(" \r\n"), Ok(None));
        assert!(parse("login:").is_err());
        assert!(parse("RIG {\"Ended\":").is_err());
        assert!(parse("RIG {\"Grew\":1}").is_err());
    }
}
