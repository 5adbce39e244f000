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

/// Lead the interrupts of so many devices to their vectors: messages to local APIC 0, fixed, edge (SDM
/// vol. 3, 11.11).
pub fn route(fd: &VmFd, devices: usize) -> Result<(), HostError> {
    if devices == 0 {
        return Ok(());
    }
    let fail = HostError::kvm("lead the devices' interrupts to the local APIC");
    let entries = DEVICE_VECTORS.zip(FIRST_GSI..).take(devices);
    let entries: Vec<_> = entries
        .map(|(vector, gsi)| kvm_irq_routing_entry {
            gsi,
            type_: KVM_IRQ_ROUTING_MSI,
            u: kvm_irq_routing_entry__bindgen_ty_1 {
                msi: kvm_irq_routing_msi {
                    address_lo: APIC_PHYS as u32,
                    data: u32::from(vector),
                    ..Default::default()
                },
            },
            ..Default::default()
        })
        .collect();
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
