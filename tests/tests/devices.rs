//! Virtio devices, driven by the kernel in each mode, over real files.

use std::fs;
use std::path::Path;

use hypercall_abi::Mode;
use hypervisor::io::{Device, Disk, Engine};
use hypervisor::{Config, HostError, Vm};
use tempfile::NamedTempFile;
use tests::disk::{assert_finds_a_wrong_sector, assert_keeps_what_is_written, image};
use tests::{FOREIGN, Ran, TINY, each_mode, kernel, need_kvm, run};

fn disk(path: &Path) -> Disk {
    Disk::new(path)
}

fn with(mode: Mode, devices: Vec<Device>, script: &str) -> Config {
    let mut config = kernel(mode, script);
    config.devices = devices;
    config
}

fn ran(mode: Mode, file: &NamedTempFile, script: &str) -> Ran {
    run(with(mode, vec![Device::Disk(disk(file.path()))], script))
}

#[test]
fn what_is_written_is_in_the_file_and_read_back() {
    each_mode(|mode| {
        assert_keeps_what_is_written("vda", 300, |file, script| ran(mode, file, script));
    });
}

#[test]
fn a_wrong_sector_is_found_and_ends_the_script_with_its_status() {
    each_mode(|mode| assert_finds_a_wrong_sector("vda", |file, script| ran(mode, file, script)));
}

#[test]
fn requests_cost_no_exit_for_registers() {
    each_mode(|mode| {
        let file = image();
        let none = ran(mode, &file, "echo");
        assert!(
            none.registers().iter().all(|count| *count > 0),
            "it was set up: {:?}",
            none.registers()
        );
        let script = "disk vda write 0 2048 3; disk vda verify 0 2048 3";
        let many = ran(mode, &file, script);
        many.lines();
        // 32 requests.
        many.assert_free_doorbells(&none);
        // Doorbells that exit would have been seen.
        let mut config = with(mode, vec![Device::Disk(disk(file.path()))], script);
        config.wiring.ioeventfd = false;
        let exiting = run(config);
        exiting.lines();
        let device = exiting.outcome.devices.first();
        let doorbells = device.map_or(0, |counts| counts.doorbells);
        let [reads, writes] = exiting.registers();
        let [reads_less, writes_less] = none.registers();
        assert!(
            doorbells > 4 && writes + reads_less >= reads + writes_less + doorbells,
            "{doorbells} doorbells, {writes} writes"
        );
    });
}

#[test]
fn devices_are_shown_as_a_tree() {
    each_mode(|mode| {
        let file = image();
        let read_only = Disk {
            read_only: true,
            ..disk(file.path())
        };
        let devices = vec![Device::Rng, Device::Disk(read_only)];
        let ran = run(with(mode, devices, "lsdev; disk; disk vda write 0 1 1"));
        assert_eq!(ran.status(), 1, "{}", ran.output);
        for line in [
            "virtio-mmio@d0000000         bus      platform     virtio-mmio  49",
            "  hwrng                      random   virtio-mmio  virtio-rng",
            "virtio-mmio@d0001000         bus      platform     virtio-mmio  50",
            "  vda                        block    virtio-mmio  virtio-blk           1024 KiB, read-only",
            "vda  2048 sectors, 0 interrupts",
            "the disk is read-only",
        ] {
            assert!(ran.output.contains(line), "{line}: {}", ran.output);
        }
    });
}

#[test]
fn random_bytes_differ() {
    each_mode(|mode| {
        let ran = run(with(mode, vec![Device::Rng], "random 32; random 32"));
        let lines = ran.lines();
        let random: Vec<_> = lines.iter().filter(|line| line.len() == 64).collect();
        assert_eq!(random.len(), 2, "{lines:?}");
        assert_ne!(random[0], random[1]);
        assert!(
            random
                .iter()
                .all(|line| line.bytes().all(|byte| byte.is_ascii_hexdigit()))
        );
    });
}

#[test]
fn without_devices_there_are_none() {
    each_mode(|mode| {
        for script in ["disk vda flush", "random 4"] {
            let ran = run(kernel(mode, script));
            assert_eq!(ran.status(), 1, "{}", ran.output);
            assert!(
                ran.output.contains("there is no such device"),
                "{}",
                ran.output
            );
        }
    });
}

#[test]
fn two_disks_keep_their_sectors_apart() {
    each_mode(|mode| {
        let files = [image(), image()];
        let disks = files.iter().map(|file| Device::Disk(disk(file.path())));
        let script = "disk vda write 0 64 1; disk vdb write 0 64 2; disk vda verify 0 64 1; \
                      disk vdb verify 0 64 2";
        let ran = run(with(mode, disks.collect(), script));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        let [first, second] = files.map(|file| fs::read(file.path()).expect("the image"));
        assert_ne!(first[..64 * 512], second[..64 * 512]);
    });
}

