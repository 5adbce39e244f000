//! The command `rig`. See docs/rig.md.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    rig::cli::main()
}
