//! Guest memory: one anonymous mapping each for memory below and beyond the device hole, and one
//! for the monitor, which is not part of what a guest may name in a call.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::boot::Range;
use hypercall_abi::{CallError, GuestMemory as _, GuestPhys, layout};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use virtio_devices::memory::{self as copying, OutOfRange};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    VolatileMemory,
};
use zerocopy::IntoBytes;

use crate::error::HostError;
use crate::machine::paging::Physical;
use crate::monitor;

/// The largest guest memory, in bytes.
const MAX: u64 = 256 << 30;
/// The smallest guest memory, in bytes.
const MIN: u64 = 8 << 20;

/// The memory of one virtual machine.
#[derive(Debug)]
pub struct Memory {
    all: GuestMemoryMmap,
    ram: Vec<Range>,
}

impl Memory {
    /// Map `bytes` of guest memory, and the monitor's pages.
    ///
    /// # Errors
    /// [`HostError::MemorySize`] and [`HostError::Memory`].
    pub fn new(bytes: u64) -> Result<Self, HostError> {
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
            regions.push(map(*range)?);
        }
        regions.push(map(Range {
            start: layout::MONITOR_PHYS,
            len: monitor::PAGES * 4096,
        })?);
        regions.sort_by_key(|region| region.start_addr());
        let all = GuestMemoryMmap::from_regions(regions).map_err(|error| HostError::Memory {
            bytes,
            source: io::Error::other(error),
        })?;
        Ok(Self { all, ram })
    }

    /// Give the memory to a virtual machine.
    ///
    /// # Errors
    /// [`HostError::Kvm`].
    pub fn register(&self, vm: &VmFd) -> Result<(), HostError> {
        for (slot, region) in self.all.iter().enumerate() {
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the mapping is `self`'s, which `Vm` keeps until its file descriptors are
            // closed (field order there), and the ranges do not overlap (`new`).
            unsafe { vm.set_user_memory_region(region) }
                .map_err(HostError::kvm("register guest memory"))?;
        }
        Ok(())
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

/// Map a range, with huge pages where the host has them.
fn map(range: Range) -> Result<GuestRegionMmap, HostError> {
    let fail = |source| HostError::Memory {
        bytes: range.len,
        source,
    };
    let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let region = MmapRegionBuilder::new(range.len as usize)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(flags)
        .build()
        .map_err(|error| fail(io::Error::other(error)))?;
    if range.len >= 2 << 20 {
        // SAFETY: the range is the mapping just made. Advice: a failure changes nothing but speed.
        unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE) };
    }
    GuestRegionMmap::new(region, GuestAddress(range.start))
        .ok_or_else(|| fail(io::Error::other("the range ends beyond the address space")))
}
