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
                if let Some(evidence) = self.evidence.get_mut(job) {
                    let bytes = plan::bytes_of(&text);
                    match stream {
                        Stream::Out => evidence.out.extend(bytes),
                        Stream::Err => evidence.err.extend(bytes),
                    }
                }
            }
            Message::Ended { job, end, ms } => {
                if let Some(evidence) = self.evidence.get_mut(job) {
                    (evidence.end, evidence.ms) = (Some(end), ms);
                    self.ended += 1;
                    self.tell(job);
                }
            }
            Message::Started { .. } | Message::Broken(_) | Message::Done => {}
        }
    }

    /// Print how a binary ended, and the output of what failed.
    fn tell(&self, job: usize) {
        let Some(run) = self.run(job) else { return };
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

    fn run(&self, job: usize) -> Option<BinaryRun> {
        let (one, evidence) = (self.chosen.get(job)?, self.evidence.get(job)?);
        let name = one.binary.title();
        Some(BinaryRun::judge(name, &one.tests, evidence, self.timeout_s))
    }

    /// The verdict on each binary.
    pub(super) fn runs(&self) -> Vec<BinaryRun> {
        (0..self.chosen.len())
            .filter_map(|job| self.run(job))
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
