//! Runs cases in modes, and says where these differ.
//!
//! `generate` makes cases from a seed, `corpus` reads and writes them as text, `show` explains one,
//! `quirks` mends what the emulated processor gets wrong.
//! A case and the kernel that runs it are in `tests/cases`.

mod corpus;
mod generate;
mod quirks;
mod show;

use std::time::Duration;

use case_runner::{Case, SIZE};
use hypercall_abi::Mode;
use hypervisor::Config;
use hypervisor::patch::Policy;

pub use corpus::{Entry, read, write};
pub use generate::generate;
pub use show::{Difference, show};

/// The modes that are compared with mode `hvm`, or with what it said.
pub const MODES: [Mode; 2] = [Mode::Trap, Mode::Patch];

/// A kernel that takes longer than this for its cases hangs in one.
const LIMIT: Duration = Duration::from_secs(120);

/// What a mode makes of each case: the kernel's line without its number, or how the virtual machine
/// ended in it.
///
/// # Panics
/// When the host cannot run the kernel, or when the kernel says something else than results.
pub fn run(mode: Mode, cases: &[Case]) -> Vec<String> {
    let disk: Vec<u8> = cases.iter().flat_map(Case::to_bytes).collect();
    assert_eq!(disk.len(), cases.len() * SIZE);
    let mut results = Vec::new();
    while results.len() < cases.len() {
        let mut config = Config::new(mode, crate::CASES, "the kernel that runs cases");
        config.initrd = Some(disk.clone().into());
        config.command_line = results.len().to_string();
        config.memory_bytes = 48 << 20;
        // A case runs once: what can be replaced has to be at its first execution.
        config.patch = Policy::Eager;
        let ran = crate::run_for(LIMIT, config, |_| {})
            .expect("the virtual machine can be built, and the host can run it");
        let is_over = matches!(ran.outcome.end, hypervisor::End::PowerOff(0));
        for line in ran.output.lines() {
            match line.split_once(' ') {
                Some(("end", _)) => {}
                Some((number, result)) if number == results.len().to_string() => {
                    results.push(result.to_owned());
                }
                _ if is_over => panic!("the kernel says {line}"),
                _ => {}
            }
        }
        if !is_over && results.len() < cases.len() {
            let last = ran.output.lines().last().unwrap_or_default();
            let said = if last.starts_with(|first: char| first.is_ascii_digit()) {
                ""
            } else {
                last
            };
            results.push(format!("ended {:?} {said}", ran.outcome.end));
        }
    }
    quirks::correct(mode, &mut results);
    results
}
