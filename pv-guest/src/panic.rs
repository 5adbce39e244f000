//! The report of a panic, and the end that follows. Called by each image's panic handler.

use core::panic::PanicInfo;

use crate::{fault, power, println, status};

/// Report a panic, and power off.
pub fn report(info: &PanicInfo<'_>) -> ! {
    fault::begin(status::PANIC);
    println!("\nkernel panic: {}", info.message());
    if let Some(place) = info.location() {
        println!(
            "  raised at {}:{}:{}",
            place.file(),
            place.line(),
            place.column()
        );
    }
    fault::print_place();
    fault::print_backtrace();
    power::off(status::PANIC)
}
