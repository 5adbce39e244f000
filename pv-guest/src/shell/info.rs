//! Commands that tell: `help`, `mem`, `threads`, `uptime`.

use alloc::vec::Vec;

use driver_api::{Dma, Env};
use hypercall_abi::types::PAGE_SIZE;
use hypercall_abi::{Vector, layout};

use super::lookup::all;
use super::reach::number;
use super::{Command, CommandError};
use crate::dev::{self, KernelEnv};
use crate::time::{MILLISECOND, SECOND};
use crate::{irq, mm, println, sched, time, trap};

const BALLOON: &str = "balloon [PAGES]";
/// How long `balloon` waits, in nanoseconds.
const BALLOON_PATIENCE: u64 = 15 * SECOND;
const MEM: &str = "mem [use KIB]";

pub const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        args: "",
        about: "list the commands",
        run: help,
    },
    Command {
        name: "mem",
        args: "[use KIB]",
        about: "show the use of memory; or use so much, and give it back",
        run: mem,
    },
    Command {
        name: "balloon",
        args: "[PAGES]",
        about: "show how much memory the host has got; or wait until it is so much",
        run: balloon,
    },
    Command {
        name: "threads",
        args: "",
        about: "list the threads",
        run: threads,
    },
    Command {
        name: "uptime",
        args: "",
        about: "show the time since the start, and the interrupts",
        run: uptime,
    },
];

fn help(_: &str) -> Result<(), CommandError<'_>> {
    for Command {
        name, args, about, ..
    } in all()
    {
        println!("{name:<9} {args:<34} {about}");
    }
    println!("A semicolon separates commands; quotes keep words together.");
    Ok(())
}

fn balloon(args: &str) -> Result<(), CommandError<'_>> {
    let awaited = match args {
        "" => None,
        pages => Some(pages.parse().map_err(|_| CommandError::Usage(BALLOON))?),
    };
    let filling = || dev::balloon::filling().ok_or(CommandError::NoDevice);
    let end = time::now_ns().saturating_add(BALLOON_PATIENCE);
    while let Some(pages) = awaited
        && filling()?.held != pages
    {
        if time::now_ns() > end {
            return Err(CommandError::TimedOut);
        }
        sched::sleep_ns(5 * MILLISECOND);
    }
    let filling = filling()?;
    println!(
        "{} pages wanted, {} given; {} taken back in need, {} reported",
        filling.wanted, filling.held, filling.relieved, filling.reported
    );
    Ok(())
}

/// Write to so much memory, by pieces of a frame, and give all of it back.
fn use_memory(kib: u64) -> Result<(), CommandError<'static>> {
    let (mut frames, mut missing) = (Vec::new(), 0);
    for _ in 0..kib.div_ceil(4) {
        match KernelEnv.dma(PAGE_SIZE as usize) {
            Ok(frame) if frames.try_reserve(1).is_ok() => frames.push(frame),
            _ => missing += 1,
        }
    }
    for (number, frame) in (0u64..).zip(&frames) {
        frame.write(0, &number.to_le_bytes());
    }
    // What was written is still there: no frame is anybody else's.
    for (number, frame) in (0u64..).zip(&frames) {
        let mut bytes = [0; 8];
        frame.read(0, &mut bytes);
        if u64::from_le_bytes(bytes) != number {
            return Err(CommandError::Differs);
        }
    }
    println!("used {} KiB", 4 * frames.len());
    if missing > 0 {
        return Err(CommandError::NoMemory);
    }
    Ok(())
}

fn mem(args: &str) -> Result<(), CommandError<'_>> {
    if let Some(("use", kib)) = args.split_once(' ') {
        return use_memory(number(kib).ok_or(CommandError::Usage(MEM))?);
    }
    if !args.is_empty() {
        return Err(CommandError::Usage(MEM));
    }
    let kib = |bytes: u64| bytes / 1024;
    let frames = mm::frames::counts();
    let (heap, image) = (mm::heap_use(), mm::image().phys());
    let used = frames.total - frames.free;
    println!("memory  {:>8} KiB", frames.total * 4);
    println!("  free  {:>8} KiB", frames.free * 4);
    println!("  used  {:>8} KiB", used * 4);
    println!("heap    {:>8} KiB", kib(heap.claimed));
    println!("  used  {:>8} bytes", heap.used);
    println!("image   {:>8} KiB", kib(image.end - image.start));
    Ok(())
}

fn threads(_: &str) -> Result<(), CommandError<'_>> {
    println!("number  state     runs        name");
    sched::for_each_thread(|thread| {
        let (state, name) = (thread.state.name(), thread.name);
        println!("{:<7} {state:<9} {:<11} {name}", thread.number, thread.runs);
    });
    Ok(())
}

fn uptime(_: &str) -> Result<(), CommandError<'_>> {
    let now = time::now_ns();
    let (s, ms) = (now / SECOND, now % SECOND / MILLISECOND);
    let count = |number| Vector::new(number).map_or(0, irq::count);
    let timer = count(layout::TIMER_VECTOR);
    let console = count(layout::CONSOLE_VECTOR);
    println!("{s}.{ms:03} s; interrupts: {timer} timer, {console} console");
    let (stray, passed) = (irq::unhandled(), trap::breakpoints());
    if stray + passed > 0 {
        println!("{stray} unhandled interrupts, {passed} breakpoints");
    }
    Ok(())
}
