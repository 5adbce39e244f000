//! The verbs on the host, for tests: plain state, one for each test's thread, and a record.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::vec::Vec;

use super::prelude::*;
use super::{BootInfo, Hooks, SharedPage};

/// What a test can see of the verbs that were called, and set for those that will be.
#[derive(Default)]
struct State {
    enabled: Cell<bool>,
    ended: Cell<u64>,
    ticks: Cell<u64>,
    armed: RefCell<Vec<u32>>,
    invalidated: RefCell<Vec<u64>>,
    output: RefCell<Vec<u8>>,
    input: RefCell<Vec<u8>>,
}

std::thread_local! {
    static STATE: State = State::default();
    static SHARED: &'static SharedPage = Box::leak(Box::default());
}

/// How many interrupts were ended.
pub fn ended() -> u64 {
    STATE.with(|s| s.ended.get())
}

/// Set the time-stamp counter.
pub fn set_ticks(ticks: u64) {
    STATE.with(|s| s.ticks.set(ticks));
}

/// The arguments of `arm_timer` so far.
pub fn armed() -> Vec<u32> {
    STATE.with(|s| s.armed.borrow().clone())
}

/// What was written to the console so far.
pub fn output() -> Vec<u8> {
    STATE.with(|s| s.output.borrow().clone())
}

/// Type on the console.
pub fn type_in(text: &[u8]) {
    STATE.with(|s| s.input.borrow_mut().extend_from_slice(text));
}

struct Fake;

impl Hooks for Fake {
    fn init(_: &'static BootInfo) {}
    fn power_off(status: u8) -> ! {
        panic!("power off with status {status}")
    }
    fn irq_enable() {
        STATE.with(|s| s.enabled.set(true));
    }
    fn irq_disable() {
        STATE.with(|s| s.enabled.set(false));
    }
    fn irq_is_enabled() -> bool {
        STATE.with(|s| s.enabled.get())
    }
    fn idle() {
        panic!("nothing can end a test's sleep")
    }
    fn end_of_interrupt() {
        STATE.with(|s| s.ended.set(s.ended.get() + 1));
    }
    fn load_root(_: u64) {}
    fn invalidate_page(at: u64) {
        STATE.with(|s| s.invalidated.borrow_mut().push(at));
    }
    fn fault_address() -> u64 {
        0
    }
    fn kernel_pages_are_user() -> bool {
        true
    }
    fn monitor_directory() -> Option<u64> {
        None
    }
    fn arm_timer(delta_ns: u32) {
        STATE.with(|s| s.armed.borrow_mut().push(delta_ns));
    }
    fn ticks() -> u64 {
        STATE.with(|s| s.ticks.get())
    }
    fn console_write(text: &[u8]) {
        STATE.with(|s| s.output.borrow_mut().extend_from_slice(text));
    }
    fn console_flush() {}
    fn console_read(into: &mut [u8]) -> usize {
        STATE.with(|s| {
            let mut input = s.input.borrow_mut();
            let count = input.len().min(into.len());
            for (to, from) in into.iter_mut().zip(input.drain(..count)) {
                *to = from;
            }
            count
        })
    }
    fn port_read(_: u16) -> u8 {
        0xff
    }
    fn port_write(_: u16, _: u8) {}
    fn port_read_words(_: u16, into: &mut [u16]) {
        into.fill(0xffff);
    }
    fn port_write_words(_: u16, _: &[u16]) {}
    fn shared() -> &'static SharedPage {
        SHARED.with(|page| *page)
    }
    fn image_name() -> &'static str {
        "fake"
    }
    fn null_call(_: NullCall) -> bool {
        false
    }
    fn privileged_operand(_: Privileged) -> Option<u64> {
        None
    }
    fn privileged(_: Privileged, _: u64, _: u64) {}
}

implement_hooks!(Fake);
