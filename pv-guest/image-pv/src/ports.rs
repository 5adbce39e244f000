//! Ports of trapped devices: a call each in place of IN and OUT, and so an exit each. Called by the hooks.

use hypercall_abi::table::port::Guest as _;
use hypercall_abi::types::PAGE_SIZE;
use hypercall_abi::{CallError, GuestPhys, GuestPtr};
use pv_guest::mm;
use pv_runtime::PAGE;

use crate::hooks::refused;

/// The width of a word, in bytes.
const WORD: u8 = 2;

/// Read a byte from a port.
pub fn read(port: u16) -> u8 {
    match PAGE.port_read(port, 1) {
        Ok(value) => value as u8,
        Err(error) => refused("port_read", error),
    }
}

/// Write a byte to a port.
pub fn write(port: u16, value: u8) {
    if let Err(error) = PAGE.port_write(port, 1, value.into()) {
        refused("port_write", error);
    }
}

/// Read words from a port, a page of memory at a time.
pub fn read_words(port: u16, into: &mut [u16]) {
    let result = each_page(into.as_mut_ptr() as u64, into.len(), |at, count| {
        PAGE.port_read_string(port, WORD, at, count)
    });
    if let Err(error) = result {
        refused("port_read_string", error);
    }
}

/// Write words to a port likewise.
pub fn write_words(port: u16, from: &[u16]) {
    let result = each_page(from.as_ptr() as u64, from.len(), |at, count| {
        PAGE.port_write_string(port, WORD, at, count)
    });
    if let Err(error) = result {
        refused("port_write_string", error);
    }
}

/// Visit the words from an address on, page by page: pages that follow each other need not be adjacent
/// for the hypervisor. Words are aligned, so none is in two pages.
fn each_page(
    mut at: u64,
    mut count: usize,
    mut visit: impl FnMut(GuestPtr<u8>, u32) -> Result<(), CallError>,
) -> Result<(), CallError> {
    while count > 0 {
        let room = (PAGE_SIZE - at % PAGE_SIZE) / u64::from(WORD);
        let here = (count as u64).min(room);
        let phys = mm::to_phys(at).or_else(|| mm::translate(at));
        let phys = phys.ok_or(CallError::BadRange)?;
        visit(GuestPtr::new(GuestPhys(phys)), here as u32)?;
        at += here * u64::from(WORD);
        count -= here as usize;
    }
    Ok(())
}
