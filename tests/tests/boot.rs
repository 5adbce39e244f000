//! What a guest finds when it starts, and images and ramdisks that are not what they should be.

use std::time::Duration;

use hypercall_abi::Mode;
use hypercall_abi::boot::ABI_VERSION;
use hypervisor::{Config, End};
use tests::{
    Random, TINY, each_mode, image, kernel, kernel_image, need_kvm, refusal, run, run_for, script,
};

const MIB: u64 = 1 << 20;

#[test]
fn a_guest_learns_its_memory() {
    need_kvm!();
    for (mebibytes, ranges) in [
        (8, ["memory 0 800000"].as_slice()),
        (3072, &["memory 0 c0000000"]),
        (5120, &["memory 0 c0000000", "memory 100000000 80000000"]),
    ] {
        let mut config = script("boot");
        config.memory_bytes = mebibytes * MIB;
        let ran = run(config);
        let expected = [&["Ok(())"], ranges, &["initrd 0 0", "interactive 0"]].concat();
        assert_eq!(ran.lines(), expected);
    }
}

#[test]
fn a_guest_finds_its_ramdisk_at_the_top_of_memory() {
    need_kvm!();
    for (bytes, place, shown) in [
        (b"ramdisk".to_vec(), "initrd 27ff000 7", "show 27ff000 7"),
        (vec![b'r'; 4097], "initrd 27fe000 1001", "show 27fefff 2"),
    ] {
        let mut config = script(&format!("boot; {shown}"));
        config.memory_bytes = 40 * MIB;
        config.initrd = Some(bytes.into());
        let ran = run(config);
        let lines = ran.lines();
        assert_eq!(lines[2], place);
        assert!(["ramdisk", "rr"].contains(&lines[4]), "{}", ran.output);
    }
}

#[test]
fn the_kernel_boots_with_a_ramdisk() {
    each_mode(|mode| {
        let mut config = kernel(mode, "mem");
        config.memory_bytes = 40 * MIB;
        config.initrd = Some(vec![0xff; 5 << 20].into());
        run(config).lines();
    });
}

#[test]
fn a_ramdisk_that_is_empty_or_does_not_fit_is_refused() {
    each_mode(|mode| {
        for (len, sentence) in [
            (0, "the initramfs is empty: leave it out"),
            (1 << 20, "give the guest at least"),
            (80 << 20, "an initramfs of 83886080 bytes"),
        ] {
            let mut config = kernel(mode, "");
            config.initrd = Some(vec![0; len].into());
            let refusal = refusal(config);
            assert!(refusal.contains(sentence), "{refusal}");
        }
    });
}

#[test]
fn a_command_line_that_fits_its_page_is_whole_and_a_longer_one_is_refused() {
    need_kvm!();
    let long = "x".repeat(4095 - "hello ".len());
    let ran = run(tests::tiny(&format!("hello {long}")));
    assert_eq!(ran.lines(), [format!("hello {long}")]);
    let refusal = refusal(tests::tiny(&format!("hello {long}x")));
    assert_eq!(
        refusal,
        "the guest command line has 4096 bytes, the limit is 4095"
    );
}

#[test]
fn an_image_of_another_version_is_refused_with_both_versions() {
    each_mode(|mode| {
        let good = kernel_image(mode);
        let theirs = ABI_VERSION + 7;
        let other = image::with_bytes(good, image::note_content(good), &theirs.to_le_bytes());
        let mut config = kernel(mode, "");
        config.image = other.into();
        assert_eq!(
            refusal(config),
            format!(
                "the kernel speaks version {theirs} of the hypercall interface, this hypervisor \
                 version {ABI_VERSION}: rebuild the image with this version's hypercall-abi"
            )
        );
    });
}

#[test]
fn an_image_that_needs_unknown_features_is_refused_with_their_bits() {
    each_mode(|mode| {
        let good = kernel_image(mode);
        let features = (1u64 << 63 | 1 << 40 | 1).to_le_bytes();
        let other = image::with_bytes(good, image::note_content(good) + 8, &features);
        let mut config = kernel(mode, "");
        config.image = other.into();
        let refusal = refusal(config);
        assert!(refusal.starts_with("the kernel needs interface features 0x8000010000000000 "));
    });
}

