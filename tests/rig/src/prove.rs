//! `rig prove`: plants known bugs, a patch each, in a copy of the workspace, and shows that the tests
//! in the rig catch them: they pass without the bug, and fail with it, for the reason that the patch
//! names. Where this machine's KVM is kvm_pvm, it also shows that the tests pass on that.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::cargo::Workspace;
use crate::error::RigError;
use crate::plan::End;
use crate::setup::RigOptions;
use crate::suite::{self, TestOptions};
use crate::tools;
use crate::verdict::{BinaryRun, Evidence, Result as TestResult};

mod planted;
mod tree;

use planted::Planted;

/// Where the patches are, in the workspace.
const PLANTED: &str = "tests/rig/planted";
/// The package whose tests are to catch them.
const PACKAGE: &str = "tests";
/// How long a binary with a planted bug may take, in seconds: a test that hangs ends itself after 300.
const TIMEOUT_S: u64 = 700;

/// Options of `rig prove`.
#[derive(Args, Debug)]
pub struct ProveOptions {
    /// How the rig is made.
    #[command(flatten)]
    pub rig: RigOptions,
    /// Plant only those whose names contain this
    #[arg(value_name = "NAME")]
    pub only: Option<String>,
}

/// Prove each planted bug, and return the exit status: 0 when each was caught.
///
/// # Errors
/// The rig itself failed, or a patch is of no use.
pub fn run(options: &ProveOptions) -> Result<u8, RigError> {
    let workspace = Workspace::of(Path::new("."), None)?;
    let only = options.only.as_deref().unwrap_or_default();
    let mut all = planted::read(&workspace.root.join(PLANTED))?;
    all.retain(|one| one.name.contains(only));
    if all.is_empty() {
        let why = format!("no planted bug has {only} in its name");
        return Err(RigError::NoTests { why });
    }
    let copy = workspace.target.join("rig-prove");
    let mut caught = 0;
    for one in &all {
        println!("\n== {}: {}", one.name, one.sentence);
        match prove(&workspace, &copy, one, &options.rig)? {
            Ok(how) => {
                println!("== {}: caught by {how}", one.name);
                caught += 1;
            }
            Err(why) => println!("== {}: NOT PROVED: {why}", one.name),
        }
    }
    println!("\n{caught} of {} planted bugs caught", all.len());
    Ok(u8::from(caught < all.len()))
}

/// What caught a bug, or why that is not proved.
type Proof = Result<String, String>;

fn prove(
    workspace: &Workspace,
    copy: &Path,
    one: &Planted,
    rig: &RigOptions,
) -> Result<Proof, RigError> {
    let options = TestOptions {
        rig: rig.clone(),
        all: false,
        package: vec![PACKAGE.to_owned()],
        test: one.tests.clone(),
        jobs: None,
        timeout: TIMEOUT_S,
        junit: None,
        json: None,
        log: None,
        list: false,
        filter: one.filter.clone(),
    };
    let at = copy.join("tree");
    let copied = |patch: Option<&Path>| -> Result<Workspace, RigError> {
        tree::mirror(&workspace.root, &at)?;
        if let Some(patch) = patch {
            apply(patch, &at)?;
        }
        Workspace::of(&at, Some(&copy.join("build")))
    };
    let sound = copied(None)?;
    println!("-- without the bug, in the rig");
    let report = suite::run_in(&sound, Some(PACKAGE), &options)?.into_report()?;
    if report.failed > 0 || report.passed == 0 {
        return Ok(Err(
            "the tests fail in the rig without the bug too".to_owned()
        ));
    }
    let forgives = Path::new("/sys/module/kvm_pvm").exists();
    if !forgives {
        println!("-- this machine's KVM is not kvm_pvm: nothing to show there");
    } else if let Err(why) = natively("without", &sound, &options)? {
        let why = format!("the tests fail on kvm_pvm without the bug too, is it busy?\n{why}");
        return Ok(Err(why));
    }
    let planted = copied(Some(&one.patch))?;
    if forgives && let Err(why) = natively("with", &planted, &options)? {
        return Ok(Err(format!("kvm_pvm does not forgive it\n{why}")));
    }
    println!("-- with the bug, in the rig");
    let report = suite::run_in(&planted, Some(PACKAGE), &options)?.report;
    let failures = report.binaries.iter().flat_map(|run| run.reasons());
    Ok(one.caught(failures.collect()))
}

/// Run the chosen tests on this machine; the inner error is how they failed.
fn natively(
    word: &str,
    workspace: &Workspace,
    options: &TestOptions,
) -> Result<Result<(), String>, RigError> {
    println!("-- {word} the bug, on this machine's kvm_pvm");
    let built = workspace.build(Some(PACKAGE))?;
    for chosen in suite::choose(options, &built)? {
        let binary = &chosen.binary;
        let ran = Command::new(&binary.path)
            .args(suite::ARGUMENTS)
            .args(&options.filter)
            .current_dir(&binary.dir)
            .env_remove("PARAVANE_NO_KVM")
            .output()
            .map_err(RigError::file("run", &binary.path))?;
        let evidence = Evidence {
            end: ran.status.code().map(End::Status),
            out: ran.stdout,
            err: ran.stderr,
            ms: 0,
        };
        let run = BinaryRun::judge(binary.title(), &chosen.tests, &evidence, options.timeout);
        if run.failures() > 0 {
            let lines = run
                .reasons()
                .into_iter()
                .map(|(name, why)| format!("   {name}: {why}"));
            return Ok(Err(lines.collect::<Vec<_>>().join("\n")));
        }
        println!("{}: {} passed", run.name, run.count(TestResult::Passed));
    }
    Ok(Ok(()))
}

/// Apply a patch to a copy, which is no repository even if one is around it.
fn apply(patch: &Path, tree: &Path) -> Result<(), RigError> {
    let parent: PathBuf = tree.parent().map(Path::to_owned).unwrap_or_default();
    let patch = fs::canonicalize(patch).map_err(RigError::file("read", patch))?;
    let mut command = Command::new("git");
    command
        .current_dir(tree)
        .env("GIT_CEILING_DIRECTORIES", parent)
        .args([OsStr::new("apply"), patch.as_os_str()]);
    tools::output(&mut command).map(drop).map_err(|failed| {
        let why = format!("it does not apply: {}{}", failed.how, failed.tail);
        RigError::Patch { patch, why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_planted_bug_applies_to_this_very_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let all = planted::read(&root.join(PLANTED)).unwrap();
        assert!(all.len() >= 2, "{all:?}");
        for one in all {
            let checked = tools::output(Command::new("git").current_dir(&root).args([
                OsStr::new("apply"),
                OsStr::new("--check"),
                one.patch.as_os_str(),
            ]));
            assert!(checked.is_ok(), "{}: {checked:?}", one.name);
            assert!(!one.expected.is_empty() && !one.tests.is_empty(), "{one:?}");
        }
    }

    #[test]
    fn a_patch_that_does_not_apply_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let patch = folder.path().join("odd.patch");
        fs::write(
            &patch,
            "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
        )
        .unwrap();
        let error = apply(&patch, folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("odd.patch") && error.contains("does not apply"),
            "{error}"
        );
    }
}
