//! Guest memory: one mapping each for memory below and beyond the device hole, and one for the monitors,
//! which is not part of what a guest may name in a call. All are private and anonymous, but for the
//! guest's own where another process serves one of its devices.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::boot::Range;
use hypercall_abi::{CallError, GuestMemory as _, GuestPhys, Mode, layout};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use virtio_devices::memory::{self as copying, OutOfRange};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, VolatileMemory as _,
};
use zerocopy::IntoBytes;

use crate::error::HostError;
use crate::machine::paging::Physical;
use crate::monitor;

/// The largest guest memory, in bytes.
const MAX: u64 = 256 << 30;
/// The smallest guest memory, in bytes.
const MIN: u64 = 8 << 20;
/// The size of a large page.
const HUGE_PAGE: u64 = 2 << 20;

/// Guest memory that its driver gives up: back to the host with it.
pub(crate) struct Spare(GuestMemoryMmap);

impl Spare {
    /// That which devices may reach.
    pub fn of(memory: &Memory) -> Self {
        Self(memory.dma())
    }
}

impl virtio_devices::balloon::Pages for Spare {
    fn give_up(&self, at: GuestAddress, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        discard(&self.0, at, len)
    }
}

/// Give pages of one region back to the host: they read as zeros then.
fn discard(memory: &GuestMemoryMmap, at: GuestAddress, len: usize) -> io::Result<()> {
    let slice = memory.get_slice(at, len).map_err(io::Error::other)?;
    let region = memory.find_region(at);
    let advice = match region.and_then(GuestMemoryRegion::file_offset) {
        // Of pages that others may map, only their file can give them back.
        Some(_) => libc::MADV_REMOVE,
        None => libc::MADV_DONTNEED,
    };
    let at = slice.ptr_guard_mut().as_ptr().cast();
    // SAFETY: get_slice checked that the range is inside one mapping of ours, anonymous or of a file that
    // is nothing but this memory; what it held is what the caller wants gone.
    match unsafe { libc::madvise(at, len, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Who can reach the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This process.
    Private,
    /// This process, and those that it gives the memory's files to. The monitors' pages stay private.
    Shared,
}

/// The memory of one virtual machine. Clones are of the same memory, which is mapped as long as there is one.
#[derive(Clone, Debug)]
pub struct Memory {
    all: GuestMemoryMmap,
    /// What devices may reach: the guest's memory without the monitors'.
    dma: GuestMemoryMmap,
    ram: Vec<Range>,
}

impl Memory {
    /// Map `bytes` of guest memory, private, and the pages of the monitors that a mode needs.
    ///
    /// # Errors
    /// [`HostError::MemorySize`] and [`HostError::Memory`].
    pub fn new(bytes: u64, mode: Mode) -> Result<Self, HostError> {
        Self::with(bytes, mode, Sharing::Private)
    }

    /// As [`Memory::new`], private or shared.
    ///
    /// # Errors
    /// As [`Memory::new`].
    pub fn with(bytes: u64, mode: Mode, sharing: Sharing) -> Result<Self, HostError> {
        if !(MIN..=MAX).contains(&bytes) || !bytes.is_multiple_of(4096) {
            return Err(HostError::MemorySize { bytes });
        }
        let mut ram = vec![Range {
            start: 0,
            len: bytes.min(layout::HOLE_START),
        }];
        if bytes > layout::HOLE_START {
            ram.push(Range {
                start: layout::HOLE_END,
                len: bytes - layout::HOLE_START,
            });
        }
        let mut regions = Vec::new();
        for range in &ram {
            regions.push(Arc::new(map(*range, range.len >= HUGE_PAGE, sharing)?));
        }
        let fail = |error| HostError::Memory {
            bytes,
            source: io::Error::other(error),
        };
        let dma = GuestMemoryMmap::from_arc_regions(regions.clone()).map_err(fail)?;
        let monitors = map(monitor::region(mode), false, Sharing::Private)?;
        regions.push(Arc::new(monitors));
        regions.sort_by_key(|region| region.start_addr());
        let all = GuestMemoryMmap::from_arc_regions(regions).map_err(fail)?;
        Ok(Self { all, dma, ram })
    }

    /// Give the memory to a virtual machine.
    ///
    /// # Errors
    /// [`HostError::Kvm`].
    pub fn register(&self, vm: &VmFd) -> Result<(), HostError> {
        for slot in self.slots() {
            set_slot(vm, slot)?;
        }
        Ok(())
    }

    /// Take the memory region at `start` from a virtual machine and give it back: KVM then forgets
    /// all that it has derived from page tables there. What it holds stays.
    ///
    /// # Errors
    /// [`HostError::Kvm`].
    pub fn renew(&self, vm: &VmFd, start: u64) -> Result<(), HostError> {
        for slot in self.slots().filter(|slot| slot.guest_phys_addr == start) {
            let gone = kvm_userspace_memory_region {
                memory_size: 0,
                ..slot
            };
            set_slot(vm, gone)?;
            set_slot(vm, slot)?;
        }
        Ok(())
    }

    /// KVM's memory slots.
    fn slots(&self) -> impl Iterator<Item = kvm_userspace_memory_region> {
        let regions = self.all.iter().enumerate();
        regions.map(|(slot, region)| kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        })
    }

    /// The memory that devices may reach. It stays mapped as long as somebody has it.
    pub(crate) fn dma(&self) -> GuestMemoryMmap {
        self.dma.clone()
    }

    /// The memory that the guest may use, in ascending order.
    pub fn ram(&self) -> &[Range] {
        &self.ram
    }

    /// The size of the memory that the guest may use, in bytes.
    pub fn ram_bytes(&self) -> u64 {
        self.ram.iter().map(|range| range.len).sum()
    }

    /// The number of the first frame beyond memory.
    pub fn frame_limit(&self) -> u64 {
        self.ram.last().map_or(0, Range::end) / 4096
    }

    /// Have the host back pages of one region now, which are about to be written: quicker than a fault for each. What
    /// the host does not do (Linux does, since 5.14), the faults do.
    pub(crate) fn populate(&self, at: u64, len: u64) {
        let len = usize::try_from(len).unwrap_or(0);
        let Ok(slice) = self.all.get_slice(GuestAddress(at), len) else {
            return;
        };
        let at = slice.ptr_guard_mut().as_ptr().cast();
        // SAFETY: get_slice checked that the range is inside one mapping of ours. Nothing that it holds changes.
        let _ = unsafe { libc::madvise(at, len, libc::MADV_POPULATE_WRITE) };
    }

    /// Write bytes anywhere in the machine, the monitor's pages included.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) -> Result<(), HostError> {
        self.all
            .write_slice(bytes, GuestAddress(at))
            .map_err(|error| HostError::Memory {
                bytes: bytes.len() as u64,
                source: io::Error::other(error),
            })
    }

    /// Read bytes anywhere in the machine, the monitor's pages included.
    pub(crate) fn get(&self, at: u64, into: &mut [u8]) -> bool {
        self.all.read_slice(into, GuestAddress(at)).is_ok()
    }

    /// Whether the guest may use the memory at an address.
    pub(crate) fn is_ram(&self, at: u64) -> bool {
        self.ram
            .iter()
            .any(|range| (range.start..range.end()).contains(&at))
    }

    /// The words of one region. They must not outlive the memory; `Vm` holds both.
    pub(crate) fn words(&self, range: Range) -> Option<Words> {
        let len = usize::try_from(range.len).ok()?;
        let slice = self.all.get_slice(GuestAddress(range.start), len).ok()?;
        let words = slice.ptr_guard_mut().as_ptr().cast_const().cast();
        Some(Words { range, words })
    }

    /// Give pages of one region back to the host: they read as zeros then.
    ///
    /// # Errors
    /// [`HostError::Memory`].
    pub(crate) fn clear(&self, range: Range) -> Result<(), HostError> {
        let fail = |source| HostError::Memory {
            bytes: range.len,
            source,
        };
        let len = usize::try_from(range.len).unwrap_or(usize::MAX);
        discard(&self.all, GuestAddress(range.start), len).map_err(fail)
    }

    /// The host's address of a page of the machine.
    pub(crate) fn host_page(&self, at: u64) -> Option<*mut u8> {
        let slice = self.all.get_slice(GuestAddress(at), 4096).ok()?;
        Some(slice.ptr_guard_mut().as_ptr())
    }

    /// Use a word of the memory that the guest may use, if there is one at the address.
    fn with_word<R>(&self, at: u64, using: impl FnOnce(&AtomicU64) -> R) -> Option<R> {
        self.check(GuestPhys(at), 8).ok()?;
        let slice = self.all.get_slice(GuestAddress(at), 8).ok()?;
        slice.get_atomic_ref::<AtomicU64>(0).ok().map(using)
    }

    /// The monitor's pages are not memory that a call may name.
    fn check(&self, at: GuestPhys, len: usize) -> Result<(), OutOfRange> {
        copying::check(
            at.0,
            len as u64,
            self.ram.iter().map(|range| range.start..range.end()),
        )
    }
}

