//! Interrupts of devices: an eventfd each, which KVM turns into a vector at the local APIC.

use std::sync::Arc;

use hypercall_abi::Vector;
use hypercall_abi::layout::{APIC_PHYS, DEVICE_VECTORS};
use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;
use virtio_devices::transport::Interrupt;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::error::HostError;
use crate::vm::Interrupter;

/// The first number that is not a pin of the I/O APIC, which a split interrupt controller keeps for one.
const FIRST_GSI: u32 = 24;

/// A number at KVM, and the message that it stands for (SDM vol. 3, 11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The number; below 24 it is a pin of the I/O APIC.
    pub gsi: u32,
    /// The message's address.
    pub address: u32,
    /// The message's data.
    pub data: u32,
}

/// Where the interrupts of so many devices lead: messages to local APIC 0, fixed, edge.
pub fn routes(devices: usize) -> Vec<Route> {
    let routes = DEVICE_VECTORS.zip(FIRST_GSI..).take(devices);
    let routes = routes.map(|(vector, gsi)| Route {
        gsi,
        address: APIC_PHYS as u32,
        data: vector.into(),
    });
    routes.collect()
}

/// Have KVM know these routes, and no others.
///
/// # Errors
/// [`HostError::Kvm`].
pub fn set_routes(fd: &VmFd, routes: &[Route]) -> Result<(), HostError> {
    let fail = HostError::kvm("lead the devices' interrupts to the local APIC");
    let entries = routes.iter().map(|route| kvm_irq_routing_entry {
        gsi: route.gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            msi: kvm_irq_routing_msi {
                address_lo: route.address,
                data: route.data,
                ..Default::default()
            },
        },
        ..Default::default()
    });
    let entries: Vec<_> = entries.collect();
    let routing = KvmIrqRouting::from_entries(&entries)
        .map_err(|_| fail(kvm_ioctls::Error::new(libc::ENOMEM)))?;
    fd.set_gsi_routing(&routing).map_err(fail)
}

/// The interrupt of the device with a number.
pub fn connect(
    fd: &Arc<VmFd>,
    device: usize,
    vector: u8,
    is_irqfd: bool,
) -> Result<Arc<dyn Interrupt>, HostError> {
    match Vector::new(vector).filter(|_| !is_irqfd) {
        Some(vector) => Ok(Arc::new(Injected(Interrupter::of(fd), vector))),
        None => Ok(Arc::new(IrqFd::new(fd, device)?)),
    }
}

/// A device's interrupt as an ioctl of this process, to compare an irqfd with.
#[derive(Debug)]
struct Injected(Interrupter, Vector);

impl Interrupt for Injected {
    fn signal(&self) {
        // Not delivered while the local APIC is off, as an irqfd's.
        let Self(interrupter, vector) = self;
        interrupter.raise(*vector);
    }
}

/// A device's interrupt.
#[derive(Debug)]
struct IrqFd(EventFd);

impl IrqFd {
    /// That of the device with a number.
    fn new(fd: &VmFd, device: usize) -> Result<Self, HostError> {
        let event = EventFd::new(EFD_NONBLOCK).map_err(|source| HostError::Kvm {
            what: "make an eventfd for a device's interrupt",
            source,
        })?;
        fd.register_irqfd(&event, FIRST_GSI + device as u32)
            .map_err(HostError::kvm("register a device's interrupt (irqfd)"))?;
        Ok(Self(event))
    }
}

impl Interrupt for IrqFd {
    fn signal(&self) {
        // KVM empties it at once. Were it full, an interrupt would be pending already.
        let _ = self.0.write(1);
    }
}
