//! Where every event of the processor arrives.

use crate::arch::frame::TrapFrame;

/// Handle an event. Called by an image's entry assembly with interrupts off, on the stack of the
/// interrupted kernel thread; the frame is restored when this returns.
pub fn handle(frame: &mut TrapFrame) {
    let _ = frame;
}
