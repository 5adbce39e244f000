//! `rig test`: the test binaries in the rig, some at a time, with a line of progress for each, and a
//! verdict on all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cargo::{self, Binary, Built, Workspace};
use crate::error::RigError;
use crate::machine::Machine;
use crate::plan::{Job, Plan};
use crate::program::GRACE_S;
use crate::report::Report;
use crate::setup::{RigOptions, Setup};

mod progress;
#[cfg(test)]
mod tests;

use progress::Progress;

/// The package whose tests depend on what hardware does.
const HARDWARE_PACKAGE: &str = "tests";
/// Its binaries that do not use KVM.
const WITHOUT_KVM: [&str; 2] = ["audit", "loom_interrupts"];
/// How often a rig is booted for one run.
const BOOTS: usize = 3;
/// This package: its tests need what the rig has not, cargo and QEMU.
const OWN_PACKAGE: &str = "rig";

/// What each test binary is told, so that its output can be read.
pub const ARGUMENTS: [&str; 5] = ["--test-threads", "1", "--show-output", "--color", "never"];

/// Options of `rig test`.
#[derive(Args, Clone, Debug)]
pub struct TestOptions {
    /// How the rig is made.
    #[command(flatten)]
    pub rig: RigOptions,
    /// Run the tests of the whole workspace, but the rig's own
    #[arg(long, conflicts_with_all = ["package", "test"])]
    pub all: bool,
    /// Run the tests of this package; may be given again
    #[arg(short, long, value_name = "NAME")]
    pub package: Vec<String>,
    /// Run this test binary; may be given again
    #[arg(long, value_name = "NAME")]
    pub test: Vec<String>,
    /// How many binaries run at a time; as many as the rig has processors by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: Option<u8>,
    /// End a test binary after so many seconds
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write what each binary wrote to DIR/PACKAGE-NAME.log
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// Print the tests that would run, and run none
    #[arg(long)]
    pub list: bool,
    /// Run only the tests with one of these in their names
    #[arg(last = true, value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// A test binary and those of its tests that shall run.
#[derive(Debug)]
pub struct Chosen {
    /// The binary.
    pub binary: Binary,
    /// The names of the tests.
    pub tests: Vec<String>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    /// What is known of the tests.
    pub report: Report,
    /// What ended the rig before its work was done.
    pub error: Option<RigError>,
}

impl Ran {
    /// The report of a rig that did its work.
    ///
    /// # Errors
    /// What ended it before.
    pub fn into_report(self) -> Result<Report, RigError> {
        self.error.map_or(Ok(self.report), Err)
    }
}

/// Run the suite of the workspace that this process is in, write the reports, and return the exit
/// status.
///
/// # Errors
/// The rig itself failed, or a report cannot be written.
pub fn run(options: &TestOptions) -> Result<u8, RigError> {
    let workspace = Workspace::of(Path::new("."), None)?;
    if options.list {
        for chosen in choose(options, &workspace.build(None)?)? {
            for test in &chosen.tests {
                println!("{}::{test}", chosen.binary.title());
            }
        }
        return Ok(0);
    }
    // Before the work, so that it is not for nothing.
    for file in [&options.junit, &options.json].into_iter().flatten() {
        File::create(file).map_err(RigError::file("write", file))?;
    }
    let ran = run_in(&workspace, None, options)?;
    write_reports(options, &ran.report)?;
    println!("{}", ran.report.summary());
    let report = ran.into_report()?;
    Ok(u8::from(report.failed > 0))
}

/// Run tests of a workspace, of which `package` is built, or all.
///
/// # Errors
/// Of what comes before the rig, or a log cannot be written.
pub fn run_in(
    workspace: &Workspace,
    package: Option<&str>,
    options: &TestOptions,
) -> Result<Ran, RigError> {
    let built = workspace.build(package)?;
    let chosen = choose(options, &built)?;
    let count: usize = chosen.iter().map(|one| one.tests.len()).sum();
    println!(
        "{count} tests in {} binaries; booting the rig",
        chosen.len()
    );
    let mut progress = Progress::new(&chosen, options.timeout);
    let silence_s = options.timeout.saturating_add(GRACE_S);
    let (lost, error) = work(&mut progress, silence_s, |left| {
        let left: Vec<&Chosen> = left.iter().filter_map(|one| chosen.get(*one)).collect();
        boot(workspace, &built, &left, options)
    });
    if let Some(folder) = &options.log {
        progress.write_logs(folder)?;
    }
    let said = error.as_ref().map(ToString::to_string);
    let report = Report::new(progress.kernel.clone(), progress.runs(), lost, said);
    Ok(Ran { report, error })
}

/// Have a rig run all that has not ended. A rig that is lost at work is booted again for the rest: no program
/// can lock a kernel up or end it unless that kernel has a fault, or what emulates its processors
/// (docs/decisions/0009); and a program that finds such a fault each time fails. How often it was lost, and what ended the last.
fn work(
    progress: &mut Progress<'_>,
    silence_s: u64,
    mut boot: impl FnMut(&[usize]) -> Result<Machine, RigError>,
) -> (usize, Option<RigError>) {
    let mut lost = 0;
    loop {
        let ended = boot(&progress.left()).and_then(|machine| {
            machine.watch(silence_s, |message, since| {
                progress.take(message, since.as_secs());
            })
        });
        match ended {
            Err(error) if error.is_loss() && lost + 1 < BOOTS => {
                lost += 1;
                progress.begin_again();
                let left = progress.left().len();
                println!("{error}\nbooting it again for the {left} binaries that have not ended");
            }
            ended => return (lost, ended.err()),
        }
    }
}

/// Boot a rig with test binaries.
fn boot(
    workspace: &Workspace,
    built: &Built,
    chosen: &[&Chosen],
    options: &TestOptions,
) -> Result<Machine, RigError> {
    let mut setup = Setup::new(&options.rig)?;
    setup.archive.sources(&workspace.root)?;
    setup.archive.folder(&workspace.target.join("tmp"));
    for file in &built.files {
        setup.archive.carry(file)?;
    }
    for (package, program) in &built.programs {
        if chosen.iter().any(|one| one.binary.package == *package) {
            setup.stripped_program(program, program)?;
        }
    }
    let mut jobs = Vec::new();
    for one in chosen {
        setup.stripped_program(&one.binary.path, &one.binary.path)?;
        jobs.push(job(&one.binary, options, setup.env()));
    }
    setup.boot(Plan {
        modules: Vec::new(),
        jobs,
        at_once: usize::from(options.jobs.unwrap_or(options.rig.cpus)),
    })
}

fn job(binary: &Binary, options: &TestOptions, env: Vec<(String, String)>) -> Job {
    let fixed = ARGUMENTS.iter().map(|word| (*word).to_owned());
    Job {
        program: binary.path.display().to_string(),
        args: fixed.chain(options.filter.iter().cloned()).collect(),
        dir: binary.dir.display().to_string(),
        env,
        timeout_s: options.timeout,
    }
}

/// The binaries that the options choose, with the tests that the filter leaves; those with most
/// tests first, so that no long one is left to the end alone.
///
/// # Errors
/// There is none, or a name is of none.
pub fn choose(options: &TestOptions, built: &Built) -> Result<Vec<Chosen>, RigError> {
    let names = |of: fn(&Binary) -> &str| {
        move |name: &&String| !built.tests.iter().any(|one| of(one) == name.as_str())
    };
    let no = |what: &str, name: &str| {
        Err(RigError::NoTests {
            why: format!("there is no {what} {name} in the workspace"),
        })
    };
    if let Some(name) = options.package.iter().find(names(|one| &one.package)) {
        return no("package with tests named", name);
    }
    if let Some(name) = options.test.iter().find(names(|one| &one.name)) {
        return no("test binary", name);
    }
    let mut chosen = Vec::new();
    for binary in built.tests.iter().filter(|one| is_chosen(options, one)) {
        let tests = cargo::tests_of(binary, &options.filter)?;
        if !tests.is_empty() {
            let binary = binary.clone();
            chosen.push(Chosen { binary, tests });
        }
    }
    if chosen.is_empty() {
        let why = match options.filter.as_slice() {
            [] => "the chosen binaries have none".to_owned(),
            filter => format!("no name has {}", filter.join(" or ")),
        };
        return Err(RigError::NoTests { why });
    }
    chosen.sort_by_key(|one| std::cmp::Reverse(one.tests.len()));
    Ok(chosen)
}

fn is_chosen(options: &TestOptions, binary: &Binary) -> bool {
    if binary.package == OWN_PACKAGE {
        return false;
    }
    if options.all {
        return true;
    }
    if options.package.is_empty() && options.test.is_empty() {
        return binary.package == HARDWARE_PACKAGE && !WITHOUT_KVM.contains(&binary.name.as_str());
    }
    let among = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    among(&options.package, &binary.package)
        && among(&options.test, &binary.name)
        && (options.test.is_empty() || !binary.is_unit)
}

fn write_reports(options: &TestOptions, report: &Report) -> Result<(), RigError> {
    let invalid = |error: String| std::io::Error::other(error);
    if let Some(path) = &options.junit {
        report
            .junit()
            .map_err(invalid)
            .and_then(|xml| fs::write(path, xml))
            .map_err(RigError::file("write", path))?;
    }
    if let Some(path) = &options.json {
        serde_json::to_vec_pretty(report)
            .map_err(|error| invalid(error.to_string()))
            .and_then(|json| fs::write(path, json))
            .map_err(RigError::file("write", path))?;
    }
    Ok(())
}
