//! Loads the vector registers and looks at them, again and again until the run is stopped: nobody
//! else may change them. It does not leave the virtual machine meanwhile.

use core::arch::asm;

use hypercall_abi::boot::BootInfo;

use crate::{exit, println};

/// What FXSAVE writes (SDM vol. 1, 10.5.1).
#[repr(C, align(16))]
struct Area([u8; 512]);

/// XMM0 to XMM15 in that area.
const XMM: core::ops::Range<usize> = 160..416;
/// The status of a guest whose registers changed.
const CHANGED: u8 = 93;

/// See the module. The argument is a number that is part of what the registers hold.
pub fn vectors(_: &'static BootInfo, argument: &str) {
    let seed: u8 = argument.parse().unwrap_or(0);
    let mut loaded = Area([0; 512]);
    save(&mut loaded);
    for (at, byte) in loaded.0[XMM].iter_mut().enumerate() {
        *byte = seed.wrapping_add(at as u8);
    }
    println!("loading");
    pv_runtime::drain();
    let mut seen = Area([0; 512]);
    loop {
        // SAFETY: the area is what FXSAVE wrote, but for XMM registers, which hold anything. This image
        // is built without vector instructions, so the compiler keeps nothing there.
        unsafe { asm!("fxrstor64 [{}]", in(reg) &raw const loaded, options(nostack, readonly)) };
        save(&mut seen);
        if seen.0[XMM] != loaded.0[XMM] {
            println!("changed to {:x?}", &seen.0[XMM]);
            exit(CHANGED);
        }
    }
}

fn save(area: &mut Area) {
    // SAFETY: the area is ours, aligned to 16 bytes and 512 bytes long.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut *area, options(nostack)) };
}
