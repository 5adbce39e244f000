//! A copy of a source tree that is brought up to date: files that are the same keep their times, so
//! that cargo builds again only what differs. Called by `prove`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::archive::NOT_SOURCE;
use crate::error::RigError;

/// Make `to` hold what the source tree `from` holds.
///
/// # Errors
/// A file cannot be read or written.
pub fn mirror(from: &Path, to: &Path) -> Result<(), RigError> {
    fs::create_dir_all(to).map_err(RigError::file("make", to))?;
    let mut names = HashSet::<OsString>::new();
    for entry in fs::read_dir(from).map_err(RigError::file("list", from))? {
        let entry = entry.map_err(RigError::file("list", from))?;
        let name = entry.file_name();
        if NOT_SOURCE.iter().any(|not| name == *not) {
            continue;
        }
        let (path, copy) = (entry.path(), to.join(&name));
        let kind = entry.file_type().map_err(RigError::file("read", &path))?;
        if kind.is_dir() {
            mirror(&path, &copy)?;
        } else {
            let content = fs::read(&path).map_err(RigError::file("read", &path))?;
            if fs::read(&copy).ok().as_ref() != Some(&content) {
                fs::copy(&path, &copy).map_err(RigError::file("write", &copy))?;
            }
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to).map_err(RigError::file("list", to))? {
        let entry = entry.map_err(RigError::file("list", to))?;
        if names.contains(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(RigError::file("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_source_and_leaves_what_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::create_dir_all(from.join("target")).unwrap();
        fs::write(from.join("src/same"), "1").unwrap();
        fs::write(from.join("src/changes"), "1").unwrap();
        mirror(&from, &to).unwrap();
        let time = |name: &str| to.join(name).metadata().unwrap().modified().unwrap();
        let before = time("src/same");
        fs::write(to.join("src/changes"), "planted").unwrap();
        fs::write(to.join("src/extra"), "planted").unwrap();
        mirror(&from, &to).unwrap();
        assert_eq!(time("src/same"), before);
        assert_eq!(fs::read(to.join("src/changes")).unwrap(), b"1");
        assert!(!to.join("src/extra").exists() && !to.join("target").exists());
    }
}
