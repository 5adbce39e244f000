//! Control registers, MSRs and CPUID.

use super::check;
use crate::{paging, trap, x86};

const TOPIC: &str = "control";
/// CR4: RDTSC is for CPL 0 alone.
const TIME_STAMP_DISABLE: u64 = 4;

pub fn run() {
    check(TOPIC, "cr0", x86::cr0(), 0x8005_0033);
    check(
        TOPIC,
        "cr3 is ours",
        (x86::cr3() == paging::kernel().0).into(),
        1,
    );
    let cr4 = x86::cr4();
    check(TOPIC, "cr4", cr4, 0x620);
    x86::set_cr4(cr4 | TIME_STAMP_DISABLE);
    check(TOPIC, "cr4 with TSD", x86::cr4(), 0x624);
    x86::set_cr4(cr4);
    check(TOPIC, "cr4 without", x86::cr4(), 0x620);

    check(TOPIC, "efer", x86::msr(x86::EFER), 0xd01);
    check(TOPIC, "star", x86::msr(x86::STAR), trap::SELECTORS);
    let is_ours = x86::msr(x86::LSTAR) == trap::syscall_target();
    check(TOPIC, "lstar is ours", is_ours.into(), 1);
    check(TOPIC, "fmask", x86::msr(x86::FMASK), trap::CLEARED);
    check(TOPIC, "apic base", x86::msr(x86::APIC_BASE), 0xfee0_0900);
    bases();

    let [_, _, _, edx] = x86::cpuid(1);
    let features = edx & (1 << 4 | 1 << 5 | 1 << 6 | 1 << 9);
    check(TOPIC, "cpuid tsc msr pae apic", features.into(), 0x270);
    let [_, _, _, edx] = x86::cpuid(0x8000_0001);
    let features = edx & (1 << 11 | 1 << 20 | 1 << 29);
    check(TOPIC, "cpuid syscall nx lm", features.into(), 0x2010_0800);
}

/// The bases of FS and GS, and SWAPGS.
fn bases() {
    const THERE: u64 = 0x1234_5678_9abc;
    x86::set_msr(x86::FS_BASE, THERE);
    check(TOPIC, "fs base", x86::msr(x86::FS_BASE), THERE);
    x86::set_msr(x86::FS_BASE, 0);
    let base = x86::msr(x86::GS_BASE);
    x86::set_msr(x86::KERNEL_GS_BASE, THERE);
    check(
        TOPIC,
        "kernel gs base",
        x86::msr(x86::KERNEL_GS_BASE),
        THERE,
    );
    let swapped = x86::swap_gs_and_read();
    check(TOPIC, "gs base after swapgs", swapped.0, THERE);
    check(
        TOPIC,
        "kernel gs base is the other",
        (swapped.1 == base).into(),
        1,
    );
    check(
        TOPIC,
        "gs base is back",
        (x86::msr(x86::GS_BASE) == base).into(),
        1,
    );
    x86::set_msr(x86::KERNEL_GS_BASE, 0);
}
