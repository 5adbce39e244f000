//! Commands that tell: `help`, `mem`, `threads`, `uptime`.

use hypercall_abi::{Vector, layout};

use super::lookup::all;
use super::{Command, CommandError};
use crate::time::{MILLISECOND, SECOND};
use crate::{irq, mm, println, sched, time, trap};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        args: "",
        about: "list the commands",
        run: help,
    },
    Command {
        name: "mem",
        args: "",
        about: "show the use of memory",
        run: mem,
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

fn mem(_: &str) -> Result<(), CommandError<'_>> {
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
