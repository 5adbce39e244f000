//! Trapped devices, driven by the kernel in each mode, over real files: an exit for each register access.

mod by_hand;

use std::fs;

use hypercall_abi::Mode;
use hypervisor::doctor::{self, Platform};
use hypervisor::io::{Device, Disk, Engine};
use hypervisor::{Config, HostError, IoKind, Vm};
use tempfile::NamedTempFile;
use tests::disk::{SECTORS, assert_finds_a_wrong_sector, assert_keeps_what_is_written, image};
use tests::{FOREIGN, Ran, TINY, each_mode, kernel, need_kvm, run};

fn with(mode: Mode, devices: Vec<Device>, script: &str) -> Config {
    let mut config = kernel(mode, script);
    config.devices = devices;
    config.io = IoKind::Trapped;
    config
}

fn ran(mode: Mode, file: &NamedTempFile, script: &str) -> Ran {
    run(with(
        mode,
        vec![Device::Disk(Disk::new(file.path()))],
        script,
    ))
}

#[test]
fn what_is_written_is_in_the_file_and_read_back() {
    each_mode(|mode| {
        assert_keeps_what_is_written("hda", 40, |file, script| ran(mode, file, script));
    });
}

#[test]
fn four_drives_are_on_two_channels_and_each_has_its_own_sectors() {
    each_mode(|mode| {
        let files: [NamedTempFile; 4] = std::array::from_fn(|_| image());
        let disks = files
            .iter()
            .map(|file| Device::Disk(Disk::new(file.path())));
        let mut script = "disk hda id".to_owned();
        for (seed, name) in ["hda", "hdb", "hdc", "hdd"].into_iter().enumerate() {
            script += &format!("; disk {name} write {} 3 {seed}", SECTORS - 3);
        }
        for (seed, name) in ["hda", "hdb", "hdc", "hdd"].into_iter().enumerate() {
            script += &format!("; disk {name} verify {} 3 {seed}", SECTORS - 3);
        }
        let ran = run(with(mode, disks.collect(), &(script + "; lsdev")));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        for line in [
            "ioapic@fec00000              irq      platform     ioapic               24 pins",
            "isa                          bus      platform     -",
            "  ata@1f0                    bus      isa          ata          34      ",
            "    hda                      block    ata          ata                  1024 KiB, Paravane ATA disk",
            "    hdb                      block    ata          ata                  1024 KiB, Paravane ATA disk",
            "  ata@170                    bus      isa          ata          35      ",
            "    hdc                      block    ata          ata                  1024 KiB, Paravane ATA disk",
            "    hdd                      block    ata          ata                  1024 KiB, Paravane ATA disk",
        ] {
            assert!(ran.output.contains(line), "{line}: {}", ran.output);
        }
        // The drive's name is its file's.
        let name = files[0]
            .path()
            .file_name()
            .expect("a name")
            .to_string_lossy();
        assert!(ran.output.contains(&format!("{name}\n")), "{}", ran.output);
        let written = files.map(|file| fs::read(file.path()).expect("the image"));
        for (at, one) in written.iter().enumerate() {
            assert!(written[..at].iter().all(|other| other != one), "drive {at}");
        }
    });
}

#[test]
fn what_has_no_trapped_counterpart_stays_virtio() {
    each_mode(|mode| {
        let file = image();
        let devices = vec![Device::Rng, Device::Disk(Disk::new(file.path()))];
        let script = "random 32; disk hda write 0 1 1; random 32; disk hda verify 0 1 1; lsdev";
        let ran = run(with(mode, devices, script));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        for line in ["virtio-mmio@d0000000 ", "  hwrng ", "  ata@1f0 "] {
            assert!(ran.output.contains(line), "{line}: {}", ran.output);
        }
    });
}

#[test]
fn a_wrong_sector_is_found_and_ends_the_script_with_its_status() {
    each_mode(|mode| assert_finds_a_wrong_sector("hda", |file, script| ran(mode, file, script)));
}

#[test]
fn what_the_host_cannot_do_is_an_input_output_error_and_the_drive_goes_on() {
    each_mode(|mode| {
        let file = image();
        // The file's end is where it was when the machine was built, as the guest knows it.
        let config = with(
            mode,
            vec![Device::Disk(Disk::new(file.path()))],
            "disk hda read 0 2048",
        );
        let ran = tests::run_with(config, |_| {
            file.as_file().set_len(4096).expect("it is ours")
        });
        assert_eq!(ran.status(), 1, "{}", ran.output);
        assert!(ran.output.contains("input/output error"), "{}", ran.output);

        let file = image();
        let read_only = Disk {
            read_only: true,
            ..Disk::new(file.path())
        };
        let script = "disk hda read 0 4; disk hda write 0 1 1";
        let ran = run(with(mode, vec![Device::Disk(read_only)], script));
        assert_eq!(ran.status(), 1, "{}", ran.output);
        assert!(ran.output.contains("4 sectors, fnv1a"), "{}", ran.output);
        assert!(
            ran.output.ends_with("input/output error\n"),
            "{}",
            ran.output
        );
        assert!(
            fs::read(file.path())
                .expect("the image")
                .iter()
                .all(|byte| *byte == 0)
        );
    });
}

