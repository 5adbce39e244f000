//! What a run has reported so far, and a line to the terminal for each binary that ends. Called by
//! `suite` with each report.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::Chosen;
use crate::error::{RigError, tail};
use crate::plan::{self, Report as Message, Stream};
use crate::verdict::{BinaryRun, Evidence, Result as TestResult};

/// How many lines of a failed test are shown; the log has all.
const SHOWN: usize = 40;

/// What is known of a run so far.
pub(super) struct Progress<'a> {
    chosen: &'a [Chosen],
    evidence: Vec<Evidence>,
    /// The jobs of the rig that runs now, each as a place in `chosen`.
    jobs: Vec<usize>,
    timeout_s: u64,
    ended: usize,
    /// The rig's kernel, once it is up.
    pub(super) kernel: String,
}

impl<'a> Progress<'a> {
    /// Nothing yet.
    pub(super) fn new(chosen: &'a [Chosen], timeout_s: u64) -> Self {
        Self {
            chosen,
            evidence: chosen.iter().map(|_| Evidence::default()).collect(),
            jobs: (0..chosen.len()).collect(),
            timeout_s,
            ended: 0,
            kernel: String::new(),
        }
    }

    /// Take a report of the rig, `since_s` seconds after it was started.
    pub(super) fn take(&mut self, message: Message, since_s: u64) {
        match message {
            Message::Ready { kernel } => {
                println!("the rig is up after {since_s} s: SVM, Linux {kernel}");
                self.kernel = kernel;
            }
            Message::Output { job, stream, text } => {
                if let Some(evidence) = self.evidence_of(job) {
                    let bytes = plan::bytes_of(&text);
                    match stream {
                        Stream::Out => evidence.out.extend(bytes),
                        Stream::Err => evidence.err.extend(bytes),
                    }
                }
            }
            Message::Ended { job, end, ms } => {
                if let Some(evidence) = self.evidence_of(job) {
                    (evidence.end, evidence.ms) = (Some(end), ms);
                    self.ended += 1;
                    if let Some(chosen) = self.jobs.get(job) {
                        self.tell(*chosen);
                    }
                }
            }
            Message::Started { .. } | Message::Broken(_) | Message::Done => {}
        }
    }

    fn evidence_of(&mut self, job: usize) -> Option<&mut Evidence> {
        self.evidence.get_mut(*self.jobs.get(job)?)
    }

    /// The binaries that have not ended, as places in what was chosen.
    pub(super) fn left(&self) -> Vec<usize> {
        let all = self.evidence.iter().enumerate();
        all.filter(|(_, evidence)| evidence.end.is_none())
            .map(|(chosen, _)| chosen)
            .collect()
    }

    /// Begin anew with what has not ended: the jobs of the next rig, in the order of `left`.
    pub(super) fn begin_again(&mut self) {
        self.jobs = self.left();
        for chosen in &self.jobs {
            if let Some(evidence) = self.evidence.get_mut(*chosen) {
                *evidence = Evidence::default();
            }
        }
    }

    /// Print how a binary ended, and the output of what failed.
    fn tell(&self, chosen: usize) {
        let Some(run) = self.run(chosen) else { return };
        let (passed, failed) = (run.count(TestResult::Passed), run.failures());
        let word = if failed == 0 { "ok" } else { "FAILED" };
        let more = if failed == 0 {
            String::new()
        } else {
            format!(", {failed} failed")
        };
        let place = format!("[{}/{}]", self.ended, self.chosen.len());
        println!(
            "{place} {} ... {word}, {passed} passed{more} ({} s)",
            run.name,
            run.ms / 1000
        );
        for case in run
            .cases
            .iter()
            .filter(|case| case.result == TestResult::Failed)
        {
            println!(
                "  {}: {}{}",
                case.name,
                case.why.as_deref().unwrap_or_default(),
                tail(&case.output, SHOWN)
            );
        }
        if let Some(why) = &run.why {
            println!("  {why}");
        }
    }

    fn run(&self, chosen: usize) -> Option<BinaryRun> {
        let (one, evidence) = (self.chosen.get(chosen)?, self.evidence.get(chosen)?);
        let name = one.binary.title();
        Some(BinaryRun::judge(name, &one.tests, evidence, self.timeout_s))
    }

    /// The verdict on each binary.
    pub(super) fn runs(&self) -> Vec<BinaryRun> {
        (0..self.chosen.len())
            .filter_map(|chosen| self.run(chosen))
            .collect()
    }

    /// Write what each binary wrote into files of a folder.
    ///
    /// # Errors
    /// A file's.
    pub(super) fn write_logs(&self, folder: &Path) -> Result<(), RigError> {
        fs::create_dir_all(folder).map_err(RigError::file("make", folder))?;
        for (one, evidence) in self.chosen.iter().zip(&self.evidence) {
            let name = format!("{}-{}.log", one.binary.package, one.binary.name);
            let path = folder.join(name);
            File::create(&path)
                .and_then(|mut file| {
                    file.write_all(&evidence.out)?;
                    file.write_all(&evidence.err)
                })
                .map_err(RigError::file("write", &path))?;
        }
        Ok(())
    }
}