#[test]
fn an_image_of_the_other_kind_is_refused() {
    need_kvm!();
    for (image, mode, sentence) in [
        (
            guest_images::NATIVE,
            Mode::Pv,
            "the kernel is a native image, and --mode pv needs a pv image",
        ),
        (
            guest_images::PV,
            Mode::Hvm,
            "the kernel is a pv image, and --mode hvm needs a native image",
        ),
    ] {
        let config = Config::new(mode, image, "the kernel");
        assert_eq!(refusal(config), sentence);
    }
    for kind in [0u32, 3, u32::MAX] {
        let other = image::with_bytes(TINY, image::note_content(TINY) + 4, &kind.to_le_bytes());
        let refusal = refusal(Config::new(Mode::Pv, other, "the image"));
        assert!(
            refusal.starts_with("the image is of an unknown kind, and "),
            "{refusal}"
        );
    }
}

#[test]
fn a_program_without_a_note_is_refused() {
    need_kvm!();
    let name = image::note_content(TINY) - 12;
    let without = image::with_bytes(TINY, name, b"Somebody");
    let refusal = refusal(Config::new(Mode::Pv, without, "the image"));
    assert!(
        refusal.starts_with("the image is not a Paravane guest (it has no note named Paravane)"),
        "{refusal}"
    );
}

#[test]
fn an_image_that_spans_too_much_is_refused_by_name() {
    each_mode(|mode| {
        let mut config = image::instructions(mode, |a| a.hlt());
        config.image = image::with_bytes(&config.image, 64 + 40, &(20 * MIB).to_le_bytes()).into();
        config.memory_bytes = 64 * MIB;
        let refusal = refusal(config);
        assert!(
            refusal.starts_with("the instructions spans too much address space"),
            "{refusal}"
        );
    });
}

/// Build and run a damaged kernel: an error of the host names the file, and a guest ends in one of
/// the ways that are defined, within its time.
#[track_caller]
fn survive(mode: Mode, damaged: Vec<u8>, what: &str) -> Option<End> {
    let mut config = kernel(mode, "poweroff 7");
    config.image = damaged.into();
    match run_for(Duration::from_millis(500), config, |_| {}) {
        Ok(ran) => {
            let is_off = matches!(ran.outcome.end, End::PowerOff(_));
            assert!(is_off || ran.outcome.report.is_some(), "{what}: {ran:?}");
            Some(ran.outcome.end)
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(sentence.starts_with("the kernel"), "{what}: {sentence}");
            None
        }
    }
}

#[test]
fn a_truncated_image_is_refused_or_runs_to_a_defined_end() {
    each_mode(|mode| {
        let image = kernel_image(mode);
        let mut random = Random::new(1);
        let mut lengths: Vec<usize> = (0..64)
            .map(|_| random.below(image.len() as u64) as usize)
            .collect();
        lengths.extend([0, 1, 16, 63, 64, 65, 64 + 56, 64 + 4 * 56, image.len() - 1]);
        for len in lengths {
            survive(mode, image[..len].to_vec(), &format!("{len} bytes"));
        }
    });
}

#[test]
fn a_header_with_any_byte_changed_is_refused_or_runs_to_a_defined_end() {
    need_kvm!();
    let (mode, image) = (Mode::Pv, guest_images::PV);
    assert_eq!(run(kernel(mode, "poweroff 7")).status(), 7);
    let mut refused = 0;
    for at in 0..0x200 {
        let changed = image::with_bytes(image, at, &[!image[at]]);
        refused += u32::from(survive(mode, changed, &format!("byte {at:#x}")).is_none());
    }
    // Magic, class, type, machine, and the segments' ranges, at least.
    assert!(refused > 100, "{refused}");
}

#[test]
fn an_image_with_any_bit_changed_runs_to_a_defined_end() {
    each_mode(|mode| {
        let image = kernel_image(mode);
        let mut random = Random::new(2);
        for _ in 0..40 {
            let at = random.below(image.len() as u64) as usize;
            let changed = image[at] ^ 1 << random.below(8);
            let damaged = image::with_bytes(image, at, &[changed]);
            survive(mode, damaged, &format!("byte {at:#x} = {changed:#x}"));
        }
    });
}
