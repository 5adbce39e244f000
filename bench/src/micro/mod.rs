//! The guest kernel's own verbs, timed inside the guest: what is measured and against what (`rows`),
//! a run of the guest's benchmark (`guest`), and what it says (`lines`).

mod guest;
mod lines;
mod rows;

pub use guest::{kernel, run};
pub use lines::Outcome;
pub use rows::{MicroRow, ROWS, Yardstick};

#[cfg(test)]
mod counts;
