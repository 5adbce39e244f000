//! Tests a guest kernel with the library: `cargo run -p hypervisor --example ci [IMAGE]`.
//!
//! Without an image it tests the pv kernel of this repository. With one of your own, change what
//! the scenarios expect. It writes `junit.xml` where `JUNIT` names it.

use std::error::Error;
use std::process::ExitCode;

use hypercall_abi::Mode;
use hypervisor::ci::{self, Scenario};
use hypervisor::{Config, Image};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let image: Image = match std::env::args_os().nth(1) {
        Some(path) => std::fs::read(path)?.into(),
        None => guest_images::PV.into(),
    };
    let guest = |command_line: &str| {
        let mut config = Config::new(Mode::Pv, image.clone(), "the guest");
        config.command_line = command_line.to_owned();
        config
    };
    let scenarios = [
        Scenario::new("its shell answers", guest(""))
            .expect("> ")?
            .send("echo one two\n")
            .expect("one two")?
            .expect("one two")? // the first was the echo of what was typed
            .send("poweroff 7\n")
            .status(7),
        Scenario::new("a panic has its status", guest("run='fault panic'"))
            .expect("kernel panic")?
            .status(101),
    ];
    let report = ci::run("example", &scenarios);
    for case in report.suites.iter().flat_map(|suite| &suite.cases) {
        println!("{}: {:?}\n{}", case.name, case.verdict, case.evidence());
    }
    if let Some(path) = std::env::var_os("JUNIT") {
        std::fs::write(path, report.junit())?;
    }
    println!("{}", report.summary());
    Ok(ExitCode::from(u8::from(!report.is_good())))
}
