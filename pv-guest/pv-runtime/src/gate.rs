//! Calls through the hypercall page.

use core::arch::asm;

use hypercall_abi::{Args, Gate, Slot, layout};

use crate::ring;

/// The way through the hypercall page; every row of the table is a method on it.
pub static PAGE: HypercallPage = HypercallPage;

/// See [`PAGE`].
#[derive(Debug)]
pub struct HypercallPage;

impl Gate for HypercallPage {
    #[inline(always)]
    fn call(&self, slot: Slot, number: u64, args: Args) -> u64 {
        if matches!(slot, Slot::Batch) {
            return ring::queue(number, args);
        }
        let result;
        // SAFETY: the hypervisor has filled the slot with a gate that keeps every register but rax,
        // rcx and r11 (docs/abi.md), and no call of the table changes memory that the compiler
        // knows of other than through the pointers in its arguments, hence no `nomem`.
        unsafe {
            asm!(
                "call {slot}",
                slot = in(reg) layout::slot_address(slot),
                inlateout("rax") number => result,
                in("rdi") args[0],
                in("rsi") args[1],
                in("rdx") args[2],
                in("r10") args[3],
                in("r8") args[4],
                in("r9") args[5],
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        result
    }
}
