//! The 16550 UART, polled, and `println!`. Whether interrupts are on does not matter to it.

use core::fmt;

use hypercall_abi::layout::UART_PORT;

use crate::x86;

const INTERRUPT_ENABLE: u16 = UART_PORT + 1;
const FIFO_CONTROL: u16 = UART_PORT + 2;
const LINE_CONTROL: u16 = UART_PORT + 3;
const LINE_STATUS: u16 = UART_PORT + 5;
const DIVISOR_LATCH: u8 = 0x80;
const EIGHT_BITS: u8 = 3;
const TRANSMITTER_EMPTY: u8 = 0x20;

/// 115200 baud, 8 bits, no parity, FIFOs on and cleared, no interrupts.
pub fn init() {
    x86::out8(INTERRUPT_ENABLE, 0);
    x86::out8(LINE_CONTROL, DIVISOR_LATCH);
    x86::out8(UART_PORT, 1);
    x86::out8(UART_PORT + 1, 0);
    x86::out8(LINE_CONTROL, EIGHT_BITS);
    x86::out8(FIFO_CONTROL, 7);
}

fn wait() {
    while x86::in8(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
}

/// Send a text with one string instruction.
pub fn write_string(text: &[u8]) {
    wait();
    x86::out_string(UART_PORT, text);
}

/// Formats to the UART.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            wait();
            x86::out8(UART_PORT, byte);
        }
        Ok(())
    }
}

/// Print a formatted line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::console::Console, $($arg)*);
    }};
}
