//! Runs a guest that does nothing but leave: long mode, CPL 0, a row of `out` and a `hlt`.
//!
//! Its cost is the floor under every tier-2 call. It needs no interrupts, no device and no image.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use serde::Serialize;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::errno;

use crate::stop::{Stop, StopReason};

/// Exits that are counted, and those before them that only warm up.
const SAMPLES: usize = 200;
const WARM_UP: usize = 24;

// The guest's 2 MiB: three page tables, then its code.
const MEMORY_BYTES: usize = 2 << 20;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const CODE: u64 = 0x4000;

/// The diagnostic port: nothing of ours lives there.
const PORT: u8 = 0x80;
/// `out PORT, al`.
const OUT: [u8; 2] = [0xe6, PORT];
const HLT: u8 = 0xf4;

/// How long all of it may take: ten thousand times as long as it takes.
const LIMIT: Duration = Duration::from_secs(10);

/// How often a run that a signal interrupted is tried again.
const RETRIES: usize = 1000;

/// What one exit to the VMM and back cost, registers untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BareExit {
    /// The cheapest.
    pub min_ns: u64,
    /// The middle one.
    pub median_ns: u64,
    /// Nine in ten cost no more.
    pub p90_ns: u64,
    /// How many were measured.
    pub samples: usize,
}

/// Why no exit was seen.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExitError {
    #[error("creating a {thing}: {source}")]
    Create {
        thing: &'static str,
        source: io::Error,
    },
    #[error("guest memory: {0}")]
    Memory(String),
    #[error("{step}: {source}")]
    Setup {
        step: &'static str,
        source: errno::Error,
    },
    #[error("the guest ended in {0}")]
    Ran(String),
    #[error("the guest did not leave within {0:?}")]
    Hung(Duration),
}

/// Fields drop in this order: what uses the memory goes before the memory.
struct Guest {
    vcpu: VcpuFd,
    stop: Stop,
    _vm: VmFd,
    _memory: GuestMemoryMmap,
}

/// The cost of a bare exit, and the TSC frequency in kHz that KVM reports for the vCPU.
pub(super) fn measure(kvm: &Kvm) -> Result<(BareExit, Option<u32>), ExitError> {
    let mut code = OUT.repeat(WARM_UP + SAMPLES);
    code.push(HLT);
    measure_guest(kvm, &code, LIMIT)
}

/// The same with other code, which should leave as often, within a limit.
pub(super) fn measure_guest(
    kvm: &Kvm,
    code: &[u8],
    limit: Duration,
) -> Result<(BareExit, Option<u32>), ExitError> {
    let mut guest = Guest::new(kvm, code)?;
    let stop = guest.stop.clone();
    let _running = stop.running();
    let _bound = bound(&stop, limit);
    guest.measure().map_err(|error| match stop.reason() {
        Some(_) => ExitError::Hung(limit),
        None => error,
    })
}

/// Stops the guest unless the result is dropped within `limit`: KVM may be broken so that it never leaves.
/// Without a thread to be had there is no bound; a guest on a KVM that works needs none.
fn bound(stop: &Stop, limit: Duration) -> Sender<()> {
    let (bound, dropped) = mpsc::channel();
    let stop = stop.clone();
    let watch = move || {
        if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            stop.stop(StopReason::Timeout);
        }
    };
    let _ = thread::Builder::new()
        .name("doctor-watch".into())
        .spawn(watch);
    bound
}

/// `costs_ns` holds at least one.
fn summary(mut costs_ns: Vec<u64>) -> BareExit {
    costs_ns.sort_unstable();
    let at = |percent: usize| costs_ns[(costs_ns.len() - 1) * percent / 100];
    BareExit {
        min_ns: at(0),
        median_ns: at(50),
        p90_ns: at(90),
        samples: costs_ns.len(),
    }
}

impl Guest {
    fn measure(&mut self) -> Result<(BareExit, Option<u32>), ExitError> {
        for _ in 0..WARM_UP {
            self.leave_by_out()?;
        }
        let mut costs_ns = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let start = Instant::now();
            self.leave_by_out()?;
            costs_ns.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        match self.run()? {
            Left::Halted => Ok((summary(costs_ns), self.vcpu.get_tsc_khz().ok())),
            other => Err(ExitError::Ran(other.to_string())),
        }
    }

    fn new(kvm: &Kvm, code: &[u8]) -> Result<Self, ExitError> {
        let memory = image(code)?;
        let vm = create_vm(kvm)?;
        lend(&vm, &memory)?;
        let vcpu = vm.create_vcpu(0).map_err(|error| ExitError::Create {
            thing: "vCPU",
            source: error.into(),
        })?;
        start_in_long_mode(kvm, &vcpu)?;
        Ok(Self {
            vcpu,
            stop: Stop::default(),
            _vm: vm,
            _memory: memory,
        })
    }

