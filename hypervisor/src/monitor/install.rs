//! Puts the monitor into guest memory: its pages, the two views of them, and the frames that lead
//! to the kernel's event entries.

use hypercall_abi::{GuestVirt, layout};
use zerocopy::IntoBytes;

use super::gates::{self, KvmKind};
use super::{code, tables};
use crate::error::HostError;
use crate::memory::Memory;

/// Page numbers within the monitor's memory.
const HYPERCALL: u64 = 0;
const PADS: u64 = 1;
const KERNEL_DIRECTORY: u64 = 2;
const KERNEL_TABLE: u64 = 3;
const USER_DIRECTORY: u64 = 4;
const USER_TABLE: u64 = 5;
const AREAS: u64 = 6;

/// Page-table bits (SDM vol. 3, 4.5): present; accessed and dirty from the start, so that nobody has to set them.
const PRESENT: u64 = 0x61;
const WRITE: u64 = 2;
const USER: u64 = 4;
const UNCACHED: u64 = 0x18;
const NO_EXECUTE: u64 = 1 << 63;

/// Pages of guest memory that the monitor needs for one vCPU.
pub const PAGES: u64 = AREAS + layout::AREA_PAGES;

/// Where the monitor's parts are in guest-physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    /// Page directory of the kernel view.
    pub kernel_view: u64,
    /// Page directory of the user view.
    pub user_view: u64,
    /// The first vCPU's shared page.
    pub shared: u64,
    /// The first vCPU's batch ring.
    pub ring: u64,
    /// Where SYSCALL goes (LSTAR).
    pub syscall_target: u64,
    /// Where SYSCALL from 32-bit code goes (CSTAR): always the monitor's entry at CPL 0.
    pub syscall_target_32: u64,
    /// Where a tier-2 call goes on after the monitor's `out`.
    pub call_done: u64,
}

const fn page(number: u64) -> u64 {
    layout::MONITOR_PHYS + number * 4096
}

/// Write the monitor for a kind of KVM; `None` installs the probe's pads, and no jump targets that
/// matter to it differ.
pub fn install(memory: &Memory, kind: Option<KvmKind>, root: u64) -> Result<Installed, HostError> {
    let area = layout::vcpu_area(0);
    let code = code::code();
    let put = |number: u64, offset: u64, bytes: &[u8]| memory.put(page(number) + offset, bytes);
    let put_words = |number, offset, words: &[u64]| put(number, offset, words.as_bytes());
    let absolute = |offsets: &[u64]| {
        offsets
            .iter()
            .map(|offset| area + offset)
            .collect::<Vec<_>>()
    };

    put(PADS, 0, &gates::pad_page(kind))?;
    if let Some(kind) = kind {
        put(HYPERCALL, 0, &gates::hypercall_page(kind))?;
    } else {
        views(&put_words)?;
        let private = part(layout::AREA_PRIVATE);
        put(AREAS, 0, code.bytes)?;
        no_event_entries(memory)?;
        for (fix, calls) in [
            (code.points.fix_jump_int3, code::CALLS_INT3),
            (code.points.fix_jump_syscall, code::CALLS_SYSCALL),
        ] {
            let displacement = (area + layout::AREA_PRIVATE + calls) as u32;
            put(AREAS, fix, &displacement.to_le_bytes())?;
        }
        put_words(private, code::CALLS_INT3, &absolute(code.calls_int3))?;
        put_words(private, code::CALLS_SYSCALL, &absolute(code.calls_syscall))?;
        put_words(
            private,
            code::KERNEL_ROOT,
            &[root, root, memory.frame_limit()],
        )?;
        put_words(
            private,
            code::PAD_FRAME,
            &user_frame(
                layout::PAD_PAGE + layout::PAD_ENTER_USER,
                0x202,
                area + layout::AREA_USER + layout::USER_FRAME,
            ),
        )?;
        let tables_page = part(layout::AREA_TABLES);
        let idt = tables::idt(
            layout::ENTRY_VECTORS as usize,
            tables::Interrupts::InASlotOfTheirOwn,
            |vector| area + code.vectors[vector],
        );
        put_words(tables_page, 0, &idt)?;
        let tss = area + layout::AREA_TABLES + tables::TSS;
        put_words(tables_page, tables::GDT, &tables::gdt(tss))?;
        let events = area + layout::AREA_EVENTS;
        put(
            tables_page,
            tables::TSS,
            &tables::tss(
                events + layout::EXCEPTION_SLOT_END,
                events + layout::INTERRUPT_SLOT_END,
                area + layout::AREA_STACKS,
            ),
        )?;
    }

    Ok(places(kind))
}

/// Where the monitor's parts are, whether they are installed or not.
pub fn places(kind: Option<KvmKind>) -> Installed {
    let area = layout::vcpu_area(0);
    let points = &code::code().points;
    Installed {
        kernel_view: page(KERNEL_DIRECTORY),
        user_view: page(USER_DIRECTORY),
        shared: page(part(layout::AREA_SHARED)),
        ring: page(part(layout::AREA_RING)),
        syscall_target_32: area + points.syscall,
        syscall_target: match kind {
            Some(KvmKind::Hardware) => area + points.syscall,
            _ => layout::PAD_PAGE + layout::PAD_SYSCALL,
        },
        call_done: area + points.call_done,
    }
}

