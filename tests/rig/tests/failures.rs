//! What `rig` says and how it ends when packages, kernel or programs are missing. The package manager
//! is a script here: `PATH` leads to it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A busybox with the applets that the rig asks for.
const BUSYBOX: &str = "echo depmod; echo insmod; echo poweroff; echo sh; echo stty";

/// Make a program of a file. Another process writes it: a child that another test's thread starts
/// meanwhile would hold a file that this one has open for writing, and such a file cannot be run.
fn install(from: &Path, program: &Path) {
    let status = Command::new("install")
        .args(["-m", "755"])
        .args([from, program])
        .status();
    assert!(status.expect("coreutils").success());
}

/// A folder of programs, each a script.
struct Host(tempfile::TempDir);

impl Host {
    fn new(programs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, script) in programs {
            let text = folder.path().join(format!("{name}.text"));
            fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("a script");
            install(&text, &folder.path().join(name));
        }
        Self(folder)
    }

    fn cache(&self) -> std::path::PathBuf {
        self.0.path().join("cache")
    }

    /// Run `rig run -- PROGRAM` with no other programs than these, but this machine's as well if
    /// `more` says where.
    fn rig(&self, more: &str, args: &[&str]) -> Output {
        let path = format!("{}{more}", self.0.path().display());
        Command::new(env!("CARGO_BIN_EXE_rig"))
            .args(args)
            .env("PATH", path)
            .env("XDG_CACHE_HOME", self.cache())
            .output()
            .expect("rig runs")
    }
}

