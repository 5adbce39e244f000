//! Trapped devices, driven by the kernel in each mode, over real files: an exit for each register access.

use std::fs;
use std::path::Path;

use hypercall_abi::Mode;
use hypervisor::doctor::{self, Platform};
use hypervisor::io::{Device, Disk, Engine};
use hypervisor::{Config, IoKind};
use tempfile::NamedTempFile;
use tests::{FOREIGN, Ran, TINY, each_mode, kernel, run};

const SECTORS: u64 = 2048;

fn image() -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    file.as_file().set_len(SECTORS * 512).expect("room");
    file
}

fn disk(path: &Path) -> Disk {
    Disk {
        path: path.to_owned(),
        read_only: false,
        direct: false,
        engine: Engine::Auto,
    }
}

fn with(mode: Mode, devices: Vec<Device>, script: &str) -> Config {
    let mut config = kernel(mode, script);
    config.devices = devices;
    config.io = IoKind::Trapped;
    config
}

fn ran(mode: Mode, file: &NamedTempFile, script: &str) -> Ran {
    run(with(mode, vec![Device::Disk(disk(file.path()))], script))
}

/// FNV-1a, as the kernel's `disk read` has it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn what_is_written_is_in_the_file_and_read_back() {
    each_mode(|mode| {
        let file = image();
        let first = ran(mode, &file, "disk hda write 3 40 7; disk hda flush; lsdev");
        println!("{}", first.output);
        println!("{:?}", first.outcome.stats);
        assert_eq!(first.status(), 0, "{}", first.output);
        let bytes = fs::read(file.path()).expect("the image");
        let (before, rest) = bytes.split_at(3 * 512);
        let (written, after) = rest.split_at(40 * 512);
        assert!(before.iter().chain(after).all(|byte| *byte == 0));
        // Sectors differ from each other.
        let mut sectors: Vec<&[u8]> = written.chunks(512).collect();
        sectors.sort_unstable();
        sectors.dedup();
        assert_eq!(sectors.len(), 40);
        let again = ran(mode, &file, "disk hda verify 3 40 7; disk hda read 0 60");
        println!("{:?}", again.outcome.stats);
        let lines = again.lines();
        let hash = format!("60 sectors, fnv1a {:016x}", fnv(&bytes[..60 * 512]));
        assert!(lines.contains(&"40 sectors, 0 wrong"), "{lines:?}");
        assert!(lines.contains(&hash.as_str()), "{hash}: {lines:?}");
        assert_eq!(fs::read(file.path()).expect("the image"), bytes);
    });
}

/// A guest that tries the pins of the I/O APIC with a drive's line.
fn lines_of(mode: Mode, file: &NamedTempFile) -> Ran {
    let image = if mode == Mode::Pv { TINY } else { FOREIGN };
    let mut config = Config::new(mode, image, "the guest that tries lines");
    config.command_line = "lines".to_owned();
    config.memory_bytes = 16 << 20;
    config.devices = vec![Device::Disk(disk(file.path()))];
    config.io = IoKind::Trapped;
    run(config)
}

#[test]
fn a_raised_line_interrupts_once_by_edge_and_until_it_is_lowered_by_level() {
    each_mode(|mode| {
        let ran = lines_of(mode, &image());
        // kvm_pvm ends an interrupt when it delivers it to CPL 3. So the line is raised yet, the interrupt
        // is requested once more, and what is requested cannot be taken back.
        let is_early = mode != Mode::Hvm && doctor::platform() == Platform::KvmPvm;
        let lines = ran.lines();
        for (what, count) in [
            ("edge, acknowledged in 0, ended at the local APIC", 1),
            ("level, acknowledged in 1, ended at both", 1),
            ("level, acknowledged in 4, ended at both", 4),
            ("level, acknowledged in 1, ended at the local APIC", 1),
            ("level, acknowledged in 4, ended at the local APIC", 4),
        ] {
            let more = u64::from(is_early && what.starts_with("level"));
            let found = lines
                .iter()
                .find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
            let found: u64 = found.and_then(|found| found.parse().ok()).expect(what);
            assert!((count..=count + more).contains(&found), "{what}: {found}");
        }
        // KVM left for the end of each of these.
        let ends = ran.outcome.stats.exits.get("end of interrupt");
        assert!(ends.is_some_and(|ends| ends.count >= 10), "{ends:?}");
    });
}
