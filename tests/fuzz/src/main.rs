//! The command `fuzz`. See docs/fuzz.md.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    fuzz::cli::main()
}
