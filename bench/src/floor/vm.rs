//! A raw KVM VM with one vCPU, and the loop over its exits. The only VMM code of the floor.

use kvm_bindings::{
    CpuId, KVM_CAP_SPLIT_IRQCHIP, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_enable_cap, kvm_msr_entry,
    kvm_regs, kvm_sregs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::code;
use super::error::FloorError;
use super::layout::*;
use super::tables::{self, Gate, Ring};
use super::watchdog::Watchdog;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_FMASK: u32 = 0xc000_0084;

const CPUID_TSC_DEADLINE: u32 = 1 << 24;
const APIC_SPURIOUS: usize = 0xf0;
const APIC_LVT_TIMER: usize = 0x320;
const APIC_DIVIDE: usize = 0x3e0;
const APIC_DIVIDE_BY_1: u32 = 0xb;

/// A VM of one vCPU. The fields drop in this order: the memory outlives its last user.
pub struct Vm {
    pub vcpu: VcpuFd,
    _fd: VmFd,
    kvm: Kvm,
    pub memory: GuestMemoryMmap,
}

/// What the local APIC's timer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A count of nanoseconds, in the xAPIC page.
    OneShot,
    /// A point in time, in an MSR.
    TscDeadline,
}

/// The state in which a guest starts.
pub struct Start<'a> {
    pub ring: Ring,
    pub gates: &'a [Gate],
    /// Where SYSCALL leads, and the flags that it clears.
    pub syscall: Option<(u64, u64)>,
    /// None where the VM has no local APIC.
    pub timer: Option<Timer>,
    pub regs: kvm_regs,
}

/// What the machine does when the guest calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Take the number in rax, put the result there.
    Answer,
    /// Take what is in the ring, put the number of entries in rax.
    Drain,
    /// Answer from within a handler of #GP: drop the error code, and skip the byte that raised it.
    Emulate,
}

/// What a finished run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Returns from `KVM_RUN` before the one that said done.
    pub exits: u64,
    /// Bytes that the guest printed.
    pub console_bytes: u64,
    /// Sum of the results that the guest received.
    pub received: u64,
    /// Sum of the results that the machine gave.
    pub given: u64,
}

impl Vm {
    /// A VM without an interrupt controller.
    pub fn new(memory_len: usize) -> Result<Self, FloorError> {
        Self::build(memory_len, false)
    }

    /// A VM whose local APIC, and so the timer, is KVM's.
    pub fn with_split_irqchip(memory_len: usize) -> Result<Self, FloorError> {
        Self::build(memory_len, true)
    }

    fn build(memory_len: usize, wants_irqchip: bool) -> Result<Self, FloorError> {
        let (kvm, fd) = open()?;
        if wants_irqchip {
            split_irqchip(&fd)?;
        }
        let memory = map_memory(&fd, memory_len)?;
        let vcpu = fd
            .create_vcpu(0)
            .map_err(FloorError::refused("create a vCPU"))?;
        Ok(Self {
            vcpu,
            _fd: fd,
            kvm,
            memory,
        })
    }

    pub fn tsc_khz(&self) -> Result<u32, FloorError> {
        self.vcpu
            .get_tsc_khz()
            .map_err(FloorError::refused("read the TSC frequency"))
    }

    /// Loads code and tables, and puts the vCPU at the start.
    pub fn prepare(&mut self, start: &Start) -> Result<(), FloorError> {
        tables::write(&self.memory, start.gates)?;
        self.load(USER_CODE, code::user_image())?;
        self.load(MONITOR_CODE, code::monitor_image())?;
        self.show_processor()?;
        if let Some((target, mask)) = start.syscall {
            self.set_syscall(target, mask)?;
        }
        if let Some(timer) = start.timer {
            self.set_timer(timer)?;
        }
        self.set_registers(&start.regs, |sregs| {
            tables::system_registers(sregs, start.ring)
        })
    }

    /// Sets all registers; `system` changes the system registers of a vCPU after reset.
    pub fn set_registers(
        &self,
        regs: &kvm_regs,
        system: impl FnOnce(&mut kvm_sregs),
    ) -> Result<(), FloorError> {
        let mut sregs = self.system_registers()?;
        system(&mut sregs);
        self.vcpu
            .set_sregs(&sregs)
            .map_err(FloorError::refused("set the system registers"))?;
        self.vcpu
            .set_regs(regs)
            .map_err(FloorError::refused("set the registers"))
    }

