//! The kernel's command line: options that whoever started the virtual machine chose.
//!
//! - `run='mem; poweroff 3'`: the shell runs these commands instead of asking, and then powers off;
//! - `quiet`: no greeting;
//! - `virtio_mmio.device=<size>@<base>:<irq>`: a device, read by `dev::find`.
//!
//! Options that the kernel does not know are for others, and left alone.

use crate::text::{unquote, words};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// The commands that the shell runs.
    pub run: Option<&'a str>,
    /// Whether the greeting is left out.
    pub is_quiet: bool,
}

impl<'a> Options<'a> {
    /// Read a command line. A later option overrides an earlier one of the same name.
    pub fn parse(line: &'a str) -> Self {
        let mut options = Self::default();
        for word in words(line) {
            match unquote(word).split_once('=') {
                Some(("run", value)) => options.run = Some(unquote(value)),
                None if word == "quiet" => options.is_quiet = true,
                _ => {}
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(line: &str) -> Option<&str> {
        Options::parse(line).run
    }

    #[test]
    fn a_script_is_quoted_with_either_quote_around_either_part() {
        for line in [
            "run='mem; poweroff 3'",
            "quiet run=\"mem; poweroff 3\"",
            "'run=mem; poweroff 3' other",
        ] {
            assert_eq!(run_of(line), Some("mem; poweroff 3"), "{line}");
        }
        assert_eq!(run_of("run=mem quiet"), Some("mem"));
        assert_eq!(run_of("run='echo \"a b\"'"), Some("echo \"a b\""));
    }

    #[test]
    fn unknown_and_broken_options_are_left_alone() {
        assert_eq!(Options::parse(""), Options::default());
        assert_eq!(
            Options::parse("root=/dev/x run ru=n quiet=no"),
            Options::default()
        );
        assert_eq!(run_of("run="), Some(""));
        assert_eq!(run_of("run='mem"), Some("mem"));
        assert_eq!(run_of("run=a run=b"), Some("b"));
    }

    #[test]
    fn quiet_is_a_word_of_its_own() {
        assert!(Options::parse("  quiet ").is_quiet);
        assert!(!Options::parse("unquiet").is_quiet);
    }
}
