//! Measures what each trap costs, and what paravirtualization buys.
//!
//! [`run`] measures and gives a [`Report`]; [`render`] shows it to people. Three things are measured
//! in turn, round by round, so that a ratio compares what one host did in one run:
//! - `micro`: the guest kernel's own verbs, in each mode of [`MODES`], timed inside the guest;
//! - [`floor`]: the same mechanisms in a raw KVM VM of a few instructions, the yardstick;
//! - `life`: building, booting and ending virtual machines and whole processes, timed outside.
//!
//! [`io`] does the same for input and output: devices in each mode, and the host's own loop beside them.
//!
//! [`check`] counts what each row does, and compares counts and ratios with a baseline.
//!
//! `CLAIMS.md` says what is claimed and by which row; `goals` turns that into verdicts.
#![deny(unsafe_code)]

pub mod check;
mod columns;
mod console;
mod error;
#[allow(unsafe_code)]
pub mod floor;
mod goals;
mod host;
pub mod io;
mod life;
mod measure;
mod micro;
mod options;
mod progress;
mod render;
mod report;
mod stats;
mod watch;

pub use columns::MODES;
pub use error::BenchError;
pub use goals::{Goal, Verdict};
pub use host::HostInfo;
pub use measure::run;
pub use options::{Options, row_names};
pub use progress::Progress;
pub use render::render;
pub use report::{Bare, By, Cell, Column, Extra, Figure, Report, Row, SCHEMA};
pub use stats::Spread;