#[test]
fn several_queues_and_each_engine_carry_the_same_data() {
    each_mode(|mode| {
        for engine in [Engine::Sync, Engine::IoUring] {
            let file = image();
            let disk = Disk {
                engine,
                queues: 3,
                ..disk(file.path())
            };
            let script = "lsdev; disk vda write 0 2048 7; disk vda flush; disk vda verify 0 2048 7";
            let ran = run(with(mode, vec![Device::Disk(disk)], script));
            assert_eq!(ran.status(), 0, "{}", ran.output);
            assert!(ran.output.contains(" mq "), "{}", ran.output);
        }
    });
}

#[test]
fn what_is_written_above_a_snapshot_is_gone_with_the_machine() {
    each_mode(|mode| {
        let file = image();
        let before = fs::read(file.path()).expect("the image");
        let disk = Disk {
            snapshot: true,
            ..disk(file.path())
        };
        let script = "disk vda write 3 300 7; disk vda flush; disk vda verify 3 300 7";
        let ran = run(with(mode, vec![Device::Disk(disk)], script));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        assert!(fs::read(file.path()).expect("the image") == before);
    });
}

#[test]
fn an_image_that_is_cut_under_the_guest_is_an_input_output_error() {
    each_mode(|mode| {
        let file = image();
        // The file's end is where it was when the machine was built, as the guest knows it.
        let config = with(
            mode,
            vec![Device::Disk(disk(file.path()))],
            "disk vda read 0 2048",
        );
        let ran = tests::run_with(config, |_| file.as_file().set_len(512).expect("it is ours"));
        assert_eq!(ran.status(), 1, "{}", ran.output);
        assert!(ran.output.contains("input/output error"), "{}", ran.output);
    });
}

#[test]
fn a_disk_that_cannot_be_had_is_refused_before_the_guest_starts() {
    need_kvm!();
    let file = image();
    let config = || with(Mode::Pv, vec![Device::Disk(disk(file.path()))], "echo");
    let first = Vm::new(config(), Box::new(std::io::sink())).expect("a machine");
    let second = Vm::new(config(), Box::new(std::io::sink())).expect_err("the file is in use");
    assert!(
        second.to_string().contains("in use by another process"),
        "{second}"
    );
    drop(first);
    drop(Vm::new(config(), Box::new(std::io::sink())).expect("it is free again"));
    let many = with(Mode::Pv, vec![Device::Rng; 15], "echo");
    let error = Vm::new(many, Box::new(std::io::sink())).expect_err("too many");
    assert!(
        matches!(
            error,
            HostError::Devices {
                count: 15,
                limit: 14
            }
        ),
        "{error}"
    );
}

/// What a driver by hand offers that is wrong, in its order, and what the device makes of it.
const HOSTILE: [(&str, &str); 22] = [
    ("a chain that cycles", "the device needs a reset"),
    (
        "a next descriptor beyond the table",
        "the device needs a reset",
    ),
    ("memory that there is not", "the device needs a reset"),
    ("memory that ends in the buffer", "the device needs a reset"),
    ("an address that overflows", "the device needs a reset"),
    ("the local APIC as a buffer", "the device needs a reset"),
    ("a header that is to be written", "an error"),
    (
        "what is read behind what is written",
        "the device needs a reset",
    ),
    ("no place for the result", "the device needs a reset"),
    (
        "a table that is no multiple of a descriptor",
        "the device needs a reset",
    ),
    ("an empty table", "the device needs a reset"),
    ("a table in a table", "the device needs a reset"),
    ("a head beyond the table", "the device needs a reset"),
    ("an index too far ahead", "the device needs a reset"),
    ("registers by other widths", "[0, 0, 0], status 3"),
    ("features that are not offered", "status 3"),
    ("a queue before its time", "ready 0"),
    ("a misaligned table", "ready 0"),
    ("and going on all the same", "the device needs a reset"),
    ("a good request", "done"),
    ("its first byte", "0x7"),
    ("end 0 checks failed", ""),
];

#[test]
fn a_hostile_driver_gets_a_verdict_each_time_and_the_disk_stays_as_it_is() {
    each_mode(|mode| {
        let content: Vec<u8> = (7..=7 + 0xff_u8.wrapping_sub(7))
            .cycle()
            .take(64 * 512)
            .collect();
        let file = NamedTempFile::new().expect("a file");
        fs::write(file.path(), &content).expect("room");
        let image = if mode == Mode::Pv { TINY } else { FOREIGN };
        let mut config = Config::new(mode, image, "the driver by hand");
        config.command_line = "queues".to_owned();
        config.memory_bytes = 16 << 20;
        config.devices = vec![Device::Disk(Disk::new(file.path()))];
        let ran = run(config);
        assert_eq!(ran.status(), 0, "{}", ran.output);
        let lines = ran.lines();
        let said: Vec<_> = lines
            .iter()
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .collect();
        let is_foreign = mode != Mode::Pv;
        let wanted = HOSTILE
            .iter()
            .filter(|(what, _)| is_foreign || !what.starts_with("end"));
        let wanted: Vec<_> = wanted.copied().collect();
        assert!(said.ends_with(&wanted), "{mode:?}: {}", ran.output);
        assert!(fs::read(file.path()).expect("the image") == content);
    });
}
