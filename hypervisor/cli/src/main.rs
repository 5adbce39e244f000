//! The `paravane` command: options in, exit status out. All that it does is an API of the
//! `hypervisor` and `bench` crates.
#![deny(unsafe_code)]

mod args;
mod commands;
mod ending;
mod files;
mod output;
mod panics;
#[allow(unsafe_code)]
mod signals;
mod status;
#[allow(unsafe_code)]
mod stdin;
#[allow(unsafe_code)]
mod terminal;

use ending::Ending;
use status::Failure;

fn main() {
    let ending = Ending::default();
    // First of all: threads that start later inherit the blocked signals.
    let guard = signals::install({
        let ending = ending.clone();
        move |signal| ending.on_signal(signal)
    });
    panics::end_the_process();
    let result = match guard {
        Ok(_) => args::machine::parse(std::env::args_os().collect())
            .and_then(|args| commands::run(args, &ending)),
        Err(ref error) => Err(Failure::host(format!("cannot watch for signals: {error}"))),
    };
    let status = result.unwrap_or_else(|failure| {
        output::say(&failure.message);
        failure.status
    });
    std::process::exit(i32::from(status));
}
