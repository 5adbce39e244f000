//! The `paravane` command.
fn main() {}
