//! The kernel's command line: options that whoever started the virtual machine chose.
//!
//! - `run='mem; poweroff 3'`: the shell runs these commands instead of asking, and then powers off;
//! - `quiet`: no greeting;
//! - `virtio_mmio.device=4K@0xd0000000:49`: a virtio device's registers, by size, place and vector, as Linux has
//!   it. The hypervisor adds these.
//!
//! Options that the kernel does not know are for others, and left alone.

use crate::text::{unquote, words};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// The commands that the shell runs.
    pub run: Option<&'a str>,
    /// Whether the greeting is left out.
    pub is_quiet: bool,
}

impl<'a> Options<'a> {
    /// Read a command line. A later option overrides an earlier one of the same name.
    pub fn parse(line: &'a str) -> Self {
        let mut options = Self::default();
        for word in words(line) {
            match unquote(word).split_once('=') {
                Some(("run", value)) => options.run = Some(unquote(value)),
                None if word == "quiet" => options.is_quiet = true,
                _ => {}
            }
        }
        options
    }
}

/// A virtio device that the command line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioDevice {
    /// The guest-physical address of its registers.
    pub base: u64,
    /// How many bytes they are.
    pub size: u64,
    /// The vector of its interrupt.
    pub vector: u8,
}

/// The virtio devices that a command line names, in its order; what makes no sense is left out.
pub fn virtio_devices(line: &str) -> impl Iterator<Item = VirtioDevice> {
    words(line).filter_map(|word| device(word.strip_prefix("virtio_mmio.device=")?))
}

/// `SIZE@BASE:VECTOR`; Linux allows `:ID` behind it.
fn device(text: &str) -> Option<VirtioDevice> {
    let (size, rest) = text.split_once('@')?;
    let mut rest = rest.split(':');
    let size = match size.strip_suffix(['K', 'k']) {
        Some(kibibytes) => number(kibibytes)?.checked_mul(1024)?,
        None => number(size)?,
    };
    let base = number(rest.next()?)?;
    let vector = u8::try_from(number(rest.next()?)?).ok()?;
    // Registers, and a whole number of pages.
    let is_sane = base.is_multiple_of(4096) && (0x100..=0x1_0000).contains(&size);
    is_sane.then_some(VirtioDevice { base, size, vector })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(line: &str) -> Option<&str> {
        Options::parse(line).run
    }

    #[test]
    fn a_script_is_quoted_with_either_quote_around_either_part() {
        for line in [
            "run='mem; poweroff 3'",
            "quiet run=\"mem; poweroff 3\"",
            "'run=mem; poweroff 3' other",
        ] {
            assert_eq!(run_of(line), Some("mem; poweroff 3"), "{line}");
        }
        assert_eq!(run_of("run=mem quiet"), Some("mem"));
        assert_eq!(run_of("run='echo \"a b\"'"), Some("echo \"a b\""));
    }

    #[test]
    fn unknown_and_broken_options_are_left_alone() {
        assert_eq!(Options::parse(""), Options::default());
        assert_eq!(
            Options::parse("root=/dev/x run ru=n quiet=no"),
            Options::default()
        );
        assert_eq!(run_of("run="), Some(""));
        assert_eq!(run_of("run='mem"), Some("mem"));
        assert_eq!(run_of("run=a run=b"), Some("b"));
    }

    #[test]
    fn devices_are_named_as_for_linux() {
        let line = "run='a virtio_mmio.device=4K@0:1' virtio_mmio.device=4K@0xd0000000:49 quiet \
                    virtio_mmio.device=512@4096:50:7";
        let found: std::vec::Vec<_> = virtio_devices(line).collect();
        let device = |base, size, vector| VirtioDevice { base, size, vector };
        assert_eq!(
            found,
            [device(0xd000_0000, 4096, 49), device(4096, 512, 50)]
        );
        for wrong in [
            "",
            "4K",
            "4K@",
            "4K@0x1000",
            "4K@0x1000:300",
            "4K@0x1001:4",
            "9999999K@0:1",
            "x@0:1",
        ] {
            assert_eq!(device_of(wrong), None, "{wrong}");
        }
    }

    fn device_of(text: &str) -> Option<VirtioDevice> {
        super::device(text)
    }

    #[test]
    fn quiet_is_a_word_of_its_own() {
        assert!(Options::parse("  quiet ").is_quiet);
        assert!(!Options::parse("unquiet").is_quiet);
    }
}
