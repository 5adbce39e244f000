//! A planted bug's file: a patch, and above it prose and the words that say who must catch it.
//!
//! `Test: NAME` names a test binary, `Filter: TEXT` limits its tests, `Caught: TEXT` must be in the
//! name of a test that fails, and `Because: TEXT` in the reason of that failure. `Test` and `Caught`
//! must be there; each may be there again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::RigError;

/// A bug to plant.
#[derive(Debug, Default)]
pub struct Planted {
    /// Its name: the file's.
    pub name: String,
    /// The file.
    pub patch: PathBuf,
    /// What the bug is: the first sentence of the file.
    pub sentence: String,
    /// The test binaries that must catch it.
    pub tests: Vec<String>,
    /// Which of their tests run; all if there is none.
    pub filter: Vec<String>,
    /// Parts of the names of tests that must fail.
    pub expected: Vec<String>,
    /// Parts of the reason that they must give.
    pub because: Vec<String>,
}

/// Read all patches of a folder, in the order of their names.
///
/// # Errors
/// A file cannot be read, or does not say who must catch its bug.
pub fn read(folder: &Path) -> Result<Vec<Planted>, RigError> {
    let entries = fs::read_dir(folder).map_err(RigError::file("list", folder))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "patch"));
    paths.sort();
    paths.iter().map(|path| read_one(path)).collect()
}

fn read_one(patch: &Path) -> Result<Planted, RigError> {
    let text = fs::read_to_string(patch).map_err(RigError::file("read", patch))?;
    let one = parse(patch, &text);
    if one.tests.is_empty() || one.expected.is_empty() {
        return Err(RigError::Patch {
            patch: patch.to_owned(),
            why: "it has no line `Test: NAME`, or none `Caught: TEXT`, above the patch".to_owned(),
        });
    }
    Ok(one)
}

fn parse(patch: &Path, text: &str) -> Planted {
    let name = patch.file_stem().unwrap_or_default();
    let mut one = Planted {
        name: name.to_string_lossy().into_owned(),
        patch: patch.to_owned(),
        ..Planted::default()
    };
    let mut prose = String::new();
    for line in text.lines().take_while(|line| !line.starts_with("diff ")) {
        let list = match line.split_once(": ").map_or("", |(word, _)| word) {
            "Test" => &mut one.tests,
            "Filter" => &mut one.filter,
            "Caught" => &mut one.expected,
            "Because" => &mut one.because,
            _ => {
                prose = prose + line + " ";
                continue;
            }
        };
        list.extend(
            line.split_once(": ")
                .map(|(_, rest)| rest.trim().to_owned()),
        );
    }
    let sentence = prose
        .split_once(". ")
        .map_or(prose.as_str(), |(first, _)| first);
    one.sentence = sentence.trim().to_owned();
    one
}

impl Planted {
    /// Which of the failures, each a name and a reason, catch the bug; or why they do not.
    ///
    /// # Errors
    /// A sentence: what was expected and did not fail, or failed for another reason.
    pub fn caught(&self, failures: Vec<(String, String)>) -> Result<String, String> {
        if failures.is_empty() {
            return Err("no test failed".to_owned());
        }
        let says = |words: &[String], text: &str| words.iter().all(|word| text.contains(word));
        for expected in &self.expected {
            let is_it = |(name, why): &(String, String)| {
                name.contains(expected) && says(&self.because, why)
            };
            if !failures.iter().any(is_it) {
                return Err(format!(
                    "no failure of {expected} {}; failed: {failures:?}",
                    self.because.join(" and ")
                ));
            }
        }
        let lines: Vec<_> = failures
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        Ok(lines.join("\n   and by "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "The timer stops. Hardware\nshows it.\n\nTest: kernel\nFilter: sleep\n\
        Caught: sleep_ends\nBecause: not ended\n\ndiff --git a/x b/x\nTest: no\n";

    fn failures(name: &str, why: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), why.to_owned())]
    }

    #[test]
    fn the_words_above_the_patch_are_read() {
        let one = parse(Path::new("/p/dead-timer.patch"), FILE);
        assert_eq!(
            (one.name.as_str(), one.sentence.as_str()),
            ("dead-timer", "The timer stops")
        );
        assert_eq!(one.tests, ["kernel"]);
        assert_eq!(one.filter, ["sleep"]);
        assert_eq!(one.expected, ["sleep_ends"]);
        assert_eq!(one.because, ["not ended"]);
    }

    #[test]
    fn only_the_expected_failure_for_the_expected_reason_counts() {
        let one = parse(Path::new("x.patch"), FILE);
        assert!(
            one.caught(failures("kernel::sleep_ends", "0x20 is not ended"))
                .is_ok()
        );
        assert!(
            one.caught(failures("kernel::sleep_ends", "no KVM"))
                .is_err()
        );
        assert!(one.caught(failures("kernel::other", "not ended")).is_err());
        assert!(one.caught(Vec::new()).is_err());
    }

    #[test]
    fn a_patch_that_names_no_test_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("bare.patch"),
            "Nothing.\ndiff --git a b\n",
        )
        .unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("bare.patch") && error.contains("Test: NAME"),
            "{error}"
        );
    }
}
