//! A virtual machine: built from a configuration, run to its end, torn down.

use std::io::{PipeWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use hypercall_abi::shared::ClockScale;
use hypercall_abi::{Mode, Vector, layout};
use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_APIC_BUS_CYCLES_NS, kvm_enable_cap, kvm_msi,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};

use crate::boot::{self, Facts};
use crate::config::{Config, IoKind};
use crate::deprivileged::{self, Deprivileged, Learned, Study};
use crate::doctor;
use crate::doors::call::CallDoor;
use crate::error::HostError;
use crate::io::{BalloonHandle, Device, DeviceCounts, Io};
use crate::legacy::{self, Legacy};
use crate::loader::Image;
use crate::machine::{Console, Input, Machine};
use crate::memory::{Memory, Sharing};
use crate::monitor::gates::KvmKind;
use crate::monitor::{self};
use crate::patch::PatchedSite;
use crate::processor;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::stop::Stop;
use crate::trace::Trace;
use crate::vcpu::End;
use crate::vendor::Vendors;

/// The device that gives access to KVM.
pub const NODE: &str = "/dev/kvm";

/// A virtual machine that has not ended yet.
///
/// Fields are in the order in which they must be dropped: the processor, the machine, and then the
/// memory that both know.
#[derive(Debug)]
pub struct Vm {
    pub(crate) vcpu: VcpuFd,
    pub(crate) fd: Arc<VmFd>,
    pub(crate) shared: Shared,
    pub(crate) machine: Machine,
    pub(crate) io: Io,
    pub(crate) door: CallDoor,
    pub(crate) stop: Stop,
    pub(crate) call_done: Option<u64>,
    pub(crate) deprivileged: Option<Box<Deprivileged>>,
    learned: Option<Learned>,
    pub(crate) last_exit: &'static str,
    pub(crate) image: Image,
    kind: Option<KvmKind>,
    input: Input,
    pub(crate) memory: Memory,
}

/// How a run ended and what happened in it.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Whether the guest went off by asking for a reset.
    pub is_reset: bool,
    /// Exits and calls.
    pub stats: Stats,
    /// Registers, instruction and backtrace, when the guest did not switch itself off.
    pub report: Option<String>,
    /// Bytes that the guest wrote to its console.
    pub console_bytes: u64,
    /// What each device has done.
    pub devices: Vec<DeviceCounts>,
}

/// Types at the console of a running virtual machine; clones type at the same one.
#[derive(Clone, Debug)]
pub struct Keyboard(Keys);

#[derive(Clone, Debug)]
enum Keys {
    /// The console that every machine has.
    Console {
        input: Input,
        interrupter: Interrupter,
    },
    /// A device on standard input.
    Device(Arc<PipeWriter>),
}

/// Raises interrupts in a virtual machine, from any thread; clones raise them in the same one.
#[derive(Clone, Debug)]
pub struct Interrupter(Arc<VmFd>);

impl Interrupter {
    /// That of a virtual machine.
    pub(crate) fn of(fd: &Arc<VmFd>) -> Self {
        Self(Arc::clone(fd))
    }

    /// Raise a vector on the local APIC of the first processor. False while that is off.
    pub fn raise(&self, vector: Vector) -> bool {
        let msi = kvm_msi {
            address_lo: layout::APIC_PHYS as u32, // to local APIC 0, fixed, edge (SDM vol. 3, 11.11)
            data: u32::from(vector.number()),
            ..Default::default()
        };
        self.0.signal_msi(msi).is_ok_and(|delivered| delivered > 0)
    }
}

impl Keyboard {
    /// Type bytes; returns how many the console had room for.
    pub fn type_bytes(&self, bytes: &[u8]) -> usize {
        let (input, interrupter) = match &self.0 {
            Keys::Console { input, interrupter } => (input, interrupter),
            // Full, which is no error, or the machine is gone: nothing is taken.
            Keys::Device(pipe) => return pipe.as_ref().write(bytes).unwrap_or(0),
        };
        let taken = input.push(bytes);
        // Not delivered only while the local APIC is off: then the guest looks at its console when
        // it turns it on.
        if let Some(vector) = Vector::new(layout::CONSOLE_VECTOR) {
            interrupter.raise(vector);
        }
        taken
    }
}

