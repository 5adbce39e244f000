//! Prints the whole report.
//!
//! `cargo run --release -p bench --example report [quick] [json] [only=ROW,...] [program=PARAVANE]`
//!
//! Without a program it runs itself for the rows of whole processes: it knows as much of `paravane`'s
//! command line as they need, and nothing else, so it is the leanest form of that program.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use bench::Options;
use hypercall_abi::Mode;
use hypervisor::{Config, End, Vm};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("run") => run(&args[1..]),
        Some("floor-vm") => floor_vm(),
        _ => report(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn report(args: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let mut options = Options {
        paravane: Some(std::env::current_exe()?),
        ..Options::default()
    };
    let mut is_json = false;
    for arg in args {
        match arg.split_once('=') {
            None if arg == "quick" => options.quick = true,
            None if arg == "json" => is_json = true,
            Some(("only", rows)) => options.only = rows.split(',').map(String::from).collect(),
            Some(("program", path)) => options.paravane = Some(path.into()),
            _ => return Err(format!("{arg}: no such option").into()),
        }
    }
    let report = bench::run(&options, &mut |at, of, what: &str| {
        eprintln!("{at}/{of} {what}")
    })?;
    let text = match is_json {
        true => serde_json::to_string_pretty(&report)?,
        false => bench::render(&report),
    };
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// `run --mode MODE [--mem 64M] --cmdline TEXT`
fn run(args: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let wanted = value("--mode").unwrap_or_default();
    let mode = bench::MODES.iter().find(|mode| mode.name() == wanted);
    let mut config = match mode.copied().unwrap_or(Mode::Pv) {
        Mode::Pv => Config::new(Mode::Pv, guest_images::PV, "pv"),
        native => Config::new(native, guest_images::NATIVE, "native"),
    };
    config.command_line = value("--cmdline").unwrap_or_default();
    let outcome = Vm::new(config, Box::new(io::stdout()))?.run()?;
    match outcome.end {
        End::PowerOff(status) => Ok(status.into()),
        end => Err(format!("{end:?}").into()),
    }
}

fn floor_vm() -> Result<ExitCode, Box<dyn Error>> {
    bench::floor::one_byte_into(&mut io::stdout().lock())?;
    io::stdout().flush()?;
    Ok(ExitCode::SUCCESS)
}
