//! Calls of other people: registered by number, typed by their own declaration.

use std::collections::BTreeMap;
use std::fmt;

use hypercall_abi::table::VENDOR;
use hypercall_abi::{Args, CallError, GuestMemory, Row, Tier, TypedCall, Word};

use crate::error::HostError;

type Handler = Box<dyn FnMut(&dyn GuestMemory, &Args) -> Result<u64, CallError> + Send>;

/// The vendor calls of one virtual machine.
#[derive(Default)]
pub struct Vendors(BTreeMap<u64, (&'static Row, Handler)>);

impl Vendors {
    /// Register a handler for a declared call:
    ///
    /// ```
    /// hypercall_abi::hypercalls! {
    ///     /// A greeter.
    ///     topic greeter {
    ///         /// Add two numbers.
    ///         0x8001 add(a: u32, b: u32) -> u64 tier machine in [pv];
    ///     }
    /// }
    /// let mut vendors = hypervisor::vendor::Vendors::default();
    /// vendors.on(greeter::calls::add, |_memory, (a, b)| Ok(u64::from(a) + u64::from(b))).unwrap();
    /// ```
    ///
    /// A handler that panics takes the run with it: the panic leaves [`crate::Vm::run`], and whoever
    /// waits for the run's end is told.
    ///
    /// # Errors
    /// [`HostError::Vendor`] when the number is outside the vendors' range or taken, or when the
    /// call's tier never leaves the virtual machine.
    pub fn on<C: TypedCall>(
        &mut self,
        _call: C,
        mut handler: impl FnMut(&dyn GuestMemory, C::Args) -> Result<C::Ret, CallError> + Send + 'static,
    ) -> Result<(), HostError> {
        let row = C::ROW;
        let refuse = |reason| {
            Err(HostError::Vendor {
                number: row.number,
                name: row.name,
                reason,
            })
        };
        if !VENDOR.contains(&row.number) {
            return refuse("vendor calls have numbers from 0x8000 to 0xffff");
        }
        if row.tier == Tier::Monitor {
            return refuse(
                "calls of tier monitor are the monitor's own; use tier machine or batch",
            );
        }
        if self.0.contains_key(&row.number) {
            return refuse("the number is taken");
        }
        let typed = move |memory: &dyn GuestMemory, words: &Args| {
            C::args(words)
                .and_then(|args| handler(memory, args))
                .map(Word::into_word)
        };
        self.0.insert(row.number, (row, Box::new(typed)));
        Ok(())
    }

    /// The row of a registered call.
    pub fn find(&self, number: u64) -> Option<&'static Row> {
        self.0.get(&number).map(|(row, _)| *row)
    }

    /// Make a registered call.
    pub(crate) fn call(
        &mut self,
        memory: &dyn GuestMemory,
        number: u64,
        args: &Args,
    ) -> Option<Result<u64, CallError>> {
        self.0
            .get_mut(&number)
            .map(|(_, handler)| handler(memory, args))
    }
}

impl fmt::Debug for Vendors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.values().map(|(row, _)| row.name))
            .finish()
    }
}
