//! What depends on the processor but needs no privilege: frames and the switch between stacks.

pub mod frame;
