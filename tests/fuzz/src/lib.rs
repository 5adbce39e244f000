//! Fuzzing of what a guest or a file controls, on stable Rust and without KVM. See docs/fuzz.md.
//!
//! In walking order: [`cli`] (what was asked for), [`supervise`] (a process a target, and what becomes
//! of one that dies or hangs), [`campaign`] (case after case), [`target`] (the list), then the targets:
//! [`virtio`] makes and plays a hostile driver, [`devices`] has what is behind each device. A case is
//! made from a seed and its number alone: no choice depends on what a device did.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod cli;
pub mod devices;
pub mod host;
pub mod random;
pub mod supervise;
pub mod tally;
pub mod target;
pub mod virtio;
