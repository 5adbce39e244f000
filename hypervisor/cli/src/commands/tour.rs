//! `paravane` alone: boots the pv guest, shows its greeting, and measures.

use std::io;

use hypercall_abi::Mode;
use hypervisor::End;

use super::boot::{self, Around};
use crate::ending::Ending;
use crate::output;
use crate::status::{self, Failure};
use crate::stdin::Source;

/// What the table says, for someone who sees it for the first time.
const READING: &str = "\
How to read it: each row is one operation of the guest kernel. In `hvm` the processor and KVM do it, in
`trap` its instructions fault and are emulated, in `pv` it is a shared word, a call into the monitor,
or an exit. /pv is what paravirtualization buys (above 1) or costs (below 1) on this host; /floor
divides by what the bare mechanism takes here, so 1 is as good as it gets. `paravane bench` takes
minutes and is steadier.
";

/// Do it; the exit status.
pub fn run(ending: &Ending) -> Result<u8, Failure> {
    let mut config = super::built_in(Mode::Pv);
    config.command_line = "run=mem".to_owned();
    let console = Box::new(io::stdout());
    let around = Around {
        input: Source::Nothing,
        console,
        trace: None,
        timeout: None,
        ending,
    };
    let ran = boot::boot(config, around)?;
    let status = boot::conclude(&ran.outcome, Source::Nothing);
    if ran.outcome.end != End::PowerOff(0) {
        return Ok(status);
    }
    let report = super::bench::measure(true, &[])?;
    output::print(&format!("\n{}\n{READING}", bench::render(&report)))?;
    Ok(status::OK)
}
