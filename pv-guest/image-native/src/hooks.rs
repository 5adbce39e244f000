//! The verbs: the privileged instruction itself.

use core::arch::{asm, x86_64::_rdtsc};
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::layout;
use hypercall_abi::shared::SharedPage;
use pv_guest::hooks::{Hooks, NullCall, Privileged};

use crate::{apic, ports, privileged, tables, uart};

struct NativeHooks;
pv_guest::implement_hooks!(NativeHooks);

/// Where the shared page is mapped, from the boot information.
static SHARED: AtomicU64 = AtomicU64::new(0);

impl Hooks for NativeHooks {
    fn init(boot: &'static BootInfo) {
        SHARED.store(
            pv_guest::mm::map_shared(boot.shared, 4096),
            Ordering::Relaxed,
        );
        tables::load();
        apic::init(boot.apic_timer_hz);
    }

    fn power_off(status: u8) -> ! {
        loop {
            // SAFETY: the hypervisor ends the virtual machine at this port.
            unsafe {
                asm!("out dx, eax", in("dx") layout::POWER_PORT, in("eax") u32::from(status))
            };
        }
    }

    #[inline(always)]
    fn irq_enable() {
        // SAFETY: the kernel asks for interrupts only with its handlers in place. Memory is
        // clobbered: what a handler may touch must be in memory by now.
        unsafe { asm!("sti", options(nostack)) };
    }

    #[inline(always)]
    fn irq_disable() {
        // SAFETY: at CPL 0 this does nothing but clear IF.
        unsafe { asm!("cli", options(nostack)) };
    }

    #[inline(always)]
    fn irq_is_enabled() -> bool {
        let flags: u64;
        // SAFETY: pushes and pops one word; images are built without a red zone.
        unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
        flags & 0x200 != 0
    }

    fn idle() {
        // SAFETY: STI lets interrupts in only after the next instruction (SDM vol. 2, STI), so
        // none is lost between the two.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    }

    #[inline(always)]
    fn end_of_interrupt() {
        apic::end_of_interrupt();
    }

    #[inline(always)]
    fn load_root(root: u64) {
        // SAFETY: the kernel loads only roots that map the kernel as the current one does.
        unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn invalidate_page(at: u64) {
        // SAFETY: forgets a translation; the page tables say what holds.
        unsafe { asm!("invlpg [{}]", in(reg) at, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn fault_address() -> u64 {
        let at;
        // SAFETY: reads CR2.
        unsafe { asm!("mov {}, cr2", out(reg) at, options(nomem, nostack, preserves_flags)) };
        at
    }

    #[inline(always)]
    fn kernel_pages_are_user() -> bool {
        false
    }

    fn monitor_directory() -> Option<u64> {
        None
    }

    #[inline(always)]
    fn arm_timer(delta_ns: u32) {
        apic::arm_timer(delta_ns);
    }

    #[inline(always)]
    fn ticks() -> u64 {
        // SAFETY: RDTSC works at CPL 0.
        unsafe { _rdtsc() }
    }

    fn console_write(text: &[u8]) {
        uart::write(text);
    }

    fn console_flush() {}

    fn console_read(into: &mut [u8]) -> usize {
        uart::read(into)
    }

    fn port_read(port: u16) -> u8 {
        ports::read(port)
    }

    fn port_write(port: u16, value: u8) {
        ports::write(port, value);
    }

    fn port_read_words(port: u16, into: &mut [u16]) {
        ports::read_words(port, into);
    }

    fn port_write_words(port: u16, from: &[u16]) {
        ports::write_words(port, from);
    }

    #[inline(always)]
    fn shared() -> &'static SharedPage {
        // SAFETY: `init` mapped the page there before anything else runs; its fields are atomic.
        unsafe { &*(SHARED.load(Ordering::Relaxed) as *const SharedPage) }
    }

    fn image_name() -> &'static str {
        "native"
    }

    #[inline(always)]
    fn null_call(_: NullCall) -> bool {
        false
    }

    fn privileged_operand(which: Privileged) -> Option<u64> {
        Some(privileged::operand(which))
    }

    fn privileged(which: Privileged, operand: u64, turns: u64) {
        privileged::execute(which, operand, turns);
    }
}
