//! What the command line says of a device: `virtio_mmio.device=<size>@<base>:<irq>`, as Linux and
//! Firecracker have it, once for each device. An id may follow behind another colon; it is ignored.
//! The devices of a PC have words of their own, see [`super::isa`].

use super::isa;
use crate::text::{unquote, words};

/// The option's name.
const KEY: &str = "virtio_mmio.device";

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The guest-physical address of its registers.
    pub base: u64,
    /// Bytes of registers.
    pub size: u64,
    /// The vector at which its interrupts arrive.
    pub vector: u8,
}

/// A device that the command line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Behind the registers of a virtio transport.
    Virtio(Place),
    /// Of a PC's board.
    Isa(isa::Place),
}

/// The devices of a command line; a word that makes no sense is an error.
pub fn places(line: &str) -> impl Iterator<Item = Result<Named, &str>> {
    words(line).filter_map(|word| {
        let (key, value) = unquote(word).split_once('=')?;
        let value = unquote(value);
        let named = match key {
            KEY => parse(value).map(Named::Virtio),
            _ => isa::parse(key, value)?.map(Named::Isa),
        };
        Some(named.ok_or(word))
    })
}

fn parse(text: &str) -> Option<Place> {
    let (size, rest) = text.split_once('@')?;
    let mut rest = rest.split(':');
    let base = number(rest.next()?)?;
    let vector = u8::try_from(number(rest.next()?)?).ok()?;
    let size = number(size).filter(|size| *size > 0)?;
    // The registers must not wrap around the address space.
    base.checked_add(size)?;
    Some(Place { base, size, vector })
}

/// A number, decimal or hexadecimal with `0x`, with `K`, `M` or `G` behind it.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (text.get(..text.len() - 1)?, 1 << 10),
        b'm' | b'M' => (text.get(..text.len() - 1)?, 1 << 20),
        b'g' | b'G' => (text.get(..text.len() - 1)?, 1 << 30),
        _ => (text, 1),
    };
    let value = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        // The parser would take a sign as well.
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok()?,
        None if !digits.starts_with('+') => digits.parse().ok()?,
        _ => return None,
    };
    value.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn found(line: &str) -> Vec<Result<Named, &str>> {
        places(line).collect()
    }

    #[test]
    fn each_device_is_an_option_of_its_own() {
        let line = "quiet virtio_mmio.device=4K@0xd0000000:49 'virtio_mmio.device=0x200@3489665024:0x32:7'";
        let place = |base, size, vector| Ok(Named::Virtio(Place { base, size, vector }));
        let expected = [
            place(0xd000_0000, 0x1000, 49),
            place(0xd000_1000, 0x200, 50),
        ];
        assert_eq!(found(line), expected);
        assert!(found("run='virtio_mmio.device=4K@0:49' quiet").is_empty());
        assert!(found("virtio_mmio.device virtio_mmio.devices=1@2:3").is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_names_the_word() {
        for value in [
            "",
            "4K",
            "4K@",
            "4K@0xd0000000",
            "@1:2",
            "0@1:2",
            "4K@x:2",
            "4K@1:256",
            "4K@1:",
            "4K@0xffffffffffffffff:49",
            "17179869184G@0:49",
            "4K@+1:2",
            "4K@0x+1:2",
            "K@1:2",
            "4ä@1:2",
        ] {
            let line = std::format!("a virtio_mmio.device={value} b");
            let word = std::format!("virtio_mmio.device={value}");
            assert_eq!(found(&line), [Err(word.as_str())]);
        }
    }
}
