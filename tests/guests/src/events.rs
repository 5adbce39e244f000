//! Where events arrive: each behaviour may set a handler.

use core::sync::atomic::{AtomicUsize, Ordering};

use pv_runtime::TrapFrame;

use crate::println;

/// A handler of events.
pub type Handler = fn(&mut TrapFrame);

static HANDLER: AtomicUsize = AtomicUsize::new(0);

/// Have every event call this.
pub fn on_event(handler: Handler) {
    HANDLER.store(handler as usize, Ordering::Relaxed);
}

// SAFETY (unsafe attribute): pv-runtime declares the symbol; this image defines it once.
#[unsafe(no_mangle)]
extern "C" fn paravane_event(frame: &mut TrapFrame) {
    match HANDLER.load(Ordering::Relaxed) {
        0 => {
            println!(
                "unexpected event {} at {:#x}, error {:#x}",
                frame.vector, frame.rip, frame.error
            );
            crate::exit(crate::UNEXPECTED_EVENT)
        }
        handler => {
            // SAFETY: `on_event` stored a `Handler`, and nothing else writes the word.
            let handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
            handler(frame);
        }
    }
}
