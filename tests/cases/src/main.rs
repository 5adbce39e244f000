//! A kernel that runs cases: for each it sets the state, enters the instructions, and writes what the
//! first event found, a line a case. `tests::differential` compares these lines between modes.
//!
//! The cases are the initial ramdisk; the command line is the number of the first to run. A case ends
//! with an exception or an INT, at the latest with the INT3 behind its instructions. A line has the
//! case's number, vector, error code and RIP, and then each register and each word of memory that is
//! not as it was at the start.
//!
//! In walking order: `x86` (the instructions), `console`, `memory`, `machine` (page tables and
//! descriptor tables, and how to get back to them), `state` (what is compared), `run`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate runtime as _;

mod console;
#[allow(unsafe_code)]
mod machine;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod run;
#[allow(unsafe_code)]
mod state;
#[allow(unsafe_code)]
mod x86;

use core::panic::PanicInfo;

use hypercall_abi::boot::{BootInfo, ElfNote, ImageKind};
use hypercall_abi::layout::POWER_PORT;

/// The status of a kernel that panicked.
const PANICKED: u8 = 2;

/// What this image expects of its hypervisor.
#[used]
#[allow(unsafe_code)]
#[unsafe(link_section = ".note.paravane")]
static NOTE: ElfNote = ElfNote::new(ImageKind::Native, 0);

/// Called by `entry.S`, on the hypervisor's page tables, interrupts off.
extern "C" fn start(boot: *const BootInfo) -> ! {
    console::init();
    let boot = memory::boot_information(boot);
    if boot.check().is_err() {
        panic!("the hypervisor handed over no boot information of this version");
    }
    machine::init(&boot);
    run::first(&boot)
}

fn power_off(status: u8) -> ! {
    loop {
        x86::out32(POWER_PORT, u32::from(status));
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::line(format_args!("panic {info}"));
    power_off(PANICKED)
}
