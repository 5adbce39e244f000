//! A thread's processor context: where its stack pointer is while it does not run.
//!
//! Whether a context may be resumed is checked, not believed: its word says whether it is empty,
//! running or suspended, and only a suspended one carries a stack pointer. With one processor and
//! interrupts off, that makes these functions safe to call in any order.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::switch::{SAVED_WORDS, switch};
use crate::hooks;
use crate::sync::SpinLock;

/// No thread has this context.
const EMPTY: u64 = 0;
/// The thread runs; its registers are in the processor.
const RUNNING: u64 = 1;

/// Memory that a thread's stack is in.
///
/// # Safety
/// The range is mapped, writable, 16-byte aligned, larger than a page, and this value's alone
/// until it is dropped.
pub unsafe trait StackMemory {
    /// The addresses of the stack.
    fn range(&self) -> Range<u64>;
}

// SAFETY: a `Stack` owns its slot, whose pages it mapped.
unsafe impl StackMemory for crate::mm::stacks::Stack {
    fn range(&self) -> Range<u64> {
        self.range()
    }
}

/// A place for a context, and the stack it runs on.
pub struct Context<S> {
    /// [`EMPTY`], [`RUNNING`], or a suspended context's stack pointer.
    state: AtomicU64,
    stack: SpinLock<Option<S>>,
}

impl<S: StackMemory> Context<S> {
    /// A place that no thread has.
    pub const fn new() -> Self {
        Self::in_state(EMPTY)
    }

    /// The context of the code that runs now, on a stack that is nobody's.
    pub const fn running() -> Self {
        Self::in_state(RUNNING)
    }

    const fn in_state(state: u64) -> Self {
        Self {
            state: AtomicU64::new(state),
            stack: SpinLock::new(None),
        }
    }

    /// Let a new thread begin here: when it is switched to, `entry` runs on `stack`, with
    /// interrupts off.
    ///
    /// # Panics
    /// When the place is not empty.
    pub fn adopt(&self, stack: S, entry: extern "sysv64" fn() -> !) {
        assert_eq!(self.state.load(Ordering::Relaxed), EMPTY, "context in use");
        let sp = prepare(&stack, entry);
        *self.stack.lock() = Some(stack);
        self.state.store(sp, Ordering::Relaxed);
    }

    /// Suspend this context, which runs, and resume another one. Returns when this one is resumed.
    ///
    /// # Panics
    /// When interrupts are on, when this context does not run, or the other is not suspended.
    pub fn switch_to(&self, next: &Self) {
        assert!(!hooks::irq_is_enabled(), "switch with interrupts on");
        assert_eq!(self.state.load(Ordering::Relaxed), RUNNING, "not running");
        let sp = next.state.load(Ordering::Relaxed);
        assert!(sp > RUNNING, "switch to a context that is not suspended");
        next.state.store(RUNNING, Ordering::Relaxed);
        // SAFETY: `sp` is what `switch` or `prepare` left for a suspended context, whose stack
        // nothing used since; it counts as running from now on, so it is loaded once. Interrupts
        // are off, so nothing comes between. `state` is a plain word in memory that stays.
        unsafe { switch(self.state.as_ptr(), sp) }
    }

    /// Empty the place of a suspended context that will not be resumed, and return its stack.
    ///
    /// # Panics
    /// When the context runs.
    pub fn dismiss(&self) -> Option<S> {
        let state = self.state.load(Ordering::Relaxed);
        assert_ne!(state, RUNNING, "a running context has no end");
        self.state.store(EMPTY, Ordering::Relaxed);
        self.stack.lock().take()
    }
}

impl<S: StackMemory> Default for Context<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Write what `switch` pops for a context that was never suspended, and return its stack pointer.
fn prepare(stack: &impl StackMemory, entry: extern "sysv64" fn() -> !) -> u64 {
    // From below: r15 r14 r13 r12 rbx rbp, the return address, and a return address for `entry`
    // that ends backtraces and leaves the stack as a call would: rsp + 8 a multiple of 16.
    let mut words = [0; SAVED_WORDS + 1];
    words[SAVED_WORDS - 1] = entry as usize as u64;
    let at = stack.range().end - size_of_val(&words) as u64;
    // SAFETY: the implementor of `StackMemory` vouches for the memory, which is larger than this,
    // and nothing runs on it yet.
    unsafe { (at as *mut [u64; SAVED_WORDS + 1]).write(words) };
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::sync::atomic::AtomicUsize;

    #[repr(align(16))]
    struct Memory([u8; 64 * 1024]);

    struct HostStack(Box<Memory>);

    // SAFETY: the box owns its memory.
    unsafe impl StackMemory for HostStack {
        fn range(&self) -> Range<u64> {
            let start = &raw const *self.0 as u64;
            start..start + self.0.0.len() as u64
        }
    }

    static MAIN: Context<HostStack> = Context::running();
    static OTHER: Context<HostStack> = Context::new();
    static STEPS: AtomicUsize = AtomicUsize::new(0);

    extern "sysv64" fn other() -> ! {
        // An aligned stack slot shows whether the stack was entered as by a call.
        let aligned = std::hint::black_box(0u128);
        assert_eq!((&raw const aligned as usize) % 16, 0);
        loop {
            STEPS.fetch_add(1, Ordering::Relaxed);
            OTHER.switch_to(&MAIN);
        }
    }

    #[test]
    fn two_contexts_take_turns_on_their_own_stacks() {
        OTHER.adopt(HostStack(Box::new(Memory([0; 64 * 1024]))), other);
        for turn in 1..=1000 {
            MAIN.switch_to(&OTHER);
            assert_eq!(STEPS.load(Ordering::Relaxed), turn);
        }
        assert!(OTHER.dismiss().is_some());
        assert!(OTHER.dismiss().is_none());
    }

    #[test]
    #[should_panic(expected = "not suspended")]
    fn an_empty_context_is_not_resumed() {
        let (here, there) = (Context::<HostStack>::running(), Context::new());
        here.switch_to(&there);
    }

    #[test]
    #[should_panic(expected = "interrupts on")]
    fn a_switch_needs_interrupts_off() {
        hooks::irq_enable();
        Context::<HostStack>::running().switch_to(&Context::new());
    }
}
