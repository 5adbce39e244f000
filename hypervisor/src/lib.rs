//! Paravane's virtual machine monitor, as a library.
#![deny(unsafe_code)]

pub mod audit;
pub mod doctor;
pub mod loader;
