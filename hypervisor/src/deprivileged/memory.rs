//! The guest's linear memory, through its own page tables; and the words of the shadow's pool.

use std::collections::HashMap;
use std::ops::Range;

use hypercall_abi::{GuestMemory as _, GuestPhys};

use super::copies::Copies;
use super::patching::EVERYWHERE;
use crate::error::HostError;
use crate::machine::cpu::{Cpu, Exception, Linear, Refusal, cr0, efer, is_canonical};
use crate::machine::paging::{Access, PageFault, Paging, Translation, mark, walk};
use crate::machine::shadow::{Backing, Frames, Place, Tables, View};
use crate::memory::Memory;
use crate::monitor::native::layout;

const PAGE: u64 = 4096;
/// Pages that one access of the processor's reaches at most: an FXSAVE area is the longest.
const PAGES: usize = 4;
/// How often a walk begins anew when the tables change under it.
const TRIES: usize = 16;

/// The rules of the virtual processor's paging.
pub fn paging(cpu: &Cpu) -> Paging {
    Paging {
        root: cpu.cr3,
        write_protect: cpu.cr0 & cr0::WP != 0,
        no_execute: cpu.efer & efer::NXE != 0,
        phys_bits: u32::from(cpu.limits.physical_bits),
    }
}

/// Where an address leads for an access; the entries are marked as used.
pub fn translate(
    memory: &Memory,
    cpu: &Cpu,
    at: u64,
    access: Access,
) -> Result<Translation, PageFault> {
    let paging = paging(cpu);
    let mut found = walk(memory, &paging, at, access)?;
    for _ in 0..TRIES {
        if mark(memory, &mut found, access.write) {
            break;
        }
        found = walk(memory, &paging, at, access)?;
    }
    Ok(found)
}

/// Linear memory of the guest's, for one instruction or event.
pub struct GuestLinear<'a> {
    pub memory: &'a Memory,
    pub copies: &'a Copies,
    /// Frames with a copy that were written: the copies are stale.
    pub written: Vec<u64>,
    /// Where the kernel's instructions were fetched last.
    pub code: Option<Page>,
    /// What was done last, and where: a string instruction asks for the same page again and again.
    last: Option<(Access, Page)>,
}

/// Where a linear page leads: as a processor remembers a translation, until the guest flushes it.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    linear: u64,
    phys: u64,
}

impl Page {
    /// The page of an address that leads to `phys`.
    fn of(at: u64, phys: u64) -> Self {
        Self {
            linear: at & !(PAGE - 1),
            phys: phys & !(PAGE - 1),
        }
    }

    /// Whether an address is in it.
    fn has(&self, at: u64) -> bool {
        at & !(PAGE - 1) == self.linear
    }
}

/// The pieces of an access, a page each: physical address, and length.
type Pieces = [(u64, usize); PAGES];

impl<'a> GuestLinear<'a> {
    pub fn new(memory: &'a Memory, copies: &'a Copies) -> Self {
        Self {
            memory,
            copies,
            written: Vec::new(),
            code: None,
            last: None,
        }
    }

    /// Whether the page with code that was fetched from last is of an address, and has a copy that has all of an
    /// instruction there.
    pub fn is_copied(&self, at: u64, len: usize) -> bool {
        let start = (at % PAGE) as usize;
        let code = self.code.filter(|code| code.has(at));
        let bytes = code.and_then(|code| self.copies.original(code.phys, start, start + len));
        bytes.is_some()
    }

    /// Fetch from a page that is remembered.
    fn fetch_known(&self, at: u64, into: &mut [u8]) -> Option<()> {
        let code = self.code.filter(|code| code.has(at))?;
        let start = (at % PAGE) as usize;
        let end = start
            .checked_add(into.len())
            .filter(|end| *end as u64 <= PAGE)?;
        // A copy has the guest's own bytes, too: the page cannot be written meanwhile.
        match self.copies.original(code.phys, start, end) {
            Some(bytes) => into.copy_from_slice(bytes),
            None => self
                .memory
                .read(GuestPhys(code.phys + start as u64), into)
                .ok()?,
        }
        Some(())
    }

    /// Where a canonical address leads, in memory.
    fn find(&mut self, cpu: &Cpu, at: u64, access: Access) -> Result<u64, Refusal> {
        if let Some((done, page)) = self.last
            && done == access
            && page.has(at)
        {
            return Ok(page.phys + at % PAGE);
        }
        let found = translate(self.memory, cpu, at, access)
            .map_err(|fault| Exception::page_fault(fault.code, at))?;
        if !self.memory.is_ram(found.phys) {
            return Err(Refusal::Unsupported("an operand in a device's registers"));
        }
        self.last = Some((access, Page::of(at, found.phys)));
        Ok(found.phys)
    }

    fn pieces(
        &mut self,
        cpu: &Cpu,
        at: u64,
        len: usize,
        access: Access,
    ) -> Result<(Pieces, usize), Refusal> {
        let mut pieces = [(0, 0); PAGES];
        let (mut done, mut count) = (0, 0);
        while done < len {
            let here = at.wrapping_add(done as u64);
            if !is_canonical(here) {
                return Err(Exception::protection(0).into());
            }
            let piece = (len - done).min((PAGE - here % PAGE) as usize);
            let phys = self.find(cpu, here, access)?;
            let slot = pieces.get_mut(count);
            *slot.ok_or(Refusal::Unsupported("an operand of more than three pages"))? =
                (phys, piece);
            count += 1;
            done += piece;
        }
        Ok((pieces, count))
    }

