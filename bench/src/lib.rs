//! Measures what each trap costs, and what paravirtualization buys.
#![deny(unsafe_code)]

pub mod floor;