/// Create a virtual machine, also where the thread is interrupted meanwhile.
fn create_vm(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            other => return other,
        }
    }
}

/// Open KVM and check what Paravane needs of it.
///
/// # Errors
/// [`HostError::NoKvm`] and [`HostError::Capability`], each with its mend.
pub fn open_kvm() -> Result<Kvm, HostError> {
    open_kvm_at(Path::new(NODE))
}

/// As [`open_kvm`], by another name of the device.
///
/// # Errors
/// As [`open_kvm`].
pub fn open_kvm_at(node: &Path) -> Result<Kvm, HostError> {
    let path = std::ffi::CString::new(node.as_os_str().as_bytes()).unwrap_or_default();
    let kvm = Kvm::new_with_path(path).map_err(|error| {
        let error = std::io::Error::from_raw_os_error(error.errno());
        HostError::NoKvm(doctor::explain_open_error(node, &error))
    })?;
    if kvm.get_api_version() < 0 {
        return Err(HostError::NoKvm(doctor::explain_not_kvm(node)));
    }
    // What every machine begins with; `paravane doctor` asks for the rest.
    for capability in [
        Cap::SyncRegs,
        Cap::SplitIrqchip,
        Cap::SignalMsi,
        Cap::GetTscKhz,
    ] {
        if !kvm.check_extension(capability) {
            let (name, since) = doctor::capability_name(capability);
            return Err(HostError::Capability {
                name,
                mend: format!("use Linux {since} or newer; `paravane doctor` says more"),
            });
        }
    }
    Ok(kvm)
}

