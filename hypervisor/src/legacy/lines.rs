//! The interrupt lines of the trapped devices: the I/O APIC's pins, and behind them KVM's local APICs.
//!
//! Called by `legacy` for each access that may have moved a line, by threads of devices, and by vcpu, through
//! `legacy`, for the I/O APIC's registers and for the end of level-triggered interrupts. Never waits for a
//! processor.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

use super::ioapic::{IoApic, Message};
use crate::error::HostError;
use crate::io::{Route, set_routes};

/// The lines; clones are the same.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    fd: Arc<VmFd>,
    state: Mutex<State>,
    /// The routes of others: setting routes sets all of them.
    others: Vec<Route>,
}

#[derive(Default)]
struct State {
    apic: IoApic,
    /// What KVM knows of level-triggered pins.
    routed: Vec<Route>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lines").field(&self.lock().apic).finish()
    }
}

impl Lines {
    /// Lines that are all low, of a machine in which KVM knows the routes of others already.
    pub fn new(fd: Arc<VmFd>, others: Vec<Route>) -> Self {
        Self(Arc::new(Shared {
            fd,
            state: Mutex::default(),
            others,
        }))
    }

    /// Raise or lower a line.
    pub fn set(&self, pin: usize, is_raised: bool) {
        let message = self.lock().apic.set_line(pin, is_raised);
        self.send(message);
    }

    /// A local APIC has ended an interrupt of this vector.
    pub fn end(&self, vector: u8) {
        let messages = self.lock().apic.end(vector);
        self.send(messages);
    }

    /// Read a register of the I/O APIC.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        self.lock().apic.read(offset, into);
    }

    /// Write one.
    ///
    /// # Errors
    /// [`HostError::Kvm`], when KVM does not take the routes.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), HostError> {
        let mut state = self.lock();
        let messages = state.apic.write(offset, from);
        let level = state.apic.level_pins().map(|(pin, message)| Route {
            gsi: pin as u32,
            address: message.address,
            data: message.data,
        });
        let level: Vec<Route> = level.collect();
        // Before anything is sent: KVM leaves at the end of interrupts alone that it knows of.
        if level != state.routed {
            let all = [&self.0.others[..], &level[..]].concat();
            set_routes(&self.0.fd, &all)?;
            state.routed = level;
        }
        drop(state);
        self.send(messages);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked left a line as it was.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message that nobody takes is lost, as on the bus: the local APIC is off, or there is none such.
    fn send(&self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let _ = self.0.fd.signal_msi(kvm_msi {
                address_lo: message.address,
                data: message.data,
                ..Default::default()
            });
        }
    }
}
