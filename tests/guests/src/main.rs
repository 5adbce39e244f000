//! Tiny pv guests: each behaviour is a function of its own file, chosen by the command line.
//!
//! They live directly on `pv-runtime`, without the kernel, and on the boot page tables.
#![no_std]
#![no_main]

mod abuse;
mod calls;
mod events;
mod hello;
mod lines;
mod queues;
mod ring;
mod script;
mod storm;
mod user;
mod vectors;

use core::panic::PanicInfo;

use hypercall_abi::boot::BootInfo;
use hypercall_abi::layout;
use hypercall_abi::table::console::Guest as _;
use hypercall_abi::table::power::Guest as _;
use pv_runtime::PAGE;

/// The status of a guest that panicked.
const PANICKED: u8 = 99;
/// The status of a guest that met an event that its behaviour does not expect.
const UNEXPECTED_EVENT: u8 = 97;
/// The status of a guest that was asked for a behaviour it does not have.
const NO_SUCH_BEHAVIOUR: u8 = 98;

/// Print a string.
pub fn print(text: &str) {
    for piece in text.as_bytes().chunks(40) {
        let mut bytes = [0; 40];
        bytes[..piece.len()].copy_from_slice(piece);
        let word =
            |n: usize| u64::from_le_bytes(bytes[n * 8..n * 8 + 8].try_into().unwrap_or_default());
        let _ = PAGE.console_put(
            piece.len() as u64,
            word(0),
            word(1),
            word(2),
            word(3),
            word(4),
        );
    }
}

/// Formats to the console.
pub struct Console;

impl core::fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        print(text);
        Ok(())
    }
}

/// Print a formatted line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::Console, $($arg)*);
    }};
}

/// End with a status.
pub fn exit(status: u8) -> ! {
    loop {
        let _ = PAGE.power_off(status);
    }
}

// SAFETY (unsafe attribute): pv-runtime declares the symbol; this image defines it once.
#[unsafe(no_mangle)]
extern "C" fn paravane_start(boot: &'static BootInfo) -> ! {
    let line = boot.command_line;
    let at = (layout::DIRECT_MAP + line.start) as *const u8;
    // SAFETY: the hypervisor placed `len` bytes of command line there; nothing writes them.
    let line = unsafe { core::slice::from_raw_parts(at, line.len as usize) };
    let line = core::str::from_utf8(line).unwrap_or("");
    let (name, argument) = line.split_once(' ').unwrap_or((line, ""));
    let behaviour: fn(&'static BootInfo, &str) = match name {
        "hello" => hello::hello,
        "poweroff" => hello::poweroff,
        "user" => user::user,
        "storm" => storm::storm,
        "calls" => calls::each_number,
        "script" => script::script,
        "lines" => lines::lines,
        "queues" => hostile_queues,
        "abuse" => abuse::abuse,
        "vectors" => vectors::vectors,
        _ => exit(NO_SUCH_BEHAVIOUR),
    };
    behaviour(boot, argument);
    exit(0)
}

/// Drive the first device's queue badly (`queues`), in memory above what anybody uses.
fn hostile_queues(boot: &'static BootInfo, _: &str) {
    const MEMORY: u64 = 10 << 20;
    queues::run(queues::Place {
        registers: lines::map(boot.root, layout::DEVICES_PHYS),
        memory: layout::DIRECT_MAP + MEMORY,
        phys: MEMORY,
        end: boot.memory[0].end(),
    });
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    exit(PANICKED)
}
