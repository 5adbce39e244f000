//! `paravane bench`: what each operation costs in each mode.

mod baseline;

use bench::io::IoOptions;
use bench::{BenchError, Options, Progress, Report};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Bench, BenchIo, BenchWhat};
use crate::output;
use crate::status::{self, Failure};

/// Measure; the exit status.
pub fn run(options: &Bench) -> Result<u8, Failure> {
    if let Some(BenchWhat::Io(options)) = &options.what {
        return io(options);
    }
    if let Some(path) = &options.check {
        return baseline::check(options, path);
    }
    if let Some(path) = &options.write_baseline {
        return baseline::write(options, path);
    }
    let report = measure(options.quick, &options.only)?;
    if options.json {
        output::print_json(&report)?;
    } else {
        output::print(&bench::render(&report))?;
    }
    Ok(status::OK)
}

/// Measure, with progress on stderr where that is a terminal.
pub fn measure(quick: bool, only: &[String]) -> Result<Report, Failure> {
    // It says what is missing, and the mend; the benchmark's own yardstick asks for less.
    hypervisor::vm::open_kvm()?;
    let options = Options {
        quick,
        only: only.to_vec(),
        paravane: std::env::current_exe().ok(),
    };
    with_progress(|progress| bench::run(&options, progress))
}

/// Measure input and output; the exit status.
fn io(options: &BenchIo) -> Result<u8, Failure> {
    hypervisor::vm::open_kvm()?;
    let of_run = IoOptions {
        quick: options.quick,
        smoke: options.smoke,
        directory: options.dir.clone().unwrap_or_else(std::env::temp_dir),
        paravane: std::env::current_exe().ok(),
    };
    let report = with_progress(|progress| bench::io::run(&of_run, progress))?;
    match options.json {
        true => output::print_json(&report)?,
        false => output::print(&bench::io::render(&report))?,
    }
    Ok(status::OK)
}

fn with_progress<T>(
    measure: impl FnOnce(&mut dyn Progress) -> Result<T, BenchError>,
) -> Result<T, Failure> {
    // Hidden unless stderr is a terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos:>3}/{len} {msg}") {
        bar.set_style(style);
    }
    let mut progress = |at: usize, of: usize, what: &str| {
        bar.set_length(of as u64);
        bar.set_position(at as u64);
        bar.set_message(what.to_owned());
    };
    let result = measure(&mut progress);
    bar.finish_and_clear();
    result.map_err(failure)
}

fn failure(error: BenchError) -> Failure {
    match error {
        BenchError::NoRow { .. } => Failure::usage(error),
        error => Failure::host(error),
    }
}
