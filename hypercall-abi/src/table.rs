//! THE table: every call between a guest kernel and this hypervisor, one row a call.
//!
//! A row reads as a sentence: number, name, typed arguments, result, tier, the modes that have it,
//! and its twin, the instruction that does the same on bare hardware. To add a call, add a row here
//! and the method that the compiler then demands of the host's `machine`.
//!
//! Numbers are explicit and never reused. Numbers below [`MONITOR_NUMBERS`] may be of tier
//! `monitor`. `0x8000..=0xffff` belongs to vendors: declared in their own crate, with this macro.

use crate::{Row, hypercalls};

/// Calls of tier `monitor` have numbers below this: the monitor's jump table has as many entries.
pub const MONITOR_NUMBERS: u64 = 0x20;

/// The first and last number of the vendors' range.
pub const VENDOR: core::ops::RangeInclusive<u64> = 0x8000..=0xffff;

hypercalls! {
    /// Calls that do nothing, to measure the gates by.
    topic null {
        /// Do nothing, in the monitor: the cost of the gate and its checks.
        0x00 null_monitor() -> () tier monitor in [pv];
        /// Do nothing, in the virtual machine monitor: the cost of an exit.
        0x20 null_machine() -> () tier machine in [pv];
        /// Do nothing, from the batch ring: the cost of an entry.
        0x21 null_batch() -> () tier batch in [pv];
        /// Run what the batch ring holds, and return how many entries that was.
        0x22 drain_batch() -> u64 tier machine in [pv];
    }

    /// Address spaces.
    topic mmu {
        /// Make a root the kernel's active address space. It must map the monitor's window.
        0x01 load_root(root: Frame) -> () tier monitor in [pv] twin "mov cr3, r64";
        /// Forget the translations of one page in the active address space.
        0x02 invalidate_page(at: GuestVirt) -> () tier monitor in [pv] twin "invlpg m";
        /// Choose the root that the slot `enter_user` switches to. It must map the user window.
        0x03 set_user_root(root: Frame) -> () tier monitor in [pv];
    }

    /// Interrupts and events.
    topic irq {
        /// Let interrupts in. Returns 1, and lets none in, while one is pending: handle it first.
        0x04 unmask() -> u64 tier monitor in [pv] twin "sti";
        /// Let interrupts in and sleep until one came, in one step. Returns 1 at once while one is
        /// pending.
        0x05 idle() -> u64 tier monitor in [pv] twin "sti; hlt";
        /// Signal the end of the interrupt in service to the local APIC.
        0x06 end_of_interrupt() -> () tier monitor via eoi in [pv] twin "mov [apic+0xb0], 0";
        /// Send an interrupt to a processor, by its local APIC identifier.
        0x07 send_interrupt(to: u8, vector: Vector) -> () tier monitor in [pv] twin "mov [apic+0x300], icr";
        /// Name the kernel's event entries: 66 of them, 16 bytes apart: the vectors 0..=63, the
        /// user system call, and "an interrupt is pending".
        0x23 set_event_entries(first: GuestVirt) -> () tier machine in [pv] twin "lidt m";
    }

    /// Time.
    topic time {
        /// Arm the one-shot timer, in nanoseconds from now; 0 disarms it.
        0x08 arm_timer(delta_ns: u32) -> () tier monitor via arm_timer in [pv] twin "mov [apic+0x380], ticks";
        /// The host's wall clock, in nanoseconds since 1970-01-01 00:00 UTC.
        0x28 wall_clock() -> u64 tier machine in [pv] twin "in al, 0x71";
    }

    /// The console.
    topic console {
        /// Write text that the registers carry: `len` bytes, at most 40, little-endian in `w0..w4`.
        0x30 console_put(len: u64, w0: u64, w1: u64, w2: u64, w3: u64, w4: u64) -> () tier batch in [pv] twin "out 0x3f8, al";
        /// Write text from memory.
        0x31 console_write(text: GuestPtr<u8>, len: u64) -> () tier machine in [pv] twin "rep outsb";
        /// Read what was typed into memory, and return how many bytes that was.
        0x32 console_read(into: GuestPtr<u8>, len: u64) -> u64 tier machine in [pv] twin "in al, 0x3f8";
    }

    /// Ports, of the devices that a PC has: what IN and OUT do where the kernel may execute them.
    topic port {
        /// Read `width` bytes, 1, 2 or 4, from a port.
        0x50 port_read(port: u16, width: u8) -> u64 tier machine in [pv] twin "in eax, dx";
        /// Write the low `width` bytes, 1, 2 or 4, of a value to a port.
        0x51 port_write(port: u16, width: u8, value: u32) -> () tier machine in [pv] twin "out dx, eax";
        /// Read from a port `count` times into memory, a page at most.
        0x52 port_read_string(port: u16, width: u8, into: GuestPtr<u8>, count: u32) -> () tier machine in [pv] twin "rep insd";
        /// Write from memory to a port `count` times, a page at most.
        0x53 port_write_string(port: u16, width: u8, from: GuestPtr<u8>, count: u32) -> () tier machine in [pv] twin "rep outsd";
    }

    /// Power.
    topic power {
        /// End the virtual machine with an exit status.
        0x40 power_off(status: u8) -> () tier machine in [pv] twin "out 0xf4, eax";
    }
}

/// The topics' rows, in topic order.
pub const TOPICS: &[&[Row]] = &[
    null::ROWS,
    mmu::ROWS,
    irq::ROWS,
    time::ROWS,
    console::ROWS,
    port::ROWS,
    power::ROWS,
];

/// Every row.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TOPICS.iter().flat_map(|rows| rows.iter())
}

/// The row of a number, if the table has it.
pub fn find(number: u64) -> Option<&'static Row> {
    rows().find(|row| row.number == number)
}

/// What the host's machine must be able to do: every topic.
pub trait Machine:
    null::Host + mmu::Host + irq::Host + time::Host + console::Host + port::Host + power::Host
{
}

impl<M> Machine for M where
    M: null::Host + mmu::Host + irq::Host + time::Host + console::Host + port::Host + power::Host
{
}

/// Decode a call that left the virtual machine and make it; `None` when the table has none such.
pub fn dispatch<M: Machine>(
    machine: &mut M,
    memory: &dyn crate::GuestMemory,
    number: u64,
    args: &crate::Args,
) -> Option<Result<u64, crate::CallError>> {
    null::dispatch(machine, memory, number, args)
        .or_else(|| mmu::dispatch(machine, memory, number, args))
        .or_else(|| irq::dispatch(machine, memory, number, args))
        .or_else(|| time::dispatch(machine, memory, number, args))
        .or_else(|| console::dispatch(machine, memory, number, args))
        .or_else(|| port::dispatch(machine, memory, number, args))
        .or_else(|| power::dispatch(machine, memory, number, args))
}

#[cfg(test)]
mod tests;