    fn read_as(
        &mut self,
        cpu: &Cpu,
        at: u64,
        into: &mut [u8],
        access: Access,
    ) -> Result<(), Refusal> {
        let pieces = self.pieces(cpu, at, into.len(), access)?;
        self.read_pieces(pieces, into)
    }

    fn read_pieces(
        &self,
        (pieces, count): (Pieces, usize),
        into: &mut [u8],
    ) -> Result<(), Refusal> {
        let mut rest = into;
        for (phys, len) in pieces.into_iter().take(count) {
            let (piece, after) = rest.split_at_mut(len.min(rest.len()));
            self.memory
                .read(GuestPhys(phys), piece)
                .map_err(|_| Refusal::Unsupported("an operand beyond memory"))?;
            rest = after;
        }
        Ok(())
    }
}

const WRITE: Access = Access {
    write: true,
    execute: false,
    user: false,
};

impl Linear for GuestLinear<'_> {
    fn read(&mut self, cpu: &Cpu, at: u64, into: &mut [u8], user: bool) -> Result<(), Refusal> {
        let access = Access {
            user,
            ..Access::default()
        };
        self.read_as(cpu, at, into, access)
    }

    fn write(&mut self, cpu: &Cpu, at: u64, from: &[u8], user: bool) -> Result<(), Refusal> {
        let (pieces, count) = self.pieces(cpu, at, from.len(), Access { user, ..WRITE })?;
        let mut rest = from;
        for (phys, len) in pieces.into_iter().take(count) {
            let (piece, after) = rest.split_at(len.min(rest.len()));
            self.memory
                .write(GuestPhys(phys), piece)
                .map_err(|_| Refusal::Unsupported("an operand beyond memory"))?;
            let frame = phys & !(PAGE - 1);
            if self.copies.page_of(frame).is_some() {
                self.written.push(frame);
            }
            rest = after;
        }
        Ok(())
    }

    fn check_write(&mut self, cpu: &Cpu, at: u64, len: usize, user: bool) -> Result<(), Refusal> {
        self.pieces(cpu, at, len, Access { user, ..WRITE })
            .map(|_| ())
    }

    fn fetch(&mut self, cpu: &Cpu, at: u64, into: &mut [u8], user: bool) -> Result<(), Refusal> {
        let access = Access {
            write: false,
            execute: true,
            user,
        };
        if user {
            return self.read_as(cpu, at, into, access);
        }
        if self.fetch_known(at, into).is_some() {
            return Ok(());
        }
        let (pieces, count) = self.pieces(cpu, at, into.len(), access)?;
        self.code = pieces.first().map(|(phys, _)| Page::of(at, *phys));
        self.read_pieces((pieces, count), into)
    }
}

/// What the frames of guest memory are, with the copies of code.
pub struct Owner<'a> {
    pub memory: &'a Memory,
    pub copies: &'a Copies,
    /// At which linear page a frame with patches is executed: elsewhere its jumps would lead astray.
    pub executed_at: Option<&'a HashMap<u64, u64>>,
    pub shared: u64,
    /// Registers of devices.
    pub devices: &'a [Range<u64>],
}

impl Owner<'_> {
    fn is_executed_at(&self, frame: u64, at: u64) -> bool {
        let page = self.executed_at.and_then(|pages| pages.get(&frame));
        page.is_none_or(|page| *page == at || *page == EVERYWHERE)
    }
}

impl Frames for Owner<'_> {
    fn backing(&mut self, frame: u64, place: Place, view: View, _: Access) -> Backing {
        if frame == self.shared {
            return Backing::Ram {
                phys: frame,
                may_write: true,
                may_execute: false,
            };
        }
        let is_device = self.devices.iter().any(|range| range.contains(&frame));
        if frame == hypercall_abi::layout::APIC_PHYS || is_device {
            return Backing::Device { phys: frame };
        }
        if !self.memory.is_ram(frame) {
            // The monitors' memory is not for the guest; elsewhere there is none.
            return Backing::Device { phys: layout::HOLE };
        }
        match (self.copies.page_of(frame), view) {
            // The kernel executes copies alone; user code is executed as it is.
            (None, view) => Backing::Ram {
                phys: frame,
                may_write: true,
                may_execute: view == View::User,
            },
            // Read at an address where nothing is executed, code is as it is.
            (Some(_), View::Kernel) if !place.may_execute => Backing::Ram {
                phys: frame,
                may_write: false,
                may_execute: false,
            },
            // Its fetch faults, and has it copied anew.
            (Some(_), View::Kernel) if self.copies.is_stale(self.memory, frame) => Backing::Ram {
                phys: frame,
                may_write: false,
                may_execute: false,
            },
            (Some(copy), View::Kernel) => Backing::Ram {
                phys: copy,
                may_write: false,
                may_execute: self.is_executed_at(frame, place.at),
            },
            (Some(_), View::User) => Backing::Ram {
                phys: frame,
                may_write: false,
                may_execute: true,
            },
        }
    }
}

/// The words of the pool of shadow tables.
#[derive(Debug)]
pub struct PoolWords(crate::memory::Words);

impl PoolWords {
    /// The pool of a machine.
    ///
    /// # Errors
    /// [`HostError::Missing`] when the machine has none.
    pub fn new(memory: &Memory) -> Result<Self, HostError> {
        memory
            .words(layout::REGION)
            .map(Self)
            .ok_or(HostError::Missing {
                what: "the pool of shadow page tables",
            })
    }
}

impl Tables for PoolWords {
    fn read(&self, at: u64) -> u64 {
        self.0.read(at).unwrap_or(0)
    }

    fn write(&mut self, at: u64, value: u64) {
        // Outside of the pool nothing is written; the shadow asks for its pool alone.
        let _ = self.0.write(at, value);
    }
}
