//! THE privileged room: all that the kernel may ask of a processor, a verb each.
//!
//! The verbs are declared here and implemented by each image (`image-native`, `image-pv`), which
//! link-time optimization inlines into their callers. In the native image `irq_disable` is one
//! `cli`; in the pv image it is one store to the shared page. Nothing else in this library contains
//! a privileged or sensitive instruction; `paravane audit` proves it.

use hypercall_abi::boot::BootInfo;
use hypercall_abi::shared::SharedPage;

/// Declare the verbs: the link-time symbol, and the safe function that the kernel calls.
macro_rules! hooks {
    ($( $(#[doc = $doc:literal])+ fn $name:ident as $symbol:literal ( $($arg:ident : $ty:ty),* ) $(-> $ret:ty)? ; )+) => {
        mod link {
            use super::*;
            #[allow(improper_ctypes)]
            unsafe extern "Rust" {
                $( #[link_name = $symbol] pub(super) fn $name($($arg: $ty),*) $(-> $ret)?; )+
            }
        }
        $(
            $(#[doc = $doc])+
            #[inline(always)]
            pub fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: each image defines every hook with exactly this signature, through
                // `implement_hooks!`, whose trait the compiler checks; a host test links `fake`.
                unsafe { link::$name($($arg),*) }
            }
        )+

        /// What an image implements; see [`implement_hooks!`](crate::implement_hooks).
        pub trait Hooks {
            $( $(#[doc = $doc])+ fn $name($($arg: $ty),*) $(-> $ret)?; )+
        }

        /// Define every hook's link-time symbol by a type that implements `Hooks`.
        #[macro_export]
        macro_rules! implement_hooks {
            ($image:ty) => {
                const _: () = {
                    use $crate::hooks::Hooks;
                    use $crate::hooks::prelude::*;
                    $(
                        // SAFETY (unsafe attribute): the symbol is the project's own, and
                        // each image uses this macro once.
                        #[unsafe(export_name = $symbol)]
                        fn $name($($arg: $ty),*) $(-> $ret)? { <$image as Hooks>::$name($($arg),*) }
                    )+
                };
            };
        }
    };
}

/// The types that hook signatures name.
pub mod prelude {
    pub use super::{NullCall, Privileged};
    pub use hypercall_abi::boot::BootInfo;
    pub use hypercall_abi::shared::SharedPage;
}

hooks! {
    /// Take the processor over: descriptor tables or event entries, and the interrupt controller.
    /// From here on events arrive at [`crate::trap::handle`]. Interrupts stay off.
    fn init as "paravane_hook_init"(boot: &'static BootInfo);
    /// End the virtual machine with an exit status.
    fn power_off as "paravane_hook_power_off"(status: u8) -> !;

    /// Let interrupts in. One that is already pending is handled before this returns.
    fn irq_enable as "paravane_hook_irq_enable"();
    /// Make interrupts wait.
    fn irq_disable as "paravane_hook_irq_disable"();
    /// Whether interrupts are let in.
    fn irq_is_enabled as "paravane_hook_irq_is_enabled"() -> bool;
    /// Sleep until an interrupt was handled. Called with interrupts off, returns with them off;
    /// an interrupt that is already pending is handled without sleeping.
    fn idle as "paravane_hook_idle"();
    /// Tell the interrupt controller that the interrupt in service is done.
    fn end_of_interrupt as "paravane_hook_eoi"();

    /// Make a root (a guest-physical address) the active address space.
    fn load_root as "paravane_hook_load_root"(root: u64);
    /// Forget the translations of one page in the active address space.
    fn invalidate_page as "paravane_hook_invalidate_page"(at: u64);
    /// The linear address of the last page fault, valid at the start of its handler.
    fn fault_address as "paravane_hook_fault_address"() -> u64;
    /// Whether kernel pages carry the user bit, because the kernel itself runs at CPL 3.
    fn kernel_pages_are_user as "paravane_hook_kernel_pages_are_user"() -> bool;
    /// The page directory (guest-physical) that every kernel root maps at
    /// `hypercall_abi::layout::MONITOR_GIB`, if there is a monitor.
    fn monitor_directory as "paravane_hook_monitor_directory"() -> Option<u64>;

    /// Arm the one-shot timer `delta_ns` from now; 0 disarms it.
    fn arm_timer as "paravane_hook_arm_timer"(delta_ns: u32);
    /// The time-stamp counter.
    fn ticks as "paravane_hook_ticks"() -> u64;

    /// Write bytes to the console; they may wait in a buffer until a newline or `console_flush`.
    fn console_write as "paravane_hook_console_write"(text: &[u8]);
    /// Send what waits in the console's buffer.
    fn console_flush as "paravane_hook_console_flush"();
    /// Take what was typed; 0 when nothing is there.
    fn console_read as "paravane_hook_console_read"(into: &mut [u8]) -> usize;

    /// Read a byte from a port.
    fn port_read as "paravane_hook_port_read"(port: u16) -> u8;
    /// Write a byte to a port.
    fn port_write as "paravane_hook_port_write"(port: u16, value: u8);
    /// Read words from one port, one after the other.
    fn port_read_words as "paravane_hook_port_read_words"(port: u16, into: &mut [u16]);
    /// Write words to one port, one after the other.
    fn port_write_words as "paravane_hook_port_write_words"(port: u16, from: &[u16]);

    /// The page shared with the hypervisor.
    fn shared as "paravane_hook_shared"() -> &'static SharedPage;
    /// The image's name: `native` or `pv`.
    fn image_name as "paravane_hook_image_name"() -> &'static str;
    /// Make one call of the gate `which`, for the benchmark; false when this image has none.
    fn null_call as "paravane_hook_null_call"(which: NullCall) -> bool;
    /// What an instruction needs to be executed alone, for the benchmark: the value that it writes, or
    /// 0. `None` when this image has neither the instruction nor a hook in its place.
    fn privileged_operand as "paravane_hook_privileged_operand"(which: Privileged) -> Option<u64>;
    /// Execute an instruction, or what this image has in its place, [`Privileged::per_turn`] times in
    /// each of `turns` turns. Nothing is different afterwards, but for the interrupt flag. Called with
    /// interrupts off.
    fn privileged as "paravane_hook_privileged"(which: Privileged, operand: u64, turns: u64);
}

/// Which gate [`null_call`] goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullCall {
    /// Tier 1: the monitor.
    Monitor,
    /// Tier 2: an exit.
    Machine,
    /// Tier 3: 64 entries of the batch ring and one doorbell.
    Batch64,
}

/// An instruction that only CPL 0 may execute, or that CPL 3 executes with another result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileged {
    /// CLI. Behind this, and behind each of the others, is a long NOP.
    Cli,
    /// STI, with interrupts on but for the first time.
    Sti,
    /// CLI and STI.
    CliSti,
    /// PUSHF.
    PushFlags,
    /// POPF, to interrupts off.
    PopFlags,
    /// MOV from CR0.
    ReadCr0,
    /// MOV to CR0, of what it holds.
    WriteCr0,
    /// MOV from CR2.
    ReadCr2,
    /// MOV from CR3.
    ReadCr3,
    /// MOV to CR3, of what it holds.
    WriteCr3,
    /// MOV from CR4.
    ReadCr4,
    /// MOV to CR4, of what it holds.
    WriteCr4,
    /// MOV from CR8.
    ReadCr8,
    /// MOV to CR8, of what it holds.
    WriteCr8,
    /// MOV from DR7.
    ReadDr7,
    /// MOV to DR7, of what it holds.
    WriteDr7,
    /// LGDT, of what is loaded.
    LoadGdt,
    /// LIDT, of what is loaded.
    LoadIdt,
    /// LLDT, of no table.
    LoadLdt,
    /// LTR, of what is loaded, once its descriptor says that it is available.
    LoadTask,
    /// CLTS.
    ClearTaskSwitched,
    /// RDMSR, of KERNEL_GS_BASE.
    ReadMsr,
    /// WRMSR, of KERNEL_GS_BASE and what it holds.
    WriteMsr,
    /// SWAPGS, twice.
    SwapGsTwice,
    /// CPUID, of leaf 0.
    Cpuid,
    /// IN, of the UART's line status.
    PortIn,
    /// OUT, to the UART's scratch register.
    PortOut,
    /// WBINVD.
    WriteBack,
    /// MOV from DS.
    ReadSegment,
    /// IRETQ, to the next instruction.
    Iret,
}

impl Privileged {
    /// How often a turn executes it: the turn's own instructions then weigh little beside it.
    pub const fn per_turn(self) -> u64 {
        match self {
            Self::Iret => 1,
            _ => 16,
        }
    }
}

// After the verbs: it uses the macro that their declaration defines.
#[cfg(test)]
pub mod fake;
