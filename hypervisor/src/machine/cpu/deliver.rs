//! Events reach the guest: exceptions, interrupts, INT n (SDM vol. 3, chapter 6).

use super::gate::Entry;
use super::registers::flag;
use super::{Cpu, Effect, Exception, Fatal, Linear, Refusal, Registers};

/// DR7.GD: touching a debug register raises #DB.
const GENERAL_DETECT: u64 = 1 << 13;
/// DR6.BS: the exception comes from TF.
const SINGLE_STEP: u64 = 1 << 14;

/// How exceptions combine (SDM vol. 3, table 6-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Benign,
    Contributory,
    PageFault,
    Double,
}

impl Severity {
    fn of(vector: u8) -> Self {
        match vector {
            Exception::DIVIDE
            | Exception::INVALID_TSS
            | Exception::NOT_PRESENT
            | Exception::STACK
            | Exception::PROTECTION => Self::Contributory,
            Exception::PAGE_FAULT => Self::PageFault,
            Exception::DOUBLE_FAULT => Self::Double,
            _ => Self::Benign,
        }
    }
}

/// What follows when `second` is raised while `first` is delivered (SDM vol. 3, table 6-5).
fn combine(first: Severity, second: Exception) -> Result<Exception, Fatal> {
    use Severity::{Benign, Contributory, Double, PageFault};
    let double = Exception::with_error(Exception::DOUBLE_FAULT, 0);
    match (first, Severity::of(second.vector)) {
        (Double, Benign) => Ok(second),
        (Double, _) => Err(Fatal::TripleFault),
        (Contributory, Contributory) | (PageFault, Contributory | PageFault) => Ok(double),
        _ => Ok(second),
    }
}

impl Cpu {
    /// Deliver an exception; RIP is the return address. What its delivery raises is delivered in
    /// its place, or becomes a double fault.
    ///
    /// # Errors
    /// [`Fatal::TripleFault`] when the double fault cannot be delivered either; unsupported levels.
    pub fn raise(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        exception: Exception,
    ) -> Result<Effect, Fatal> {
        let mut exception = exception;
        // Each round is more severe than the last, or serial as in table 6-5: benign, contributory,
        // page fault, double fault.
        loop {
            if let Some(address) = exception.address {
                self.cr2 = address;
            }
            let rflags = regs.rflags
                | if is_fault(exception.vector) {
                    flag::RF
                } else {
                    0
                };
            let entry = Entry {
                vector: exception.vector,
                error: exception.error,
                by_instruction: false,
                rip: regs.rip,
                rflags,
            };
            exception = match self.enter_gate(regs, memory, &entry) {
                Ok(effect) => {
                    if exception.vector == Exception::DEBUG {
                        self.dr7 &= !GENERAL_DETECT;
                    }
                    return Ok(effect);
                }
                Err(Refusal::Unsupported(what)) => return Err(Fatal::Unsupported(what)),
                Err(Refusal::Exception(second)) => {
                    if let Some(address) = second.address {
                        self.cr2 = address;
                    }
                    combine(Severity::of(exception.vector), second)?
                }
            };
        }
    }

    /// Deliver an external interrupt. The caller knows that IF is set and nothing shadows it.
    ///
    /// # Errors
    /// As [`Self::raise`]: what its delivery raises is delivered in its place.
    pub fn interrupt(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        vector: u8,
    ) -> Result<Effect, Fatal> {
        let entry = Entry {
            vector,
            error: None,
            by_instruction: false,
            rip: regs.rip,
            rflags: regs.rflags,
        };
        match self.enter_gate(regs, memory, &entry) {
            Ok(effect) => Ok(effect),
            Err(Refusal::Unsupported(what)) => Err(Fatal::Unsupported(what)),
            // SDM vol. 3, table 6-4: interrupts are benign.
            Err(Refusal::Exception(exception)) => self.raise(regs, memory, exception),
        }
    }

    /// INT n, INT3 and INTO: `next` is the address of the next instruction.
    ///
    /// # Errors
    /// #GP and its like where the gate does not admit it, to be raised at the instruction.
    pub fn software_interrupt(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        vector: u8,
        next: u64,
    ) -> Result<Effect, Refusal> {
        let entry = Entry {
            vector,
            error: None,
            by_instruction: true,
            rip: next,
            rflags: regs.rflags & !flag::RF,
        };
        self.enter_gate(regs, memory, &entry)
    }

    /// INT1: a debug exception as hardware raises it, so the gate's level does not matter
    /// (SDM vol. 2, INT n).
    ///
    /// # Errors
    /// What the delivery raises, to be raised at the instruction.
    pub fn debug_interrupt(
        &mut self,
        regs: &mut Registers,
        memory: &mut dyn Linear,
        next: u64,
    ) -> Result<Effect, Refusal> {
        let entry = Entry {
            vector: Exception::DEBUG,
            error: None,
            by_instruction: false,
            rip: next,
            rflags: regs.rflags & !flag::RF,
        };
        let effect = self.enter_gate(regs, memory, &entry)?;
        self.dr7 &= !GENERAL_DETECT;
        Ok(effect)
    }

    /// The #DB that is due after an instruction that began with TF set; to be raised.
    pub fn single_step(&mut self) -> Exception {
        self.dr6 |= SINGLE_STEP;
        Exception::plain(Exception::DEBUG)
    }
}

/// Whether the exception is a fault: its frame has RF set, so that an instruction breakpoint at the
/// return address does not fire twice (SDM vol. 3, 17.3.1.1).
fn is_fault(vector: u8) -> bool {
    const NMI: u8 = 2;
    const MACHINE_CHECK: u8 = 18;
    !matches!(
        vector,
        Exception::DEBUG
            | NMI
            | Exception::BREAKPOINT
            | Exception::OVERFLOW
            | Exception::DOUBLE_FAULT
            | MACHINE_CHECK
    )
}
