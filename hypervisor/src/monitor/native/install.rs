//! Puts the monitor of a deprivileged native guest into guest memory.

use hypercall_abi::layout::{APIC_PHYS, DOORBELL_PAGE, DOORBELL_PHYS, MONITOR_GIB, WINDOW};
use zerocopy::IntoBytes;

use super::code;
use super::layout::{
    self, APIC, ASIDE, CODE, DESCRIPTORS, DIRECTORY, EDITS_PAGE, FLAG_TABLES, FRAME_PAGE, IDT,
    KERNEL_DIRECTORY, PAD, PATCH_ASIDE, PATCH_FLAG_TABLES, PATCH_SAVE, PATCH_TABLES, PATCHES,
    PATCHES_LEN, PROBE, SAVE, SLOT_END, STACKS, TABLE, linear, patch_entry, patch_linear, phys,
};
use crate::error::HostError;
use crate::memory::Memory;
use crate::monitor::gates;
use crate::monitor::tables::{self, Interrupts};
use crate::patch::inline;

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const UNCACHED: u64 = 0x18;
const LARGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;
/// Accessed and dirty from the start, so that nobody has to set them.
const READ: u64 = PRESENT | 0x60;
const READ_WRITE: u64 = READ | WRITE | NO_EXECUTE;
const LINK: u64 = READ | WRITE | USER;

/// Write the monitor and the page directories that the shadow roots link.
///
/// `fast_traps`: CLI and STI of the kernel are handled in the monitor.
pub fn install(memory: &Memory, fast_traps: bool) -> Result<(), HostError> {
    memory.put(phys(CODE), code::bytes())?;
    let arrival = |vector| code::vector(vector, fast_traps);
    let idt = tables::idt(256, Interrupts::OnTheStack, arrival);
    put_words(memory, phys(IDT), &idt)?;
    let tss = linear(DESCRIPTORS) + tables::TSS;
    put_words(memory, phys(DESCRIPTORS) + tables::GDT, &tables::gdt(tss))?;
    let slot = linear(FRAME_PAGE) + SLOT_END;
    let tss = tables::tss(slot, slot, linear(STACKS));
    memory.put(phys(DESCRIPTORS) + tables::TSS, &tss)?;

    for (page, rights) in [
        (CODE, READ),
        (IDT, READ_WRITE),
        (PAD, READ | USER),
        (DESCRIPTORS, READ_WRITE),
        (FRAME_PAGE, READ_WRITE),
        (EDITS_PAGE, READ_WRITE),
        (STACKS, READ_WRITE),
    ] {
        put_entry(memory, TABLE, linear(page), 1, phys(page) | rights)?;
    }
    // Uncached, as device registers are.
    let apic = APIC_PHYS | READ_WRITE | UNCACHED;
    put_entry(memory, TABLE, linear(APIC), 1, apic)?;
    for directory in [DIRECTORY, KERNEL_DIRECTORY] {
        for at in (layout::POOL_BASE..layout::END).step_by(2 << 20) {
            let linear = layout::pool_linear(at);
            put_entry(memory, directory, linear, 2, at | READ_WRITE | LARGE)?;
        }
        put_entry(memory, directory, WINDOW, 2, phys(TABLE) | LINK)?;
    }
    install_patches(memory)?;
    memory.put(phys(PAD), &[0xcc; 4096])
}

/// Write what patched code uses. The flag's pages are mapped by who keeps the flag.
fn install_patches(memory: &Memory) -> Result<(), HostError> {
    for (table, at) in (PATCHES..PATCHES + PATCHES_LEN)
        .step_by(2 << 20)
        .enumerate()
    {
        let table = phys(PATCH_TABLES + table as u64) | LINK;
        put_entry(memory, KERNEL_DIRECTORY, at, 2, table)?;
    }
    let save = phys(SAVE) | READ_WRITE | USER;
    put_words(memory, patch_entry(patch_linear(PATCH_SAVE)), &[save])?;
    let aside = phys(ASIDE) | READ | USER;
    put_words(memory, patch_entry(patch_linear(PATCH_ASIDE)), &[aside])?;
    for (page, table) in (0..).zip(inline::flag_tables()) {
        memory.put(phys(FLAG_TABLES + page), &table)?;
        let entry = phys(FLAG_TABLES + page) | READ | USER | NO_EXECUTE;
        let at = patch_linear(PATCH_FLAG_TABLES + page);
        put_words(memory, patch_entry(at), &[entry])?;
    }
    Ok(())
}

/// The IDT's address and limit, and the page of GDT and TSS.
pub fn descriptors() -> (u64, u16, u64) {
    (linear(IDT), 256 * 16 - 1, linear(DESCRIPTORS))
}

/// Write what the probe of the kind of KVM runs, and return the root that maps it. [`install`] comes after it.
pub fn install_probe(memory: &Memory) -> Result<u64, HostError> {
    // All but what patches need, of which the first table is needed always.
    memory.populate(phys(CODE), (PATCH_TABLES + 1) * 4096);
    memory.put(phys(PAD), &gates::pad_page(None))?;
    let [root, pointers, directory, table] = [PROBE, PROBE + 1, PROBE + 2, PROBE + 3];
    put_entry(memory, root, MONITOR_GIB, 4, phys(pointers) | LINK)?;
    put_entry(memory, pointers, MONITOR_GIB, 3, phys(directory) | LINK)?;
    put_entry(memory, directory, WINDOW, 2, phys(table) | LINK)?;
    put_entry(memory, table, linear(PAD), 1, phys(PAD) | READ | USER)?;
    let doorbell = DOORBELL_PHYS | READ_WRITE | USER;
    put_entry(memory, table, DOORBELL_PAGE, 1, doorbell)?;
    Ok(phys(root))
}

/// Write the entry that a linear address goes through in a table of a level, 4 for a root.
fn put_entry(
    memory: &Memory,
    table: u64,
    at: u64,
    level: u32,
    entry: u64,
) -> Result<(), HostError> {
    let index = at >> (12 + 9 * (level - 1)) & 511;
    put_words(memory, phys(table) + index * 8, &[entry])
}

fn put_words(memory: &Memory, at: u64, words: &[u64]) -> Result<(), HostError> {
    memory.put(at, words.as_bytes())
}
