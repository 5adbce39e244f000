//! The monitor of modes `trap` and `patch`, in which the native image runs at CPL 3.
//!
//! Every event of the guest reaches a stub that leaves for the VMM; which stub it was says which
//! event. The VMM writes where the guest goes on into the frame, and enters at one of the
//! [`code::Points`]. Nothing here decides what an event means: `crate::deprivileged` does.
//!
//! `layout` has the addresses, `entry.S` the code, `install` puts both into guest memory.

#[allow(unsafe_code)]
pub(crate) mod code;
mod install;
pub(crate) mod layout;

pub(crate) use code::{Stub, TRAP_PORT, points, syscall_targets};
pub(crate) use install::{descriptors, install, install_probe};
