//! Reads guest images: where an ELF kernel and its initramfs go, and what an address is called.
//! Called by vm, which copies what is planned here, and by reports, which name addresses.
//! Never touches guest memory, and trusts no byte of a file: the lints below make the compiler
//! look for every way in which a file could panic the reader.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod address;
pub mod backtrace;
pub mod elf;
mod error;
mod format;
mod image;
pub mod initrd;
mod pages;
pub mod symbols;

#[cfg(test)]
mod tests;

pub use elf::{Plan, Segment, plan};
pub use error::{FileError, ImageError};
pub use format::Format;
pub use image::Image;
pub use initrd::InitrdPlacement;
pub use pages::Placed;
pub use symbols::Symbols;
