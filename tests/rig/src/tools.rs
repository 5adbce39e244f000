//! Runs programs of this machine and keeps what they wrote. Called by all that needs one; decides
//! nothing about what a failure means.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{RigError, ended, tail};

/// How many lines of a failed program are shown.
const SHOWN: usize = 8;

/// A program that failed: how, and the last lines it wrote.
#[derive(Debug)]
pub struct Failed {
    /// The program and what happened to it.
    pub how: String,
    /// Its last lines, each on a line of its own, or nothing.
    pub tail: String,
}

/// Run a program to its end and return what it wrote to stdout.
///
/// # Errors
/// It could not be started, or ended with another status than 0.
pub fn output(command: &mut Command) -> Result<String, Failed> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ran = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failed {
            how: format!("{name} could not be run ({error})"),
            tail: String::new(),
        })?;
    let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
    if ran.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&ran.stderr);
    Err(Failed {
        how: format!("{name} {}", ended(ran.status)),
        tail: tail(&format!("{stdout}\n{stderr}"), SHOWN),
    })
}

/// As [`output`], for a program whose failure has no sentence of its own.
///
/// # Errors
/// [`RigError::Program`].
pub fn plain_output(command: &mut Command) -> Result<String, RigError> {
    output(command).map_err(|failed| {
        let (program, how) = failed.how.split_once(' ').unwrap_or((&failed.how, ""));
        RigError::Program {
            program: program.to_owned(),
            how: how.to_owned(),
            tail: failed.tail,
        }
    })
}

/// The path of a program, from `PATH` or, with a slash in its name, from the working directory.
pub fn find(name: &OsStr) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        return is_program(Path::new(name)).then(|| std::path::absolute(name).ok())?;
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| is_program(candidate))
        .and_then(|found| std::path::absolute(found).ok())
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
