//! The device tree: every device with the bus that it is reached by, its class, and the device that
//! it depends on. For `lsdev`; nobody finds a device by it to use it.

use alloc::string::String;
use alloc::vec::Vec;

use hypercall_abi::layout;

use crate::sync::SpinLock;

/// How a device is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// It is simply there.
    Platform,
    /// Behind the registers of a virtio transport.
    VirtioMmio,
    /// At ports and pins, as in the first PCs.
    Isa,
    /// On the cable of an ATA channel.
    Ata,
}

/// What a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Other devices.
    Bus,
    /// Text in and out.
    Console,
    /// Time.
    Timer,
    /// The interrupts of others.
    Interrupts,
    /// Whether the machine is on.
    Power,
    /// Sectors.
    Block,
    /// Frames.
    Net,
    /// Memory that comes and goes.
    Memory,
    /// Random bytes.
    Random,
}

/// How it is with a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A driver has it.
    Bound,
    /// It cannot be used, and why.
    Failed(String),
}

/// A device's place in the tree. Devices stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId(usize);

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name, the only one of it.
    pub name: String,
    /// How it is reached.
    pub bus: Bus,
    /// What it is for.
    pub class: Class,
    /// What it depends on; it was added before.
    pub parent: Option<DeviceId>,
    /// Who drives it.
    pub driver: Option<&'static str>,
    /// The vector of its interrupts.
    pub vector: Option<u8>,
    /// What else there is to say.
    pub about: String,
    /// What device and driver agreed on.
    pub features: Vec<&'static str>,
    /// How it is with it.
    pub state: State,
}

static TREE: SpinLock<Vec<Device>> = SpinLock::new(Vec::new());

/// Work on the tree. What every machine has is put in at the first use, and not at the boot, which
/// is to be lean.
fn with_tree<R>(work: impl FnOnce(&mut Vec<Device>) -> R) -> R {
    let mut tree = TREE.lock();
    if tree.is_empty() {
        let device = |name: &str, class, vector| Device {
            driver: Some("hooks"),
            vector: Some(vector),
            ..plain(name.into(), class, None)
        };
        tree.push(device("console", Class::Console, layout::CONSOLE_VECTOR));
        tree.push(device("timer", Class::Timer, layout::TIMER_VECTOR));
    }
    work(&mut tree)
}

/// Add a device.
pub fn add(device: Device) -> DeviceId {
    with_tree(|tree| {
        tree.push(device);
        DeviceId(tree.len() - 1)
    })
}

/// A device that is simply there, of which nothing else is known.
pub fn plain(name: String, class: Class, parent: Option<DeviceId>) -> Device {
    Device {
        name,
        bus: Bus::Platform,
        class,
        parent,
        driver: None,
        vector: None,
        about: String::new(),
        features: Vec::new(),
        state: State::Bound,
    }
}

/// The device with a name.
pub fn find(name: &str) -> Option<DeviceId> {
    with_tree(|tree| tree.iter().position(|device| device.name == name)).map(DeviceId)
}

/// Change what is known of a device.
pub fn update(id: DeviceId, change: impl FnOnce(&mut Device)) {
    with_tree(|tree| tree.get_mut(id.0).map(change));
}

/// Visit every device, each behind its parent, with its depth in the tree.
pub fn for_each_device(mut visit: impl FnMut(&Device, usize)) {
    // A copy: the visitor prints, which may take long.
    let tree = with_tree(|tree| tree.clone());
    visit_children(&tree, None, 0, &mut visit);
}

fn visit_children(
    tree: &[Device],
    parent: Option<DeviceId>,
    depth: usize,
    visit: &mut impl FnMut(&Device, usize),
) {
    for (index, device) in tree.iter().enumerate() {
        // A parent comes before its children, so this ends, whatever a device says.
        let is_earlier = device.parent.is_none_or(|parent| parent.0 < index);
        if device.parent == parent && is_earlier {
            visit(device, depth);
            visit_children(tree, Some(DeviceId(index)), depth + 1, visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, parent: Option<usize>) -> Device {
        plain(name.into(), Class::Block, parent.map(DeviceId))
    }

    #[test]
    fn children_follow_their_parents() {
        let tree = [
            device("root", None),
            device("a", Some(0)),
            device("b", Some(0)),
            device("a1", Some(1)),
            device("loop", Some(4)),
            device("b1", Some(2)),
            device("a2", Some(1)),
        ];
        let mut seen = Vec::new();
        visit_children(&tree, None, 0, &mut |device, depth| {
            seen.push((device.name.clone(), depth));
        });
        let seen: Vec<_> = seen
            .iter()
            .map(|(name, depth)| (name.as_str(), *depth))
            .collect();
        let expected = [
            ("root", 0),
            ("a", 1),
            ("a1", 2),
            ("a2", 2),
            ("b", 1),
            ("b1", 2),
        ];
        assert_eq!(seen, expected);
    }
}