#[track_caller]
fn assert_says(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

const RUN: [&str; 3] = ["run", "--", "/bin/true"];

#[test]
fn packages_that_cannot_be_installed_are_named_with_what_apt_said_and_the_mend() {
    let host = Host::new(&[("apt-get", "echo E: no route to the archive >&2; exit 100")]);
    let output = host.rig("", &RUN);
    let mend = "apt-get install -y qemu-system-x86 busybox-static";
    if rig::packages::is_root() {
        assert_says(
            &output,
            125,
            &[
                "installing qemu-system-x86 busybox-static failed: apt-get ended with status 100",
                "| E: no route to the archive",
                mend,
            ],
        );
    } else {
        assert_says(
            &output,
            125,
            &["qemu-system-x86_64 and busybox", "needs root", mend],
        );
    }
}

#[test]
fn a_package_manager_that_installs_nothing_is_told_of() {
    let host = Host::new(&[("apt-get", "exit 0"), ("busybox", BUSYBOX)]);
    let output = host.rig("", &RUN);
    if rig::packages::is_root() {
        let words = [
            "qemu-system-x86 failed",
            "qemu-system-x86_64 is still not there",
        ];
        assert_says(&output, 125, &words);
    } else {
        assert_says(&output, 125, &["needs qemu-system-x86_64,"]);
    }
}

#[test]
fn a_host_without_apt_is_told_of() {
    let host = Host::new(&[("qemu-system-x86_64", "exit 1"), ("busybox", BUSYBOX)]);
    let words = [
        "fetching the rig's kernel",
        "could not be run",
        "--kernel FILE",
    ];
    assert_says(&host.rig("", &RUN), 125, &words);
}

#[test]
fn a_kernel_that_cannot_be_downloaded_is_named_with_what_apt_said_and_the_mend() {
    let host = Host::new(&[
        ("qemu-system-x86_64", "exit 1"),
        ("busybox", BUSYBOX),
        (
            "apt-cache",
            "echo linux-image-cloud-amd64; echo '  Depends: linux-image-9.9-cloud'",
        ),
        (
            "apt-get",
            "echo E: Failed to fetch the archive >&2; exit 100",
        ),
    ]);
    let output = host.rig("", &RUN);
    assert_says(
        &output,
        125,
        &[
            "fetching the rig's kernel, package linux-image-9.9-cloud, failed: apt-get ended with",
            "| E: Failed to fetch the archive",
            "apt-get download linux-image-9.9-cloud",
            "--kernel FILE",
        ],
    );
    let left = fs::read_dir(host.cache().join("paravane-rig")).expect("the cache");
    assert_eq!(left.count(), 0, "half a kernel was left");
}

#[test]
fn a_kernel_package_without_a_kernel_is_told_of_and_not_kept() {
    let host = Host::new(&[
        ("qemu-system-x86_64", "exit 1"),
        ("busybox", BUSYBOX),
        ("apt-cache", "echo '  Depends: linux-image-9.9-cloud'"),
        ("apt-get", ": > linux-image-9.9-cloud.deb"),
        ("dpkg-deb", "/bin/mkdir \"$3\""),
    ]);
    let words = [
        "kernel package linux-image-9.9-cloud",
        "no folder of modules",
    ];
    assert_says(&host.rig("", &RUN), 125, &words);
    let left = fs::read_dir(host.cache().join("paravane-rig")).expect("the cache");
    assert_eq!(left.count(), 0, "half a kernel was left");
}

#[test]
fn a_folder_of_modules_without_their_list_is_named() {
    let host = Host::new(&[("qemu-system-x86_64", "exit 1"), ("busybox", BUSYBOX)]);
    let folder = host.0.path().to_str().expect("text");
    let args = [
        "run",
        "--kernel",
        "/dev/null",
        "--modules",
        folder,
        "--",
        "/bin/true",
    ];
    let output = host.rig(":/usr/bin:/bin", &args);
    assert_says(&output, 125, &[folder, "has no modules.dep", "depmod"]);
}

#[test]
fn a_rig_that_is_built_anew_meanwhile_goes_on() {
    // Cargo replaces the file when the tests' build gives it other features.
    let list = format!("/bin/rm -f \"$RIG_FILE\"; {BUSYBOX}");
    let host = Host::new(&[("qemu-system-x86_64", "exit 9"), ("busybox", &list)]);
    let folder = host.0.path();
    fs::write(folder.join("modules.dep"), "kvm-amd.ko:\ntun.ko:\n").expect("a list");
    fs::write(folder.join("kvm-amd.ko"), "").expect("a module");
    fs::write(folder.join("tun.ko"), "").expect("a module");
    let copy = folder.join("rig");
    install(Path::new(env!("CARGO_BIN_EXE_rig")), &copy);
    let output = Command::new(&copy)
        .args(["run", "--kernel", "/dev/null", "--modules"])
        .arg(folder)
        .args(["--", "/bin/true"])
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .env("RIG_FILE", &copy)
        .output()
        .expect("rig runs");
    assert!(!copy.exists(), "the file was not replaced");
    assert_says(&output, 125, &["did not boot: QEMU ended with status 9"]);
}

#[test]
fn a_program_or_a_path_that_is_not_there_is_named() {
    let host = Host::new(&[]);
    let output = host.rig("", &["run", "--", "/no/such/program"]);
    assert_says(&output, 125, &["no program /no/such/program"]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let host = Host::new(&[]);
    for args in [
        ["run", "--cpus", "0", "--", "/bin/true"].as_slice(),
        &["run", "--timeout", "0", "--", "/bin/true"],
        &["run", "--env", "=x", "--", "/bin/true"],
        &["run", "--kernel", "/vmlinuz", "--", "/bin/true"],
        &["run"],
        &["test", "--all", "--test", "storm"],
    ] {
        assert_says(&host.rig("", args), 2, &["error:"]);
    }
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_the_work() {
    let host = Host::new(&[]);
    // Cargo is found through the variable that it sets for its tests, not through PATH.
    let output = Command::new(env!("CARGO_BIN_EXE_rig"))
        .args(["test", "--junit", "/no/such/folder/junit.xml"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .env("XDG_CACHE_HOME", host.cache())
        .output()
        .expect("rig runs");
    assert_says(&output, 125, &["cannot write /no/such/folder/junit.xml"]);
}
