//! Physical memory: a list of free frames, and access to any word through the direct map.

use core::arch::asm;
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::layout;

use crate::cell::OneCpu;

/// Bytes of a frame.
pub const FRAME: u64 = 4096;

/// Where all memory is mapped: by the hypervisor's page tables first, then by the kernel's.
static DIRECT: AtomicU64 = AtomicU64::new(layout::DIRECT_MAP);

/// Frames to give: returned ones first, which are linked by their first word; then fresh ones.
struct Frames {
    returned: u64,
    fresh: u64,
    end: u64,
}

static FRAMES: OneCpu<Frames> = OneCpu::new(Frames {
    returned: 0,
    fresh: 0,
    end: 0,
});

/// A copy of the boot information, which the kernel's own page tables do not map.
pub fn boot_information(at: *const BootInfo) -> BootInfo {
    // SAFETY: the hypervisor entered the kernel with its address. Volatile, as a reference to it
    // would say that it stays.
    unsafe { ptr::read_volatile(at) }
}

/// Take the memory beyond the kernel's image.
pub fn init(boot: &BootInfo) {
    FRAMES.with(|frames| {
        frames.fresh = boot.kernel.end().next_multiple_of(FRAME);
        frames.end = boot.memory[0].end();
    });
}

/// From now on, memory is mapped here.
pub fn set_direct_map(at: u64) {
    DIRECT.store(at, Ordering::Relaxed);
}

fn pointer(at: u64) -> *mut u64 {
    (DIRECT.load(Ordering::Relaxed) + at) as *mut u64
}

/// The command line, in the direct map of now.
pub fn command_line(boot: &BootInfo) -> &'static str {
    let line = boot.command_line;
    // SAFETY: the hypervisor placed the line there; no frame of it is given out.
    let bytes = unsafe { slice::from_raw_parts(pointer(line.start).cast(), line.len as usize) };
    core::str::from_utf8(bytes).unwrap_or("")
}

/// The word at a physical address, a multiple of 8.
pub fn read(at: u64) -> u64 {
    // SAFETY: callers name words of frames and page tables, which the direct map has.
    unsafe { ptr::read_volatile(pointer(at)) }
}

/// Change the word at a physical address, a multiple of 8.
pub fn write(at: u64, value: u64) {
    // SAFETY: as in `read`; the word belongs to the caller's frame, in which no reference lies.
    unsafe { ptr::write_volatile(pointer(at), value) };
}

/// The first word that is not 0, of those from a physical address to before another. One string
/// instruction, as each instruction counts where CPL 0 is interpreted.
pub fn find_used(from: u64, end: u64) -> Option<u64> {
    let start = pointer(from) as u64;
    let (behind, is_zero): (u64, u8);
    // SAFETY: reads the words between; DF is clear. ZF is set beforehand, for no words at all.
    unsafe {
        asm!("cmp eax, eax", "repe scasq", "setz {is_zero}", is_zero = out(reg_byte) is_zero,
            in("rax") 0u64, inout("rdi") start => behind, inout("rcx") (end - from) / 8 => _,
            options(readonly, nostack))
    };
    (is_zero == 0).then(|| from + (behind - start) - 8)
}

/// The byte at a physical address.
pub fn read_byte(at: u64) -> u8 {
    // SAFETY: as in `read`.
    unsafe { ptr::read_volatile(pointer(at).cast()) }
}

/// Copy bytes to a physical address.
pub fn copy(at: u64, bytes: &[u8]) {
    // SAFETY: as in `write`; callers stay inside a frame of theirs.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), pointer(at).cast(), bytes.len()) };
}

/// Take a frame of zeroes: its physical address.
pub fn take() -> u64 {
    let at = FRAMES.with(|frames| {
        if frames.returned != 0 {
            let at = frames.returned;
            frames.returned = read(at);
            return at;
        }
        if frames.fresh == frames.end {
            panic!("out of memory");
        }
        frames.fresh += FRAME;
        frames.fresh - FRAME
    });
    // SAFETY: the frame is nobody's but ours now.
    unsafe { ptr::write_bytes(pointer(at), 0, FRAME as usize / 8) };
    at
}

/// Return a frame that nothing maps any more.
pub fn give(at: u64) {
    FRAMES.with(|frames| {
        write(at, frames.returned);
        frames.returned = at;
    });
}
