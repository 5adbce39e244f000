//! The pv image: the guest kernel with every privileged instruction replaced by a hook.
#![no_std]
#![no_main]

extern crate image_pv as _;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    pv_guest::panic::report(info)
}
