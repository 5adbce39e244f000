//! A guest of a few lines: a vendor call, a call of the table, and the way out.
#![no_std]
#![no_main]

use core::fmt::{self, Write};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::table::console::Guest as _;
use hypercall_abi::table::power::Guest as _;
use hypercall_abi::table::time::Guest as _;
use hypercall_abi::{CallError, GuestPhys, GuestPtr, layout};
use pv_runtime::{PAGE, TrapFrame};
use vendor_call_guest::greeter::Guest as _;

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        PAGE.console_write(pointer(text.as_bytes()), text.len() as u64)
            .map_err(|_| fmt::Error)
    }
}

/// The guest-physical address of something in the image.
fn pointer(bytes: &[u8]) -> GuestPtr<u8> {
    GuestPtr::new(GuestPhys(
        (bytes.as_ptr() as u64).wrapping_sub(layout::KERNEL_BASE),
    ))
}

fn talk() -> Result<(), CallError> {
    let name = b"paravane";
    let count = PAGE.greet(pointer(name), name.len() as u8)?;
    let _ = writeln!(Console, "guest: greeted {count} time");
    let _ = writeln!(
        Console,
        "guest: the year is {}",
        1970 + PAGE.wall_clock()? / 31_556_952_000_000_000
    );
    if let Err(error) = PAGE.greet(GuestPtr::new(GuestPhys(u64::MAX)), 8) {
        let _ = writeln!(Console, "guest: a bad pointer is refused: {error}");
    }
    Ok(())
}

// SAFETY (unsafe attribute): pv-runtime declares the symbol; this image defines it once.
#[unsafe(no_mangle)]
extern "C" fn paravane_start(_: &'static BootInfo) -> ! {
    let status = u8::from(talk().is_err());
    loop {
        let _ = PAGE.power_off(status);
    }
}

// SAFETY (unsafe attribute): as above.
#[unsafe(no_mangle)]
extern "C" fn paravane_event(_: &mut TrapFrame) {
    // The example names no event entries, so none arrives.
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        let _ = PAGE.power_off(99);
    }
}
