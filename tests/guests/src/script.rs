//! Does what a script says, statement by statement, so that a test can say it in one place.
//!
//! Statements are separated by `;`, numbers are hexadecimal.
//!
//! - `machine N ARG...`, `monitor N ARG...`: make a call through a gate, and print the answer;
//! - `past AT N ARG...`: enter the monitor's gate `AT` bytes behind its start, and print the answer;
//! - `batch N ARG...`: make a call from the ring, and print the answer;
//! - `queue N ARG...`: put a call into the ring, and print an error;
//! - `tail N`, `head N`: write the ring's index;
//! - `entries`: name this image's event entries;
//! - `fill AT LEN BYTE`, `show AT LEN`: write and print guest-physical memory;
//! - `store AT WORD`, `load AT`: write 32 bits at an address, and read them;
//! - `mark`, `exits`: empty the ring and begin to count exits; print how many there were since;
//! - `toggle`: turn interrupts off and on;
//! - `boot`: print the boot information;
//! - `say TEXT`, `spin`, `repeat N STATEMENT`.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use core::{ptr, slice, str};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::table::irq::Guest as _;
use hypercall_abi::{Gate, GuestVirt, Slot, error, layout};
use pv_runtime::{PAGE, drain, shared_page};

use crate::{println, ring};

static MARK: AtomicU64 = AtomicU64::new(0);

/// See the module.
pub fn script(boot: &'static BootInfo, script: &str) {
    for statement in script.split(';') {
        execute(boot, statement.trim());
    }
}

fn execute(boot: &'static BootInfo, statement: &str) {
    let (verb, rest) = statement.split_once(' ').unwrap_or((statement, ""));
    let [a, b, c, ..] = numbers(rest);
    match verb {
        "machine" => answer(call(Slot::Machine, rest)),
        "monitor" => answer(call(Slot::Monitor, rest)),
        "past" => {
            let [at, number, a, b, ..] = numbers(rest);
            answer(past_the_start(at, number, a, b));
        }
        "batch" => {
            let [number, args @ ..] = numbers(rest);
            answer(ring::call(number, args));
        }
        "queue" => match call(Slot::Batch, rest) {
            0 => {}
            word => answer(word),
        },
        "tail" => shared_page().ring_tail.store(a as u32, Ordering::Release),
        "head" => shared_page().ring_head.store(a as u32, Ordering::Release),
        "entries" => {
            let named = PAGE.set_event_entries(GuestVirt(pv_runtime::entries()));
            println!("{named:?}");
        }
        "fill" => fill(a, b, c as u8),
        // SAFETY: a script stores only where this image has nothing: in the monitor's window.
        "store" => unsafe { ptr::write_volatile(a as *mut u32, b as u32) },
        "load" => {
            // SAFETY: as above; what is read is printed and no more.
            let word = unsafe { ptr::read_volatile(a as *const u32) };
            println!("{word:x}");
        }
        "show" => show(a, b),
        "mark" => {
            drain();
            MARK.store(exits(), Ordering::Relaxed);
        }
        "exits" => {
            let count = exits() - MARK.load(Ordering::Relaxed);
            println!("{count} exits");
        }
        "toggle" => toggle(),
        "boot" => describe(boot),
        "say" => println!("{rest}"),
        "spin" => loop {
            core::hint::spin_loop();
        },
        "repeat" => {
            let (_, statement) = rest.split_once(' ').unwrap_or((rest, ""));
            for _ in 0..a {
                execute(boot, statement);
            }
        }
        _ => println!("no such statement: {statement}"),
    }
}

/// The numbers of a statement, zeros behind the last.
fn numbers(text: &str) -> [u64; 7] {
    let mut numbers = [0; 7];
    let words = text.split(' ').filter(|word| !word.is_empty());
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = u64::from_str_radix(word, 16).unwrap_or(0);
    }
    numbers
}

fn call(slot: Slot, rest: &str) -> u64 {
    let [number, args @ ..] = numbers(rest);
    PAGE.call(slot, number, args)
}

/// As the gate's own call, but not to its start.
fn past_the_start(at: u64, number: u64, a: u64, b: u64) -> u64 {
    let result;
    // SAFETY: whatever the gate's instructions do from there, they keep what a call keeps, or end
    // this guest; nothing but it depends on them.
    unsafe {
        asm!(
            "call {to}",
            to = in(reg) layout::slot_address(Slot::Monitor) + at,
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

fn answer(word: u64) {
    println!("{:x?}", error::decode_result(word));
}

fn exits() -> u64 {
    shared_page().exits.load(Ordering::Relaxed)
}

/// As the kernel does it, in both ways: by the shared word alone, and through the monitor.
fn toggle() {
    let shared = shared_page();
    shared.hold.cli.store(0, Ordering::SeqCst);
    shared.hold.cli.store(1, Ordering::SeqCst);
    if PAGE.unmask() != Ok(0) {
        println!("an interrupt is pending");
    }
    shared.hold.cli.store(1, Ordering::SeqCst);
}

fn memory(at: u64) -> *mut u8 {
    layout::DIRECT_MAP.wrapping_add(at) as *mut u8
}

fn fill(at: u64, len: u64, byte: u8) {
    for offset in 0..len {
        // SAFETY: a script writes only where this image has nothing: above 8 MiB, below the 4 GiB
        // that the boot tables map.
        unsafe { ptr::write_volatile(memory(at + offset), byte) };
    }
}

fn show(at: u64, len: u64) {
    // SAFETY: as in `fill`; nothing writes there while this prints.
    let bytes = unsafe { slice::from_raw_parts(memory(at), len as usize) };
    println!("{}", str::from_utf8(bytes).unwrap_or("(no text)"));
}

fn describe(boot: &BootInfo) {
    println!("{:?}", boot.check());
    for range in boot.memory.iter().take(boot.memory_ranges as usize) {
        println!("memory {:x} {:x}", range.start, range.len);
    }
    println!("initrd {:x} {:x}", boot.initrd.start, boot.initrd.len);
    println!("interactive {}", boot.interactive);
}
