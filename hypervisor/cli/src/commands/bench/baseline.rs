//! `paravane bench --check` and `--write-baseline`: a run against the file that remembers another.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use bench::check::{self, Baseline, BaselineError, CHECK_SCHEMA, CheckReport, RowCounts};
use bench::{HostInfo, Report};
use hypervisor::doctor;

use super::{failure, measure};
use crate::args::Bench;
use crate::status::{self, Failure};
use crate::{files, output};

/// The largest baseline, in bytes.
const LIMIT: u64 = 1 << 20;

/// Compare with a baseline; the exit status.
pub fn check(options: &Bench, path: &Path) -> Result<u8, Failure> {
    let mend = "name a file that `paravane bench --write-baseline` wrote";
    let bytes = files::read(path, "baseline", LIMIT, mend)?;
    let baseline = Baseline::parse(&text(path, bytes)?).map_err(|error| refused(path, &error))?;
    let platform = doctor::platform().key();
    // Before anything is measured: a platform that the baseline says nothing of costs no run.
    let (entry, _) = baseline
        .entry(platform)
        .map_err(|error| refused(path, &error))?;

    let wants = |row: &String| options.only.is_empty() || options.only.contains(row);
    let has_ratios = entry.ratios.keys().any(wants);
    let run = Run::new(options, has_ratios)?;
    let report = run.report.as_ref();
    let mut comparison = check::compare(&baseline, platform, &run.counts, report, &options.only)
        .map_err(|error| refused(path, &error))?;
    comparison.ratios_left_out = run.ratios_left_out.filter(|_| has_ratios);
    if comparison.is_empty() {
        return Err(Failure::usage(format!(
            "the baseline {} has nothing to compare of these rows; name others with --only, or leave out \
             --counts-only",
            path.display()
        )));
    }
    if options.json {
        output::print_json(&CheckReport {
            schema: CHECK_SCHEMA,
            host: &run.host,
            comparison: &comparison,
            counts: &run.counts,
            report,
        })?;
    } else {
        output::print(&comparison.to_string())?;
    }
    if comparison.is_same() {
        return Ok(status::OK);
    }
    output::say(&format!(
        "{} things moved; if that is meant, write the baseline anew: paravane bench --write-baseline {}",
        comparison.moved.len(),
        path.display()
    ));
    Ok(status::FOUND)
}

/// Write a run into a baseline; the exit status.
pub fn write(options: &Bench, path: &Path) -> Result<u8, Failure> {
    let file = open(path)?;
    let mut baseline = remembered(path)?;
    let run = Run::new(options, true)?;
    let platform = doctor::platform().key();
    baseline
        .update(platform, &run.counts, run.report.as_ref(), &options.only)
        .map_err(Failure::host)?;
    let text = baseline.text().map_err(Failure::host)?;
    replace(file, &text).map_err(|error| unwritable(path, &error))?;
    if options.json {
        output::print(&text)?;
    } else {
        output::print(&format!(
            "wrote the entry of {platform} into {}\n",
            path.display()
        ))?;
    }
    if let Some(why) = run.ratios_left_out {
        output::say(&format!("ratios were not written: {why}"));
    }
    Ok(status::OK)
}

/// What a run found.
struct Run {
    host: HostInfo,
    counts: Vec<RowCounts>,
    report: Option<Report>,
    ratios_left_out: Option<String>,
}

impl Run {
    /// Count, and measure where ratios are wanted and mean something.
    fn new(options: &Bench, wants_ratios: bool) -> Result<Self, Failure> {
        hypervisor::vm::open_kvm()?;
        let counts = check::count(&options.only).map_err(failure)?;
        let host = HostInfo::detect().map_err(failure)?;
        let wants_ratios = wants_ratios && !options.counts_only;
        let why_not = check::why_no_ratios(&host).filter(|_| wants_ratios);
        let report = match wants_ratios && why_not.is_none() {
            true => Some(measure(options.quick, &options.only)?),
            false => None,
        };
        Ok(Self {
            host,
            counts,
            report,
            ratios_left_out: why_not.map(str::to_owned),
        })
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("the baseline {} is not UTF-8 text", path.display())))
}

fn refused(path: &Path, error: &BaselineError) -> Failure {
    Failure::usage(format!("the baseline {}: {error}", path.display()))
}

/// The file to write, opened before anything is measured, so that a bad name costs no run.
fn open(path: &Path) -> Result<File, Failure> {
    let is_other = path.metadata().is_ok_and(|data| !data.is_file());
    if is_other {
        return Err(Failure::usage(format!(
            "the baseline {} is no regular file; a baseline is read before it is written, so name one that can \
             be",
            path.display()
        )));
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| unwritable(path, &error))
}

/// What the file holds; nothing when it is new or empty. One of another schema starts anew: it cannot be kept.
fn remembered(path: &Path) -> Result<Baseline, Failure> {
    let bytes = files::read(path, "baseline", LIMIT, "name another file")?;
    if bytes.is_empty() {
        return Ok(Baseline::default());
    }
    match Baseline::parse(&text(path, bytes)?) {
        Err(BaselineError::Schema { found }) => {
            output::say(&format!(
                "the baseline {} was of schema {found}: it starts anew, and its other platforms are to be \
                 written again",
                path.display()
            ));
            Ok(Baseline::default())
        }
        other => other.map_err(|error| refused(path, &error)),
    }
}

fn replace(mut file: File, text: &str) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::host(format!(
        "cannot write the baseline {}: {error}; name another place",
        path.display()
    ))
}
