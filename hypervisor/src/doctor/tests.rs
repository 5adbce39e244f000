//! Made-up hosts, one for each problem, and the real one.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

mod fake;

use super::*;
use fake::{Fake, expect};

#[test]
fn an_unloaded_module_is_named_by_the_processor() {
    let intel = Fake::new("vmx").open_problem(libc::ENOENT);
    expect(&intel, "kvm_intel is not loaded", "sudo modprobe kvm_intel");
    assert!(intel.mend.contains("Intel VT-x in the firmware"));
    let amd = Fake::new("svm").open_problem(libc::ENOENT);
    expect(&amd, "kvm_amd is not loaded", "sudo modprobe kvm_amd");
    let stale = Fake::new("svm").open_problem(libc::ENXIO);
    expect(&stale, "no driver answers", "sudo modprobe kvm_amd");
}

#[test]
fn a_module_that_the_kernel_lacks_is_not_to_be_loaded() {
    let fake = Fake::new("vmx").file("lib/modules/6.1.0-fake/modules.dep", "kernel/fs/ext4.ko:\n");
    expect(
        &fake.open_problem(libc::ENOENT),
        "built without kvm_intel",
        "CONFIG_KVM_INTEL",
    );
    let dep = "kernel/arch/x86/kvm/kvm-intel.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz\n";
    let fake = Fake::new("vmx").file("lib/modules/6.1.0-fake/modules.dep", dep);
    expect(&fake.open_problem(libc::ENOENT), "not loaded", "modprobe");
}

#[test]
fn software_kvm_is_offered_where_the_kernel_ships_it() {
    let dep = "kernel/arch/x86/kvm/kvm-pvm.ko: kernel/arch/x86/kvm/kvm.ko\n";
    let fake = Fake::new("").file("lib/modules/6.1.0-fake/modules.dep", dep);
    expect(
        &fake.open_problem(libc::ENOENT),
        "kvm_pvm is not loaded",
        "sudo modprobe kvm_pvm",
    );
}

#[test]
fn bare_metal_without_the_flags_is_sent_to_the_firmware() {
    let problem = Fake::new("").open_problem(libc::ENOENT);
    expect(&problem, "neither VMX nor SVM", "firmware settings (BIOS)");
}

#[test]
fn a_cloud_guest_without_the_flags_is_sent_to_its_host() {
    let kvm = Fake::new("hypervisor").under("KVMKVMKVM");
    expect(&kvm.open_problem(libc::ENOENT), "under KVM", "nested=1");
    let azure = Fake::new("hypervisor").under("Microsoft Hv");
    expect(
        &azure.open_problem(libc::ENOENT),
        "under Hyper-V",
        "ExposeVirtualizationExtensions",
    );
    let vmware = Fake::new("hypervisor").under("VMwareVMware");
    expect(&vmware.open_problem(libc::ENOENT), "VMware", "vhv.enable");
    let xen = Fake::new("hypervisor").under("XenVMMXenVMM");
    expect(&xen.open_problem(libc::ENOENT), "Xen", "nestedhvm=1");
    let other = Fake::new("hypervisor");
    expect(&other.open_problem(libc::ENOENT), "a hypervisor", "nested");
}

#[test]
fn a_container_is_given_the_device() {
    let fake = Fake::new("vmx")
        .file("sys/module/kvm_intel/refcnt", "0")
        .file(".dockerenv", "");
    let problem = fake.open_problem(libc::ENOENT);
    expect(&problem, "this container (docker)", "`--device /dev/kvm`");
    expect(
        &fake.open_problem(libc::EPERM),
        "device policy",
        "--device /dev/kvm",
    );
    expect(
        &fake.open_problem(libc::EACCES),
        "no permission",
        "--group-add",
    );
    expect(
        &fake.open_problem(libc::EISDIR),
        "is a directory",
        "--device /dev/kvm",
    );
}

#[test]
fn a_container_whose_host_has_not_loaded_kvm_needs_both() {
    let fake = Fake::new("svm").file("run/.containerenv", "");
    let problem = fake.open_problem(libc::ENOENT);
    expect(&problem, "kvm_amd is not loaded", "container's host");
    assert!(problem.mend.contains("--device /dev/kvm"));
}

#[test]
fn containers_are_told_apart() {
    let kind = |fake: Fake| fake.host.facts().container;
    assert_eq!(kind(Fake::new("")), None);
    let cgroup = "0::/docker/0123456789abcdef\n";
    assert_eq!(
        kind(Fake::new("").file("proc/1/cgroup", cgroup)).as_deref(),
        Some("docker")
    );
    let nspawn = Fake::new("").file("run/systemd/container", "systemd-nspawn\n");
    assert_eq!(kind(nspawn).as_deref(), Some("systemd-nspawn"));
    let pod = Fake::new("").file("var/run/secrets/kubernetes.io/x", "");
    assert_eq!(kind(pod).as_deref(), Some("kubernetes"));
}

