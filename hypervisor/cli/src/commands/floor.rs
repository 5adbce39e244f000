//! `paravane floor-vm`: the shortest life of a VM in a process of its own, for the benchmark, which
//! times it from outside: the guest's byte goes to stdout when it comes, and nothing else.

use std::io;

use crate::status::{self, Failure};

/// Run it; the exit status.
pub fn run() -> Result<u8, Failure> {
    bench::floor::one_byte_into(&mut io::stdout()).map_err(Failure::host)?;
    Ok(status::OK)
}
