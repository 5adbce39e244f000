//! The shared libraries that a program of this machine loads, by asking its loader (ldd). Called by
//! `archive`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::RigError;

/// The libraries of a program, and its loader; none for a static program or a script.
///
/// # Errors
/// [`RigError::NoLibrary`], and of running ldd.
pub fn of(program: &Path) -> Result<Vec<PathBuf>, RigError> {
    let ran = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(RigError::file("run ldd on", program))?;
    // ldd fails for a static program: that is no error here.
    parse(&String::from_utf8_lossy(&ran.stdout)).map_err(|library| RigError::NoLibrary {
        program: program.to_owned(),
        library,
    })
}

/// The paths in ldd's answer, or the library that it did not find.
fn parse(answer: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in answer.lines() {
        if let Some((library, _)) = line.split_once(" => not found") {
            return Err(library.trim().to_owned());
        }
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        found.extend(path.map(PathBuf::from));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_the_vdso_is_not() {
        let answer = "\tlinux-vdso.so.1 (0x00007eff)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007eff)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007eff)\n";
        let found = parse(answer).unwrap();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn a_missing_library_is_named() {
        let answer = "\tlibodd.so.1 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n";
        assert_eq!(parse(answer), Err("libodd.so.1".to_owned()));
    }

    #[test]
    fn a_static_program_has_none() {
        assert_eq!(parse("\tstatically linked\n"), Ok(Vec::new()));
    }

    #[test]
    fn this_very_program_has_a_loader() {
        let found = of(&std::env::current_exe().unwrap()).unwrap();
        assert!(
            found
                .iter()
                .any(|path| path.to_string_lossy().contains("ld-linux")),
            "{found:?}"
        );
    }
}
