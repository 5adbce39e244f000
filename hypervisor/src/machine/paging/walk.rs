//! The walk from the root to a page. Reads guest memory, and writes nothing.

use super::entry::{self, ADDRESS, DIRTY, GLOBAL, NO_EXECUTE, PRESENT, USER, WRITE};
use super::{Access, PageFault, Paging, Path, Physical, Step, Translation};

/// Find where an address leads (SDM vol. 3, 4.5.4), and whether an access is allowed there (4.6).
///
/// The address is canonical: what is not raises #GP, by the caller. An entry outside of memory
/// counts as not present, as under KVM.
///
/// # Errors
/// [`PageFault`], as the processor would raise it. No entry is marked.
pub fn walk(
    memory: &impl Physical,
    paging: &Paging,
    at: u64,
    access: Access,
) -> Result<Translation, PageFault> {
    let fault = |code| Err(page_fault(paging, access, code));
    let mut found = Translation {
        phys: 0,
        page_bytes: 0,
        writable: true,
        user: true,
        executable: true,
        global: false,
        dirty: false,
        path: Path::default(),
    };
    let (mut table, mut level) = (paging.root & ADDRESS, 4);
    loop {
        let entry_at = table + entry::index(at, level) as u64 * 8;
        let value = memory.read_word(entry_at).unwrap_or(0);
        if value & PRESENT == 0 {
            return fault(0);
        }
        if paging.is_malformed(level, value) {
            return fault(PageFault::PRESENT | PageFault::RESERVED);
        }
        found.writable &= value & WRITE != 0;
        found.user &= value & USER != 0;
        found.executable &= value & NO_EXECUTE == 0;
        found.path.push(Step {
            at: entry_at,
            value,
        });
        if entry::is_leaf(level, value) {
            found.page_bytes = entry::span(level);
            found.phys = entry::frame(level, value) + at % found.page_bytes;
            found.global = value & GLOBAL != 0;
            found.dirty = value & DIRTY != 0;
            break;
        }
        (table, level) = (value & ADDRESS, level - 1);
    }
    match found.allows(access, paging.write_protect) {
        true => Ok(found),
        false => fault(PageFault::PRESENT),
    }
}

/// The error code of a fault, from the bits that the walk knows.
fn page_fault(paging: &Paging, access: Access, code: u32) -> PageFault {
    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
    // SDM vol. 3, 4.7: without SMEP, the fetch bit is set under EFER.NXE alone.
    let fetch = access.execute && paging.no_execute;
    PageFault {
        code: code
            | bit(access.write, PageFault::WRITE)
            | bit(access.user, PageFault::USER)
            | bit(fetch, PageFault::FETCH),
    }
}
