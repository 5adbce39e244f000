//! The rows: what each measures, with which code, handlers and registers.

use std::time::Duration;

use kvm_bindings::kvm_regs;
use serde::{Deserialize, Serialize};

use super::code::{self, UNROLLED};
use super::error::FloorError;
use super::layout::*;
use super::platform::Platform;
use super::tables::{Gate, Ring, user_entry};
use super::vm::{Duty, Outcome, Start, Timer, Vm, expect};
use super::watchdog::Watchdog;
use super::{Effort, Sample};

/// How far ahead [`Row::TimerInterrupt`] sets its deadline: time enough to be spinning by then.
pub const SPIN_DELAY: Duration = Duration::from_micros(100);
/// How far ahead [`Row::IdleWake`] sets its deadline: past any polling of KVM, so the vCPU sleeps.
pub const IDLE_DELAY: Duration = Duration::from_millis(1);

const RUN_LIMIT: Duration = Duration::from_secs(60);
/// A count of the timer that no row lives to see the end of.
const NEVER_NS: u32 = u32::MAX;
const NEVER_TICKS: u64 = 1 << 36;
/// What the two pages hold that [`Row::PageRemap`] maps in turn.
const IN_TOUCHED: u64 = 3;
const IN_OTHER_TOUCHED: u64 = 5;
/// Keeps totals within 64 bits; the watchdog ends a run long before.
const MOST_ITERATIONS: u64 = 1 << 32;
const INTERRUPTS_ON: u64 = 0x202;
const INTERRUPTS_OFF: u64 = 0x2;

