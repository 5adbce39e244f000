//! The guest kernel's own verbs, timed inside the guest: what is measured and against what (`rows`),
//! a run of the guest's benchmark (`guest`), what it says (`lines`), and how often each row leaves for the
//! VMM and calls it (`counts`).

mod counts;
mod guest;
mod lines;
mod rows;

pub use counts::count;
pub use guest::{kernel, run, run_as};
pub use lines::{Line, Outcome};
pub use rows::{FAST_ROWS, MicroRow, ROWS, Yardstick};
