//! The unsafe room: system calls straight on guest memory. Called by block engines. Never knows
//! requests.
//!
//! Why it is sound. The only pointers here are those of an [`IoVecs`], which points into mappings of
//! guest memory and keeps them mapped by its own clone of `GuestMemoryMmap`, or at zeros that are
//! only read. The guest may change that memory at any time; no Rust reference to it exists, the
//! kernel alone touches it. A [`Ring`] owns the `IoVecs` of all that is in flight: it changes none of
//! them until its completion has come, and frees none before that.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use crate::chain::Buffer;
use crate::memory::OutOfRange;

/// The most pieces of one system call (IOV_MAX, see `sysconf(3)`).
const MAX_PIECES: usize = libc::UIO_MAXIOV as usize;
/// The most bytes that one step writes of zeros.
const MAX_ZEROS: usize = 1 << 20;

/// Zeros to write, aligned for direct I/O.
#[repr(align(4096))]
struct Zeros([u8; 1 << 16]);
static ZEROS: Zeros = Zeros([0; 1 << 16]);

/// Pieces of guest memory, as system calls take them.
pub struct IoVecs {
    memory: GuestMemoryMmap,
    pieces: Vec<libc::iovec>,
    /// How many pieces are done with.
    done: usize,
    is_zeros: bool,
}

// SAFETY: the pointers are into `memory`, which is Send, or at a static. They are not used through
// references, so the thread that uses them does not matter.
unsafe impl Send for IoVecs {}

impl IoVecs {
    /// No pieces yet.
    #[must_use]
    pub fn new(memory: GuestMemoryMmap) -> Self {
        IoVecs {
            memory,
            pieces: Vec::new(),
            done: 0,
            is_zeros: false,
        }
    }

    /// Become the pieces of buffers.
    ///
    /// # Errors
    /// [`OutOfRange`] for a buffer that is not in memory.
    pub fn set(&mut self, buffers: &[Buffer]) -> Result<(), OutOfRange> {
        self.clear();
        for buffer in buffers {
            for slice in self.memory.get_slices(buffer.at, buffer.len as usize) {
                let slice = slice.map_err(|_| OutOfRange {
                    at: buffer.at.0,
                    len: buffer.len.into(),
                })?;
                self.pieces.push(libc::iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                    iov_len: slice.len(),
                });
            }
        }
        Ok(())
    }

    /// Become zeros to write, `len` bytes or as many as one step may take.
    pub fn set_zeros(&mut self, len: u64) {
        self.clear();
        self.is_zeros = true;
        let mut left = usize::try_from(len).unwrap_or(MAX_ZEROS).min(MAX_ZEROS);
        while left > 0 {
            let iov_len = left.min(ZEROS.0.len());
            self.pieces.push(libc::iovec {
                iov_base: ZEROS.0.as_ptr().cast_mut().cast(),
                iov_len,
            });
            left -= iov_len;
        }
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.done = 0;
        self.is_zeros = false;
    }

    /// Whether nothing is left to move.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done >= self.pieces.len()
    }

    /// Leave out bytes that were moved.
    pub fn advance(&mut self, bytes: usize) {
        let mut left = bytes;
        for piece in self.pieces.iter_mut().skip(self.done) {
            if left < piece.iov_len {
                // Still inside the piece.
                piece.iov_base = piece.iov_base.wrapping_byte_add(left);
                piece.iov_len -= left;
                return;
            }
            left -= piece.iov_len;
            self.done += 1;
        }
    }

    /// Whether every piece starts and ends at a multiple of `alignment`, which direct I/O asks for.
    #[must_use]
    pub fn is_aligned(&self, alignment: usize) -> bool {
        let is = |piece: &libc::iovec| {
            (piece.iov_base as usize).is_multiple_of(alignment)
                && piece.iov_len.is_multiple_of(alignment)
        };
        self.window().iter().all(is)
    }

    /// The pieces that the next system call takes.
    fn window(&self) -> &[libc::iovec] {
        let rest = self.pieces.get(self.done..).unwrap_or_default();
        rest.get(..MAX_PIECES).unwrap_or(rest)
    }

    /// What the kernel may write to: never the zeros.
    fn writable(&self) -> io::Result<&[libc::iovec]> {
        if self.is_zeros {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.window())
    }
}

