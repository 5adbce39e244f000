//! The run loop: enter the guest, and lead each exit to its door.

use std::io;
use std::time::Instant;

use hypercall_abi::layout;
use kvm_ioctls::{SyncReg, VcpuExit};

use crate::doors::port;
use crate::error::{GuestFault, HostError};
use crate::kvm_run;
use crate::monitor;
use crate::monitor::native::TRAP_PORT;
use crate::stats::INTERRUPTED;
use crate::stop::StopReason;
use crate::vm::Vm;

/// Where the pad of events without entries stores.
const NO_ENTRIES: u64 = layout::DOORBELL_PHYS + layout::DOORBELL_NO_ENTRIES;

/// How a run ended, short of a host error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest switched itself off with a status.
    PowerOff(u8),
    /// The guest cannot go on.
    Fault(GuestFault),
    /// The run was ended from outside.
    Stopped(StopReason),
}

/// What the guest left for.
enum Exit {
    Call { rip: Option<u64> },
    Done,
    Fault(GuestFault),
    Breakpoint,
    Trap,
}

impl Vm {
    /// Run the guest until it ends.
    pub(crate) fn run_loop(&mut self) -> Result<End, HostError> {
        self.vcpu.set_sync_valid_reg(SyncReg::Register);
        let stop = self.stop.clone();
        let _running = stop.running();
        loop {
            if let Some(reason) = stop.reason() {
                self.flush_ring();
                return Ok(End::Stopped(reason));
            }
            let exit = self.enter()?;
            let start = self.door.timing.then(Instant::now);
            let (kind, fault) = match exit {
                Exit::Call { rip } => ("call", self.call(rip)?.err()),
                Exit::Done => (self.last_exit, None),
                Exit::Breakpoint => ("breakpoint at CPL 0", self.inject_breakpoint()?),
                Exit::Trap => self.trap()?,
                Exit::Fault(fault) => ("fault", Some(fault)),
            };
            if let Some(error) = self.machine.console.flush() {
                return Err(HostError::Output(error));
            }
            self.shared.count_exit();
            self.door.stats.exit(
                kind,
                start.map_or(std::time::Duration::ZERO, |start| start.elapsed()),
            );
            if let Some(fault) = fault {
                self.flush_ring();
                return Ok(End::Fault(fault));
            }
            if let Some(status) = self.machine.power.status() {
                return Ok(End::PowerOff(status));
            }
        }
    }

    /// Enter the guest; port accesses are done before this returns.
    fn enter(&mut self) -> Result<Exit, HostError> {
        self.last_exit = INTERRUPTED;
        let exit = match self.vcpu.run() {
            Ok(VcpuExit::MmioWrite(layout::DOORBELL_PHYS, _)) if self.call_done.is_some() => {
                Exit::Call { rip: None }
            }
            Ok(VcpuExit::MmioWrite(NO_ENTRIES, data)) if self.call_done.is_some() => {
                let width = data.len();
                Exit::Fault(self.event_without_entry(width)?)
            }
            Ok(VcpuExit::IoOut(layout::CALL_PORT, _)) if self.call_done.is_some() => Exit::Call {
                rip: self.call_done,
            },
            Ok(VcpuExit::IoOut(layout::FAULT_PORT, data)) if self.call_done.is_some() => {
                Exit::Fault(GuestFault::Monitor {
                    vector: u32::from(data.first().copied().unwrap_or(0)),
                })
            }
            Ok(VcpuExit::IoOut(TRAP_PORT, _)) if self.deprivileged.is_some() => Exit::Trap,
            Ok(VcpuExit::IoOut(at, data)) => {
                self.last_exit = "port write";
                if let Some(trace) = &mut self.door.trace {
                    trace.event(format_args!("out {at:#x} {data:x?}"));
                }
                port::write(&mut self.machine, at, data).map_or_else(Exit::Fault, |()| Exit::Done)
            }
            Ok(VcpuExit::IoIn(at, data)) => {
                self.last_exit = "port read";
                let answer = port::read(&mut self.machine, at, data);
                if let Some(trace) = &mut self.door.trace {
                    trace.event(format_args!("in {at:#x} {data:x?}"));
                }
                answer.map_or_else(Exit::Fault, |()| Exit::Done)
            }
            Ok(VcpuExit::MmioWrite(at, data)) => {
                self.last_exit = "device write";
                if let Some(trace) = &mut self.door.trace {
                    trace.event(format_args!("store {at:#x} {data:x?}"));
                }
                match self.io.write(at, data) || self.machine.legacy.write(at, data)? {
                    true => Exit::Done,
                    false => Exit::Fault(GuestFault::Mmio {
                        at,
                        width: data.len(),
                        write: true,
                    }),
                }
            }
            Ok(VcpuExit::MmioRead(at, data)) => {
                self.last_exit = "device read";
                let width = data.len();
                let is_there = self.io.read(at, data) || self.machine.legacy.read(at, data);
                if let Some(trace) = &mut self.door.trace {
                    trace.event(format_args!("load {at:#x} {data:x?}"));
                }
                match is_there {
                    true => Exit::Done,
                    false => Exit::Fault(GuestFault::Mmio {
                        at,
                        width,
                        write: false,
                    }),
                }
            }
            Ok(VcpuExit::IoapicEoi(vector)) => {
                self.last_exit = "end of interrupt";
                self.machine.legacy.end_of_interrupt(vector);
                Exit::Done
            }
            Ok(VcpuExit::Shutdown) => Exit::Fault(GuestFault::TripleFault),
            Ok(VcpuExit::Hlt) => Exit::Fault(GuestFault::Halted),
            Ok(VcpuExit::FailEntry(reason, _)) => Exit::Fault(GuestFault::Entry { reason }),
            Ok(VcpuExit::InternalError) => match kvm_run::internal_error(self.vcpu.get_kvm_run()) {
                // kvm_pvm interprets CPL 0 and does not know int3 there; the processor would raise #BP.
                GuestFault::Emulation { bytes } if bytes.first() == Some(&0xcc) => Exit::Breakpoint,
                fault => Exit::Fault(fault),
            },
            Ok(VcpuExit::Intr) => Exit::Done,
            Ok(other) => Exit::Fault(GuestFault::Exit(format!("{other:?}"))),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Exit::Done,
            Err(error) => {
                let source = io::Error::from_raw_os_error(error.errno());
                return Err(HostError::Kvm {
                    what: "run the virtual processor",
                    source,
                });
            }
        };
        Ok(exit)
    }