/// The number of the page that has an offset of the vCPU's area.
const fn part(offset: u64) -> u64 {
    AREAS + offset / 4096
}

/// An `iretq` frame to CPL 3.
fn user_frame(rip: u64, rflags: u64, rsp: u64) -> [u64; 5] {
    [
        rip,
        u64::from(layout::USER_CS),
        rflags,
        rsp,
        u64::from(layout::USER_SS),
    ]
}

/// The two page directories, each with its table of the window.
fn views(put_words: &impl Fn(u64, u64, &[u64]) -> Result<(), HostError>) -> Result<(), HostError> {
    let index = |at: u64| (at >> 12 & 511) as usize;
    let mut kernel = [0u64; 512];
    let mut user = [0u64; 512];
    kernel[index(layout::HYPERCALL_PAGE)] = page(HYPERCALL) | PRESENT | USER;
    kernel[index(layout::DOORBELL_PAGE)] =
        layout::DOORBELL_PHYS | PRESENT | WRITE | USER | UNCACHED | NO_EXECUTE;
    kernel[index(layout::APIC_PAGE)] =
        layout::APIC_PHYS | PRESENT | WRITE | USER | UNCACHED | NO_EXECUTE;
    for view in [&mut kernel, &mut user] {
        view[index(layout::PAD_PAGE)] = page(PADS) | PRESENT | USER;
    }
    let rw = PRESENT | WRITE | NO_EXECUTE;
    for (offset, in_kernel, in_user) in [
        (layout::AREA_CODE, PRESENT, PRESENT),
        (layout::AREA_CODE + 4096, PRESENT, PRESENT),
        (layout::AREA_TABLES, rw, rw),
        (layout::AREA_PRIVATE, rw, rw),
        (layout::AREA_EVENTS, rw | USER, rw),
        (layout::AREA_SHARED, rw | USER, rw),
        (layout::AREA_RING, rw | USER, rw),
        (layout::AREA_USER, rw | USER, PRESENT | USER | NO_EXECUTE),
        (layout::AREA_STACKS, rw, rw),
    ] {
        let at = page(AREAS + offset / 4096);
        kernel[index(layout::vcpu_area(0) + offset)] = at | in_kernel;
        user[index(layout::vcpu_area(0) + offset)] = at | in_user;
    }
    put_words(KERNEL_TABLE, 0, &kernel)?;
    put_words(USER_TABLE, 0, &user)?;
    let slot = (layout::WINDOW >> 21 & 511) * 8;
    put_words(
        KERNEL_DIRECTORY,
        slot,
        &[page(KERNEL_TABLE) | PRESENT | WRITE | USER],
    )?;
    put_words(
        USER_DIRECTORY,
        slot,
        &[page(USER_TABLE) | PRESENT | WRITE | USER],
    )
}

/// Prepare the frames that the monitor bounces events through, to entries from `first` on, which
/// `machine` has checked.
pub fn set_event_entries(memory: &Memory, first: GuestVirt) -> Result<(), HostError> {
    let scratch = layout::vcpu_area(0) + layout::AREA_EVENTS + layout::SCRATCH_END;
    put_frames(memory, |entry| {
        (first.0 + entry * layout::ENTRY_STRIDE, scratch)
    })
}

/// Until the kernel has named its entries, every event leads to the pad that reports it, with the
/// entry's number for a stack pointer.
fn no_event_entries(memory: &Memory) -> Result<(), HostError> {
    put_frames(memory, |entry| {
        (layout::PAD_PAGE + layout::PAD_NO_ENTRIES, entry)
    })
}

/// Write the frame of each entry, of the `rip` and `rsp` that `to` gives.
fn put_frames(memory: &Memory, to: impl Fn(u64) -> (u64, u64)) -> Result<(), HostError> {
    let frames: Vec<u8> = (0..layout::ENTRIES)
        .flat_map(|entry| {
            // Interrupts arrive with IF = 0, exceptions with IF = 1 under `hold.event`; see
            // docs/abi.md, "Events".
            let is_interrupt = (32..layout::ENTRY_VECTORS).contains(&entry);
            let (rip, rsp) = to(entry);
            user_frame(rip, if is_interrupt { 0x002 } else { 0x202 }, rsp)
        })
        .flat_map(u64::to_le_bytes)
        .collect();
    memory.put(
        page(AREAS + layout::AREA_PRIVATE / 4096) + code::FRAMES,
        &frames,
    )
}

/// What an event interrupted, from the frame that the processor has stored of it.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    /// The instruction.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
}

/// What the last event of an entry's kind interrupted.
pub fn interrupted(memory: &Memory, entry: u64) -> Interrupted {
    let slot_end = if (32..layout::ENTRY_VECTORS).contains(&entry) {
        layout::INTERRUPT_SLOT_END
    } else {
        layout::EXCEPTION_SLOT_END
    };
    let word = |from_end: u64| {
        let mut word = [0; 8];
        memory.get(
            page(AREAS) + layout::AREA_EVENTS + slot_end - from_end,
            &mut word,
        );
        u64::from_le_bytes(word)
    };
    Interrupted {
        rip: word(40),
        rflags: word(24),
        rsp: word(16),
    }
}
