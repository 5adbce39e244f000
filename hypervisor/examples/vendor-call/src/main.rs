//! Boots a guest of a few lines and serves a call that Paravane does not know.

use std::io::stdout;
use std::process::ExitCode;

use hypercall_abi::{CallError, Mode};
use hypervisor::{Config, End, HostError, Vm};
use vendor_call_guest::greeter;

static GUEST: &[u8] = include_bytes!(env!("VENDOR_CALL_GUEST"));

fn run() -> Result<End, HostError> {
    let mut vm = Vm::new(
        Config::new(Mode::Pv, GUEST, "the example's guest"),
        Box::new(stdout()),
    )?;
    let mut greeted = 0;
    vm.vendors()
        .on(greeter::calls::greet, move |memory, (name, len)| {
            // Guest memory is read by copying, once; a bad pointer is the guest's error, not ours.
            let mut copy = vec![0; usize::from(len)];
            memory.read(name.0, &mut copy)?;
            let name = String::from_utf8(copy).map_err(|_| CallError::BadArgument)?;
            greeted += 1;
            println!("host: hello, {name}");
            Ok(greeted)
        })?;
    Ok(vm.run()?.end)
}

fn main() -> ExitCode {
    match run() {
        Ok(End::PowerOff(status)) => ExitCode::from(status),
        Ok(other) => {
            eprintln!("the guest did not power off: {other:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
