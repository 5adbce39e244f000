//! The kernel heap: talc, fed with runs of frames of the direct map.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use hypercall_abi::types::PAGE_SIZE;
use talc::DefaultBinning;
use talc::base::binning::Binning;
use talc::base::{CHUNK_UNIT, Talc};
use talc::source::Source;

use super::direct::to_virt;
use super::frames;
use crate::sync::SpinLock;

/// The heap grows by at least this many frames.
const GROWTH: u64 = 16;

/// What the heap holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapUse {
    /// Taken from the frame allocator.
    pub claimed: u64,
    /// Handed out.
    pub used: u64,
}

/// Where the heap's memory comes from.
#[derive(Debug)]
struct FrameSource {
    /// The end of the part that was added last: the next frames may continue it.
    end: Option<NonNull<u8>>,
    claimed: u64,
}

// SAFETY: `end` points to the heap's own end, which only the heap that owns this source uses.
unsafe impl Send for FrameSource {}

// SAFETY: `acquire` uses the frame allocator alone, which never allocates from the heap.
unsafe impl Source for FrameSource {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let frames = growth::<B>(talc.is_metadata_established(), layout).ok_or(())?;
        let run = frames::take_run(frames, 1).ok_or(())?;
        let base = to_virt(run.start().0) as *mut u8;
        let len = (frames * PAGE_SIZE) as usize;
        let end = match talc.source.end.filter(|end| end.as_ptr() == base) {
            // SAFETY: these frames are the heap's alone from here on, and follow its last part.
            Some(end) => unsafe { Some(talc.extend(end, base.wrapping_add(len))) },
            // SAFETY: as above; the direct map holds them.
            None => unsafe { talc.claim(base, len) },
        };
        if end.is_none() {
            frames::put_run(run, frames);
            return Err(());
        }
        talc.source.end = end;
        talc.source.claimed += frames * PAGE_SIZE;
        Ok(())
    }
}

/// How many frames make an allocation of this layout possible.
fn growth<B: Binning>(has_metadata: bool, layout: Layout) -> Option<u64> {
    let metadata = match has_metadata {
        true => 0,
        false => talc::min_first_heap_size::<B>(),
    };
    // Two chunks around the allocation, and one for the new part's own tags.
    let bytes = layout
        .size()
        .checked_add(layout.align())?
        .checked_add(3 * CHUNK_UNIT + metadata)?;
    let pages = (bytes as u64).div_ceil(PAGE_SIZE);
    Some(pages.max(GROWTH))
}

/// The heap behind `alloc`.
struct KernelHeap(SpinLock<Heap>);

struct Heap {
    talc: Talc<FrameSource, DefaultBinning>,
    used: u64,
}

#[cfg_attr(not(test), global_allocator)]
static HEAP: KernelHeap = KernelHeap(SpinLock::new(Heap {
    talc: Talc::new(FrameSource {
        end: None,
        claimed: 0,
    }),
    used: 0,
}));

// SAFETY: talc hands out memory of the layout once until it is given back; the lock makes one
// context at a time use it, interrupt handlers included.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.0.lock();
        // SAFETY: the caller of `alloc` asks for a nonzero size.
        match unsafe { heap.talc.allocate(layout) } {
            Some(at) => {
                heap.used += layout.size() as u64;
                at.as_ptr()
            }
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let mut heap = self.0.lock();
        heap.used -= layout.size() as u64;
        // SAFETY: the caller of `dealloc` got `at` from `alloc` with this layout.
        unsafe { heap.talc.deallocate(at, layout) };
    }
}

/// What the heap holds.
pub fn heap_use() -> HeapUse {
    let heap = HEAP.0.lock();
    HeapUse {
        claimed: heap.talc.source.claimed,
        used: heap.used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_grows_by_what_the_allocation_needs() {
        let small = Layout::new::<u64>();
        assert_eq!(growth::<DefaultBinning>(true, small), Some(GROWTH));
        let large = Layout::from_size_align(1 << 20, 4096).unwrap();
        assert_eq!(growth::<DefaultBinning>(true, large), Some(258));
        let huge = Layout::from_size_align(isize::MAX as usize - 15, 16).unwrap();
        assert!(growth::<DefaultBinning>(false, huge).is_some_and(|n| n > 1 << 50));
    }
}
