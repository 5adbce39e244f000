//! Tests of guests: boots one, types at its console, waits for what it must say, and judges how it
//! ends. Turns the judgements into JUnit XML, JSON and text.
//!
//! A [`Scenario`] is what must happen and a [`Case`] what did. Text of the guest's is untrusted
//! everywhere: it is bounded ([`Scenario::output_limit`]), and escaped wherever it is shown.

mod case;
mod direct;
mod junit;
mod pattern;
mod report;
mod run;
mod scenario;
#[cfg(test)]
mod tests;
mod text;
mod transcript;

pub use case::{Case, Failed, Failure, Verdict};
pub use pattern::{Pattern, PatternError};
pub use report::{Report, SCHEMA, Suite};
pub use run::{run, run_case};
pub use scenario::{Action, Prepare, Scenario, Step};
pub use text::{tail, visible};
