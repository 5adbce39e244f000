//! Memory for `virtio-drivers`: rings in frames of their own, and the guest-physical addresses of buffers.

use core::ptr::NonNull;

use hypercall_abi::Frame;
use hypercall_abi::types::PAGE_SIZE;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use crate::mm;
use crate::mm::dma::DmaBuffer;

/// The kernel.
#[derive(Debug)]
pub struct KernelHal;

// SAFETY: `dma_alloc` hands out frames of zeros that nobody else has, through the direct map, page-aligned, until
// `dma_dealloc` takes them back; no device register is reached through here.
unsafe impl Hal for KernelHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let Some(buffer) = DmaBuffer::new(pages * PAGE_SIZE as usize) else {
            // The crate takes address 0 for "there is none".
            return (0, NonNull::dangling());
        };
        let (first, _) = buffer.into_parts();
        let phys = first.start().0;
        match NonNull::new(mm::to_virt(phys) as *mut u8) {
            Some(at) => (phys, at),
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(phys: PhysAddr, _: NonNull<u8>, pages: usize) -> i32 {
        let parts = (Frame(phys / PAGE_SIZE), pages as u64);
        // SAFETY: the caller's: they are what `dma_alloc` has handed out, and not in use.
        drop(unsafe { DmaBuffer::from_parts(parts) });
        0
    }

    unsafe fn mmio_phys_to_virt(phys: PhysAddr, size: usize) -> NonNull<u8> {
        // The PCI transport alone asks for this.
        let at = mm::map_mmio(phys, size as u64) as *mut u8;
        NonNull::new(at).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        if let Some(phys) = direct(buffer) {
            return phys;
        }
        // On a stack, whose pages are anywhere: a frame of its own stands for it meanwhile.
        let Some(mut bounce) = DmaBuffer::new(buffer.len()) else {
            panic!(
                "no memory for {} bytes that a device is to reach",
                buffer.len()
            );
        };
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller's: it is valid, and nobody else uses it now.
            let from = unsafe { buffer.as_ref() };
            if let Some(to) = bounce.get_mut(..from.len()) {
                to.copy_from_slice(from);
            }
        }
        bounce.into_parts().0.start().0
    }

    unsafe fn unshare(phys: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direct(buffer).is_some() {
            return;
        }
        let pages = (buffer.len() as u64).div_ceil(PAGE_SIZE).max(1);
        // SAFETY: `share` has given these frames away for this buffer, and the device is done with them.
        let bounce = unsafe { DmaBuffer::from_parts((Frame(phys / PAGE_SIZE), pages)) };
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: the caller's: it is valid, and nobody else uses it now.
            let to = unsafe { buffer.as_mut() };
            if let Some(from) = bounce.get(..to.len()) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// The address of what is adjacent in memory: heap, image, and DMA buffers.
fn direct(buffer: NonNull<[u8]>) -> Option<u64> {
    mm::to_phys(buffer.cast::<u8>().as_ptr() as u64)
}
