//! Paravane's virtual machine monitor, as a library.
//!
//! A [`config::Config`] becomes a [`Vm`], whose `run` enters the guest until it ends. On the way
//! from a guest's instruction to its effect, each exit passes `vcpu` (the run loop), a door of
//! [`doors`], and a verb of [`machine`].
#![deny(unsafe_code)]

pub mod abi_doc;
pub mod audit;
#[allow(unsafe_code)]
mod beside;
mod boot;
pub mod ci;
pub mod code_cache;
pub mod config;
mod deprivileged;
pub mod doctor;
pub mod doors;
pub mod error;
pub mod io;
#[allow(unsafe_code)]
mod kvm_run;
pub mod legacy;
pub mod loader;
pub mod machine;
#[allow(unsafe_code)]
pub mod memory;
pub mod monitor;
pub mod patch;
mod processor;
mod report;
#[allow(unsafe_code)]
mod shared;
pub mod stats;
#[allow(unsafe_code)]
pub mod stop;
pub mod trace;
mod vcpu;
pub mod vendor;
pub mod vm;

pub use boot::read_note as image_note;
pub use code_cache::CodeCache;
pub use config::{Config, FastTraps, IoKind};
pub use deprivileged::Learned;
pub use error::{GuestFault, HostError};
pub use io::Device;
pub use loader::Image;
pub use stop::{Stop, StopReason};
pub use vcpu::End;
pub use vm::{Interrupter, Keyboard, Outcome, Vm};
