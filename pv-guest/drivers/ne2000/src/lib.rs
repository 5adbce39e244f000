//! The driver of NE2000 network cards: a [`NetDevice`] on any [`driver_api::PortEnv`].
//!
//! `card.rs` is the card as its client sees it, and its interrupt; `state.rs` what is where in its memory;
//! `chip.rs` the registers, and the way to that memory; `wire.rs` the numbers.
//!
//! Every byte of a frame passes a port. The top half masks the card's interrupts, which lowers its line; the
//! bottom half notifies the client, who does everything else in its own thread.
//!
//! [`NetDevice`]: driver_api::NetDevice
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod card;
mod chip;
mod error;
mod state;
mod wire;

pub use card::Card;
pub use error::Ne2000Error;
pub use wire::PORTS;
