//! What the caller wants.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::BenchError;
use crate::{life, micro};

/// What to measure, and how long.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seconds instead of minutes, and a wider spread.
    pub quick: bool,
    /// Only these rows; all of them when empty. A goal whose rows are not measured has no verdict.
    pub only: Vec<String>,
    /// The `paravane` program: it is run as `PROGRAM run --mode MODE --cmdline TEXT` and as
    /// `PROGRAM floor-vm`. Without it nothing is said of whole processes.
    pub paravane: Option<PathBuf>,
}

/// The names of all rows, in the order of a report.
pub fn row_names() -> Vec<&'static str> {
    let micro = micro::ROWS.iter().map(|row| row.name);
    let fast = micro::FAST_ROWS.iter().map(|row| row.name);
    let lives = life::ROWS.iter().map(|row| row.name);
    micro.chain(fast).chain(lives).collect()
}

/// How often each thing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effort {
    /// How often the columns are measured in turn.
    pub rounds: usize,
    /// Samples of a guest's row in each round.
    pub samples: usize,
    /// What the floor does in each round.
    pub floor: crate::floor::Effort,
    /// Virtual machines built, booted and ended in this process.
    pub lives: usize,
    /// Processes of each kind.
    pub processes: usize,
    /// How long an idle guest is watched.
    pub idle: Duration,
}

impl Options {
    pub(crate) fn effort(&self) -> Effort {
        match self.quick {
            true => Effort {
                rounds: 5,
                samples: 8,
                floor: crate::floor::Effort {
                    iterations: 128,
                    repeats: 8,
                },
                lives: 15,
                processes: 15,
                idle: Duration::from_millis(1000),
            },
            false => Effort {
                rounds: 10,
                samples: 20,
                floor: crate::floor::Effort {
                    iterations: 128,
                    repeats: 20,
                },
                lives: 51,
                processes: 51,
                idle: Duration::from_secs(5),
            },
        }
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == row)
    }

    pub(crate) fn check(&self) -> Result<(), BenchError> {
        let names = row_names();
        match self
            .only
            .iter()
            .find(|name| !names.contains(&name.as_str()))
        {
            Some(name) => Err(BenchError::NoRow { name: name.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_s_name_is_used_once() {
        let mut names = row_names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), row_names().len());
    }

    #[test]
    fn an_unknown_row_is_named_beside_those_that_exist() {
        let mut options = Options {
            only: vec!["null_monitor".into()],
            ..Options::default()
        };
        options.check().unwrap();
        assert!(options.wants("null_monitor") && !options.wants("null_machine"));
        options.only.push("null".into());
        let error = options.check().unwrap_err().to_string();
        assert!(error.contains("called null;") && error.contains("null_machine"));
    }
}