#[test]
fn a_disk_that_cannot_be_had_is_refused_before_the_guest_starts() {
    need_kvm!();
    let file = image();
    let config = |disks| with(Mode::Pv, disks, "echo");
    let refused = |disks| {
        let error = Vm::new(config(disks), Box::new(std::io::sink())).expect_err("it is refused");
        error.to_string()
    };
    let one = || Device::Disk(Disk::new(file.path()));
    let first = Vm::new(config(vec![one()]), Box::new(std::io::sink())).expect("a machine");
    assert!(refused(vec![one()]).contains("in use by another process"));
    drop(first);
    let direct = Disk {
        direct: true,
        ..Disk::new(file.path())
    };
    assert!(refused(vec![Device::Disk(direct)]).contains("use virtio"));
    let queues = Disk {
        queues: 2,
        ..Disk::new(file.path())
    };
    assert!(refused(vec![Device::Disk(queues)]).contains("no queues"));
    let ring = Disk {
        engine: Engine::IoUring,
        ..Disk::new(file.path())
    };
    assert!(refused(vec![Device::Disk(ring)]).contains("no io_uring"));
    let many: Vec<_> = (0..5).map(|_| one()).collect();
    let error = Vm::new(config(many), Box::new(std::io::sink())).expect_err("too many");
    assert!(
        matches!(error, HostError::Devices { count: 5, limit: 4 }),
        "{error}"
    );
}

/// Accesses to ports that left the virtual machine, in and out, without those of the console.
fn accesses(ran: &Ran) -> [u64; 2] {
    let exits = &ran.outcome.stats.exits;
    let of = |kinds: [&str; 2]| -> u64 {
        let counts = kinds.map(|kind| exits.get(kind).map_or(0, |count| count.count));
        counts.into_iter().sum()
    };
    let calls = |names: [&str; 2]| -> u64 { names.map(|name| ran.calls(name)).into_iter().sum() };
    let [reads, writes] = [of(["port read", "trap in"]), of(["port write", "trap out"])];
    [
        reads + calls(["port_read", "port_read_string"]),
        writes + calls(["port_write", "port_write_string"]),
    ]
}

/// How many accesses one request of 8 KiB is: those of six, but for those of one.
fn cost(mode: Mode, file: &NamedTempFile, [one, six]: [&str; 2]) -> [u64; 2] {
    let [one, six] = [one, six].map(|script| {
        let ran = ran(mode, file, script);
        assert_eq!(ran.status(), 0, "{}", ran.output);
        ran
    });
    // Both say as much, so the console's accesses are as many.
    assert_eq!(one.outcome.console_bytes, six.outcome.console_bytes);
    let both = accesses(&six).into_iter().zip(accesses(&one));
    let each: Vec<u64> = both.map(|(six, one)| six - one).collect();
    assert!(each.iter().all(|count| count.is_multiple_of(5)), "{each:?}");
    [each[0] / 5, each[1] / 5]
}

#[test]
fn each_access_to_a_register_is_an_exit_and_counted() {
    each_mode(|mode| {
        let file = image();
        let reads = cost(mode, &file, ["disk hda read 0 16", "disk hda read 0 96"]);
        let writes = cost(
            mode,
            &file,
            ["disk hda write 0 16 3", "disk hda write 0 96 3"],
        );
        // The drive is looked at before the command, and its status is read in the interrupt; the registers
        // are device, count, three of the address, and command. A write is polled for its first block.
        let (looks, registers) = (2, 6);
        match mode {
            // KVM takes a string of reads in pieces of at most 1 KiB, which end with a page of memory, and a
            // string of writes word by word.
            Mode::Hvm => {
                assert!((looks + 8..=looks + 11).contains(&reads[0]), "{reads:?}");
                assert_eq!(reads[1], registers);
                assert_eq!(writes, [looks + 1, registers + 4096]);
            }
            // One trap is one string.
            Mode::Trap | Mode::Patch => {
                assert_eq!(reads, [looks + 1, registers]);
                assert_eq!(writes, [looks + 1, registers + 1]);
            }
            // A call is a page of memory at most.
            Mode::Pv => {
                assert!((looks + 2..=looks + 3).contains(&reads[0]), "{reads:?}");
                assert_eq!((reads[1], writes[0]), (registers, looks + 1));
                assert!(
                    (registers + 2..=registers + 3).contains(&writes[1]),
                    "{writes:?}"
                );
            }
        }
    });
}

/// Interrupts of a disk that `lsdev` counts.
fn interrupts(ran: &Ran) -> u64 {
    let line = ran.output.lines().find(|line| line.contains("  ata@1f0 "));
    let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    let at = words.iter().position(|word| *word == "interrupts,");
    let count = at.and_then(|at| words.get(at - 1)?.parse().ok());
    count.unwrap_or_else(|| panic!("{}", ran.output))
}

