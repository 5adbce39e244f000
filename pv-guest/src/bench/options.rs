//! What the caller of the benchmark wants.

use core::fmt;

use super::meter::{Effort, MAX_SAMPLES};
use super::rows::{self, Row};
use crate::text::words;

/// The arguments.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The arguments themselves: they name the rows.
    args: &'a str,
    /// Whether a program reads the result.
    pub is_for_host: bool,
    /// How long to measure.
    pub effort: Effort,
}

/// What is wrong with the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionError<'a> {
    /// No row has this name.
    NoRow(&'a str),
    /// This is no number that the option takes.
    NoNumber(&'a str),
}

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRow(name) => write!(f, "no row is called {name}"),
            Self::NoNumber(word) => write!(f, "{word} takes a number from 1 on"),
        }
    }
}

impl<'a> Options<'a> {
    /// Read the arguments.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn parse(args: &'a str) -> Result<Self, OptionError<'a>> {
        let mut options = Self {
            args,
            is_for_host: false,
            effort: Effort::default(),
        };
        for word in words(args) {
            match word.split_once('=') {
                None => known(word)?,
                Some(("rows", names)) => {
                    options.is_for_host = true;
                    if names != "all" {
                        names.split(',').try_for_each(known)?;
                    }
                }
                Some(("samples", number)) => {
                    let number = positive(number, word)?;
                    options.effort.samples = usize::try_from(number).unwrap_or(MAX_SAMPLES);
                }
                Some(("iterations", "auto")) => options.effort.operations = None,
                Some(("iterations", number)) => {
                    options.effort.operations = Some(positive(number, word)?);
                }
                Some(_) => return Err(OptionError::NoRow(word)),
            }
        }
        Ok(options)
    }

    /// Whether the row was asked for; with no name at all, every row was that leaves the console
    /// as it is.
    pub fn wants(&self, row: &Row) -> bool {
        let mut names_any = false;
        for word in words(self.args) {
            let is_wanted = match word.split_once('=') {
                None => word == row.name,
                Some(("rows", names)) => names == "all" || names.split(',').any(|n| n == row.name),
                Some(_) => continue,
            };
            if is_wanted {
                return true;
            }
            names_any = true;
        }
        !names_any && !row.prints
    }
}

fn known(name: &str) -> Result<(), OptionError<'_>> {
    match rows::ALL.iter().any(|row| row.name == name) {
        true => Ok(()),
        false => Err(OptionError::NoRow(name)),
    }
}

fn positive<'a>(number: &str, word: &'a str) -> Result<u64, OptionError<'a>> {
    let number = number.parse().ok().filter(|number| *number > 0);
    number.ok_or(OptionError::NoNumber(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn wanted(args: &str) -> Vec<&'static str> {
        let options = Options::parse(args).unwrap();
        let wanted = rows::ALL.iter().filter(|row| options.wants(row));
        wanted.map(|row| row.name).collect()
    }

    #[test]
    fn without_names_every_row_is_wanted_that_leaves_the_console_alone() {
        assert_eq!(
            wanted("samples=2").len(),
            rows::ALL.iter().filter(|r| !r.prints).count()
        );
        assert_eq!(wanted("rows=all").len(), rows::ALL.len());
    }

    #[test]
    fn names_choose_rows_in_either_form() {
        assert_eq!(
            wanted("clock_read empty_loop"),
            ["empty_loop", "clock_read"]
        );
        assert_eq!(
            wanted("rows=console_byte,empty_loop samples=3"),
            ["empty_loop", "console_byte"]
        );
    }

    #[test]
    fn the_effort_is_read_and_wrong_numbers_are_named() {
        let effort = Options::parse("samples=7 iterations=128").unwrap().effort;
        assert_eq!((effort.samples, effort.operations), (7, Some(128)));
        let effort = Options::parse("iterations=auto").unwrap().effort;
        assert_eq!(effort.operations, None);
        for word in ["samples=0", "samples=x", "iterations=-1"] {
            let error = Options::parse(word).unwrap_err();
            assert_eq!(error, OptionError::NoNumber(word));
        }
        for word in ["rows=", "rows=a", "x", "x=1", "rows=empty_loop,"] {
            let error = Options::parse(word).unwrap_err();
            assert!(matches!(error, OptionError::NoRow(_)), "{word}");
        }
    }
}