    /// A tier-2 call: its registers are in the run page, and its result goes back there.
    fn call(&mut self, rip: Option<u64>) -> Result<Result<(), GuestFault>, HostError> {
        let regs = self.vcpu.sync_regs_mut().regs;
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        let tail = self.shared.ring_tail();
        let word = match self
            .door
            .call(&mut self.machine, &self.memory, tail, regs.rax, &args)
        {
            Ok(word) => word,
            Err(fault) => return Ok(Err(fault)),
        };
        self.shared.set_ring_head(self.door.head);
        self.shared.count_call();
        self.apply_event_entries()?;

        let back = &mut self.vcpu.sync_regs_mut().regs;
        back.rax = word;
        if let Some(rip) = rip {
            // At an `out` exit RIP may still be at the instruction.
            back.rip = rip;
        } else if cfg!(debug_assertions) {
            // The gate may clobber these: show a guest that relies on them.
            back.rcx = 0xbad_c0de;
            back.r11 = 0xbad_c0de;
        }
        self.vcpu.set_sync_dirty_reg(SyncReg::Register);
        Ok(Ok(()))
    }

    /// What still waits in the ring belongs before a report; a corrupt ring has nothing to say.
    fn flush_ring(&mut self) {
        let tail = self.shared.ring_tail();
        let _ = self.door.drain(&mut self.machine, &self.memory, tail);
    }

    /// An event that has no entry: put the processor back where it was, for the report.
    fn event_without_entry(&mut self, width: usize) -> Result<GuestFault, HostError> {
        let mut regs = self.vcpu.sync_regs_mut().regs;
        let entry = regs.rsp;
        if entry >= layout::ENTRIES {
            // No event: the guest's own store.
            let (at, write) = (NO_ENTRIES, true);
            return Ok(GuestFault::Mmio { at, width, write });
        }
        let at = monitor::interrupted(&self.memory, entry);
        (regs.rip, regs.rflags, regs.rsp) = (at.rip, at.rflags, at.rsp);
        self.vcpu
            .set_regs(&regs)
            .map_err(HostError::kvm("show where the guest was interrupted"))?;
        Ok(GuestFault::NoEntries { entry, rip: at.rip })
    }

    /// Raise #BP as the processor does: the return address is behind the instruction.
    fn inject_breakpoint(&mut self) -> Result<Option<GuestFault>, HostError> {
        let fail = HostError::kvm("inject a breakpoint");
        let mut regs = self.vcpu.get_regs().map_err(&fail)?;
        regs.rip = regs.rip.wrapping_add(1);
        let mut events = self.vcpu.get_vcpu_events().map_err(&fail)?;
        events.exception.injected = 1;
        events.exception.nr = 3;
        events.exception.has_error_code = 0;
        self.vcpu.set_regs(&regs).map_err(&fail)?;
        self.vcpu.set_vcpu_events(&events).map_err(&fail)?;
        Ok(None)
    }
}