/// Declares the rows once: documentation, variant, and the name that reports use.
macro_rules! rows {
    ($($(#[$doc:meta])* $row:ident $name:literal,)*) => {
        /// One mechanism. "Gate" is the way from CPL 3 into CPL 0 that suits the platform:
        /// `int3` and `iretq` on kvm_pvm, `syscall` and `sysretq` elsewhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Row { $($(#[$doc])* #[serde(rename = $name)] $row,)* }

        impl Row {
            /// All rows, in the order of a report.
            pub const ALL: &[Row] = &[$(Row::$row,)*];

            /// The row's name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Row::$row => $name,)* }
            }
        }
    };
}

rows! {
    /// The loop that all CPL 3 rows are measured in: two instructions.
    EmptyLoop "empty_loop",
    /// `rdtsc` at CPL 3.
    ClockRead "clock_read",
    /// `pushfq; popfq` at CPL 3, which no trap stops there.
    Flags "flags",
    /// Tier 1: the gate and back.
    Gate "gate",
    /// Tier 2: a number to the VMM in rax, a result back in rax, through KVM_CAP_SYNC_REGS.
    MachineExit "machine_exit",
    /// Tier 3: an entry of 16 bytes, of 64 in a ring, for which the machine is called once.
    Batch64 "batch64",
    /// `cli; sti` at CPL 0.
    InterruptsOffOn "interrupts_off_on",
    /// `mov cr3` at CPL 0, of two roots in turn.
    LoadRoot "load_root",
    /// The same through the gate.
    LoadRootGate "load_root_gate",
    /// `invlpg` through the gate, of a page not touched in between.
    InvalidatePage "invalidate_page",
    /// One `out` at CPL 0; the VMM takes the byte.
    ConsoleByte "console_byte",
    /// 64 bytes of memory, an `out` each, at CPL 0.
    Console64 "console64",
    /// The same by one `rep outsb`.
    Console64String "console64_string",
    /// #DE at CPL 3; the CPL 0 handler skips the instruction.
    DivideError "divide_error",
    /// #UD at CPL 3; the CPL 0 handler skips the instruction.
    UndefinedInstruction "undefined_instruction",
    /// #BP at CPL 3; the CPL 0 handler returns.
    Breakpoint "breakpoint",
    /// #GP at CPL 3, by a privileged instruction; the CPL 0 handler skips it.
    GeneralProtection "general_protection",
    /// The same with an exit: the handler calls the machine, which skips the instruction.
    TrapExit "trap_exit",
    /// A page table entry changed by a store at CPL 3, `invlpg` through the gate, and a touch.
    PageRemap "page_remap",
    /// A touch of an unmapped page at CPL 3; the CPL 0 handler stores the entry and returns.
    PageFault "page_fault",
    /// A store to the xAPIC's initial count at CPL 3; the timer does not fire.
    TimerArm "timer_arm",
    /// The deadline's MSR written through the gate; the timer does not fire.
    TimerArmGate "timer_arm_gate",
    /// From the deadline, [`SPIN_DELAY`] ahead, to the CPL 0 handler, out of a spin at CPL 3.
    TimerInterrupt "timer_interrupt",
    /// From the deadline, [`IDLE_DELAY`] ahead, to the CPL 0 handler, out of `sti; hlt` at CPL 0.
    IdleWake "idle_wake",
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Measures one row in a VM of its own.
pub fn measure(row: Row, platform: Platform, effort: Effort) -> Result<Sample, FloorError> {
    let plan = Plan::of(row, platform, effort);
    measure_plan(&plan).map_err(|source| FloorError::Row {
        row,
        source: Box::new(source),
    })
}

fn measure_plan(plan: &Plan) -> Result<Sample, FloorError> {
    let mut vm = match plan.timer {
        Some(_) => Vm::with_split_irqchip(MEMORY_LEN)?,
        None => Vm::new(MEMORY_LEN)?,
    };
    plan.prepare(&mut vm)?;
    let outcome = vm.run(plan.duty, &Watchdog::start(RUN_LIMIT)?)?;
    plan.check(&outcome)?;
    Ok(Sample {
        ticks: plan.ticks(&vm)?,
        exits_per_op: outcome.exits as f64 / (plan.rounds() * plan.ops) as f64,
    })
}

/// All that a row needs.
struct Plan {
    ring: Ring,
    gates: Vec<Gate>,
    syscall: Option<(u64, u64)>,
    regs: kvm_regs,
    timer: Option<Timer>,
    duty: Duty,
    /// Turns of the loop between two readings of the clock, and operations in a turn.
    iterations: u64,
    ops: u64,
    /// Samples that count; one more is taken before them.
    repeats: u64,
    /// The deadline's distance, in a row that has one.
    delay: Duration,
    /// Bytes that each operation prints.
    console_bytes: u64,
    /// Whether the guest adds up what it finds in the two pages that it touches in turn.
    is_remapping: bool,
}

impl Plan {
    fn of(row: Row, platform: Platform, effort: Effort) -> Self {
        use code::*;
        let user = |code| Self::new(Ring::User, code, effort);
        let monitor = |code| Self::new(Ring::Monitor, code, effort);
        // The same piece of code, with the gate of this platform.
        let pick = |int3: fn() -> u64, syscall: fn() -> u64| match platform {
            Platform::KvmPvm => int3(),
            Platform::Hardware => syscall(),
        };
        let gate = pick(gate_int3, gate_syscall);
        let to_return = pick(return_int3, return_syscall);
        let to_load_root = pick(load_r8_int3, load_r8_syscall);
        let to_invalidate = pick(invalidate_rdi_int3, invalidate_rdi_syscall);
        match row {
            Row::EmptyLoop => user(empty_loop()),
            Row::ClockRead => user(clock_read()),
            Row::Flags => user(flags()).unrolled(),
            Row::Gate => user(gate).gate(platform, to_return),
            Row::MachineExit => user(pick(machine_exit_int3, machine_exit_syscall))
                .gate(platform, call_machine())
                .dear(4),
            Row::Batch64 => user(pick(batch64_int3, batch64_syscall))
                .gate(platform, call_machine())
                .draining(),
            Row::InterruptsOffOn => monitor(interrupts()).unrolled(),
            Row::LoadRoot => monitor(load_root()).unrolled(),
            Row::LoadRootGate => {
                user(pick(load_root_int3, load_root_syscall)).gate(platform, to_load_root)
            }
            Row::InvalidatePage => user(gate)
                .gate(platform, to_invalidate)
                .with(|regs| regs.rdi = WINDOW),
            Row::ConsoleByte => monitor(console_byte()).unrolled().printing(1),
            Row::Console64 => monitor(console64()).printing(MESSAGE_LEN).dear(32),
            Row::Console64String => monitor(console64_string()).printing(MESSAGE_LEN).dear(32),
            Row::DivideError => user(divide_error()).on(DIVIDE_VECTOR, skip_two_bytes()),
            Row::UndefinedInstruction => {
                user(undefined_instruction()).on(UNDEFINED_VECTOR, skip_two_bytes())
            }
            Row::Breakpoint => user(breakpoint()).on(BREAKPOINT_VECTOR, return_int3()),
            Row::GeneralProtection => {
                user(general_protection()).on(PROTECTION_VECTOR, skip_one_byte())
            }
            Row::TrapExit => user(trap_exit())
                .on(PROTECTION_VECTOR, trap_machine())
                .emulating()
                .dear(4),
            Row::PageRemap => user(pick(page_remap_int3, page_remap_syscall))
                .gate(platform, to_invalidate)
                .remapping(),
            Row::PageFault => user(pick(page_fault_int3, page_fault_syscall))
                .gate(platform, to_load_root)
                .on(PAGE_FAULT_VECTOR, map_page())
                .with(|regs| regs.r9 = user_entry(TOUCHED))
                .at_most(WINDOW_LEN),
            Row::TimerArm => user(timer_arm()).timer(NEVER_NS),
            Row::TimerArmGate => user(pick(timer_arm_gate_int3, timer_arm_gate_syscall))
                .gate(platform, pick(set_deadline_int3, set_deadline_syscall))
                .deadline_register(),
            Row::TimerInterrupt => user(timer_interrupt())
                .deadline(SPIN_DELAY)
                .on(TIMER_VECTOR, tick_user())
                .with(|regs| regs.rflags = INTERRUPTS_ON),
            Row::IdleWake => monitor(idle_wake())
                .deadline(IDLE_DELAY)
                .on(TIMER_VECTOR, tick_idle()),
        }
    }

    fn new(ring: Ring, code: u64, effort: Effort) -> Self {
        let rsp = match ring {
            Ring::User => USER_STACK_TOP,
            Ring::Monitor => MONITOR_STACK_TOP,
        };
        Self {
            ring,
            gates: Vec::new(),
            syscall: None,
            regs: kvm_regs {
                rip: code,
                rsp,
                rflags: INTERRUPTS_OFF,
                rbp: DOORBELL,
                r8: ROOT_A,
                r9: ROOT_B,
                ..Default::default()
            },
            timer: None,
            duty: Duty::Answer,
            iterations: effort.iterations.clamp(1, MOST_ITERATIONS),
            ops: 1,
            repeats: effort.repeats.clamp(1, RESULTS_LEN - 1),
            delay: Duration::ZERO,
            console_bytes: 0,
            is_remapping: false,
        }
    }

    /// Lets this platform's gate lead to `stub`.
    fn gate(self, platform: Platform, stub: u64) -> Self {
        match platform {
            Platform::KvmPvm => self.on(BREAKPOINT_VECTOR, stub),
            Platform::Hardware => Self {
                syscall: Some((stub, platform.syscall_mask())),
                ..self
            },
        }
    }

    fn on(mut self, vector: u8, handler: u64) -> Self {
        self.gates.push((vector, handler));
        self
    }

    fn with(mut self, set: impl FnOnce(&mut kvm_regs)) -> Self {
        set(&mut self.regs);
        self
    }

    fn at_most(self, iterations: u64) -> Self {
        Self {
            iterations: self.iterations.min(iterations),
            ..self
        }
    }

    /// A row whose operation costs many times a gate does fewer of them.
    fn dear(self, times: u64) -> Self {
        Self {
            iterations: (self.iterations / times).max(1),
            ..self
        }
    }

    fn unrolled(self) -> Self {
        Self {
            ops: UNROLLED,
            ..self.dear(UNROLLED)
        }
    }

    fn draining(self) -> Self {
        Self {
            duty: Duty::Drain,
            ops: RING_LEN,
            ..self.dear(RING_LEN)
        }
        .with(|regs| regs.rsi = RING_TAIL)
    }

    fn emulating(self) -> Self {
        Self {
            duty: Duty::Emulate,
            ..self
        }
    }

    fn printing(self, console_bytes: u64) -> Self {
        Self {
            console_bytes,
            ..self
        }
        .with(|regs| regs.r8 = MESSAGE)
    }

    fn remapping(self) -> Self {
        Self {
            is_remapping: true,
            ..self
        }
        .with(|regs| {
            (regs.rdi, regs.rsi) = (WINDOW, WINDOW_TABLE);
            (regs.r8, regs.r9) = (user_entry(OTHER_TOUCHED), user_entry(TOUCHED));
        })
    }

    fn timer(self, count_ns: u32) -> Self {
        Self {
            timer: Some(Timer::OneShot),
            ..self
        }
        .with(|regs| {
            (regs.rsi, regs.rcx) = (XAPIC, count_ns.into());
        })
    }

    fn deadline_register(self) -> Self {
        Self {
            timer: Some(Timer::TscDeadline),
            ..self
        }
        .with(|regs| {
            (regs.rcx, regs.r8) = (TSC_DEADLINE.into(), NEVER_TICKS);
        })
    }

    /// Each repeat is one deadline, so there are more of them.
    fn deadline(self, delay: Duration) -> Self {
        let repeats = (self.repeats * 8).min(RESULTS_LEN - 1);
        Self {
            delay,
            repeats,
            ..self
        }
        .at_most(1)
        .timer(delay.as_nanos() as u32)
    }

    /// Turns of the loop in the whole run.
    fn rounds(&self) -> u64 {
        (self.repeats + 1) * self.iterations
    }

    fn prepare(&self, vm: &mut Vm) -> Result<(), FloorError> {
        vm.load(MESSAGE, &[b'.'; MESSAGE_LEN as usize])?;
        vm.load(TOUCHED, &IN_TOUCHED.to_le_bytes())?;
        vm.load(OTHER_TOUCHED, &IN_OTHER_TOUCHED.to_le_bytes())?;
        vm.prepare(&Start {
            ring: self.ring,
            gates: &self.gates,
            syscall: self.syscall,
            timer: self.timer,
            regs: kvm_regs {
                r12: RESULTS,
                r13: self.repeats + 1,
                r14: self.iterations,
                ..self.regs
            },
        })
    }

    /// What was measured must also have worked.
    fn check(&self, outcome: &Outcome) -> Result<(), FloorError> {
        let printed = self.rounds() * self.ops * self.console_bytes;
        expect("bytes on the console", printed, outcome.console_bytes)?;
        match self.is_remapping {
            false => expect("results of the calls", outcome.given, outcome.received),
            true => expect(
                "values found in the pages",
                self.sum_of_touched(),
                outcome.received,
            ),
        }
    }

    /// The first turn finds [`TOUCHED`], the next [`OTHER_TOUCHED`], and so on.
    fn sum_of_touched(&self) -> u64 {
        let others = self.rounds() / 2;
        (self.rounds() - others) * IN_TOUCHED + others * IN_OTHER_TOUCHED
    }

    fn ticks(&self, vm: &Vm) -> Result<Vec<u64>, FloorError> {
        let delay = self.delay.as_nanos() * u128::from(vm.tsc_khz()?) / 1_000_000;
        let mut totals = vec![0; self.repeats as usize];
        vm.read_words(RESULTS + 8, &mut totals)?;
        let per_op = |total: u64| {
            total
                .saturating_sub(delay as u64)
                .div_ceil(self.iterations * self.ops)
                .max(1)
        };
        Ok(totals.into_iter().map(per_op).collect())
    }
}