    fn leave_by_out(&mut self) -> Result<(), ExitError> {
        match self.run()? {
            Left::ByOut => Ok(()),
            other => Err(ExitError::Ran(other.to_string())),
        }
    }

    /// Runs to the next exit that is the guest's own.
    fn run(&mut self) -> Result<Left, ExitError> {
        for _ in 0..RETRIES {
            if self.stop.reason().is_some() {
                return Ok(Left::Other("a stop".into()));
            }
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(port, _)) if port == u16::from(PORT) => return Ok(Left::ByOut),
                Ok(VcpuExit::Hlt) => return Ok(Left::Halted),
                Ok(VcpuExit::Intr) => {}
                Ok(other) => return Ok(Left::Other(format!("{other:?}"))),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(error) => return Err(setup("run a vCPU")(error)),
            }
        }
        Ok(Left::Other(format!("{RETRIES} interrupted runs")))
    }
}

/// How the guest came out.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    ByOut,
    Halted,
    Other(String),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByOut => f.write_str("one exit too many"),
            Self::Halted => f.write_str("a halt too early"),
            Self::Other(exit) => f.write_str(exit),
        }
    }
}

/// Memory that holds the page tables and the code.
fn image(code: &[u8]) -> Result<GuestMemoryMmap, ExitError> {
    let told = |error: &dyn fmt::Display| ExitError::Memory(error.to_string());
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])
        .map_err(|error| told(&error))?;
    let present_writable = 0b11_u64;
    let large_page = 0x80_u64;
    let parts: [(u64, &[u8]); 4] = [
        (PML4, &(PDPT | present_writable).to_le_bytes()),
        (PDPT, &(PD | present_writable).to_le_bytes()),
        (PD, &(present_writable | large_page).to_le_bytes()),
        (CODE, code),
    ];
    for (address, bytes) in parts {
        memory
            .write_slice(bytes, GuestAddress(address))
            .map_err(|error| told(&error))?;
    }
    Ok(memory)
}

fn create_vm(kvm: &Kvm) -> Result<VmFd, ExitError> {
    let mut outcome = kvm.create_vm();
    // A pending signal interrupts the creation; a few tries see to it.
    for _ in 0..RETRIES {
        match &outcome {
            Err(error) if error.errno() == libc::EINTR => outcome = kvm.create_vm(),
            _ => break,
        }
    }
    outcome.map_err(|error| ExitError::Create {
        thing: "VM",
        source: error.into(),
    })
}

/// Makes `memory` the guest's memory, from physical address 0.
fn lend(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), ExitError> {
    let host = memory
        .get_host_address(GuestAddress(0))
        .map_err(|error| ExitError::Memory(error.to_string()))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: host as u64,
    };
    // SAFETY: `memory` maps MEMORY_BYTES at `host`, for this guest alone. `Guest::new` puts it in
    // the struct whose vCPU and VM are declared, and so dropped, before it; should `new` fail
    // half-way, its locals drop in reverse, the VM before the memory. No Rust reference into it
    // exists while the guest runs.
    unsafe { vm.set_user_memory_region(region) }.map_err(setup("map guest memory"))
}

/// Flat 64-bit segments whose hidden parts are set by hand, so that no GDT is needed.
fn start_in_long_mode(kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), ExitError> {
    let cpuid: CpuId = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(setup("list the CPUID it supports"))?;
    vcpu.set_cpuid2(&cpuid).map_err(setup("set CPUID"))?;
    let mut sregs = vcpu.get_sregs().map_err(setup("read segments"))?;
    sregs.cr0 = 0x8005_0033; // PG AM WP NE ET MP PE
    sregs.cr3 = PML4;
    sregs.cr4 = 0x20; // PAE
    sregs.efer = 0x500; // LMA LME
    sregs.cs = flat_segment(0x10, 11);
    (sregs.cs.l, sregs.cs.db) = (1, 0);
    sregs.ss = flat_segment(0x18, 3);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (sregs.ss, sregs.ss, sregs.ss, sregs.ss);
    vcpu.set_sregs(&sregs).map_err(setup("set segments"))?;
    let regs = kvm_regs {
        rip: CODE,
        rflags: 2, // the bit that is always set
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(setup("set registers"))
}

fn flat_segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

fn setup(step: &'static str) -> impl Fn(errno::Error) -> ExitError {
    move |source| ExitError::Setup { step, source }
}
