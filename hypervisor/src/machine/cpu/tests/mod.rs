//! The verbs over plain memory, by topic. `fake` is the memory, `guest` a kernel's tables in it.
#![allow(unused_must_use, reason = "there is no real processor to follow")]

mod control;
mod debug;
mod deliver;
pub(crate) mod fake;
mod flags;
pub(crate) mod guest;
mod inspect;
mod iret;
mod linear;
mod load;
mod msr;
mod ports;
mod syscall;
mod tables;
mod transfer;

use super::{Effect, Exception, Refusal};

/// The exception of a refusal.
pub(crate) fn exception<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> Exception {
    match answer {
        Err(Refusal::Exception(exception)) => exception,
        other => panic!("no exception: {other:?}"),
    }
}

/// The feature that was refused.
pub(crate) fn unsupported<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> &'static str {
    match answer {
        Err(Refusal::Unsupported(what)) => what,
        other => panic!("not unsupported: {other:?}"),
    }
}

/// #GP with this code.
pub(crate) fn gp(error: u32) -> Exception {
    Exception::protection(error)
}

/// #NP with this code.
pub(crate) fn np(error: u32) -> Exception {
    Exception::with_error(Exception::NOT_PRESENT, error)
}

/// #SS with this code.
pub(crate) fn ss(error: u32) -> Exception {
    Exception::with_error(Exception::STACK, error)
}

/// #UD.
pub(crate) fn ud() -> Exception {
    Exception::invalid_opcode()
}

const NONE: Effect = Effect::NONE;
