//! From an image's entry to the first thread. Lean: on some hosts each instruction costs a
//! microsecond, and the first byte of the greeting is what a boot is timed by.

use hypercall_abi::boot::BootInfo;
use hypercall_abi::{CallError, Vector, layout};
use spin::Once;

use crate::command_line::{self, Options};
use crate::{console, dev, hooks, irq, mm, power, println, sched, shell, status};

static INFO: Once<&'static BootInfo> = Once::new();

/// What the hypervisor said at the entry; `None` before [`start`].
///
/// Hooks that are called before `hooks::init` find it here.
pub fn info() -> Option<&'static BootInfo> {
    INFO.get().copied()
}

/// Start the kernel. Called once, by an image's entry, with interrupts off, on the boot stack
/// (which lies in the image's data), on the boot page tables.
pub fn start(info: &'static BootInfo) -> ! {
    let info = INFO.call_once(|| info);
    match info.check() {
        Ok(()) => {}
        Err(CallError::Version) => hooks::power_off(status::VERSION),
        Err(_) => hooks::power_off(status::NO_BOOT_INFO),
    }
    let memory = mm::init(info);
    hooks::init(info);
    if let Err(error) = memory {
        println!("kernel: memory: {error}");
        power::off(status::NO_MEMORY);
    }
    register_interrupts();
    match sched::start(main) {
        Err(error) => {
            println!("kernel: the first thread: {error}");
            power::off(status::NO_MEMORY)
        }
        Ok(never) => match never {},
    }
}

fn register_interrupts() {
    if let Some(vector) = Vector::new(layout::TIMER_VECTOR) {
        irq::register(vector, sched::on_timer);
    }
    console::init();
}

/// The first thread: greet, and become the shell.
fn main() {
    let options = options();
    for device in command_line::virtio_devices(line()) {
        dev::virtio::probe(device);
    }
    if !options.is_quiet {
        greet();
    }
    match options.run {
        Some(script) => shell::run_script(script),
        None => shell::run_interactive(),
    }
}

/// The command line's options.
fn options() -> Options<'static> {
    Options::parse(line())
}

/// The command line; nothing when it is no text.
fn line() -> &'static str {
    let line = info()
        .and_then(|info| mm::boot_bytes(info, info.command_line))
        .and_then(|bytes| core::str::from_utf8(bytes).ok());
    line.unwrap_or_default()
}

fn greet() {
    let image = hooks::image_name();
    let megabytes = info().map_or(0, megabytes);
    let khz = info().map_or(0, |info| info.tsc_khz);
    println!(
        "Paravane {} ({image}), {megabytes} MiB, TSC {} MHz",
        env!("CARGO_PKG_VERSION"),
        khz / 1000,
    );
}

/// All memory, whatever its use.
fn megabytes(info: &BootInfo) -> u64 {
    let count = usize::try_from(info.memory_ranges).unwrap_or(usize::MAX);
    let bytes = info.memory.iter().take(count).map(|range| range.len);
    bytes.fold(0, u64::saturating_add) >> 20
}
