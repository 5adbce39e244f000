//! `net`: interfaces, and their addresses.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use hypercall_abi::Vector;
use netstack::{Address, NetFail, Stack};

use super::{Command, CommandError};
use crate::net::{self, Deadline, Link, Mac};
use crate::text::words;
use crate::time::SECOND;
use crate::{irq, print, println};

const USAGE: &str =
    "net [[NAME] dhcp | [NAME] static ADDRESS/BITS [gw ADDRESS] | [NAME] poll MICROSECONDS]";

/// How long an answer of DHCP may take, in nanoseconds.
const PATIENCE: u64 = 15 * SECOND;

pub const COMMANDS: &[Command] = &[Command {
    name: "net",
    args: "[NAME] [dhcp | static ADDRESS/BITS [gw ADDRESS] | poll MICROSECONDS]",
    about: "list network interfaces, give one an address, or poll it so long after news",
    run: command,
}];

/// What an interface is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Have an address lent.
    Dhcp,
    /// Have this one.
    Static(Ipv4Addr, u8, Option<Ipv4Addr>),
    /// Be polled so many microseconds after the last news.
    Poll(u32),
}

fn command(args: &str) -> Result<(), CommandError<'_>> {
    let words: Vec<&str> = words(args).collect();
    if words.is_empty() {
        net::links().iter().for_each(|link| show(link));
        return Ok(());
    }
    let (name, rest) = match words.split_first() {
        Some((name, rest)) if name.starts_with("eth") => (Some(*name), rest),
        _ => (None, &words[..]),
    };
    let task = parse(rest).ok_or(CommandError::Usage(USAGE))?;
    let mut links = net::links().into_iter();
    let link = links.find(|link| name.is_none_or(|name| link.name == name));
    let link = link.ok_or(CommandError::NoDevice)?;
    let address = match task {
        Task::Poll(us) => {
            link.set_busy_poll_ns(u64::from(us) * 1000);
            return Ok(());
        }
        Task::Static(ip, prefix, gateway) => {
            configure(&link, |stack| stack.set_static(ip, prefix, gateway))?
        }
        Task::Dhcp => configure(&link, |stack| {
            stack.start_dhcp();
            Ok(())
        })?,
    };
    println!("{}  {address}", link.name);
    Ok(())
}

fn parse(words: &[&str]) -> Option<Task> {
    let (address, gateway) = match *words {
        ["dhcp"] => return Some(Task::Dhcp),
        ["poll", us] => return us.parse().ok().filter(|_| is_number(us)).map(Task::Poll),
        ["static", address] => (address, None),
        ["static", address, "gw", gateway] => (address, Some(gateway.parse().ok()?)),
        _ => return None,
    };
    let (ip, bits) = address.split_once('/')?;
    let bits = bits.parse().ok().filter(|_| is_number(bits))?;
    Some(Task::Static(ip.parse().ok()?, bits, gateway))
}

/// Whether a word has digits alone: `parse` takes a sign as well.
fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Configure, and wait for the address.
fn configure(
    link: &Arc<Link>,
    work: impl FnOnce(&mut Stack) -> Result<(), NetFail>,
) -> Result<Address, NetFail> {
    link.configure(work)?;
    link.until(Deadline::after(PATIENCE), |stack| stack.address())
}

fn show(link: &Link) {
    let info = link.device().info();
    let state = if info.is_up { "up" } else { "down" };
    print!(
        "{}  {}  mtu {}  {state}  ",
        link.name,
        Mac(info.mac),
        info.mtu
    );
    match link.address() {
        Some(address) => println!("{address}"),
        None if link.has_dhcp() => println!("asks for an address by dhcp"),
        None => println!("no address"),
    }
    let (counts, port) = (link.device().counts(), link.port_counts());
    let interrupts = Vector::new(link.vector).map_or(0, irq::count);
    println!(
        "      sent {} frames, {} bytes; received {} frames, {} bytes",
        counts.sent, counts.sent_bytes, counts.received, counts.received_bytes
    );
    println!(
        "      {} dropped, {} damaged, {} bad checksums, {} refused; {interrupts} interrupts; polled {} us after news",
        counts.dropped,
        counts.errors,
        port.bad_checksums,
        port.refused,
        link.busy_poll_ns() / 1000
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_with_its_network_and_its_gateway() {
        let words: Vec<&str> = words("static 10.0.2.15/24 gw 10.0.2.2").collect();
        let (ip, gateway) = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        assert_eq!(parse(&words), Some(Task::Static(ip, 24, Some(gateway))));
        assert_eq!(parse(&words[..2]), Some(Task::Static(ip, 24, None)));
        assert_eq!(parse(&["dhcp"]), Some(Task::Dhcp));
        assert_eq!(parse(&["static", "10.0.2.15/+24"]), None);
    }

    #[test]
    fn the_time_of_polling_is_a_number() {
        assert_eq!(parse(&["poll", "50"]), Some(Task::Poll(50)));
        for word in ["", "-1", "+1", "50us", "4294967296"] {
            assert_eq!(parse(&["poll", word]), None, "{word}");
        }
    }
}
