//! The door of hypercalls: number and registers to a verb, and the batch ring before it.
//!
//! Never decides semantics: `machine` does.

use std::time::Instant;

use hypercall_abi::shared::{Entry, RING_ENTRIES, RingCorrupt, ring_slot, ring_waiting};
use hypercall_abi::{Args, CallError, Mode, Row, Tier, error, table};
use zerocopy::{FromZeros, IntoBytes};

use crate::error::GuestFault;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::stats::Stats;
use crate::trace::Trace;
use crate::vendor::Vendors;

/// What the door needs beside the machine.
#[derive(Debug)]
pub struct CallDoor {
    /// The mode, which says what calls exist.
    pub mode: Mode,
    /// Calls of other people.
    pub vendors: Vendors,
    /// Counts.
    pub stats: Stats,
    /// Whether to time calls and exits.
    pub timing: bool,
    /// The trace, if one is written.
    pub trace: Option<Trace>,
    /// Guest-physical address of the batch ring.
    pub ring: u64,
    /// How many entries were taken out of the ring, ever. The guest's copy is only a hint to it.
    pub head: u32,
}

impl CallDoor {
    /// Make the call of these registers, after what waits in the ring. The result word is for
    /// `rax`.
    ///
    /// # Errors
    /// [`GuestFault::Ring`] when the ring's indices make no sense.
    pub fn call(
        &mut self,
        machine: &mut Machine,
        memory: &Memory,
        tail: u32,
        number: u64,
        args: &Args,
    ) -> Result<u64, GuestFault> {
        machine.drained = self.drain(machine, memory, tail)?;
        Ok(self.dispatch(machine, memory, number, args, |row| {
            row.tier != Tier::Monitor
        }))
    }

    /// Run what waits in the ring: at most its size, whatever the guest does meanwhile.
    ///
    /// # Errors
    /// [`GuestFault::Ring`] when the ring's indices make no sense.
    pub fn drain(
        &mut self,
        machine: &mut Machine,
        memory: &Memory,
        tail: u32,
    ) -> Result<u64, GuestFault> {
        let waiting = ring_waiting(tail, self.head)
            .map_err(|RingCorrupt { tail, head }| GuestFault::Ring { tail, head })?;
        for _ in 0..waiting.min(RING_ENTRIES) {
            let at = self.ring + (ring_slot(self.head) * size_of::<Entry>()) as u64;
            let mut entry = Entry::new_zeroed();
            // Copied once; what the guest writes into the slot from here on has no effect.
            memory.get(at, entry.as_mut_bytes());
            entry.result = self.dispatch(machine, memory, entry.number, &entry.args, |row| {
                row.tier == Tier::Batch
            });
            // The ring's page always exists; a host error here would show at the next call.
            let _ = memory.put(at, entry.as_bytes());
            self.head = self.head.wrapping_add(1);
        }
        Ok(u64::from(waiting))
    }

    fn row(&self, number: u64) -> Option<&'static Row> {
        table::find(number).or_else(|| self.vendors.find(number))
    }

    fn dispatch(
        &mut self,
        machine: &mut Machine,
        memory: &Memory,
        number: u64,
        args: &Args,
        reachable: impl Fn(&Row) -> bool,
    ) -> u64 {
        let Some(row) = self.row(number).filter(|row| reachable(row)) else {
            return self.done("unknown", None, number, args, Err(CallError::Unknown));
        };
        let start = self.timing.then(Instant::now);
        let result = if row.is_in(self.mode) {
            table::dispatch(machine, memory, number, args)
                .or_else(|| {
                    // What was printed before is seen, whatever the handler does.
                    machine.console.send();
                    self.vendors.call(memory, number, args)
                })
                .unwrap_or(Err(CallError::Unknown))
        } else {
            Err(CallError::WrongMode)
        };
        self.done(row.name, start, number, args, result)
    }

    fn done(
        &mut self,
        name: &'static str,
        start: Option<Instant>,
        number: u64,
        args: &Args,
        result: Result<u64, CallError>,
    ) -> u64 {
        self.stats.call(
            name,
            start.map_or(std::time::Duration::ZERO, |start| start.elapsed()),
        );
        if let Some(trace) = &mut self.trace {
            trace.event(format_args!(
                "call {name} ({number:#x}) {args:x?} = {result:x?}"
            ));
        }
        error::encode_result(result)
    }
}
