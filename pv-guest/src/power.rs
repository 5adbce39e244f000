//! The way out: exit statuses, and powering off. Called by the shell and by the reports of faults.

use crate::hooks;

/// What the virtual machine's exit status says. A script or a person may choose any other.
pub mod status {
    /// The shell ended, and every command of a script succeeded.
    pub const SUCCESS: u8 = 0;
    /// A command of a script failed, or is not known.
    pub const SCRIPT: u8 = 1;
    /// The kernel panicked; the report is on the console.
    pub const PANIC: u8 = 101;
    /// The kernel took an exception that nobody expected; the report is on the console.
    pub const FAULT: u8 = 102;
    /// The image was entered without boot information.
    pub const NO_BOOT_INFO: u8 = 103;
    /// The hypervisor speaks another version of the interface.
    pub const VERSION: u8 = 104;
    /// There is too little memory, or the memory map makes no sense.
    pub const NO_MEMORY: u8 = 105;
}

/// Send what the console still holds, and end the virtual machine.
pub fn off(status: u8) -> ! {
    hooks::console_flush();
    hooks::power_off(status)
}
