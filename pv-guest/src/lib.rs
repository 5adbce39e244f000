//! Paravane's guest kernel: everything but the privileged instructions, which its images supply.
#![no_std]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod hooks;

#[allow(unsafe_code)]
pub mod arch;
pub mod trap;
