//! A host that is not as it should be: what is said, and that nothing hangs.

use std::io;
use std::path::{Path, PathBuf};

use hypervisor::{HostError, Vm};
use tests::{Output, each_mode, kernel, need_kvm, script, tiny};

/// The error of building a machine, with no need for KVM.
#[track_caller]
fn error(config: hypervisor::Config) -> HostError {
    match Vm::new(config, Box::new(io::sink())) {
        Ok(_) => panic!("the virtual machine was built"),
        Err(error) => error,
    }
}

#[test]
fn a_host_without_kvm_is_told_what_to_do() {
    for (node, words) in [
        ("/dev/no-such-kvm", "/dev/no-such-kvm"),
        ("/dev/null", "/dev/null"),
        ("/", "/"),
        ("", "the"),
    ] {
        let mut config = tiny("hello");
        config.kvm_node = PathBuf::from(node);
        let error = error(config);
        assert!(matches!(error, HostError::NoKvm(_)), "{error:?}");
        let sentence = error.to_string();
        assert!(
            sentence.contains(words) && sentence.len() > 20,
            "{sentence}"
        );
    }
}

#[test]
fn a_path_that_no_node_can_have_is_refused() {
    // It has a zero byte.
    let path = Path::new("/dev/k\0vm");
    assert!(matches!(
        hypervisor::vm::open_kvm_at(path),
        Err(HostError::NoKvm(_))
    ));
}

#[test]
fn memory_of_a_senseless_size_is_refused() {
    need_kvm!();
    let mib = 1u64 << 20;
    for bytes in [
        0,
        1,
        4096,
        8 * mib - 4096,
        8 * mib + 1,
        16 * mib + 512,
        (1 << 40) + 4096,
        1 << 63,
        u64::MAX,
        u64::MAX - 4095,
    ] {
        let mut config = tiny("hello");
        config.memory_bytes = bytes;
        let error = error(config);
        assert!(matches!(error, HostError::MemorySize { bytes: said } if said == bytes));
        let sentence = error.to_string();
        assert!(sentence.contains("--mem"), "{sentence}");
        assert!(
            sentence.starts_with(&format!("{bytes} bytes")),
            "{sentence}"
        );
    }
}

/// Takes some bytes, and then the disk is full.
struct Disk {
    room: usize,
}

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        if taken == 0 {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_console_that_cannot_be_written_ends_the_run_with_the_reason() {
    each_mode(|mode| {
        for room in [0, 1, 40] {
            let config = kernel(mode, "echo text; sleep 100000");
            let mut vm = Vm::new(config, Box::new(Disk { room })).expect("it can be built");
            let error = vm
                .run()
                .expect_err("the text cannot be written")
                .to_string();
            let sentence = "cannot write the guest's output: No space left on device";
            assert!(error.starts_with(sentence), "{error}");
        }
    });
}

#[test]
fn a_trace_that_cannot_be_written_is_an_error_of_the_run() {
    need_kvm!();
    let mut vm = Vm::new(
        script("repeat 4000 machine 20; machine 40 3"),
        Box::new(io::sink()),
    )
    .expect("it can be built");
    vm.trace_to(Box::new(Disk { room: 10_000 }));
    let error = vm.run().expect_err("the trace cannot be written");
    assert!(matches!(error, HostError::Trace(_)), "{error}");
}

#[test]
fn a_trace_names_every_call_with_its_arguments_and_its_answer() {
    need_kvm!();
    let trace = Output::default();
    let config = script("batch 21; machine 7777 1 2; machine 31 ffffffff 2; machine 40 3");
    let mut vm = Vm::new(config, Box::new(io::sink())).expect("it can be built");
    vm.trace_to(Box::new(trace.clone()));
    vm.run().expect("it runs");
    let text = trace.text();
    for part in [
        "call null_batch (0x21) [0, 0, 0, 0, 0, 0] = Ok(0)",
        "call unknown (0x7777) [1, 2, 0, 0, 0, 0] = Err(Unknown)",
        "call console_write (0x31) [ffffffff, 2, 0, 0, 0, 0] = Err(BadRange)",
        "call power_off (0x40) [3, 0, 0, 0, 0, 0] = Ok(0)",
        "end PowerOff(3)",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}