impl Vm {
    /// Build a virtual machine whose console writes to `out`.
    ///
    /// # Errors
    /// [`HostError`], for the host's and the configuration's part.
    pub fn new(config: Config, out: Box<dyn Write + Send>) -> Result<Self, HostError> {
        let sharing = match config.devices.iter().any(Device::is_served_elsewhere) {
            true => Sharing::Shared,
            false => Sharing::Private,
        };
        let study = match config.mode {
            Mode::Trap | Mode::Patch => Study::begin(&config),
            Mode::Hvm | Mode::Pv => Study::Known(None),
        };
        let memory = Memory::with(config.memory_bytes, config.mode, sharing)?;
        study.put_into(&memory);
        let kvm = open_kvm_at(&config.kvm_node)?;
        let fd = create_vm(&kvm).map_err(HostError::create("VM"))?;
        memory.register(&fd)?;
        split_irqchip(&fd)?;
        let mut vcpu = fd.create_vcpu(0).map_err(HostError::create("vCPU"))?;
        let cpuid = processor::cpuid(&kvm, config.mode)?;
        vcpu.set_cpuid2(&cpuid)
            .map_err(HostError::kvm("set the processor's features"))?;

        let mut installed = match config.mode {
            Mode::Hvm | Mode::Pv => monitor::install(&memory, None, boot::ROOT)?,
            // Of it they have the shared page alone.
            Mode::Trap | Mode::Patch => monitor::places(None),
        };
        let tsc_khz = vcpu
            .get_tsc_khz()
            .map_err(HostError::kvm("read the TSC's frequency"))?;
        let facts = Facts {
            tsc_khz,
            apic_timer_hz: apic_timer_hz(&fd),
        };
        let fd = Arc::new(fd);
        let devices = config.devices.iter().cloned();
        let (trapped, made): (Vec<Device>, Vec<Device>) =
            devices.partition(|device| legacy::is_trapped(config.io, device));
        let io = Io::attach(&fd, &memory, &made, config.wiring)?;
        let legacy = match config.io {
            IoKind::Pv => Legacy::default(),
            IoKind::Trapped => Legacy::attach(&fd, &trapped, io.routes())?,
        };
        let line = config.command_line.clone() + &io.command_line() + &legacy.command_line();
        let start = boot::load(&memory, &config, &line, &installed, facts)?;

        let fail = HostError::kvm("set the processor's registers");
        let blank = vcpu.get_sregs().map_err(&fail)?;
        let mut regs = processor::entry_registers(start.entry);
        let mut kind = None;
        let mut native = None;
        let mut stats = Stats::default();
        let mut root = start.root;
        match config.mode {
            Mode::Hvm => {}
            Mode::Pv => {
                let found = probe(&mut vcpu, &blank, start.root)?;
                kind = Some(found);
                installed = monitor::install(&memory, kind, start.root)?;
                let targets = (installed.syscall_target, installed.syscall_target_32);
                processor::set_syscall(&vcpu, processor::syscall_mask(found), targets)?;
                regs = processor::deprivileged(regs);
            }
            Mode::Trap | Mode::Patch => {
                let probe_root = monitor::native::install_probe(&memory)?;
                let found = probe(&mut vcpu, &blank, probe_root)?;
                kind = Some(found);
                // Patched code does not use the real flag, which the monitor would change.
                let fast_traps = config.mode == Mode::Trap && config.fast_traps.is_on(found);
                monitor::native::install(&memory, fast_traps)?;
                let targets = monitor::native::syscall_targets(found);
                processor::set_syscall(&vcpu, processor::SYSCALL_MASK, targets)?;
                let mut guest = Deprivileged::new(
                    &memory,
                    deprivileged::Start {
                        entry: start.entry,
                        argument: regs.rdi,
                        root: start.root,
                        shared: installed.shared,
                        devices: [io.range(), legacy.memory()],
                        has_devices: !made.is_empty(),
                        cpuid: cpuid.clone(),
                        kind: found,
                        fast_traps,
                        patch: (config.mode == Mode::Patch).then_some(config.patch),
                        text: start.text,
                        image: start.image,
                        source: Some(start.source),
                        learned: study.end(),
                    },
                )?;
                root = guest.first_root(&memory)?;
                if config.timing {
                    stats.first_tables(guest.tables_took());
                }
                native = Some(Box::new(guest));
            }
        }
        let system = processor::system_registers(blank, config.mode, kind, root);
        vcpu.set_sregs(&system).map_err(&fail)?;
        vcpu.set_regs(&regs).map_err(&fail)?;
        if config.mode == Mode::Pv {
            let mut apic = vcpu.get_lapic().map_err(&fail)?;
            processor::apic_registers(&mut apic);
            vcpu.set_lapic(&apic).map_err(&fail)?;
        }

        let shared = Shared::new(&memory, installed.shared).ok_or(HostError::Missing {
            what: "the shared page",
        })?;
        shared.start(ClockScale::new(tsc_khz, processor::time_stamp(&vcpu)?).unwrap_or_default());
        let input = Input::default();
        let mut machine = Machine::new(Console::new(out, input.clone()));
        machine.legacy = legacy;
        Ok(Self {
            vcpu,
            fd,
            shared,
            machine,
            io,
            door: CallDoor {
                mode: config.mode,
                vendors: Vendors::default(),
                stats,
                timing: config.timing,
                trace: None,
                ring: installed.ring,
                head: 0,
            },
            stop: Stop::default(),
            call_done: (config.mode == Mode::Pv).then_some(installed.call_done),
            deprivileged: native,
            learned: config.learned,
            last_exit: crate::stats::INTERRUPTED,
            image: config.image,
            kind,
            input,
            memory,
        })
    }

    /// The vendor calls, to register more.
    pub fn vendors(&mut self) -> &mut Vendors {
        &mut self.door.vendors
    }

    /// Write every call and port access to a trace.
    pub fn trace_to(&mut self, out: Box<dyn Write + Send>) {
        self.door.trace = Some(Trace::new(out));
    }

