//! Commands by name, family by family.

use super::{
    CommandError, basic, board, device, disk, fault, hvc, info, net, rate, reach, selftest, stream,
    vsock,
};

/// A command of the shell.
pub struct Command {
    /// How it is called.
    pub name: &'static str,
    /// What may follow, for people.
    pub args: &'static str,
    /// What it does, for people.
    pub about: &'static str,
    /// Do it.
    pub run: fn(args: &str) -> Result<(), CommandError<'_>>,
}

/// The families of commands, in the order that `help` lists them.
const FAMILIES: [&[Command]; 13] = [
    info::COMMANDS,
    basic::COMMANDS,
    device::COMMANDS,
    board::COMMANDS,
    disk::COMMANDS,
    hvc::COMMANDS,
    net::COMMANDS,
    reach::COMMANDS,
    stream::COMMANDS,
    vsock::COMMANDS,
    rate::COMMANDS,
    fault::COMMANDS,
    selftest::COMMANDS,
];

/// Every command.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.into_iter().flatten()
}

/// The command of a name.
pub fn find(name: &str) -> Option<&'static Command> {
    all().find(|command| command.name == name)
}
