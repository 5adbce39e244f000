//! The pv image's half of the kernel: hooks as calls and shared words.
//!
//! In walking order: `events` (where the runtime's entries lead, and pending interrupts), `hooks`
//! (the verbs), `ports` (calls in place of IN and OUT). Entry assembly, gates and the batch ring are `pv-runtime`'s.
#![no_std]

mod events;
mod hooks;
mod ports;
mod privileged;
