//! Commands on devices of every class: `lsdev`, `random`.

use hypercall_abi::Vector;

use super::{Command, CommandError};
use crate::dev::{self, Bus, Class, Device, State};
use crate::{irq, print, println};

const RANDOM: &str = "random BYTES, a number up to 65536";

/// The most bytes of `random`.
const RANDOM_MOST: usize = 65536;
/// Bytes that `random` asks for at once: a line.
const LINE: usize = 32;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "lsdev",
        args: "",
        about: "list the devices",
        run: lsdev,
    },
    Command {
        name: "random",
        args: "BYTES",
        about: "print random bytes",
        run: random,
    },
];

fn lsdev(_: &str) -> Result<(), CommandError<'_>> {
    println!("device                       class    bus          driver       vector  about");
    dev::for_each_device(show);
    Ok(())
}

fn show(device: &Device, depth: usize) {
    let (indent, name) = (2 * depth, &device.name);
    let width = 29usize.saturating_sub(indent);
    let (bus, class) = (bus_name(device.bus), class_name(device.class));
    let (driver, about) = (device.driver.unwrap_or("-"), &device.about);
    print!(
        "{:indent$}{name:<width$}{class:<9}{bus:<13}{driver:<13}",
        ""
    );
    match device.vector.and_then(Vector::new) {
        Some(vector) => {
            let (top, bottom) = (irq::count(vector), irq::bottoms(vector));
            println!(
                "{:<8}{top} interrupts, {bottom} bottom halves",
                vector.number()
            );
        }
        None => println!("{:8}{about}", ""),
    }
    let deeper = indent + 2;
    if !device.features.is_empty() {
        print!("{:deeper$}features", "");
        device.features.iter().for_each(|name| print!(" {name}"));
        println!();
    }
    if let State::Failed(error) = &device.state {
        println!("{:deeper$}failed: {error}", "");
    }
}

fn bus_name(bus: Bus) -> &'static str {
    match bus {
        Bus::Platform => "platform",
        Bus::VirtioMmio => "virtio-mmio",
        Bus::Isa => "isa",
        Bus::Ata => "ata",
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Bus => "bus",
        Class::Console => "console",
        Class::Timer => "timer",
        Class::Interrupts => "irq",
        Class::Power => "power",
        Class::Block => "block",
        Class::Net => "net",
        Class::Memory => "memory",
        Class::Random => "random",
    }
}

fn random(args: &str) -> Result<(), CommandError<'_>> {
    let count = args.parse().ok();
    let count = count.filter(|count| (1..=RANDOM_MOST).contains(count));
    let mut left = count.ok_or(CommandError::Usage(RANDOM))?;
    let source = dev::random().ok_or(CommandError::NoDevice)?;
    let mut bytes = [0; LINE];
    while left > 0 {
        let count = left.min(LINE);
        let line = bytes.get_mut(..count).unwrap_or_default();
        source.fill(line).map_err(CommandError::Random)?;
        line.iter().for_each(|byte| print!("{byte:02x}"));
        println!();
        left -= count;
    }
    Ok(())
}
