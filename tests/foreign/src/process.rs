//! A process: an address space, a kernel stack with the registers on it, and its time.

use crate::frame::Frame;
use crate::memory::{self, FRAME};
use crate::paging::{ACCESSED, DIRTY, NO_EXECUTE, Space, USER, WRITE};
use crate::programs::{DATA, HEAP, HEAP_SIZE, Program, STACK_TOP, TEXT};

/// How often a process is preempted before its time is up.
const SLICES: u32 = 3;
/// The length of a process's first time slice, in microseconds.
const SLICE_US: u32 = 500;

/// A process that has not ended.
pub struct Process {
    /// Its number: in the order of all programs, whether they run or not.
    pub pid: u64,
    /// What it runs.
    pub program: &'static Program,
    /// Its address space.
    pub space: Space,
    /// The length of a time slice, in microseconds.
    pub slice_us: u32,
    slices: u32,
    slice_start: Frame,
}

/// What a time slice showed.
pub enum Slice {
    /// It has just begun.
    Early,
    /// The process has spun through it, and has some left.
    Full(u32),
    /// That was the last.
    Last,
}

impl Process {
    /// A process at the start of its program.
    pub fn new(pid: u64, program: &'static Program) -> Self {
        let space = Space::new();
        let text = memory::take();
        memory::copy(text, program.code());
        space.map(TEXT, text, USER);
        for page in [DATA, STACK_TOP - FRAME] {
            space.map(page, memory::take(), USER | WRITE | NO_EXECUTE);
        }
        Self {
            pid,
            program,
            space,
            slice_us: SLICE_US,
            slices: 0,
            slice_start: Self::first_frame(),
        }
    }

    /// The registers that a program starts with.
    pub fn first_frame() -> Frame {
        Frame::user(TEXT, STACK_TOP)
    }

    /// A time slice begins with these registers.
    pub fn begin_slice(&mut self, frame: &Frame) {
        self.slice_start = *frame;
    }

    /// A time slice ends with these registers. It counts when it has changed none of them: then the
    /// process is in its endless loop, at one place in every run, and nothing was lost on the way.
    /// On a slow host a slice may be over before an instruction was executed: that does not count,
    /// and the next slice is longer.
    pub fn end_slice(&mut self, frame: &Frame) -> Slice {
        let same = Frame {
            vector: frame.vector,
            error: frame.error,
            ..self.slice_start
        };
        if same != *frame || !self.spins_at(frame.rip) {
            self.slice_us = self.slice_us.saturating_mul(2).min(SLICE_US << 10);
            return Slice::Early;
        }
        self.slices += 1;
        if self.slices == SLICES {
            Slice::Last
        } else {
            Slice::Full(self.slices)
        }
    }

    /// Whether the program's instruction at an address jumps to itself.
    fn spins_at(&self, rip: u64) -> bool {
        const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
        let offset = rip.wrapping_sub(TEXT) as usize;
        let code = self.program.code().get(offset..);
        code.is_some_and(|code| code.starts_with(&JUMP_TO_ITSELF))
    }

    /// Map the page of heap at an address. False if that is not the heap's, or is there already.
    pub fn grow(&self, at: u64) -> bool {
        let is_heap = (HEAP..HEAP + HEAP_SIZE).contains(&at);
        if !is_heap || self.space.user_address(at).is_some() {
            return false;
        }
        let page = at & !(FRAME - 1);
        self.space
            .map(page, memory::take(), USER | WRITE | NO_EXECUTE);
        true
    }

    /// What the processor has noted of the use of the pages: code, data, stack.
    pub fn used(&self) -> [&'static str; 3] {
        [TEXT, DATA, STACK_TOP - FRAME].map(|page| {
            let entry = memory::read(self.space.leaf(page));
            match (entry & ACCESSED != 0, entry & DIRTY != 0) {
                (false, false) => "unused",
                (true, false) => "read",
                (true, true) => "written",
                (false, true) => "dirty only",
            }
        })
    }
}
