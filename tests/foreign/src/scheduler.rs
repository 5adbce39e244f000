//! Which process runs: in turn, each until its next event. And what becomes of a process by an event.
//!
//! The kernel has no thread of its own: an event's handler returns the frame to go on with. Only a
//! process that never makes a call has the timer armed, so the order of all events is the same in
//! every run.

use core::fmt;

use crate::cell::OneCpu;
use crate::frame::Frame;
use crate::process::{Process, Slice};
use crate::programs::{self, End, STACK_TOP, TEXT};
use crate::trap::{self, FIRST_INTERRUPT, INT_80, PAGE_FAULT, SYSCALL};
use crate::{Skipped, apic, checks, paging, println, segments, syscall, x86};

/// The most processes of a wave.
pub const SLOTS: usize = 20;

/// All processes, and which one runs.
struct Table {
    slots: [Option<Process>; SLOTS],
    current: usize,
    wave: usize,
    next_pid: u64,
    skipped: Skipped,
}

static TABLE: OneCpu<Table> = OneCpu::new(Table {
    slots: [const { None }; SLOTS],
    current: 0,
    wave: 0,
    next_pid: 1,
    skipped: Skipped(""),
});

/// What an event leads to.
enum Next {
    /// The same process goes on.
    Resume,
    /// It is another's turn.
    Rotate,
    /// The process is over.
    Over(End),
}

/// Run all programs, and switch the machine off.
pub fn run(skipped: Skipped) -> ! {
    TABLE.with(|table| table.skipped = skipped);
    trap::resume(dispatch())
}

/// An event of the running process. True when it is the turn of another: see [`dispatch`].
pub fn event(frame: &mut Frame) -> bool {
    TABLE.with(|table| table.event(frame))
}

/// Switch to the process whose turn it is. Returns the frame to go on with.
pub fn dispatch() -> *const Frame {
    TABLE.with(Table::dispatch)
}

/// Print what happened to a process, and the registers that the processor saved.
pub fn print_event(process: &Process, frame: &Frame, what: fmt::Arguments<'_>) {
    println!(
        "{} {what} rip +{:#x} cs {:#x} flags {:#x} rsp -{:#x} ss {:#x}",
        process.program.name,
        frame.rip.wrapping_sub(TEXT),
        frame.cs,
        frame.shown_flags(),
        STACK_TOP.wrapping_sub(frame.rsp),
        frame.ss
    );
}

impl Table {
    fn event(&mut self, frame: &mut Frame) -> bool {
        let Some(process) = self.slots.get_mut(self.current).and_then(Option::as_mut) else {
            panic!("event {} of no process", frame.vector);
        };
        match next(process, frame) {
            Next::Resume => false,
            Next::Rotate => true,
            Next::Over(end) => {
                self.remove(end);
                true
            }
        }
    }

    /// End the running process.
    fn remove(&mut self, end: End) {
        let Some(process) = self.slots.get_mut(self.current).and_then(Option::take) else {
            return;
        };
        let name = process.program.name;
        let [text, data, stack] = process.used();
        println!(
            "{name} pid {} pages: code {text}, data {data}, stack {stack}",
            process.pid
        );
        match end {
            End::Exit(status) => println!("{name} exited with {status}"),
            End::Killed { vector, error } => {
                println!("{name} was killed by vector {vector} error {error:#x}");
            }
            End::TimeUp => println!("{name} was killed: its time is up"),
        }
        if end != process.program.end {
            checks::fail(name, "end", format_args!("{:x?}", process.program.end));
        }
        paging::kernel().load();
        process.space.give();
    }

    /// Switch to the next process, whose frame is returned. Without one, start the next wave.
    fn dispatch(&mut self) -> *const Frame {
        loop {
            for step in 1..=SLOTS {
                let slot = (self.current + step) % SLOTS;
                if let Some(process) = self.slots.get_mut(slot).and_then(Option::as_mut) {
                    self.current = slot;
                    return enter(process, slot);
                }
            }
            self.start_wave();
        }
    }

    fn start_wave(&mut self) {
        let Some(wave) = programs::WAVES.get(self.wave) else {
            crate::finish();
        };
        self.wave += 1;
        self.current = SLOTS - 1;
        assert!(wave.len() <= SLOTS);
        for (slot, program) in self.slots.iter_mut().zip(wave.iter()) {
            let pid = self.next_pid;
            self.next_pid += 1;
            *slot = (!self.skipped.has(program.name)).then(|| Process::new(pid, program));
        }
        for (slot, process) in self.slots.iter().enumerate() {
            if process.is_some() {
                *trap::frame_of(slot) = Process::first_frame();
            }
        }
    }
}

/// Switch to a process.
fn enter(process: &mut Process, slot: usize) -> *const Frame {
    let frame = trap::frame_of(slot);
    segments::set_kernel_stack(&raw const *frame as u64 + size_of::<Frame>() as u64);
    process.space.load();
    x86::set_msr(x86::FS_BASE, programs::DATA);
    start_slice(process, frame);
    frame
}

fn start_slice(process: &mut Process, frame: &Frame) {
    if process.program.end == End::TimeUp {
        process.begin_slice(frame);
        apic::arm_timer_us(process.slice_us);
    }
}

/// What an event means to its process.
fn next(process: &mut Process, frame: &mut Frame) -> Next {
    match frame.vector {
        SYSCALL | INT_80 => syscall::serve(process, frame).map_or(Next::Rotate, Next::Over),
        vector if vector == u64::from(apic::TIMER) => tick(process, frame),
        PAGE_FAULT if process.grow(x86::cr2()) => {
            let at = x86::cr2();
            let error = frame.error;
            print_event(
                process,
                frame,
                format_args!("gets a page at {at:#x} error {error:#x}"),
            );
            Next::Resume
        }
        vector if vector < FIRST_INTERRUPT => exception(process, frame),
        vector => panic!("interrupt {vector} that nobody asked for"),
    }
}

fn exception(process: &Process, frame: &Frame) -> Next {
    let Frame { vector, error, .. } = *frame;
    print_event(
        process,
        frame,
        format_args!("vector {vector} error {error:#x}"),
    );
    if vector == PAGE_FAULT {
        println!("{} address {:#x}", process.program.name, x86::cr2());
    }
    Next::Over(End::Killed { vector, error })
}

fn tick(process: &mut Process, frame: &Frame) -> Next {
    apic::end_of_interrupt();
    match process.end_slice(frame) {
        Slice::Early => {
            start_slice(process, frame);
            Next::Resume
        }
        Slice::Full(count) => {
            let sum = frame.sum();
            print_event(
                process,
                frame,
                format_args!("is preempted, {count}, registers {sum:#x}"),
            );
            Next::Rotate
        }
        Slice::Last => Next::Over(End::TimeUp),
    }
}