#[test]
fn a_loaded_kvm_without_a_node_needs_only_the_node() {
    let fake = Fake::new("vmx").file("proc/misc", "232 kvm\n236 device-mapper\n");
    expect(
        &fake.open_problem(libc::ENOENT),
        "though KVM is loaded",
        "mknod -m 0666 /dev/kvm c 10 232",
    );
}

#[test]
fn a_mistyped_node_is_corrected() {
    let mut fake = Fake::new("vmx").file("dev/kvm", "");
    fake.host.node = PathBuf::from("/dev/kmv");
    expect(
        &fake.open_problem(libc::ENOENT),
        "no /dev/kmv",
        "name /dev/kvm",
    );
}

#[test]
fn no_permission_names_the_group_and_the_rule() {
    let problem = Fake::new("vmx").open_problem(libc::EACCES);
    expect(&problem, "no permission", "sudo usermod -aG kvm $USER");
    let rule = r#"KERNEL=="kvm", GROUP="kvm", MODE="0666""#;
    assert!(problem.mend.contains(rule), "{problem:?}");
    let mut fake = Fake::new("vmx").file("node", "");
    fake.host.node = fake.host.root.join("node");
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&fake.host.node, closed).expect("a mode");
    let problem = fake.open_problem(libc::EACCES);
    expect(&problem, "mode 0600", "let users in with the udev rule");
}

#[test]
fn other_causes_are_told_apart() {
    let fake = Fake::new("vmx");
    expect(&fake.open_problem(libc::EBUSY), "is busy", "VirtualBox");
    expect(
        &fake.open_problem(libc::EMFILE),
        "too many files",
        "ulimit -n",
    );
    expect(
        &fake.open_problem(libc::EPERM),
        "device policy",
        "DeviceAllow",
    );
    expect(&fake.open_problem(libc::EIO), "did not open", "dmesg");
}

#[test]
fn a_vm_that_cannot_be_created_says_why() {
    let problem = |errno| kvm::create_problem("VM", &io::Error::from_raw_os_error(errno));
    expect(&problem(libc::ENOMEM), "cannot create a VM", "memory");
    expect(&problem(libc::EBUSY), "cannot create a VM", "VirtualBox");
    expect(&problem(libc::EMFILE), "cannot create a VM", "ulimit");
    expect(&problem(libc::EPERM), "cannot create a VM", "seccomp");
    expect(&problem(libc::EINVAL), "cannot create a VM", "dmesg");
    let text = explain_create_error("vCPU", &io::Error::from_raw_os_error(libc::ENOMEM));
    assert!(text.starts_with("KVM cannot create a vCPU"), "{text}");
}

#[test]
fn another_api_version_is_an_error() {
    assert_eq!(kvm::version_problem(12), None);
    let problem = kvm::version_problem(10).expect("a problem");
    expect(&problem, "version 10, not 12", "upstream Linux");
}

#[test]
fn a_guest_that_does_not_run_points_at_the_hypervisor_above() {
    let failed = exit::ExitError::Ran("FailEntry(7, 0)".into());
    let nested = Fake::new("vmx hypervisor").under("KVMKVMKVM").host.facts();
    let problem = kvm::run_problem(&failed, &nested);
    expect(&problem, "FailEntry(7, 0)", "hypervisor above");
    let metal = Fake::new("vmx").host.facts();
    expect(&kvm::run_problem(&failed, &metal), "FailEntry", "dmesg");
    let hung = exit::ExitError::Hung(std::time::Duration::from_secs(10));
    let problem = kvm::run_problem(&hung, &nested);
    expect(&problem, "did not leave within 10s", "hypervisor above");
    assert_eq!(problem.kind, Kind::Broken);
}

#[test]
fn a_guest_that_never_leaves_does_not_hang_the_doctor() {
    if !has_kvm() {
        return;
    }
    let kvm = kvm::open(Path::new("/dev/kvm")).expect("KVM");
    let limit = std::time::Duration::from_millis(50);
    let endless = [0xeb, 0xfe]; // jmp to itself
    let error = exit::measure_guest(&kvm, &endless, limit).expect_err("it never leaves");
    assert!(matches!(error, exit::ExitError::Hung(_)), "{error}");
}

