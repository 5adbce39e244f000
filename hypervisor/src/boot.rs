//! Places an image and what it boots on into guest memory: segments, page tables, boot information.

use hypercall_abi::boot::{
    ABI_VERSION, BootInfo, ImageKind, ImageNote, MAGIC, MAX_RANGES, NOTE_NAME, NOTE_TYPE, Range,
    feature,
};
use hypercall_abi::{Mode, layout};
use zerocopy::{FromBytes, IntoBytes};

use crate::config::Config;
use crate::deprivileged::{Text, text_of};
use crate::error::HostError;
use crate::loader::{self, ImageError, Placed, Plan, Segment};
use crate::memory::Memory;
use crate::monitor::Installed;

/// Page-table bits (SDM vol. 3, 4.5).
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
/// Accessed and dirty are set from the start, as a kernel of today does: nobody reads them here, and shadow
/// tables need not trap the first use.
const USED: u64 = 0x60;
const ACCESSED: u64 = 0x20;
const LARGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;

/// The boot tables map at most this many gigabytes of memory; the kernel maps the rest itself.
const MAPPED_GIB: u64 = 4;

/// What the processor starts with.
#[derive(Clone, Debug)]
pub struct Start {
    /// The image's entry.
    pub entry: u64,
    /// The boot page tables' root.
    pub root: u64,
    /// The image's code, where nobody may write.
    pub text: Vec<Text>,
    /// Guest-physical, all of the image.
    pub image: std::ops::Range<u64>,
    /// The image.
    pub source: Placed,
}

/// Facts of this virtual machine that the guest learns.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Frequency of the TSC.
    pub tsc_khz: u32,
    /// Frequency of the local APIC's timer.
    pub apic_timer_hz: u64,
}

/// The page tables' root is the first boot table.
pub const ROOT: u64 = layout::BOOT_TABLES;

/// Load an image and all it needs to boot; `command_line` is the configuration's with what the machine adds.
///
/// # Errors
/// [`HostError::Image`] and its like for what is wrong with the configuration.
pub fn load(
    memory: &Memory,
    config: &Config,
    command_line: &str,
    installed: &Installed,
    facts: Facts,
) -> Result<Start, HostError> {
    let name = &config.image_name;
    let image: &[u8] = &config.image;
    let fail = |error: ImageError| HostError::image(name, error);
    let plan = loader::plan(image).map_err(fail)?;
    check_note(image, config)?;

    let low = memory.ram().first().map_or(0, Range::end);
    let ours = 0..layout::LOW_END;
    plan.check_fits(low, std::slice::from_ref(&ours))
        .map_err(fail)?;
    for segment in &plan.segments {
        let bytes = image.get(segment.file.clone()).unwrap_or_default();
        memory.put(segment.phys, bytes)?;
    }
    let kernel = plan.phys_range();
    let initrd = match &config.initrd {
        Some(bytes) => {
            let place = loader::initrd::check(bytes.len() as u64, low, kernel.end).map_err(fail)?;
            memory.put(place.start, bytes)?;
            Range {
                start: place.start,
                len: place.len,
            }
        }
        None => Range::default(),
    };
    let root = tables(memory, &plan, config, installed.kernel_view)?;

    let line = command_line.as_bytes();
    if line.len() >= 4096 {
        return Err(HostError::CommandLine {
            len: line.len(),
            limit: 4095,
        });
    }
    memory.put(layout::COMMAND_LINE, line)?;

    let mut ranges = [Range::default(); MAX_RANGES];
    for (slot, range) in ranges.iter_mut().zip(memory.ram()) {
        *slot = *range;
    }
    let info = BootInfo {
        magic: MAGIC,
        abi_version: ABI_VERSION,
        memory_ranges: memory.ram().len().min(MAX_RANGES) as u32,
        features: feature::ALL,
        memory: ranges,
        kernel: Range {
            start: kernel.start,
            len: kernel.end.saturating_sub(kernel.start),
        },
        initrd,
        command_line: Range {
            start: layout::COMMAND_LINE,
            len: line.len() as u64,
        },
        root,
        shared: installed.shared,
        kernel_view: installed.kernel_view,
        user_view: installed.user_view,
        apic_timer_hz: facts.apic_timer_hz,
        tsc_khz: u64::from(facts.tsc_khz),
        interactive: u64::from(config.interactive),
    };
    memory.put(layout::BOOT_INFO, info.as_bytes())?;
    Ok(Start {
        entry: plan.entry,
        root,
        text: text_of(&plan),
        image: kernel,
        source: Placed {
            image: config.image.clone(),
            plan,
        },
    })
}