#[test]
fn each_block_is_an_interrupt_and_nothing_else_is_one() {
    each_mode(|mode| {
        let file = image();
        let none = ran(mode, &file, "lsdev");
        // Two blocks and five sectors, and a flush.
        let some = ran(
            mode,
            &file,
            "disk hda write 0 37 1; disk hda read 0 37; disk hda flush; lsdev",
        );
        assert_eq!((interrupts(&none), interrupts(&some)), (0, 7));
    });
}

/// Seconds since 1970 of what `date` says.
fn seconds(date: &str) -> u64 {
    let digits = |range: std::ops::Range<usize>| -> u64 { date[range].parse().expect("a number") };
    let (year, month, day) = (digits(0..4), digits(5..7), digits(8..10));
    // Days since 1970, by counting.
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let years = (1970..year).map(|year| 365 + u64::from(is_leap(year)));
    let lengths = [
        31,
        28 + u64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
    ];
    let months: u64 = lengths.iter().take(month as usize - 1).sum();
    let days = years.sum::<u64>() + months + day - 1;
    ((days * 24 + digits(11..13)) * 60 + digits(14..16)) * 60 + digits(17..19)
}

#[test]
fn the_clock_shows_the_host_s_time() {
    each_mode(|mode| {
        let now = || {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
            now.expect("it is later than 1970").as_secs()
        };
        let before = now();
        let ran = run(with(mode, Vec::new(), "date"));
        let lines = ran.lines();
        let date = lines.iter().find_map(|line| line.strip_suffix(" UTC"));
        let shown = seconds(date.expect("a date"));
        assert!(
            (before..=now()).contains(&shown),
            "{before} {shown}: {lines:?}"
        );
    });
}

#[test]
fn the_timer_and_the_clock_interrupt_as_often_as_they_should() {
    each_mode(|mode| {
        let script = "ticks pit 100 400; ticks rtc 64 500; ticks pit 18 1; ticks rtc 63 1";
        let ran = run(with(mode, Vec::new(), &format!("{script}; lsdev")));
        // The last two of these ask for what the devices cannot do.
        assert_eq!(ran.status(), 1, "{}", ran.output);
        let refused = ran.output.matches("the device cannot do that");
        assert_eq!(refused.count(), 2, "{}", ran.output);
        let counts = ran.output.lines().filter_map(|line| {
            let (count, us) = line.strip_suffix(" us")?.split_once(" ticks in ")?;
            Some((count.parse::<u64>().ok()?, us.parse::<u64>().ok()?))
        });
        let counts: Vec<_> = counts.collect();
        assert_eq!(counts.len(), 2, "{}", ran.output);
        for ((count, us), hz) in counts.into_iter().zip([100, 64]) {
            // Never more than time has passed, but for one that was due; fewer on a host that is busy.
            let most = us * hz / 1_000_000 + 1;
            assert!(
                count <= most && count >= most / 4,
                "{count} of {most}: {}",
                ran.output
            );
        }
    });
}

#[test]
fn a_reset_ends_the_machine_and_says_so() {
    each_mode(|mode| {
        let ran = run(with(mode, Vec::new(), "reboot; echo still here"));
        assert_eq!(ran.status(), 0, "{}", ran.output);
        assert!(
            ran.outcome.is_reset && !ran.output.contains("still here"),
            "{}",
            ran.output
        );
        let off = run(with(mode, Vec::new(), "echo"));
        assert!(!off.outcome.is_reset);
        // Without a board there is nothing to ask.
        let none = run(kernel(mode, "reboot"));
        assert_eq!(none.status(), 1, "{}", none.output);
        assert!(
            none.output.contains("there is no such device"),
            "{}",
            none.output
        );
    });
}

/// A guest that tries the pins of the I/O APIC with a drive's line.
fn lines_of(mode: Mode, file: &NamedTempFile) -> Ran {
    let image = if mode == Mode::Pv { TINY } else { FOREIGN };
    let mut config = Config::new(mode, image, "the guest that tries lines");
    config.command_line = "lines".to_owned();
    config.memory_bytes = 16 << 20;
    config.devices = vec![Device::Disk(Disk::new(file.path()))];
    config.io = IoKind::Trapped;
    run(config)
}

#[test]
fn a_raised_line_interrupts_once_by_edge_and_until_it_is_lowered_by_level() {
    each_mode(|mode| {
        let ran = lines_of(mode, &image());
        // kvm_pvm ends an interrupt when it delivers it. Where it says so before the guest has lowered the
        // line, the interrupt is requested once more, and what is requested cannot be taken back.
        let is_early = doctor::platform() == Platform::KvmPvm;
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
            assert!(
                (count..=count + more).contains(&found),
                "{mode:?}, {what}: {found}"
            );
        }
        // KVM left for the end of each of these.
        let ends = ran.outcome.stats.exits.get("end of interrupt");
        assert!(ends.is_some_and(|ends| ends.count >= 10), "{ends:?}");
    });
}