#[test]
fn a_guest_that_leaves_otherwise_is_not_taken_for_a_hanging_one() {
    if !has_kvm() {
        return;
    }
    let kvm = kvm::open(Path::new("/dev/kvm")).expect("KVM");
    let limit = std::time::Duration::from_secs(30);
    let early = [0xe6, 0x80, 0xf4]; // one `out`, and a `hlt` where another is expected
    let error = exit::measure_guest(&kvm, &early, limit).expect_err("it halts");
    assert_eq!(error.to_string(), "the guest ended in a halt too early");
}

#[test]
fn the_module_tells_the_platform_before_the_flags_do() {
    let platform = |fake: Fake| kvm::platform(&fake.host.facts());
    let pvm = Fake::new("svm hypervisor").file("sys/module/kvm_pvm/refcnt", "0");
    assert_eq!(platform(pvm), Platform::KvmPvm);
    assert_eq!(platform(Fake::new("svm")), Platform::Svm);
    assert_eq!(platform(Fake::new("vmx")), Platform::Vmx);
    assert_eq!(platform(Fake::new("")), Platform::Unknown);
}

#[test]
fn huge_pages_that_are_off_are_a_warning() {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    let off = Fake::new("")
        .file(path, "always madvise [never]\n")
        .host
        .facts();
    assert_eq!(off.huge_pages.as_deref(), Some("never"));
    assert_eq!(host::warnings(&off)[0].severity, Severity::Warning);
    let on = Fake::new("")
        .file(path, "always [madvise] never\n")
        .host
        .facts();
    assert!(host::warnings(&on).is_empty());
}

#[test]
fn huge_pages_that_the_kernel_lacks_are_a_warning() {
    let without = host::warnings(&Fake::new("").host.facts());
    assert_eq!(without.len(), 1);
    assert_eq!(without[0].severity, Severity::Warning);
    assert!(without[0].mend.contains("CONFIG_TRANSPARENT_HUGEPAGE"));
}

#[test]
fn each_hypervisor_above_is_named_by_its_signature() {
    let kinds = [
        ("KVMKVMKVM", "a VM under KVM"),
        ("Microsoft Hv", "a VM under Hyper-V"),
        ("VMwareVMware", "a VM under VMware"),
        ("XenVMMXenVMM", "a VM under Xen"),
        ("NewNewNewNew", "a VM under NewNewNewNew"),
    ];
    for (signature, words) in kinds {
        for flags in ["vmx hypervisor", "svm hypervisor"] {
            let mut fake = Fake::new(flags).under(signature);
            fake.host.node = fake.host.root.join("absent");
            let diagnosis = examine_host(&fake.host);
            assert_eq!(diagnosis.host.nested, Some(true));
            assert_eq!(diagnosis.host.hypervisor.as_deref(), Some(signature));
            assert!(render(&diagnosis).contains(words), "{signature}");
        }
    }
    assert_eq!(Fake::new("vmx").host.facts().nested, Some(false));
}

#[test]
fn kvm_and_xen_are_known_behind_a_pose_as_hyper_v() {
    let own = |first: &str, moved: &str| cpuid::own(first.into(), moved.into());
    assert_eq!(own("Microsoft Hv", "KVMKVMKVM"), "KVMKVMKVM");
    assert_eq!(own("Microsoft Hv", "XenVMMXenVMM"), "XenVMMXenVMM");
    // A leaf that does not exist answers with another's data.
    assert_eq!(own("Microsoft Hv", "Microsoft Hv"), "Microsoft Hv");
    assert_eq!(own("VMwareVMware", ""), "VMwareVMware");
    assert_eq!(own("KVMKVMKVM", "\u{1}x"), "KVMKVMKVM");
}

#[test]
fn an_open_mode_that_does_not_help_is_a_security_module_s() {
    let mut fake = Fake::new("vmx").file("node", "");
    fake.host.node = fake.host.root.join("node");
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(&fake.host.node, open).expect("a mode");
    let problem = fake.open_problem(libc::EACCES);
    expect(
        &problem,
        "mode 0666), though its mode lets",
        "SELinux or AppArmor",
    );
    assert_eq!(problem.kind, Kind::Policy);
    assert!(!problem.mend.contains("udev"), "{problem:?}");
    let fake = fake.file(".dockerenv", "");
    let problem = fake.open_problem(libc::EACCES);
    expect(&problem, "lets every user in", "label=disable");
}

