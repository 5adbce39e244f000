//! Devices: what there is, on which bus, of which class, and what it hangs on. Called by `boot`, once the first
//! thread runs. The drivers are in rooms of their own, one a bus.

pub mod line;
pub mod virtio;

use alloc::string::String;
use alloc::vec::Vec;

use crate::sync::SpinLock;

/// What a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Others hang on it.
    Bus,
    /// Blocks of bytes.
    Block,
    /// Random bytes.
    Random,
    /// No driver of ours knows it.
    Unknown,
}

impl Class {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Block => "block",
            Self::Random => "random",
            Self::Unknown => "unknown",
        }
    }
}

/// A device in the tree.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name, which no other has.
    pub name: String,
    /// The bus it is found on.
    pub bus: &'static str,
    /// What it is for.
    pub class: Class,
    /// The device that it cannot do without; `None` for what the machine has by itself.
    pub parent: Option<String>,
    /// Who drives it.
    pub driver: Option<&'static str>,
    /// The vector of its interrupt.
    pub vector: Option<u8>,
    /// What else there is to say.
    pub about: String,
}

static TREE: SpinLock<Vec<Device>> = SpinLock::new(Vec::new());

/// Add a device; its parent is there already.
pub fn add(device: Device) {
    TREE.lock().push(device);
}

/// All devices in the order of the tree, each with its depth.
pub fn tree() -> Vec<(usize, Device)> {
    let all = TREE.lock().clone();
    let mut found = Vec::new();
    below(&all, None, 0, &mut found);
    found
}

fn below(all: &[Device], parent: Option<&str>, depth: usize, found: &mut Vec<(usize, Device)>) {
    // A parent is added before its children, so no device is below itself.
    for device in all
        .iter()
        .filter(|device| device.parent.as_deref() == parent)
    {
        found.push((depth, device.clone()));
        below(all, Some(&device.name), depth + 1, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, parent: Option<&str>) -> Device {
        Device {
            name: name.into(),
            bus: "test",
            class: Class::Unknown,
            parent: parent.map(String::from),
            driver: None,
            vector: None,
            about: String::new(),
        }
    }

    #[test]
    fn children_come_behind_their_parents() {
        for (name, parent) in [
            ("a", None),
            ("b", None),
            ("a1", Some("a")),
            ("a11", Some("a1")),
        ] {
            add(device(name, parent));
        }
        let names: Vec<_> = tree()
            .into_iter()
            .map(|(depth, device)| (depth, device.name))
            .collect();
        let expected = [(0, "a"), (1, "a1"), (2, "a11"), (0, "b")];
        assert!(
            names
                .iter()
                .map(|(depth, name)| (*depth, name.as_str()))
                .eq(expected)
        );
    }
}
