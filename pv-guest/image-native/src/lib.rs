//! The native image's half of the kernel: hooks as ordinary privileged instructions.
//!
//! Room of `unsafe` and assembly, in walking order: `entry` (where the hypervisor enters, and where
//! events arrive), `tables` (GDT, IDT, TSS), `apic`, `ports` (IN and OUT), `uart` (the trapped
//! console), `hooks` (the verbs).
#![no_std]

extern crate runtime as _;

mod apic;
mod entry;
mod hooks;
mod ports;
mod privileged;
mod tables;
mod uart;