/// Read a file into guest memory; returns how many bytes.
///
/// # Errors
/// As preadv(2).
pub fn read_at(file: &File, io: &IoVecs, at: u64) -> io::Result<usize> {
    let (pieces, at) = (io.writable()?, offset(at)?);
    // SAFETY: the pieces are in memory that `io` keeps mapped; see the module.
    let count = unsafe {
        libc::preadv(
            file.as_raw_fd(),
            pieces.as_ptr(),
            pieces.len() as libc::c_int,
            at,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Write guest memory, or zeros, to a file, through to its disk if `is_durable`; returns how many
/// bytes.
///
/// # Errors
/// As pwritev2(2).
pub fn write_at(file: &File, io: &IoVecs, at: u64, is_durable: bool) -> io::Result<usize> {
    let (pieces, at) = (io.window(), offset(at)?);
    let flags = if is_durable { libc::RWF_DSYNC } else { 0 };
    // SAFETY: the pieces are in memory that `io` keeps mapped, and are only read; see the module.
    let count = unsafe {
        libc::pwritev2(
            file.as_raw_fd(),
            pieces.as_ptr(),
            pieces.len() as libc::c_int,
            at,
            flags,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Take one frame off a tap or a socket, straight into guest memory; returns its length, or how much
/// of it found room.
///
/// # Errors
/// As readv(2).
pub fn read_frame(file: &File, io: &IoVecs) -> io::Result<usize> {
    let pieces = io.writable()?;
    // SAFETY: as in `read_at`.
    let count = unsafe {
        libc::readv(
            file.as_raw_fd(),
            pieces.as_ptr(),
            pieces.len() as libc::c_int,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Put one frame out, straight from guest memory; returns its length.
///
/// # Errors
/// As writev(2).
pub fn write_frame(file: &File, io: &IoVecs) -> io::Result<usize> {
    let pieces = io.window();
    // SAFETY: as in `write_at`.
    let count = unsafe {
        libc::writev(
            file.as_raw_fd(),
            pieces.as_ptr(),
            pieces.len() as libc::c_int,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Become, or make, the tap interface `name` of a freshly opened `/dev/net/tun`: whole Ethernet
/// frames, each behind a virtio header.
///
/// # Errors
/// `InvalidInput` for a name that is too long, else as the TUNSETIFF request.
pub fn become_tap(file: &File, name: &str) -> io::Result<()> {
    // SAFETY: a structure of integers and unions of them, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The name ends with a zero.
    if name.len() >= request.ifr_name.len() || name.bytes().any(|byte| byte == 0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    // The flags fit: see if_tun.h.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    done(result)
}

/// Set the length of a tap's virtio header, in bytes.
///
/// # Errors
/// As the TUNSETVNETHDRSZ request.
pub fn set_tap_header(file: &File, len: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
    done(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })
}

/// Say what a tap may leave to its reader: TUN_F_ flags.
///
/// # Errors
/// As the TUNSETOFFLOAD request.
pub fn set_tap_offloads(file: &File, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    done(unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(flags),
        )
    })
}

fn done(result: libc::c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An offset as system calls take it.
fn offset(at: u64) -> io::Result<libc::off_t> {
    at.try_into()
        .map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

/// What a [`Ring`] can do; offsets and lengths in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Into the slot's pieces.
    Read {
        /// Where in the file.
        at: u64,
    },
    /// From the slot's pieces, through to the disk if `is_durable`.
    Write {
        /// Where in the file.
        at: u64,
        /// Whether the completion means that the data is on the disk.
        is_durable: bool,
    },
    /// fdatasync(2).
    Sync,
    /// fallocate(2).
    Allocate {
        /// FALLOC_FL_ flags.
        mode: i32,
        /// Where in the file.
        at: u64,
        /// How much.
        len: u64,
    },
}

/// An io_uring with slots: one operation a slot at a time, each with its own pieces.
pub struct Ring {
    ring: IoUring,
    slots: Vec<Slot>,
    in_flight: usize,
}

struct Slot {
    io: IoVecs,
    /// Kept open until the operation has completed.
    file: Option<Arc<File>>,
}

impl Ring {
    /// A ring with a number of slots.
    ///
    /// # Errors
    /// As io_uring_setup(2); ENOSYS or EPERM where the host has none to give.
    pub fn new(slots: u16, memory: &GuestMemoryMmap) -> io::Result<Ring> {
        let slot = |_| Slot {
            io: IoVecs::new(memory.clone()),
            file: None,
        };
        Ok(Ring {
            ring: IoUring::new(slots.max(1).into())?,
            slots: (0..slots).map(slot).collect(),
            in_flight: 0,
        })
    }

    /// A descriptor that is readable while there are completions.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// How many slots are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The pieces of a slot, unless it is in flight.
    pub fn pieces(&mut self, slot: usize) -> Option<&mut IoVecs> {
        let slot = self.slots.get_mut(slot)?;
        slot.file.is_none().then_some(&mut slot.io)
    }

    /// Queue an operation for a slot; [`Ring::submit`] starts it.
    ///
    /// # Errors
    /// `InvalidInput` for a slot that is in flight, or is none.
    pub fn push(&mut self, slot: usize, file: &Arc<File>, what: Operation) -> io::Result<()> {
        let index = slot;
        let slot = self.slots.get_mut(slot);
        let slot = slot.filter(|slot| slot.file.is_none());
        let slot = slot.ok_or(io::ErrorKind::InvalidInput)?;
        let fd = types::Fd(file.as_raw_fd());
        let entry = match what {
            Operation::Read { at } => {
                let pieces = slot.io.writable()?;
                opcode::Readv::new(fd, pieces.as_ptr(), pieces.len() as u32)
                    .offset(at)
                    .build()
            }
            Operation::Write { at, is_durable } => {
                let pieces = slot.io.window();
                let flags = if is_durable { libc::RWF_DSYNC } else { 0 };
                opcode::Writev::new(fd, pieces.as_ptr(), pieces.len() as u32)
                    .offset(at)
                    .rw_flags(flags)
                    .build()
            }
            Operation::Sync => opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Operation::Allocate { mode, at, len } => opcode::Fallocate::new(fd, len)
                .offset(at)
                .mode(mode)
                .build(),
        };
        let entry = entry.user_data(index as u64);
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        // SAFETY: the pieces belong to the slot, whose `file` marks it as in flight from here on:
        // `pieces` and `push` leave it alone until `completed` has seen its completion, and drop
        // waits for that. The guest's memory stays mapped as long as the slot.
        unsafe { self.ring.submission().push(&entry) }
            .map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
        slot.file = Some(Arc::clone(file));
        self.in_flight += 1;
        Ok(())
    }

    /// Start what was queued.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    pub fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        retry(|| self.ring.submit())
    }

    /// Start what was queued, and wait until there is a completion.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    pub fn wait(&mut self) -> io::Result<()> {
        retry(|| self.ring.submit_and_wait(1))
    }

    /// The next completion: its slot, and what the system call would have returned.
    pub fn completed(&mut self) -> Option<(usize, io::Result<usize>)> {
        let entry = self.ring.completion().next()?;
        let index = entry.user_data() as usize;
        if let Some(slot) = self.slots.get_mut(index) {
            slot.file = None;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        let result = usize::try_from(entry.result())
            .map_err(|_| io::Error::from_raw_os_error(entry.result().wrapping_neg()));
        Some((index, result))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.completed().is_none() && self.wait().is_err() {
                // The kernel may still use the slots and the memory: nobody else ever will.
                std::mem::forget(std::mem::take(&mut self.slots));
                return;
            }
        }
    }
}

/// Again after a signal.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    loop {
        match call() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[path = "raw_io_tests.rs"]
mod tests;
