//! The least a guest can do.

use hypercall_abi::boot::BootInfo;

use crate::{exit, println};

/// Print a line.
pub fn hello(_: &'static BootInfo, argument: &str) {
    println!("hello {argument}");
}

/// Power off at once, with a status.
pub fn poweroff(_: &'static BootInfo, argument: &str) {
    exit(argument.parse().unwrap_or(0));
}
