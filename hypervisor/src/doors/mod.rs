//! The ways from a guest's instruction to a verb of `machine`.

pub mod call;
pub mod port;
pub mod trap;
