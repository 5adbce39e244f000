//! System calls: the same by SYSCALL and by `int 0x80`. Number and result in `rax`, argument in
//! `rdi`.

use crate::frame::Frame;
use crate::memory;
use crate::println;
use crate::process::Process;
use crate::programs::End;
use crate::trap::SYSCALL;

/// End with a status.
pub const EXIT: u64 = 1;
/// Print a text, which a zero ends.
pub const SAY: u64 = 2;
/// Print a number.
pub const REPORT: u64 = 3;
/// Do nothing.
pub const PASS: u64 = 4;
/// The process's number.
pub const PID: u64 = 5;

/// The results of calls that fail.
const BAD_ADDRESS: u64 = -14i64 as u64;
const NO_SUCH_CALL: u64 = -38i64 as u64;
/// The longest text, in bytes.
const LINE: usize = 64;

/// Serve a call. `Some` when the process ends by it.
pub fn serve(process: &Process, frame: &mut Frame) -> Option<End> {
    let name = process.program.name;
    let way = if frame.vector == SYSCALL {
        "syscall"
    } else {
        "int 0x80"
    };
    let (number, argument) = (frame.rax, frame.rdi);
    crate::scheduler::print_event(process, frame, format_args!("{way} {number}"));
    frame.rax = match number {
        EXIT => return Some(End::Exit(argument)),
        SAY => say(process, argument),
        REPORT => {
            println!("{name} reports {argument:#x}");
            0
        }
        PASS => 0,
        PID => process.pid,
        _ => NO_SUCH_CALL,
    };
    None
}

fn say(process: &Process, at: u64) -> u64 {
    let mut line = [0; LINE];
    for (at, slot) in (at..).zip(line.iter_mut()) {
        let Some(phys) = process.space.user_address(at) else {
            return BAD_ADDRESS;
        };
        *slot = memory::read_byte(phys);
        if *slot == 0 {
            break;
        }
    }
    let text = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = core::str::from_utf8(text).unwrap_or("?");
    println!("{} says {text}", process.program.name);
    text.len() as u64
}
