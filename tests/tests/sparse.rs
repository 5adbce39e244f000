//! A kernel that maps more than the shadow has tables for: it is forgotten, and made again.

use hypercall_abi::{Mode, layout};
use hypervisor::Config;
use iced_x86::IcedError;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{CodeAssembler, ptr, qword_ptr};
use tests::{image, need_kvm, run};

/// Present, writable, accessed and dirty.
const LINK: u64 = 0x63;
/// The guest's tables, a page in all of them, and its root: guest-physical.
const TABLE: u64 = 0x40_0000;
const DIRECTORY: u64 = 0x41_0000;
const POINTERS: u64 = 0x42_0000;
const ROOT: u64 = 0x43_0000;
const PAGE: u64 = 0x44_0000;
/// Regions of 2 MiB that are touched: a shadow table each, and there are some 3500 at most.
const REGIONS: u64 = 4096;
/// What the guest ends with, if it has read a 1 in each region, twice.
const STATUS: u8 = 77;

/// Fill a table in the direct map with an entry.
fn fill(a: &mut CodeAssembler, table: u64, entries: u64, entry: u64) -> Result<(), IcedError> {
    a.mov(rdi, layout::DIRECT_MAP + table)?;
    a.mov(rax, entry)?;
    a.mov(rcx, entries)?;
    a.rep().stosq()
}

fn kernel(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.cld()?;
    fill(a, TABLE, 1, PAGE | LINK)?;
    fill(a, DIRECTORY, 512, TABLE | LINK)?;
    fill(a, POINTERS, REGIONS / 512, DIRECTORY | LINK)?;
    fill(a, PAGE, 1, 1)?;
    // The root is the one that it booted on, with the lower half new.
    a.mov(rsi, layout::DIRECT_MAP + layout::BOOT_TABLES)?;
    a.mov(rdi, layout::DIRECT_MAP + ROOT)?;
    a.mov(rcx, 512u64)?;
    a.rep().movsq()?;
    fill(a, ROOT, 1, POINTERS | LINK)?;
    a.mov(rax, ROOT)?;
    a.mov(cr3, rax)?;
    a.xor(rdx, rdx)?;
    for _ in 0..2 {
        a.xor(rsi, rsi)?;
        a.mov(rcx, REGIONS)?;
        let mut next = a.create_label();
        a.set_label(&mut next)?;
        a.add(rdx, qword_ptr(rsi))?;
        a.lea(rsi, ptr(rsi + 0x20_0000))?;
        a.dec(rcx)?;
        a.jnz(next)?;
    }
    a.xor(eax, eax)?;
    a.cmp(rdx, 2 * REGIONS as i32)?;
    let mut end = a.create_label();
    a.jne(end)?;
    a.mov(eax, u32::from(STATUS))?;
    a.set_label(&mut end)?;
    a.mov(edx, u32::from(layout::POWER_PORT))?;
    a.out(dx, eax)
}

#[test]
fn a_kernel_that_is_mapped_sparsely_goes_on() {
    need_kvm!();
    for mode in [Mode::Hvm, Mode::Trap, Mode::Patch] {
        let config = Config {
            memory_bytes: 64 << 20,
            ..image::instructions(mode, kernel)
        };
        let ran = run(config);
        assert_eq!(ran.status(), STATUS, "{mode:?}");
        let faults = ran.outcome.stats.exits.get("hidden page fault");
        let faults = faults.map_or(0, |faults| faults.count);
        assert_eq!(
            faults > 2 * REGIONS - 600,
            mode != Mode::Hvm,
            "{mode:?}: {faults}"
        );
    }
}
