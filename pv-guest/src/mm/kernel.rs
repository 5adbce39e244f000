//! The kernel's own address space: how it is built, and how it changes.

use core::ops::Range;

use hypercall_abi::boot::BootInfo;
use hypercall_abi::layout::{KERNEL_BASE, MONITOR_GIB};
use hypercall_abi::types::PAGE_SIZE;
use hypercall_abi::{Frame, GuestPhys};

use super::direct::{DirectMemory, to_virt};
use super::spans::pages_inside;
use super::tables::{Access, TableMemory, Tables};
use super::{DEVICES, Image, MapError, SCRATCH, STACKS, frames};
use crate::hooks;
use crate::sync::SpinLock;

static SPACE: SpinLock<Option<Space>> = SpinLock::new(None);

/// The loaded tables, and what is left of the place for devices.
struct Space {
    tables: Tables<DirectMemory>,
    next_device: u64,
}

/// Build the kernel's tables and load them.
pub(super) fn init(info: &BootInfo, image: &Image) -> Result<(), MapError> {
    let mut tables = Tables::new(DirectMemory, hooks::kernel_pages_are_user())?;
    build(&mut tables, info, image)?;
    if let Some(directory) = hooks::monitor_directory() {
        tables.link(MONITOR_GIB, directory)?;
    }
    hooks::load_root(tables.root());
    *SPACE.lock() = Some(Space {
        tables,
        next_device: DEVICES,
    });
    Ok(())
}

/// Map the image by its parts' rights, and all other memory linearly.
fn build<M: TableMemory>(
    tables: &mut Tables<M>,
    info: &BootInfo,
    image: &Image,
) -> Result<(), MapError> {
    if !image.is_well_placed() {
        return Err(MapError::Misplaced(image.text.start));
    }
    for (part, access) in [
        (&image.text, Access::Execute),
        (&image.rodata, Access::Read),
        (&image.data, Access::Write),
    ] {
        let (len, phys) = (part.end - part.start, part.start - KERNEL_BASE);
        tables.map(part.start, phys, len, access)?;
    }
    let count = usize::try_from(info.memory_ranges).unwrap_or(usize::MAX);
    for memory in info.memory.iter().take(count) {
        let pages = pages_inside(memory);
        map_linear(tables, pages.start..pages.end(), &image.phys())?;
    }
    Ok(())
}

/// Map memory at the direct map, but for a hole in it: the image, so that its text and constants
/// are not writable through an alias.
fn map_linear<M: TableMemory>(
    tables: &mut Tables<M>,
    memory: Range<u64>,
    hole: &Range<u64>,
) -> Result<(), MapError> {
    let before = memory.start..memory.end.min(hole.start);
    let after = memory.start.max(hole.end)..memory.end;
    for part in [before, after] {
        if part.start < part.end {
            let len = part.end - part.start;
            tables.map(to_virt(part.start), part.start, len, Access::Write)?;
        }
    }
    Ok(())
}

/// Work on the kernel's tables.
fn with_tables<R>(work: impl FnOnce(&mut Tables<DirectMemory>) -> R) -> Option<R> {
    let mut space = SPACE.lock();
    space.as_mut().map(|space| work(&mut space.tables))
}

/// The kernel root's physical address; 0 before memory is up.
pub fn root() -> u64 {
    with_tables(|tables| tables.root()).unwrap_or(0)
}

/// Map a frame at a page of the kernel's half of the address space.
///
/// # Errors
/// [`MapError`], also for an address that is not the kernel's.
pub fn map(at: u64, frame: Frame, access: Access) -> Result<(), MapError> {
    if !(STACKS..MONITOR_GIB).contains(&at) {
        return Err(MapError::Misplaced(at));
    }
    let phys = frame.start().0;
    with_tables(|tables| tables.map(at, phys, PAGE_SIZE, access)).ok_or(MapError::NoFrame)?
}

/// Take a page out of what [`map`] mapped, and return its frame.
pub fn unmap(at: u64) -> Option<Frame> {
    if !(STACKS..MONITOR_GIB).contains(&at) {
        return None;
    }
    let phys = with_tables(|tables| tables.unmap(at))??;
    hooks::invalidate_page(at);
    Some(Frame::containing(GuestPhys(phys)))
}

/// The physical address of the entry of a page that [`map`] mapped.
pub(super) fn entry_at(at: u64) -> Option<u64> {
    if !(STACKS..MONITOR_GIB).contains(&at) {
        return None;
    }
    with_tables(|tables| tables.entry(at))?
}

/// The physical address that an address of the kernel leads to.
pub fn translate(at: u64) -> Option<u64> {
    with_tables(|tables| tables.lookup(at))?.map(|mapping| mapping.phys)
}

/// Map a device's registers, uncached, and return their address. They stay mapped.
///
/// # Panics
/// When no room is left: images map a few pages, once, at the start.
pub fn map_mmio(phys: u64, len: u64) -> u64 {
    match map_foreign(phys, len, Access::Device) {
        Ok(at) => at,
        Err(error) => panic!("cannot map the device at {phys:#x}: {error}"),
    }
}

/// As [`map_mmio`], for registers that somebody named at run time.
///
/// # Errors
/// [`MapError`] when no room or no frame is left.
pub fn try_map_mmio(phys: u64, len: u64) -> Result<u64, MapError> {
    map_foreign(phys, len, Access::Device)
}

/// Map memory that is not the guest's own, cached, and return its address: the page that is shared
/// with the hypervisor. It stays mapped.
///
/// # Panics
/// As [`map_mmio`].
pub fn map_shared(phys: u64, len: u64) -> u64 {
    match map_foreign(phys, len, Access::Write) {
        Ok(at) => at,
        Err(error) => panic!("cannot map the shared memory at {phys:#x}: {error}"),
    }
}

fn map_foreign(phys: u64, len: u64, access: Access) -> Result<u64, MapError> {
    let offset = phys % PAGE_SIZE;
    let end = offset
        .checked_add(len)
        .and_then(|bytes| bytes.checked_next_multiple_of(PAGE_SIZE));
    let bytes = end.ok_or(MapError::Misplaced(phys))?;
    let mut space = SPACE.lock();
    let space = space.as_mut().ok_or(MapError::NoFrame)?;
    let at = space.next_device;
    if bytes > SCRATCH - at {
        return Err(MapError::Misplaced(phys));
    }
    space.next_device = at + bytes;
    space.tables.map(at, phys - offset, bytes, access)?;
    Ok(at + offset)
}

/// A second root that maps the kernel like the first, and nothing below it.
///
/// The kernel's upper tables exist once, so what the kernel maps later appears in every root.
#[derive(Debug)]
pub struct Root(Frame);

impl Root {
    /// Make a root.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    pub fn new() -> Result<Self, MapError> {
        let shared = with_tables(Tables::share_upper_half).ok_or(MapError::NoFrame)??;
        Ok(Self(frames::frame_of(shared)))
    }

    /// The root's physical address, for `hooks::load_root`.
    pub fn phys(&self) -> u64 {
        self.0.start().0
    }
}

impl Drop for Root {
    /// The caller has loaded another root by then.
    fn drop(&mut self) {
        frames::put(self.0);
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
