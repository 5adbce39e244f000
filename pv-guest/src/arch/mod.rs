//! What depends on the processor but needs no privilege: frames, the switch between stacks, the
//! chain of frame pointers, function names, device registers, and instructions that fault on purpose.

pub mod backtrace;
pub mod context;
pub mod frame;
pub mod mmio;
pub mod raise;
mod switch;
pub mod symbols;

pub use backtrace::{backtrace, frame_pointer};
pub use switch::on_report_stack;
pub use symbols::Place;
