//! The guest kernel's two images, built by this package's build script and embedded here.
#![no_std]
#![forbid(unsafe_code)]

/// The image for `hvm`, `trap` and `patch`: an ELF file.
pub static NATIVE: &[u8] = &Aligned(*include_bytes!(env!("PARAVANE_NATIVE_IMAGE"))).0;

/// The image for `pv`: an ELF file.
pub static PV: &[u8] = &Aligned(*include_bytes!(env!("PARAVANE_PV_IMAGE"))).0;

/// Where the build left the native image.
pub const NATIVE_PATH: &str = env!("PARAVANE_NATIVE_IMAGE");

/// Where the build left the pv image.
pub const PV_PATH: &str = env!("PARAVANE_PV_IMAGE");

/// Page aligned, so that segments can be copied page by page.
#[repr(C, align(4096))]
struct Aligned<T>(T);