    pub fn system_registers(&self) -> Result<kvm_sregs, FloorError> {
        self.vcpu
            .get_sregs()
            .map_err(FloorError::refused("read the system registers"))
    }

    pub fn load(&self, at: u64, bytes: &[u8]) -> Result<(), FloorError> {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(no_memory(bytes.len()))
    }

    pub fn read_words(&self, at: u64, words: &mut [u64]) -> Result<(), FloorError> {
        read_words(&self.memory, at, words)
    }

    /// Runs until the next exit, for a guest that cannot hang.
    pub fn next_exit(&mut self) -> Result<VcpuExit<'_>, FloorError> {
        self.vcpu.run().map_err(FloorError::refused("run the vCPU"))
    }

    /// Runs until the guest says done. Registers cross only in the page shared with KVM.
    pub fn run(&mut self, duty: Duty, watchdog: &Watchdog) -> Result<Outcome, FloorError> {
        if !self.kvm.check_extension(Cap::SyncRegs) {
            return Err(FloorError::Lacks {
                capability: "KVM_CAP_SYNC_REGS",
            });
        }
        self.vcpu.set_sync_valid_reg(SyncReg::Register);
        let mut outcome = Outcome::default();
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(CALL_PHYS, _) | VcpuExit::IoOut(CALL_PORT, _)) => {
                    outcome.given += self.serve(duty)?;
                }
                Ok(VcpuExit::IoOut(CONSOLE_PORT, data)) => {
                    outcome.console_bytes += std::hint::black_box(data).len() as u64;
                }
                Ok(VcpuExit::MmioWrite(DONE_PHYS, _)) => break,
                Ok(other) => {
                    let how = format!("{other:?}");
                    return Err(self.stopped(how));
                }
                Err(error) if error.errno() == libc::EINTR => {
                    self.still_allowed(watchdog)?;
                    continue;
                }
                Err(source) => return Err(FloorError::refused("run the vCPU")(source)),
            }
            outcome.exits += 1;
        }
        outcome.received = self.vcpu.sync_regs_mut().regs.r10;
        Ok(outcome)
    }

    /// One call of the machine; returns what it answered.
    fn serve(&mut self, duty: Duty) -> Result<u64, FloorError> {
        let regs = &mut self.vcpu.sync_regs_mut().regs;
        expect("number of a machine call", CALL_NUMBER, regs.rax)?;
        let result = match duty {
            Duty::Answer => CALL_RESULT,
            Duty::Drain => drain(&self.memory)?,
            Duty::Emulate => {
                regs.rsp += 8;
                skip_byte(&self.memory, regs.rsp)?;
                CALL_RESULT
            }
        };
        regs.rax = result;
        self.vcpu.set_sync_dirty_reg(SyncReg::Register);
        Ok(result)
    }

    fn still_allowed(&self, watchdog: &Watchdog) -> Result<(), FloorError> {
        match watchdog.has_fired() {
            false => Ok(()),
            true => Err(FloorError::Stuck {
                limit: watchdog.limit(),
                rip: self.rip(),
            }),
        }
    }

    fn stopped(&self, how: String) -> FloorError {
        FloorError::Stopped {
            how,
            rip: self.rip(),
        }
    }

    /// For a report; 0 where even that cannot be read.
    fn rip(&self) -> u64 {
        self.vcpu.get_regs().map_or(0, |regs| regs.rip)
    }

    fn show_processor(&self) -> Result<(), FloorError> {
        let mut cpuid: CpuId = self
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(FloorError::refused("list the processor's features"))?;
        let entries = cpuid.as_mut_slice();
        if let Some(features) = entries.iter_mut().find(|entry| entry.function == 1) {
            // KVM has it whenever the APIC is its own, but older kernels do not say so.
            features.ecx |= CPUID_TSC_DEADLINE;
        }
        self.vcpu
            .set_cpuid2(&cpuid)
            .map_err(FloorError::refused("set the processor's features"))
    }

    /// Switches the APIC on, and sets its timer up to fire once at [`TIMER_VECTOR`].
    fn set_timer(&self, timer: Timer) -> Result<(), FloorError> {
        let what = "set the local APIC";
        let mode = match timer {
            Timer::OneShot => 0,
            Timer::TscDeadline => 1 << 18,
        };
        let mut lapic = self.vcpu.get_lapic().map_err(FloorError::refused(what))?;
        let registers = [
            (APIC_SPURIOUS, 0x1ff),
            (APIC_DIVIDE, APIC_DIVIDE_BY_1),
            (APIC_LVT_TIMER, mode | u32::from(TIMER_VECTOR)),
        ];
        for (offset, value) in registers {
            for (register, byte) in lapic.regs[offset..].iter_mut().zip(value.to_le_bytes()) {
                *register = byte as std::ffi::c_char;
            }
        }
        self.vcpu
            .set_lapic(&lapic)
            .map_err(FloorError::refused(what))
    }

    fn set_syscall(&self, target: u64, mask: u64) -> Result<(), FloorError> {
        let entries = [
            (MSR_STAR, tables::STAR),
            (MSR_LSTAR, target),
            (MSR_FMASK, mask),
        ]
        .map(|(index, data)| kvm_msr_entry {
            index,
            data,
            ..Default::default()
        });
        let what = "set the SYSCALL registers";
        let msrs =
            Msrs::from_entries(&entries).map_err(|_| FloorError::Lacks { capability: what })?;
        let count = self
            .vcpu
            .set_msrs(&msrs)
            .map_err(FloorError::refused(what))?;
        expect(what, entries.len() as u64, count as u64)
    }
}

