//! The 16550 UART: a line at a time, with one string instruction. It is never waited for, as the
//! hypervisor's takes what comes.

use core::fmt::{self, Write};

use hypercall_abi::layout::UART_PORT;

use crate::x86;

/// 8 bits, no parity, no interrupts.
pub fn init() {
    x86::out8(UART_PORT + 1, 0);
    x86::out8(UART_PORT + 3, 3);
}

/// Text of up to 4000 bytes; what is beyond is lost.
pub struct Line {
    bytes: [u8; 4000],
    len: usize,
}

impl Line {
    /// No text.
    pub fn new() -> Self {
        Self {
            bytes: [0; 4000],
            len: 0,
        }
    }

    /// Send the text.
    pub fn send(&self) {
        x86::out_string(UART_PORT, self.bytes.get(..self.len).unwrap_or_default());
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let Some(to) = self.bytes.get_mut(self.len) else {
                return Ok(());
            };
            *to = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Send a line.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = Line::new();
    let _ = writeln!(line, "{text}");
    line.send();
}