    /// A handle that ends the run.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Devices that people cannot find without being told, each with where it is.
    pub fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        self.io.places()
    }

    /// What sets the balloon's size, if there is a balloon.
    pub fn balloon(&self) -> Option<BalloonHandle> {
        self.io.balloon()
    }

    /// A handle that types at the console.
    pub fn keyboard(&self) -> Keyboard {
        Keyboard(match self.io.typing() {
            Some(pipe) => Keys::Device(pipe),
            None => Keys::Console {
                input: self.input.clone(),
                interrupter: self.interrupter(),
            },
        })
    }

    /// A handle that raises interrupts.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.fd))
    }

    /// The kind of KVM that the probe found; `None` in modes without a monitor.
    pub fn kvm_kind(&self) -> Option<KvmKind> {
        self.kind
    }

    /// In mode `patch`: the sites that trapped or were patched, by address, and what became of each.
    pub fn patches(&self) -> Vec<PatchedSite> {
        let guest = self.deprivileged.as_ref();
        guest.map(|guest| guest.patches()).unwrap_or_default()
    }

    /// Run the guest until it ends.
    ///
    /// # Errors
    /// [`HostError`], when the host cannot go on.
    ///
    /// # Panics
    /// Only as a vendor's handler does, see [`Vendors::on`].
    pub fn run(&mut self) -> Result<Outcome, HostError> {
        let end = self.run_loop();
        // Also where the host failed, or the guest while it left for something else.
        let unwritten = self.machine.console.flush();
        let end = end?;
        if let (Some(learned), Some(guest)) = (&self.learned, &self.deprivileged)
            && let Some(knowledge) = guest.knowledge()
        {
            learned.set(knowledge);
        }
        let report = (!matches!(end, End::PowerOff(_))).then(|| self.report());
        if let Some(trace) = &mut self.door.trace {
            trace.event(format_args!("end {end:?}"));
            trace.finish().map_err(HostError::Trace)?;
        }
        if let Some(error) = unwritten {
            return Err(HostError::Output(error));
        }
        let stats = std::mem::take(&mut self.door.stats);
        Ok(Outcome {
            end,
            is_reset: self.machine.power.is_reset(),
            stats,
            report,
            console_bytes: self.machine.console.written(),
            devices: self.io.end(),
        })
    }

    /// Have the monitor know the event entries that the guest has named.
    pub(crate) fn apply_event_entries(&mut self) -> Result<(), HostError> {
        match self.machine.event_entries.take() {
            Some(first) => monitor::set_event_entries(&self.memory, first),
            None => Ok(()),
        }
    }
}

/// The local APIC in the kernel, and no other interrupt controller: the others cost milliseconds to
/// tear down and nothing here needs them.
fn split_irqchip(fd: &VmFd) -> Result<(), HostError> {
    const IOAPIC_PINS: u64 = 24;
    let cap = kvm_enable_cap {
        cap: KVM_CAP_SPLIT_IRQCHIP,
        args: [IOAPIC_PINS, 0, 0, 0],
        ..Default::default()
    };
    fd.enable_cap(&cap)
        .map_err(HostError::kvm("create a local APIC (split irqchip)"))
}

/// The APIC timer's frequency: KVM's bus runs at 1 GHz unless it says otherwise.
fn apic_timer_hz(fd: &VmFd) -> u64 {
    let cycle_ns = fd.check_extension_raw(u64::from(KVM_CAP_X86_APIC_BUS_CYCLES_NS));
    1_000_000_000 / u64::try_from(cycle_ns).unwrap_or(1).max(1)
}

/// Find the kind of KVM: execute SYSCALL at CPL 3 and see at what level its target runs. The pads
/// hold the instructions; the target's store exits.
fn probe(
    vcpu: &mut VcpuFd,
    blank: &kvm_bindings::kvm_sregs,
    root: u64,
) -> Result<KvmKind, HostError> {
    let fail = HostError::kvm("probe the kind of KVM");
    let sregs = processor::system_registers(*blank, Mode::Pv, None, root);
    vcpu.set_sregs(&sregs).map_err(&fail)?;
    let entry = layout::PAD_PAGE + layout::PAD_ENTER_USER;
    vcpu.set_regs(&processor::entry_registers(entry))
        .map_err(&fail)?;
    let arrive = layout::PAD_PAGE + layout::PAD_SYSCALL;
    let mask = processor::syscall_mask(KvmKind::Software);
    processor::set_syscall(vcpu, mask, (arrive, arrive))?;
    // What devices began may interrupt the thread, as io_uring does.
    let exit = loop {
        match vcpu.run() {
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
            Err(error) => return Err(fail(error)),
            Ok(VcpuExit::MmioWrite(layout::DOORBELL_PHYS, _)) => break None,
            Ok(other) => break Some(format!("{other:?}")),
        }
    };
    match exit {
        None => {}
        Some(other) => {
            let what = format!("unexpected exit {other} from the probe");
            return Err(HostError::Kvm {
                what: "probe the kind of KVM",
                source: std::io::Error::other(what),
            });
        }
    }
    let at = vcpu.get_sregs().map_err(&fail)?;
    Ok(if at.cs.dpl == 0 {
        KvmKind::Hardware
    } else {
        KvmKind::Software
    })
}
