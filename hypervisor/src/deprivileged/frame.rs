//! The frame that an event of the guest left in the monitor's slot, and the way back through it.

use hypercall_abi::layout::{USER_CS, USER_SS};

use crate::error::HostError;
use crate::machine::shadow::Edit;
use crate::memory::Memory;
use crate::monitor::native::layout::{
    self, EDITS_PAGE, FAST, FAST_RAX, FRAME_PAGE, ROOT, SLOT_END,
};
use crate::monitor::native::{Stub, points};

/// The bits of RFLAGS that are the guest's own at CPL 3: CF PF AF ZF SF TF IF DF OF NT RF AC ID. IOPL and
/// VM stay the machine's (SDM vol. 1, 3.4.3).
const FLAGS: u64 = 0x25_4fd5;
/// Bit 1 of RFLAGS is always set.
const FIXED: u64 = 2;

/// What the processor stored of the interrupted context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The error code, where the event has one; otherwise an older event's.
    pub error: u64,
    /// The instruction.
    pub rip: u64,
    /// Its code selector: CPL 0 only for an event in `idle`.
    pub cs: u64,
    /// The flags.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
}

/// The frame of a vector: in the slot, but for #DB, which has a stack of its own.
fn read(memory: &Memory, vector: u8) -> Frame {
    const DEBUG: u8 = 1;
    let end = match vector {
        DEBUG => layout::phys(layout::STACKS) + 0x1000,
        _ => layout::phys(FRAME_PAGE) + SLOT_END,
    };
    let mut bytes = [0; 48];
    // The monitor's page is always there.
    memory.get(end - 48, &mut bytes);
    let word = |index: usize| {
        let bytes = bytes.get(index * 8..index * 8 + 8);
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    Frame {
        error: word(0),
        rip: word(1),
        cs: word(2),
        rflags: word(3),
        rsp: word(4),
    }
}

/// Where the monitor is entered, and with what stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// RIP, at CPL 0.
    pub rip: u64,
    /// RSP, at CPL 0.
    pub rsp: u64,
}

/// Have the monitor go on with the guest: at `rip`, with these flags and this stack. `fast`: which of
/// the guest's traps it may handle by itself from there on (see [`layout::FAST`]);
/// `None` where it never does.
///
/// # Errors
/// [`HostError`], when the monitor's pages cannot be written.
pub fn resume(
    memory: &Memory,
    rip: u64,
    rflags: u64,
    rsp: u64,
    fast: Option<u32>,
) -> Result<Entry, HostError> {
    if let Some(fast) = fast {
        memory.put(layout::phys(FRAME_PAGE) + FAST, &fast.to_le_bytes())?;
    }
    let words = [
        rip,
        u64::from(USER_CS),
        rflags & FLAGS | FIXED,
        rsp,
        u64::from(USER_SS),
    ];
    let mut bytes = [0; 40];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    memory.put(layout::phys(FRAME_PAGE) + SLOT_END - 40, &bytes)?;
    Ok(Entry {
        rip: at(points().resume),
        rsp: layout::linear(FRAME_PAGE) + SLOT_END - 40,
    })
}

/// As a way back that [`resume`] has prepared, but load a root first.
///
/// # Errors
/// As [`resume`].
pub fn with_root(memory: &Memory, root: u64) -> Result<Entry, HostError> {
    memory.put(layout::phys(FRAME_PAGE) + ROOT, &root.to_le_bytes())?;
    Ok(Entry {
        rip: at(points().resume_root),
        rsp: 0,
    })
}

/// As [`with_root`], but make edits before that, and `end` the interrupt that is in service; `rax` and
/// `rdi` are the guest's.
///
/// # Errors
/// As [`resume`].
pub fn with_edits(
    memory: &Memory,
    root: u64,
    edits: &[Edit],
    end: bool,
    rax: u64,
    rdi: u64,
) -> Result<Entry, HostError> {
    with_root(memory, root)?;
    let list = edits.iter().flat_map(|edit| {
        [
            layout::pool_linear(edit.entry),
            edit.value,
            // An address that is not canonical would fault here; it has no translation either.
            edit.linear,
        ]
    });
    let bytes: Vec<u8> = list
        .chain([0, rax, rdi])
        .flat_map(u64::to_le_bytes)
        .collect();
    memory.put(layout::phys(EDITS_PAGE), &bytes)?;
    Ok(Entry {
        rip: at(match end {
            true => points().end_and_edits,
            false => points().resume_edits,
        }),
        rsp: layout::linear(EDITS_PAGE),
    })
}

/// Have the monitor sleep, and `end` the interrupt that is in service before.
pub fn idle(end: bool) -> Entry {
    Entry {
        rip: at(match end {
            true => points().end_and_idle,
            false => points().idle,
        }),
        rsp: layout::linear(layout::STACKS) + 4096,
    }
}

fn at(offset: u64) -> u64 {
    layout::linear(layout::CODE) + offset
}

/// What the guest left for, and the frame of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// An exception or an interrupt.
    Event(u8, Frame),
    /// An interrupt arrived while the monitor was about to let interrupts in for the guest: the frame
    /// is that of the guest's STI, which is still to be done.
    Window(u8, Frame, u64),
    /// A system call: its frame has no use, RCX and R11 have what SYSCALL stored.
    Syscall {
        /// The stack pointer.
        rsp: u64,
    },
    /// A system call of 32-bit code.
    Syscall32,
    /// Sleep ended.
    Awake(Option<u8>),
}

/// Why the guest left, by where the monitor was when it did and with what stack pointer.
pub fn left(memory: &Memory, rip: u64, rsp: u64, was_asleep: bool) -> Option<Left> {
    let pad = layout::linear(layout::PAD);
    Some(match Stub::at(rip)? {
        Stub::Vector(vector) if was_asleep => Left::Awake(Some(vector)),
        Stub::Idle => Left::Awake(None),
        Stub::Vector(vector) => {
            // Nested in the #GP of a guest's STI: below that frame, which has an error code.
            const NESTED: u64 = layout::linear(FRAME_PAGE) + SLOT_END - 48 - 40;
            if rsp == NESTED && vector >= 32 {
                let mut rax = [0; 8];
                memory.get(layout::phys(FRAME_PAGE) + FAST_RAX, &mut rax);
                let frame = read(memory, 13);
                return Some(Left::Window(vector, frame, u64::from_le_bytes(rax)));
            }
            let frame = read(memory, vector);
            match vector {
                3 if frame.rip == pad + 1 => Left::Syscall { rsp: frame.rsp },
                _ => Left::Event(vector, frame),
            }
        }
        Stub::Syscall => Left::Syscall { rsp },
        Stub::Syscall32 => Left::Syscall32,
    })
}
