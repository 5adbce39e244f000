//! The guest's instructions (code.s), and where each piece lies in guest memory.

use super::layout::*;

/// Operations in one round of a CPL 0 loop: on an interpreted CPL 0 the loop itself costs two.
pub const UNROLLED: u64 = 16;

std::arch::global_asm!(
    include_str!("code.s"),
    CALL_NUMBER = const CALL_NUMBER,
    CALL_PORT = const CALL_PORT,
    CONSOLE_PORT = const CONSOLE_PORT,
    MESSAGE_LEN = const MESSAGE_LEN,
    RING_ENTRIES = const RING_ENTRIES,
    RING_LEN = const RING_LEN,
    TSC_DEADLINE = const TSC_DEADLINE,
    UNROLLED = const UNROLLED,
    WINDOW = const WINDOW,
    WINDOW_LEN = const WINDOW_LEN,
    WINDOW_TABLE = const WINDOW_TABLE,
);

/// Declares the labels of one image as functions that give their guest addresses.
macro_rules! image {
    ($image:ident at $base:expr, $start:ident .. $end:ident; $($name:ident = $symbol:ident,)*) => {
        unsafe extern "C" {
            static $start: u8;
            static $end: u8;
            $(static $symbol: u8;)*
        }

        /// The bytes of this image.
        pub fn $image() -> &'static [u8] {
            let (start, end) = (&raw const $start, &raw const $end);
            // SAFETY: code.s defines both labels, in this order, in one read-only section of this
            // program; nothing ever writes it.
            unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
        }

        $(pub fn $name() -> u64 {
            $base + (&raw const $symbol as u64 - &raw const $start as u64)
        })*
    };
}

image! {
    user_image at USER_CODE, floor_user_start .. floor_user_end;
    empty_loop = floor_empty_loop,
    clock_read = floor_clock_read,
    gate_int3 = floor_gate_int3,
    gate_syscall = floor_gate_syscall,
    machine_exit_int3 = floor_machine_exit_int3,
    machine_exit_syscall = floor_machine_exit_syscall,
    batch64_int3 = floor_batch64_int3,
    batch64_syscall = floor_batch64_syscall,
    load_root_int3 = floor_load_root_int3,
    load_root_syscall = floor_load_root_syscall,
    page_remap_int3 = floor_page_remap_int3,
    page_remap_syscall = floor_page_remap_syscall,
    page_fault_int3 = floor_page_fault_int3,
    page_fault_syscall = floor_page_fault_syscall,
    divide_error = floor_divide_error,
    undefined_instruction = floor_undefined_instruction,
    breakpoint = floor_breakpoint,
    general_protection = floor_general_protection,
    flags = floor_flags,
    trap_exit = floor_trap_exit,
    timer_arm = floor_timer_arm,
    timer_arm_gate_int3 = floor_timer_arm_gate_int3,
    timer_arm_gate_syscall = floor_timer_arm_gate_syscall,
    timer_interrupt = floor_timer_interrupt,
    probe = floor_probe,
    probe_target = floor_probe_target,
}

image! {
    monitor_image at MONITOR_CODE, floor_monitor_start .. floor_monitor_end;
    return_int3 = floor_return_int3,
    return_syscall = floor_return_syscall,
    load_r8_int3 = floor_load_r8_int3,
    load_r8_syscall = floor_load_r8_syscall,
    invalidate_rdi_int3 = floor_invalidate_rdi_int3,
    invalidate_rdi_syscall = floor_invalidate_rdi_syscall,
    set_deadline_int3 = floor_set_deadline_int3,
    set_deadline_syscall = floor_set_deadline_syscall,
    call_machine = floor_call_machine,
    skip_two_bytes = floor_skip_two_bytes,
    skip_one_byte = floor_skip_one_byte,
    trap_machine = floor_trap_machine,
    map_page = floor_map_page,
    tick_user = floor_tick_user,
    tick_idle = floor_tick_idle,
    interrupts = floor_interrupts,
    load_root = floor_load_root,
    console_byte = floor_console_byte,
    console64 = floor_console64,
    console64_string = floor_console64_string,
    idle_wake = floor_idle_wake,
}
