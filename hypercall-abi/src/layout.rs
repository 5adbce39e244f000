//! Guest-virtual and guest-physical addresses that both sides know.
//!
//! ```text
//! ffff_8880_0000_0000  DIRECT_MAP   all memory, linear           kernel
//! ffff_ffff_8000_0000  KERNEL_BASE  the kernel image, + physical kernel
//! ffff_ffff_c000_0000  the monitor's page directory (1 GiB)      every root
//!        ffff_ffff_ffe0_0000  WINDOW       kernel view    user view
//!          +0000  hypercall page           user r-x       -
//!          +1000  tier-2 doorbell (MMIO)   user rw-       -
//!          +2000  local APIC (MMIO)        user rw-       -
//!          +3000  pads                     user r-x       user r-x
//!          +10000 * (1 + vCPU)             one area a vCPU
//!            +0000  monitor code           r-x            r-x       (supervisor)
//!            +2000  descriptor tables      rw-            rw-       (supervisor)
//!            +3000  bounce frames, roots   rw-            rw-       (supervisor)
//!            +4000  event slots            user rw-       rw-       (supervisor in the user view)
//!            +5000  shared page            user rw-       rw-       (supervisor in the user view)
//!            +6000  batch ring             user rw-       rw-       (supervisor in the user view)
//!            +7000  user window            user rw-       user r--
//!            +8000  interrupt stacks       rw-            rw-       (supervisor)
//! ```
//!
//! The *kernel view* and the *user view* are two page directories of the same physical pages. A
//! kernel root maps the first at [`MONITOR_GIB`], a user root the second. The hypercall page exists
//! in the kernel view alone, so a gate's return address proves both the caller and its root.

/// Where the kernel maps all guest-physical memory, linearly.
pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// The kernel image is linked at this address plus its guest-physical load address.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// The gigabyte that a root maps with the monitor's page directory.
pub const MONITOR_GIB: u64 = 0xffff_ffff_c000_0000;
/// The monitor's window: the last 2 MiB of the address space.
pub const WINDOW: u64 = 0xffff_ffff_ffe0_0000;

/// The hypercall page.
pub const HYPERCALL_PAGE: u64 = WINDOW;
/// Bytes of a slot in the hypercall page.
pub const SLOT_SIZE: u64 = 32;
/// The page whose stores are tier-2 calls, on hosts where that is the best gate.
pub const DOORBELL_PAGE: u64 = WINDOW + 0x1000;
/// The local APIC's registers (SDM vol. 3, table 11-1), for the kernel.
pub const APIC_PAGE: u64 = WINDOW + 0x2000;
/// The pads: code that runs at CPL 3 on the way into and out of user mode.
pub const PAD_PAGE: u64 = WINDOW + 0x3000;

/// The offset in the pad page of the `iretq` that enters user mode.
pub const PAD_ENTER_USER: u64 = 0x00;
/// The offset in the pad page where SYSCALL arrives, on hosts where it stays at CPL 3.
pub const PAD_SYSCALL: u64 = 0x20;
/// The offset in the pad page where events go until the kernel has named its entries.
pub const PAD_NO_ENTRIES: u64 = 0x40;
/// The offset in the doorbell page of the store that reports such an event.
pub const DOORBELL_NO_ENTRIES: u64 = 8;

/// Bytes of window that each vCPU's area takes.
pub const VCPU_STRIDE: u64 = 0x1_0000;
/// The first vCPU's area.
pub const VCPU_AREAS: u64 = WINDOW + VCPU_STRIDE;

/// Offset in a vCPU's area: the monitor's code, two pages.
pub const AREA_CODE: u64 = 0x0000;
/// Offset in a vCPU's area: IDT, GDT and TSS.
pub const AREA_TABLES: u64 = 0x2000;
/// Offset in a vCPU's area: the frames that lead to the kernel's event entries, and the roots.
pub const AREA_PRIVATE: u64 = 0x3000;
/// Offset in a vCPU's area: where the processor stores the frame of an event.
pub const AREA_EVENTS: u64 = 0x4000;
/// Offset in a vCPU's area: the [`SharedPage`](crate::shared::SharedPage).
pub const AREA_SHARED: u64 = 0x5000;
/// Offset in a vCPU's area: the [`Ring`](crate::shared::Ring).
pub const AREA_RING: u64 = 0x6000;
/// Offset in a vCPU's area: the user window; its last five words are the frame to enter user mode.
pub const AREA_USER: u64 = 0x7000;
/// Offset in a vCPU's area: stacks of NMI, #DF, #MC and #DB.
pub const AREA_STACKS: u64 = 0x8000;
/// Pages of a vCPU's area that are in use.
pub const AREA_PAGES: u64 = 9;