/// Lets the frame of an event return a byte further.
fn skip_byte(memory: &GuestMemoryMmap, frame: u64) -> Result<(), FloorError> {
    let mut rip = [0];
    read_words(memory, frame, &mut rip)?;
    memory
        .write_obj(rip[0] + 1, GuestAddress(frame))
        .map_err(no_memory(8))
}

/// Takes all published entries of the ring, each copied before it is looked at.
fn drain(memory: &GuestMemoryMmap) -> Result<u64, FloorError> {
    let mut indices = [0; 2];
    read_words(memory, RING_TAIL, &mut indices)?;
    let [tail, head] = indices;
    let count = tail.wrapping_sub(head);
    expect("entries in the ring", RING_LEN, count)?;
    let mut entries = [0; RING_LEN as usize * ENTRY_WORDS];
    read_words(memory, RING_ENTRIES, &mut entries)?;
    for entry in entries.chunks_exact(ENTRY_WORDS) {
        expect("number of a batch entry", CALL_NUMBER, entry[0])?;
        std::hint::black_box(entry[1]);
    }
    memory
        .write_obj(tail, GuestAddress(RING_HEAD))
        .map_err(no_memory(8))?;
    Ok(count)
}

fn read_words(memory: &GuestMemoryMmap, at: u64, words: &mut [u64]) -> Result<(), FloorError> {
    let len = size_of_val(words);
    let slice = memory
        .get_slice(GuestAddress(at), len)
        .map_err(no_memory(len))?;
    slice.copy_to(words);
    Ok(())
}

/// Opens KVM and makes a VM of nothing.
pub fn open() -> Result<(Kvm, VmFd), FloorError> {
    let kvm = Kvm::new().map_err(|source| FloorError::NoKvm { source })?;
    let fd = kvm
        .create_vm()
        .map_err(FloorError::refused("create a VM"))?;
    Ok((kvm, fd))
}

fn split_irqchip(fd: &VmFd) -> Result<(), FloorError> {
    // One argument: how many routes the IOAPIC, which the VMM would emulate, keeps for itself.
    let cap = kvm_enable_cap {
        cap: KVM_CAP_SPLIT_IRQCHIP,
        args: [24, 0, 0, 0],
        ..Default::default()
    };
    fd.enable_cap(&cap)
        .map_err(FloorError::refused("make a split interrupt controller"))
}

fn map_memory(fd: &VmFd, len: usize) -> Result<GuestMemoryMmap, FloorError> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).map_err(no_memory(len))?;
    let host = memory
        .get_host_address(GuestAddress(0))
        .map_err(no_memory(len))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: len as u64,
        userspace_addr: host as u64,
        flags: 0,
    };
    // SAFETY: the mapping is `len` bytes long, this VM's alone, and `Vm` drops it after the VM;
    // it is accessed through vm-memory only, which takes no references into it.
    unsafe { fd.set_user_memory_region(region) }
        .map_err(FloorError::refused("give the VM its memory"))?;
    Ok(memory)
}

fn no_memory<E: std::fmt::Display>(len: usize) -> impl FnOnce(E) -> FloorError {
    move |error| FloorError::NoMemory {
        len,
        reason: error.to_string(),
    }
}

/// `found`, as the other side sent it, must be what this side expects.
pub fn expect(what: &'static str, expected: u64, found: u64) -> Result<(), FloorError> {
    match expected == found {
        true => Ok(()),
        false => Err(FloorError::Mismatch {
            what,
            expected,
            found,
        }),
    }
}