/// The image must speak this version, need no more than is offered, and be of the mode's kind.
fn check_note(image: &[u8], config: &Config) -> Result<(), HostError> {
    let name = config.image_name.clone();
    let note = read_note(image).ok_or_else(|| HostError::ImageKind {
        image: name.clone(),
        found: "not a Paravane guest (it has no note named Paravane)",
        needed: "an image that links hypercall-abi's ElfNote into .note.paravane",
        mode: config.mode,
    })?;
    if note.abi_version != ABI_VERSION {
        return Err(HostError::Version {
            image: name,
            theirs: note.abi_version,
            ours: ABI_VERSION,
        });
    }
    let missing = note.features & !feature::ALL;
    if missing != 0 {
        return Err(HostError::Features {
            image: name,
            missing,
        });
    }
    let kinds = [
        (ImageKind::Native, "a native image"),
        (ImageKind::Pv, "a pv image"),
    ];
    let (needed, sentence) = if config.mode == Mode::Pv {
        kinds[1]
    } else {
        kinds[0]
    };
    if note.kind != needed as u32 {
        let found = kinds.iter().find(|(kind, _)| *kind as u32 == note.kind);
        let found = found.map_or("of an unknown kind", |(_, text)| text);
        return Err(HostError::ImageKind {
            image: name,
            found,
            needed: sentence,
            mode: config.mode,
        });
    }
    Ok(())
}

/// The Paravane note of an image, if it has a whole one.
pub fn read_note(image: &[u8]) -> Option<ImageNote> {
    const NAME: &[u8] = NOTE_NAME.split_at(NOTE_NAME.len() - 1).0;
    let file = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(image).ok()?;
    file.segments()?
        .iter()
        .filter(|header| header.p_type == elf::abi::PT_NOTE)
        .filter_map(|header| file.segment_data_as_notes(&header).ok())
        .flatten()
        .find_map(|note| match note {
            elf::note::Note::Unknown(any)
                if any.n_type == u64::from(NOTE_TYPE)
                    && any.name.strip_suffix(b"\0").unwrap_or(any.name) == NAME =>
            {
                ImageNote::read_from_bytes(any.desc).ok()
            }
            _ => None,
        })
}

/// Boot page tables in low memory: the direct map, the image with its segments' permissions, and
/// the monitor.
fn tables(memory: &Memory, plan: &Plan, config: &Config, monitor: u64) -> Result<u64, HostError> {
    let user = if config.mode == Mode::Pv { USER } else { 0 };
    let link = PRESENT | WRITE | ACCESSED | user;
    let mut next = ROOT;
    let mut take = || {
        let table = next;
        next += 4096;
        if next > layout::LOW_END {
            return Err(HostError::BootTables {
                image: config.image_name.clone(),
            });
        }
        Ok(table)
    };
    let (root, high, image, direct) = (take()?, take()?, take()?, take()?);
    let put =
        |table: u64, index: u64, entry: u64| memory.put(table + index * 8, &entry.to_le_bytes());
    let index = |at: u64, level: u32| at >> (12 + 9 * level) & 511;

    put(root, index(layout::DIRECT_MAP, 3), direct | link)?;
    put(root, index(layout::KERNEL_BASE, 3), high | link)?;
    put(high, index(layout::KERNEL_BASE, 2), image | link)?;
    if config.mode == Mode::Pv {
        put(high, index(layout::MONITOR_GIB, 2), monitor | link)?;
    }
    let end = memory
        .ram()
        .last()
        .map_or(0, Range::end)
        .min(MAPPED_GIB << 30);
    let mut table = [0u64; 512];
    for gib in 0..end.div_ceil(1 << 30) {
        let directory = take()?;
        put(direct, index(layout::DIRECT_MAP, 2) + gib, directory | link)?;
        for (slot, entry) in table.iter_mut().enumerate() {
            let at = (gib << 30) + ((slot as u64) << 21);
            *entry = if at < end {
                at | link | USED | LARGE | NO_EXECUTE
            } else {
                0
            };
        }
        memory.put(directory, table.as_bytes())?;
    }
    for segment in &plan.segments {
        let pages = segment.virt & !0xfff..segment.virt.saturating_add(segment.mem_len);
        for (page, at) in pages.step_by(4096).enumerate() {
            let mut leaf = [0u8; 8];
            let slot = image + index(at, 1) * 8;
            memory.get(slot, &mut leaf);
            let mut table = u64::from_le_bytes(leaf);
            if table == 0 {
                table = take()? | link;
                memory.put(slot, &table.to_le_bytes())?;
            }
            let phys = (segment.phys & !0xfff) + page as u64 * 4096;
            put(
                table & !0xfff,
                index(at, 0),
                phys | permissions(segment) | user,
            )?;
        }
    }
    Ok(root)
}

fn permissions(segment: &Segment) -> u64 {
    let write = if segment.flags.write { WRITE } else { 0 };
    let execute = if segment.flags.execute { 0 } else { NO_EXECUTE };
    PRESENT | USED | write | execute
}

const _: () = assert!(layout::BOOT_INFO + 4096 <= layout::COMMAND_LINE);
