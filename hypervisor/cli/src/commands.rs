//! The commands: each turns its options into calls of a library, and the answer into text.

mod audit;
mod bench;
mod boot;
mod ci;
mod doctor;
mod floor;
mod hypercalls;
mod patches;
mod run;
mod tour;

use hypercall_abi::Mode;
use hypervisor::Config;

use crate::args::{Args, Command};
use crate::ending::Ending;
use crate::status::Failure;

/// Do what the command line says; the exit status.
pub fn run(args: Args, ending: &Ending) -> Result<u8, Failure> {
    match args.command {
        None => tour::run(ending),
        Some(Command::Run(options)) => run::run(&options, ending),
        Some(Command::Bench(options)) => bench::run(&options),
        Some(Command::Audit(options)) => audit::run(&options),
        Some(Command::Hypercalls(options)) => hypercalls::run(&options),
        Some(Command::Ci(options)) => ci::run(&options, ending),
        Some(Command::Patches(options)) => patches::run(&options, ending),
        Some(Command::Doctor(options)) => doctor::run(&options),
        Some(Command::FloorVm) => floor::run(),
    }
}

/// A configuration with the guest kernel that is built in.
fn built_in(mode: Mode) -> Config {
    match mode {
        Mode::Pv => Config::new(mode, guest_images::PV, "the built-in pv guest"),
        Mode::Hvm | Mode::Trap | Mode::Patch => {
            Config::new(mode, guest_images::NATIVE, "the built-in native guest")
        }
    }
}