#[test]
fn programs_tell_problems_by_their_kind() {
    let kind = |fake: &Fake, errno| fake.open_problem(errno).kind;
    let metal = Fake::new("vmx");
    assert_eq!(kind(&metal, libc::ENOENT), Kind::ModuleMissing);
    assert_eq!(kind(&metal, libc::EACCES), Kind::Permission);
    assert_eq!(kind(&metal, libc::EPERM), Kind::Policy);
    assert_eq!(kind(&metal, libc::EBUSY), Kind::Busy);
    assert_eq!(kind(&metal, libc::EMFILE), Kind::Files);
    assert_eq!(kind(&metal, libc::EISDIR), Kind::NodeWrong);
    assert_eq!(kind(&metal, libc::EIO), Kind::Refused);
    assert_eq!(kind(&Fake::new(""), libc::ENOENT), Kind::NoExtension);
    let cloud = Fake::new("hypervisor").under("KVMKVMKVM");
    assert_eq!(kind(&cloud, libc::ENOENT), Kind::NoNesting);
    let container = Fake::new("vmx")
        .file("sys/module/kvm_intel/refcnt", "0")
        .file(".dockerenv", "");
    assert_eq!(kind(&container, libc::ENOENT), Kind::NodeMissing);
    let create = |errno| kvm::create_problem("VM", &io::Error::from_raw_os_error(errno)).kind;
    assert_eq!(create(libc::ENOMEM), Kind::Memory);
    assert_eq!(create(libc::EINVAL), Kind::Refused);
    assert_eq!(
        kvm::version_problem(10).map(|p| p.kind),
        Some(Kind::Version)
    );
}

#[test]
fn the_same_permission_problem_has_the_whole_udev_rule_everywhere() {
    let rule = "KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0666\"";
    for fake in [Fake::new("svm"), Fake::new("svm").file(".dockerenv", "")] {
        let mend = fake.open_problem(libc::EACCES).mend;
        for part in [
            rule,
            "/etc/udev/rules.d/",
            "udevadm control --reload",
            "usermod -aG kvm",
        ] {
            assert!(mend.contains(part), "no {part} in {mend}");
        }
    }
}

#[test]
fn an_empty_host_is_examined_all_the_same() {
    let fake = Fake::new("");
    fs::remove_dir_all(&fake.host.root).expect("the made-up tree");
    let mut host = fake.host.clone();
    host.node = host.root.join("dev/kvm");
    let diagnosis = examine_host(&host);
    assert!(!diagnosis.usable());
    assert_eq!(diagnosis.host.nested, None);
    assert!(diagnosis.first_error().is_some());
    assert!(render(&diagnosis).starts_with("this host cannot run guests yet"));
}

#[test]
fn errors_come_before_warnings() {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    let mut fake = Fake::new("vmx").file(path, "always madvise [never]\n");
    fake.host.node = fake.host.root.join("absent");
    let diagnosis = examine_host(&fake.host);
    let severities: Vec<_> = diagnosis.problems.iter().map(|p| p.severity).collect();
    assert_eq!(severities, [Severity::Error, Severity::Warning]);
    let error = diagnosis.first_error().expect("an error");
    assert!(error.contains("kvm_intel"), "{error}");
    let warned = Diagnosis {
        problems: diagnosis.problems[1..].to_vec(),
        ..diagnosis
    };
    assert!(warned.usable());
    assert_eq!(warned.first_error(), None);
}

#[test]
fn a_node_that_is_something_else_is_told() {
    let diagnosis = examine(Path::new("/dev/null"));
    let error = diagnosis.first_error().expect("an error");
    assert!(error.contains("/dev/null is not KVM's node"), "{error}");
    assert!(diagnosis.kvm.is_none());
}

#[test]
fn a_path_that_no_node_can_have_is_an_error() {
    let diagnosis = examine(Path::new("/dev/k\0vm"));
    assert!(!diagnosis.usable());
}

fn has_kvm() -> bool {
    let is_absent = std::env::var("PARAVANE_NO_KVM").as_deref() == Ok("1");
    if is_absent {
        println!("PARAVANE_NO_KVM=1: this test does nothing");
    }
    !is_absent
}

#[test]
fn this_host_runs_a_guest() {
    if !has_kvm() {
        return;
    }
    let mut diagnosis = examine(Path::new("/dev/kvm"));
    diagnosis.gates = Some(vec![GateReport {
        tier: 2,
        mechanism: "a made-up gate".into(),
        cost_ns: Some(1.5),
        slot: "machine".into(),
    }]);
    let text = render(&diagnosis);
    println!("{text}");
    assert!(diagnosis.usable(), "{text}");
    let kvm = diagnosis.kvm.expect("KVM's facts");
    let exit = kvm.bare_exit.expect("a measured exit");
    assert!(exit.min_ns > 0 && exit.min_ns <= exit.median_ns && exit.median_ns <= exit.p90_ns);
    assert_ne!(kvm.platform, Platform::Unknown);
    assert!(kvm.tsc_khz.is_some_and(|khz| khz > 100_000));
    assert!(text.contains("a made-up gate"));
}