impl hypercall_abi::GuestMemory for Memory {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<(), CallError> {
        self.check(at, into.len())
            .and_then(|()| copying::copy_in(&self.all, at.0, into))
            .map_err(|OutOfRange { .. }| CallError::BadRange)
    }

    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<(), CallError> {
        self.check(at, from.len())
            .and_then(|()| copying::copy_out(&self.all, at.0, from))
            .map_err(|OutOfRange { .. }| CallError::BadRange)
    }
}

/// Page tables are in memory that the guest may use: the monitor's pages are none to a walk.
impl Physical for Memory {
    fn read_word(&self, at: u64) -> Option<u64> {
        self.with_word(at, |word| word.load(Ordering::Relaxed))
    }

    fn write_word(&self, at: u64, old: u64, new: u64) -> bool {
        let swap = |word: &AtomicU64| {
            word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        self.with_word(at, swap).unwrap_or(false)
    }

    fn read_words(&self, at: u64, into: &mut [u64]) -> bool {
        self.read(GuestPhys(at), into.as_mut_bytes()).is_ok()
    }
}

/// Words of a region of a machine's memory, to be reached quickly.
#[derive(Debug)]
pub struct Words {
    range: Range,
    words: *const AtomicU64,
}

// SAFETY: the words are memory of the machine's mapping, reached by atomic operations alone, and
// nothing is tied to the thread that made the pointer.
unsafe impl Send for Words {}

impl Words {
    fn word(&self, at: u64) -> Option<&AtomicU64> {
        let offset = at.checked_sub(self.range.start)?;
        if offset >= self.range.len || !offset.is_multiple_of(8) {
            return None;
        }
        // SAFETY: `Memory::words` checked that the whole range is one mapping, page aligned, and
        // offset is inside; `Vm` drops this before the memory.
        Some(unsafe { &*self.words.add((offset / 8) as usize) })
    }

