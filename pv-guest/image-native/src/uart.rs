//! The console of the native image: a 16550 UART, an exit for each register access.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use hypercall_abi::layout::UART_PORT;

use crate::ports;

const DATA: u16 = UART_PORT;
const INTERRUPT_ENABLE: u16 = UART_PORT + 1;
const LINE_STATUS: u16 = UART_PORT + 5;
const RECEIVED: u8 = 1;

/// Whether the UART raises its interrupt when a byte arrives.
static IS_HEARD: AtomicBool = AtomicBool::new(false);

/// Send bytes. The emulated transmitter is always empty, so its status is not polled, and a string
/// instruction sends all: one trap where it is emulated, while KVM still exits for each byte.
pub fn write(text: &[u8]) {
    // SAFETY: the processor reads the bytes of `text` alone, and changes nothing in memory. The direction
    // flag is clear, by the ABI.
    unsafe {
        asm!(
            "rep outsb",
            in("dx") DATA,
            inout("rsi") text.as_ptr() => _,
            inout("rcx") text.len() => _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// Take received bytes. From the first time on an interrupt tells of more.
pub fn read(into: &mut [u8]) -> usize {
    if !IS_HEARD.load(Ordering::Relaxed) {
        IS_HEARD.store(true, Ordering::Relaxed);
        ports::write(INTERRUPT_ENABLE, 1);
    }
    let mut count = 0;
    for slot in into {
        if ports::read(LINE_STATUS) & RECEIVED == 0 {
            break;
        }
        *slot = ports::read(DATA);
        count += 1;
    }
    count
}
