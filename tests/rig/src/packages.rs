//! Finds the programs that the rig needs, and installs Debian's packages of those that are missing.
//! Called by `setup`; the kernel's package is not installed but unpacked, by `kernel`.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::error::RigError;
use crate::tools::{self, Failed};

/// The programs of this machine that the rig uses.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// A busybox with the applets that the rig needs.
    pub busybox: PathBuf,
}

const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");
const BUSYBOX: (&str, &str) = ("busybox", "busybox-static");
/// What the rig's init and this crate ask of busybox.
const APPLETS: [&str; 5] = ["depmod", "insmod", "poweroff", "sh", "stty"];

/// Find the programs, after installing what is missing where this user may.
///
/// # Errors
/// [`RigError::NeedsRoot`], [`RigError::Install`].
pub fn ensure() -> Result<Programs, RigError> {
    ensure_as(is_root())
}

/// As [`ensure`], for a user who may install packages or may not.
///
/// # Errors
/// As [`ensure`].
pub fn ensure_as(may_install: bool) -> Result<Programs, RigError> {
    let missing: Vec<_> = [(QEMU, qemu().is_none()), (BUSYBOX, busybox().is_none())]
        .into_iter()
        .filter_map(|(tool, is_missing)| is_missing.then_some(tool))
        .collect();
    let list = |part: fn(&(&'static str, &'static str)) -> &'static str, with: &str| {
        missing.iter().map(part).collect::<Vec<_>>().join(with)
    };
    let (programs, packages) = (list(|tool| tool.0, " and "), list(|tool| tool.1, " "));
    if !missing.is_empty() {
        if !may_install {
            return Err(RigError::NeedsRoot { programs, packages });
        }
        eprintln!("rig: installing {packages}");
        install(&missing.iter().map(|tool| tool.1).collect::<Vec<_>>()).map_err(|failed| {
            RigError::Install {
                packages: packages.clone(),
                how: failed.how,
                tail: failed.tail,
            }
        })?;
    }
    match (qemu(), busybox()) {
        (Some(qemu), Some(busybox)) => Ok(Programs { qemu, busybox }),
        _ => Err(RigError::Install {
            packages,
            how: format!("apt-get was content, and {programs} is still not there"),
            tail: String::new(),
        }),
    }
}

fn install(packages: &[&str]) -> Result<(), Failed> {
    update()?;
    tools::output(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages),
    )
    .map(drop)
}

/// Bring the list of packages up to date.
///
/// # Errors
/// Of `apt-get update`.
pub fn update() -> Result<(), Failed> {
    tools::output(Command::new("apt-get").args(["update", "-q"])).map(drop)
}

fn qemu() -> Option<PathBuf> {
    tools::find(OsStr::new(QEMU.0))
}

fn busybox() -> Option<PathBuf> {
    let found = tools::find(OsStr::new(BUSYBOX.0))?;
    let applets = tools::output(Command::new(&found).arg("--list")).ok()?;
    let has = |applet: &&str| applets.lines().any(|line| line == *applet);
    APPLETS.iter().all(has).then_some(found)
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}