/// Offset in the event page: one past the slot of exceptions and of `int3` gates.
pub const EXCEPTION_SLOT_END: u64 = 0x200;
/// Offset in the event page: one past the slot of interrupts.
pub const INTERRUPT_SLOT_END: u64 = 0x400;
/// Offset in the event page: top of the scratch stack that the kernel's event entries start on.
pub const SCRATCH_END: u64 = 0x800;
/// Offset in the user window of the `iretq` frame (`rip cs rflags rsp ss`) that enters user mode.
pub const USER_FRAME: u64 = 0xfd0;

/// The code selector at CPL 3. Other selectors do not survive every KVM (platforms: kvm_pvm).
pub const USER_CS: u16 = 0x33;
/// The data and stack selector at CPL 3.
pub const USER_SS: u16 = 0x2b;

/// Event entries are this many bytes apart.
pub const ENTRY_STRIDE: u64 = 16;
/// The vectors that have an entry: 0..ENTRY_VECTORS; the user system call's entry follows.
pub const ENTRY_VECTORS: u64 = 64;
/// The entry of the user system call.
pub const ENTRY_SYSCALL: u64 = 64;
/// The entry for "an interrupt is pending, and you were about to let interrupts in".
pub const ENTRY_PENDING: u64 = 65;
/// How many entries there are.
pub const ENTRIES: u64 = 66;

/// Guest-physical: the boot information.
pub const BOOT_INFO: u64 = 0x1000;
/// Guest-physical: the command line, NUL-terminated, at most a page.
pub const COMMAND_LINE: u64 = 0x2000;
/// Guest-physical: the page tables that the guest starts on.
pub const BOOT_TABLES: u64 = 0x3000;
/// Guest-physical: end of what the hypervisor places in low memory.
pub const LOW_END: u64 = 0x10000;
/// Guest-physical: the monitor's pages.
pub const MONITOR_PHYS: u64 = 0xfd00_0000;
/// Guest-physical: the tier-2 doorbell; no memory is there, so a store exits.
pub const DOORBELL_PHYS: u64 = 0xfcff_f000;
/// Guest-physical: the local APIC (SDM vol. 3, 11.4.1).
pub const APIC_PHYS: u64 = 0xfee0_0000;
/// Guest-physical: the registers of the first virtio device, a page each. The command line says where they
/// are and how they interrupt, as Linux' `virtio_mmio.device=` does.
pub const DEVICES_PHYS: u64 = 0xd000_0000;
/// Guest-physical: memory below the hole for devices ends here at the latest.
pub const HOLE_START: u64 = 0xc000_0000;
/// Guest-physical: memory beyond the hole goes on here.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// The vector of the one-shot timer.
pub const TIMER_VECTOR: u8 = 0x30;
/// The vector of the console's input.
pub const CONSOLE_VECTOR: u8 = 0x28;
/// The vectors of virtio devices, one each: of the timer's priority class.
pub const DEVICE_VECTORS: core::ops::RangeInclusive<u8> = 0x31..=0x3e;
/// The vector that a local APIC delivers for an interrupt that went away.
pub const SPURIOUS_VECTOR: u8 = 0x3f;

/// Port: a 32-bit write ends an `hvm` guest with the low byte as its exit status.
pub const POWER_PORT: u16 = 0xf4;
/// Port: the first of the 16550 UART's eight registers.
pub const UART_PORT: u16 = 0x3f8;
/// Port: the monitor's tier-2 calls.
pub const CALL_PORT: u16 = 0xe7;
/// Port: the monitor reports that it cannot go on, with the reason in `eax`.
pub const FAULT_PORT: u16 = 0xe6;

/// The address of a slot of the hypercall page.
pub const fn slot_address(slot: crate::Slot) -> u64 {
    HYPERCALL_PAGE + slot as u64 * SLOT_SIZE
}

/// The address of a vCPU's area.
pub const fn vcpu_area(vcpu: u64) -> u64 {
    VCPU_AREAS + vcpu * VCPU_STRIDE
}
