//! The general registers, RIP and RFLAGS. Used by every verb of [`super`] and by `doors::trap`.

/// The registers that instructions name. RFLAGS is as the guest believes it to be: its IF is the
/// virtual one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// By their number in an instruction: rax rcx rdx rbx rsp rbp rsi rdi r8 to r15.
    pub general: [u64; 16],
    /// The instruction pointer.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
}

/// Number of RAX.
pub const RAX: usize = 0;
/// Number of RCX.
pub const RCX: usize = 1;
/// Number of RDX.
pub const RDX: usize = 2;
/// Number of RBX.
pub const RBX: usize = 3;
/// Number of RSP.
pub const RSP: usize = 4;
/// Number of RSI.
pub const RSI: usize = 6;
/// Number of RDI.
pub const RDI: usize = 7;
/// Number of R11.
pub const R11: usize = 11;

/// The flags of RFLAGS (SDM vol. 1, 3.4.3).
pub mod flag {
    /// Bit 1, always set.
    pub const FIXED: u64 = 1 << 1;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Trap after each instruction.
    pub const TF: u64 = 1 << 8;
    /// Interrupts are let in.
    pub const IF: u64 = 1 << 9;
    /// String instructions go down.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// The least privilege that may touch ports and IF, two bits.
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Instruction breakpoints are ignored once.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode, which long mode does not have.
    pub const VM: u64 = 1 << 17;
    /// Alignment checks.
    pub const AC: u64 = 1 << 18;
    /// CPUID exists.
    pub const ID: u64 = 1 << 21;
    /// Carry, parity, adjust, zero, sign, direction and overflow: what any program may set.
    pub const STATUS: u64 = 0xcd5;
    /// What POPF and IRET load whatever the privilege (SDM vol. 2, POPF).
    pub const ANY_LEVEL: u64 = STATUS | TF | NT | AC | ID;
}

impl Registers {
    /// The level that IOPL asks for.
    pub fn iopl(&self) -> u8 {
        ((self.rflags & flag::IOPL) >> 12) as u8
    }

    /// A flag.
    pub fn has(&self, flag: u64) -> bool {
        self.rflags & flag != 0
    }

    /// Set or clear flags.
    pub fn set(&mut self, flags: u64, on: bool) {
        if on {
            self.rflags |= flags;
        } else {
            self.rflags &= !flags;
        }
    }

    /// Replace the low 32 bits of a register and clear the others, as a 32-bit operation does.
    pub fn set_32(&mut self, number: usize, value: u32) {
        if let Some(register) = self.general.get_mut(number) {
            *register = u64::from(value);
        }
    }

    /// ECX, which names a register for RDMSR and its like.
    pub fn ecx(&self) -> u32 {
        self.general[RCX] as u32
    }

    /// EDX:EAX.
    pub fn edx_eax(&self) -> u64 {
        self.general[RDX] << 32 | self.general[RAX] & 0xffff_ffff
    }

    /// Load EDX:EAX; the upper halves are cleared.
    pub fn set_edx_eax(&mut self, value: u64) {
        self.set_32(RAX, value as u32);
        self.set_32(RDX, (value >> 32) as u32);
    }
}
