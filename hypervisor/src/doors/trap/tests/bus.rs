//! Ports that say what reached them.

use crate::doors::trap::{Devices, PortBus};
use crate::error::GuestFault;
use crate::machine::console::Input;
use crate::machine::{Console, Machine};

/// A port that nothing answers at.
pub(super) const NOBODY: u16 = 0x666;
/// A model-specific register that this bus has.
pub(super) const MSR: u32 = 0x10;

/// Every access in order; a read answers with how many there were before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bus {
    pub log: Vec<(char, u16, u8, u32)>,
    pub msr: u64,
}

impl PortBus for Bus {
    fn read(&mut self, port: u16, width: u8) -> Result<u32, GuestFault> {
        if port == NOBODY {
            let (width, write) = (width.into(), false);
            return Err(GuestFault::Port { port, width, write });
        }
        let value = 0x5a00_0000 + self.log.len() as u32;
        self.log.push(('r', port, width, value));
        Ok(value & u32::MAX >> (32 - 8 * u32::from(width)))
    }

    fn write(&mut self, port: u16, width: u8, value: u32) -> Result<(), GuestFault> {
        self.log.push(('w', port, width, value));
        Ok(())
    }

    fn read_msr(&mut self, number: u32) -> Option<u64> {
        (number == MSR).then_some(self.msr)
    }

    fn write_msr(&mut self, number: u32, value: u64) -> bool {
        self.msr = value;
        number == MSR
    }
}

#[test]
fn devices_are_the_machines_own() {
    let console = Console::new(Box::new(std::io::sink()), Input::default());
    let mut machine = Machine::new(console);
    let mut devices = Devices {
        machine: &mut machine,
        trace: None,
    };
    devices.write(0x3f8, 1, 0x41).unwrap();
    assert_eq!(devices.machine.console.written(), 1);
    // Line status: the transmitter is empty.
    assert_eq!(devices.read(0x3fd, 1).unwrap() & 0x20, 0x20);
    let absent = devices.read(NOBODY, 2);
    let (port, width, write) = (NOBODY, 2, false);
    assert_eq!(absent, Err(GuestFault::Port { port, width, write }));
    devices.write(0xf4, 4, 7).unwrap();
    assert_eq!(devices.machine.power.status(), Some(7));
    assert_eq!(
        (devices.read_msr(MSR), devices.write_msr(MSR, 0)),
        (None, false)
    );
}
