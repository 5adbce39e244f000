//! The native image: the guest kernel with ordinary privileged instructions.
#![no_std]
#![no_main]

extern crate image_native as _;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    pv_guest::panic::report(info)
}
