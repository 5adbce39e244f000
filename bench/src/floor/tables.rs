//! The guest's descriptor and page tables, and the system registers that name them.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::error::FloorError;
use super::layout::*;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const HUGE: u64 = 1 << 7;

/// An entry that lets CPL 3 read and write `frame`.
pub const fn user_entry(frame: u64) -> u64 {
    frame | PRESENT | WRITABLE | USER
}

const MONITOR_CS: u16 = 0x10;
const MONITOR_SS: u16 = 0x18;
const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;
const TSS_SELECTOR: u16 = 0x40;
const TSS_LIMIT: u32 = 0x67;

/// SYSCALL loads CS 0x10 and SS 0x18; SYSRET to 64 bits loads CS 0x33 and SS 0x2b.
pub const STAR: u64 = 0x0023_0010_0000_0000;

/// The guest's privilege level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Monitor,
    User,
}

/// Where an exception or interrupt vector leads: always to CPL 0.
pub type Gate = (u8, u64);

/// Writes page tables, GDT, TSS and an IDT of `gates` only: any other event ends the VM.
pub fn write(memory: &GuestMemoryMmap, gates: &[Gate]) -> Result<(), FloorError> {
    write_page_tables(memory)?;
    write_descriptors(memory)?;
    gates.iter().try_for_each(|&gate| write_gate(memory, gate))
}

fn write_page_tables(memory: &GuestMemoryMmap) -> Result<(), FloorError> {
    for root in [ROOT_A, ROOT_B] {
        put(memory, root, user_entry(PDPT))?;
    }
    put(memory, PDPT, user_entry(PD))?;
    put(memory, PD, user_entry(PAGE_TABLE))?;
    put(memory, PD + 8, user_entry(WINDOW_TABLE))?;
    for page in (ROOT_A..USER_PAGES.end).step_by(0x1000) {
        let user = USER_PAGES.contains(&page) || page == WINDOW_TABLE;
        let entry = if user {
            user_entry(page)
        } else {
            page | PRESENT | WRITABLE
        };
        put_page(memory, page, entry)?;
    }
    put_page(memory, DOORBELL, user_entry(DOORBELL_PHYS))?;
    put_page(memory, XAPIC, user_entry(XAPIC_PHYS))
}

fn put_page(memory: &GuestMemoryMmap, page: u64, entry: u64) -> Result<(), FloorError> {
    put(memory, PAGE_TABLE + page / 0x1000 * 8, entry)
}

fn write_descriptors(memory: &GuestMemoryMmap) -> Result<(), FloorError> {
    let descriptors = [
        (MONITOR_CS, 0x00af_9b00_0000_ffff),
        (MONITOR_SS, 0x00cf_9300_0000_ffff),
        (USER_SS & !3, 0x00cf_f300_0000_ffff),
        (USER_CS & !3, 0x00af_fb00_0000_ffff),
        // A busy 64-bit TSS, DPL 0; the address is below 2^24.
        (TSS_SELECTOR, (0x8b << 40) | (TSS << 16) | TSS_LIMIT as u64),
    ];
    for (selector, descriptor) in descriptors {
        put(memory, GDT + u64::from(selector), descriptor)?;
    }
    // RSP0 lies at offset 4; the I/O bitmap at 0xffff, past the limit, so CPL 3 has no ports.
    put(memory, TSS + 4, MONITOR_STACK_TOP)?;
    put(memory, TSS + 0x60, 0xffff_u64 << 48)
}

/// An interrupt gate to CPL 0 code; CPL 3 may raise #BP by `int3`.
fn write_gate(memory: &GuestMemoryMmap, (vector, handler): Gate) -> Result<(), FloorError> {
    let dpl = if vector == BREAKPOINT_VECTOR { 3 } else { 0 };
    let kind = 0x8e00 | dpl << 13;
    let low = (handler & 0xffff)
        | u64::from(MONITOR_CS) << 16
        | kind << 32
        | (handler >> 16 & 0xffff) << 48;
    put(memory, IDT + u64::from(vector) * 16, low)?;
    put(memory, IDT + u64::from(vector) * 16 + 8, handler >> 32)
}

/// System registers that start a vCPU in 64-bit mode, at `ring`, under [`ROOT_A`].
pub fn system_registers(sregs: &mut kvm_sregs, ring: Ring) {
    let (cs, ss) = match ring {
        Ring::Monitor => (MONITOR_CS, MONITOR_SS),
        Ring::User => (USER_CS, USER_SS),
    };
    long_mode(sregs, ROOT_A);
    sregs.cs = segment(cs, 0xb, true);
    sregs.ss = segment(ss, 0x3, false);
    for data in [&mut sregs.ds, &mut sregs.es] {
        *data = segment(USER_SS, 0x3, false);
    }
    sregs.tr = task(TSS, TSS_LIMIT);
    sregs.gdt = kvm_dtable {
        base: GDT,
        limit: TSS_SELECTOR + 15,
        ..Default::default()
    };
    sregs.idt = kvm_dtable {
        base: IDT,
        limit: 0xfff,
        ..Default::default()
    };
}

/// Three tables and no descriptors: 64-bit CPL 0 under `root` over the first 2 MiB.
pub fn write_minimal(memory: &GuestMemoryMmap, root: u64) -> Result<(), FloorError> {
    let (pdpt, pd) = (root + 0x1000, root + 0x2000);
    put(memory, root, pdpt | PRESENT | WRITABLE)?;
    put(memory, pdpt, pd | PRESENT | WRITABLE)?;
    put(memory, pd, PRESENT | WRITABLE | HUGE)
}

/// System registers over [`write_minimal`]: the guest takes no event, so it has no tables for any.
pub fn minimal_registers(sregs: &mut kvm_sregs, root: u64) {
    long_mode(sregs, root);
    sregs.cs = segment(MONITOR_CS, 0xb, true);
    sregs.ss = segment(MONITOR_SS, 0x3, false);
}

fn long_mode(sregs: &mut kvm_sregs, root: u64) {
    sregs.cr0 = 0x8005_0033; // PG AM WP NE ET MP PE
    sregs.cr3 = root;
    sregs.cr4 = 0x620; // PAE OSFXSR OSXMMEXCPT
    sregs.efer = 0xd01; // NXE LMA LME SCE
}

fn segment(selector: u16, type_: u8, is_code: bool) -> kvm_segment {
    kvm_segment {
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl: (selector & 3) as u8,
        db: u8::from(!is_code),
        s: 1,
        l: u8::from(is_code),
        g: 1,
        ..Default::default()
    }
}

fn task(base: u64, limit: u32) -> kvm_segment {
    kvm_segment {
        base,
        limit,
        selector: TSS_SELECTOR,
        type_: 0xb,
        present: 1,
        ..Default::default()
    }
}

fn put(memory: &GuestMemoryMmap, address: u64, value: u64) -> Result<(), FloorError> {
    memory
        .write_obj(value, GuestAddress(address))
        .map_err(|error| FloorError::NoMemory {
            len: MEMORY_LEN,
            reason: error.to_string(),
        })
}