    /// The word at an address that is a multiple of 8, in the region.
    pub fn read(&self, at: u64) -> Option<u64> {
        self.word(at).map(|word| word.load(Ordering::Relaxed))
    }

    /// Store a word; false when it is not in the region.
    pub fn write(&self, at: u64, value: u64) -> bool {
        let word = self.word(at);
        word.is_some_and(|word| {
            word.store(value, Ordering::Relaxed);
            true
        })
    }
}

fn set_slot(vm: &VmFd, slot: kvm_userspace_memory_region) -> Result<(), HostError> {
    // SAFETY: `Memory::slots`, which all slots come from, describes mappings of a `Memory`. `Vm` keeps
    // it until its file descriptors are closed (field order there), and the ranges do not overlap
    // (`Memory::new`). A length of 0 removes a slot.
    unsafe { vm.set_user_memory_region(slot) }.map_err(HostError::kvm("register guest memory"))
}

/// A file in memory of this size, for good: who has it may not shorten it, since that would end this process
/// by a signal at its next access.
fn file(len: u64) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("paravane-guest", flags)?;
    ftruncate(&file, len)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Map a range, with huge pages where the host has them.
/// `is_huge`: the first touch of each 2 MiB may clear all of it.
fn map(range: Range, is_huge: bool, sharing: Sharing) -> Result<GuestRegionMmap, HostError> {
    let fail = |source| HostError::Memory {
        bytes: range.len,
        source,
    };
    let builder = MmapRegionBuilder::new(range.len as usize)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE);
    let builder = match sharing {
        Sharing::Private => {
            builder.with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE)
        }
        Sharing::Shared => builder
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::new(file(range.len).map_err(fail)?, 0)),
    };
    let region = builder
        .build()
        .map_err(|error| fail(io::Error::other(error)))?;
    if is_huge {
        // SAFETY: the range is the mapping just made. Advice: a failure changes nothing but speed.
        unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE) };
    }
    GuestRegionMmap::new(region, GuestAddress(range.start))
        .ok_or_else(|| fail(io::Error::other("the range ends beyond the address space")))
}
