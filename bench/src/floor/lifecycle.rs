//! The shortest life of a VM: one byte out of port 0xe9, then the end.

use std::io::Write;
use std::time::Instant;

use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuExit;
use serde::{Deserialize, Serialize};

use super::error::FloorError;
use super::vm::{Vm, expect};
use super::{layout, tables};

/// Guest memory, as much as the product's VM has.
const MEMORY_LEN: usize = 16 << 20;
const ROOT: u64 = 0x1000;
const CODE: u64 = 0x4000;
/// `out 0xe9, al; hlt`
const GUEST: [u8; 3] = [0xe6, layout::CONSOLE_PORT as u8, 0xf4];
/// What the guest writes.
pub const BYTE: u8 = b'P';

/// How long each part took, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Opening /dev/kvm, and making VM, memory and vCPU, ready to run.
    pub create_ns: u64,
    /// From the first instruction of all to the byte in the VMM's hands.
    pub first_byte_ns: u64,
    /// The guest's halt, and closing the VM and its memory.
    pub teardown_ns: u64,
    /// CLOCK_MONOTONIC when the byte arrived, so that another process can tell how long this one took.
    pub first_byte_at_ns: u64,
}

/// Creates a VM, takes one byte from it, and closes it. See [`one_byte_into`].
pub fn one_byte() -> Result<Lifecycle, FloorError> {
    one_byte_into(&mut std::io::sink())
}

/// Creates a VM, takes one byte from it, writes that to `out` at once, and closes the VM.
///
/// The only VM of a host takes longer than one beside others, since KVM switches the processors'
/// virtualization on and off for it: compare like with like.
pub fn one_byte_into(out: &mut dyn Write) -> Result<Lifecycle, FloorError> {
    let start = Instant::now();
    let mut vm = create()?;
    let created = start.elapsed();
    let byte = first_byte(&mut vm)?;
    let pass_on = out.write_all(&[byte]).and_then(|()| out.flush());
    pass_on.map_err(|source| FloorError::Output { source })?;
    // In this order: the moment is never before the span's end.
    let first_byte = start.elapsed();
    let first_byte_at_ns = monotonic_ns();
    halt(&mut vm)?;
    drop(vm);
    Ok(Lifecycle {
        create_ns: created.as_nanos() as u64,
        first_byte_ns: first_byte.as_nanos() as u64,
        teardown_ns: (start.elapsed() - first_byte).as_nanos() as u64,
        first_byte_at_ns,
    })
}

/// The clock of [`Lifecycle::first_byte_at_ns`], which all processes of a host share.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a local that outlives the call; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn create() -> Result<Vm, FloorError> {
    let vm = Vm::new(MEMORY_LEN)?;
    tables::write_minimal(&vm.memory, ROOT)?;
    vm.load(CODE, &GUEST)?;
    let regs = kvm_regs {
        rip: CODE,
        rax: BYTE.into(),
        rflags: 2,
        ..Default::default()
    };
    vm.set_registers(&regs, |sregs| tables::minimal_registers(sregs, ROOT))?;
    Ok(vm)
}

fn first_byte(vm: &mut Vm) -> Result<u8, FloorError> {
    match vm.next_exit()? {
        VcpuExit::IoOut(layout::CONSOLE_PORT, &[byte]) => {
            expect("the guest's byte", BYTE.into(), byte.into())?;
            Ok(byte)
        }
        other => Err(FloorError::Stopped {
            how: format!("{other:?}"),
            rip: CODE,
        }),
    }
}

fn halt(vm: &mut Vm) -> Result<(), FloorError> {
    match vm.next_exit()? {
        VcpuExit::Hlt => Ok(()),
        other => Err(FloorError::Stopped {
            how: format!("{other:?}"),
            rip: CODE + 2,
        }),
    }
}
