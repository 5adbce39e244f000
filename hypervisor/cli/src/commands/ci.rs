//! `paravane ci`: runs scenario files, and reports.

mod file;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use hypervisor::ci::{self, Case, Report, Scenario, Suite, Verdict};

use crate::args::Ci;
use crate::ending::Ending;
use crate::output;
use crate::status::{self, Failure};

/// Characters of a case's name in the name of its log.
const LOG_NAME: usize = 60;

/// Run them; the exit status.
pub fn run(options: &Ci, ending: &Ending) -> Result<u8, Failure> {
    let suites = file::read_all(options)?;
    let outputs = Outputs::open(options)?;
    let no_kvm = no_kvm(options);
    let mut done: Vec<Suite> = Vec::new();
    let mut number = 0;
    let mut signal = None;
    for (name, scenarios) in &suites {
        let mut cases = Vec::new();
        for scenario in scenarios {
            number += 1;
            let mut case = match (&no_kvm, signal) {
                (Some(why), _) => Case::skipped(scenario, why),
                (None, Some(_)) => Case::skipped(scenario, "ended by a signal before"),
                (None, None) => ci::run_case(scenario, |stop| ending.of_run(stop)),
            };
            signal = signal.or(case.signal());
            outputs.log(number, &mut case)?;
            outputs.say(&line(&case))?;
            cases.push(case);
        }
        done.push(Suite {
            name: name.clone(),
            cases,
        });
    }
    let report = Report::new(done);
    outputs.write(&report)?;
    outputs.say(&format!("{}\n", report.summary()))?;
    Ok(match signal {
        Some(signal) => status::stopped(hypervisor::StopReason::Signal(signal)),
        None if report.errors > 0 => status::HOST,
        None if report.failed > 0 => status::FOUND,
        None => status::OK,
    })
}

/// Why all is skipped, where it may be.
fn no_kvm(options: &Ci) -> Option<String> {
    if !options.skip_without_kvm {
        return None;
    }
    let error = hypervisor::vm::open_kvm_at(&options.kvm).err()?;
    Some(error.to_string())
}

/// A case for people; what came of the guest is escaped.
fn line(case: &Case) -> String {
    let word = match case.verdict {
        Verdict::Passed => "ok   ",
        Verdict::Failed => "FAIL ",
        Verdict::Error => "ERROR",
        Verdict::Skipped => "skip ",
    };
    let name = ci::visible(case.name.as_bytes()).replace('\n', " ");
    let mut text = format!("{word} {name} ({:.0} ms)\n", case.run_ns as f64 / 1e6);
    for evidence in case.evidence().lines() {
        text += &format!("      {evidence}\n");
    }
    text
}

/// Where the results go. All of it is opened before the first guest boots, so that a bad name costs
/// no run.
struct Outputs {
    junit: Option<(PathBuf, File)>,
    json: Option<(PathBuf, File)>,
    json_to_stdout: bool,
    log: Option<PathBuf>,
}

impl Outputs {
    fn open(options: &Ci) -> Result<Self, Failure> {
        let json_to_stdout = options.json.as_deref() == Some(Path::new("-"));
        if let Some(folder) = &options.log {
            fs::create_dir_all(folder).map_err(|error| unwritable("log folder", folder, &error))?;
        }
        let json = options.json.as_ref().filter(|_| !json_to_stdout);
        Ok(Self {
            junit: create("JUnit report", options.junit.as_ref())?,
            json: create("JSON report", json)?,
            json_to_stdout,
            log: options.log.clone(),
        })
    }

    /// Write a guest's console to a file of its own, as it came.
    fn log(&self, number: usize, case: &mut Case) -> Result<(), Failure> {
        let Some(folder) = &self.log else {
            return Ok(());
        };
        let path = folder.join(log_name(number, &case.name));
        fs::write(&path, &case.console).map_err(|error| unwritable("log", &path, &error))?;
        case.log = Some(path.display().to_string());
        Ok(())
    }

    /// Say something of the summary.
    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.json_to_stdout {
            output::note(text);
            return Ok(());
        }
        output::print(text)
    }

    fn write(&self, report: &Report) -> Result<(), Failure> {
        if let Some((path, file)) = &self.junit {
            put(file, report.junit().as_bytes())
                .map_err(|error| unwritable("JUnit report", path, &error))?;
        }
        if let Some((path, file)) = &self.json {
            let text = serde_json::to_string_pretty(report).map_err(Failure::host)? + "\n";
            put(file, text.as_bytes()).map_err(|error| unwritable("JSON report", path, &error))?;
        }
        if self.json_to_stdout {
            output::print_json(report)?;
        }
        Ok(())
    }
}

fn create(what: &str, path: Option<&PathBuf>) -> Result<Option<(PathBuf, File)>, Failure> {
    path.map(|path| match File::create(path) {
        Ok(file) => Ok((path.clone(), file)),
        Err(error) => Err(unwritable(what, path, &error)),
    })
    .transpose()
}

fn put(mut file: &File, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(bytes)
}

fn unwritable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::host(format!(
        "cannot write the {what} {}: {error}; name another place",
        path.display()
    ))
}

/// The name of a log: its number keeps names apart that look the same.
fn log_name(number: usize, case: &str) -> String {
    let name: String = case
        .chars()
        .take(LOG_NAME)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{number:02}-{name}.log")
}

/// The scenarios of a file, by the suite's name.
type Scenarios = (String, Vec<Scenario>);
