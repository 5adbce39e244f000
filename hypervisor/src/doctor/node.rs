//! Why the KVM node does not open: one cause for each error number, told by the host's facts.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::host::{Host, HostFacts};
use super::nested;
use super::problem::{Kind, Problem};

/// The cause of an open that failed, and its mend.
pub(super) fn open_problem(host: &Host, facts: &HostFacts, error: &io::Error) -> Problem {
    let node = host.node.display();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => missing(host, facts),
        Some(libc::ENXIO | libc::ENODEV) => no_driver(host, facts),
        Some(libc::EACCES) => forbidden(host, facts),
        Some(libc::EPERM) => denied(host, facts),
        Some(libc::EISDIR) => Problem::error(
            Kind::NodeWrong,
            format!(
                "{node} is a directory, which a container runtime makes for a missing `-v` source"
            ),
            format!(
                "remove it and pass the device with {}",
                device_option(facts)
            ),
        ),
        Some(libc::EBUSY) => Problem::error(
            Kind::Busy,
            format!("{node} is busy"),
            "stop the other hypervisor that holds the processor's extension (VirtualBox, VMware)",
        ),
        Some(libc::EMFILE | libc::ENFILE) => Problem::error(
            Kind::Files,
            format!("{node} did not open because too many files are open"),
            "raise the limit with `ulimit -n 4096`, or close other programs",
        ),
        _ => Problem::error(
            Kind::Refused,
            format!("{node} did not open: {error}"),
            "read the kernel's word on it with `sudo dmesg | grep -i kvm`",
        ),
    }
}

/// Something opened, but KVM does not answer behind it.
pub(super) fn not_kvm(host: &Host) -> Problem {
    Problem::error(
        Kind::NodeWrong,
        format!("{} is not KVM's node", host.node.display()),
        "name the right one, usually /dev/kvm (a character device, major 10)",
    )
}

fn missing(host: &Host, facts: &HostFacts) -> Problem {
    let node = host.node.display();
    if host.node.as_os_str() != "/dev/kvm" && host.has("dev/kvm") {
        return Problem::error(
            Kind::NodeMissing,
            format!("there is no {node}"),
            "name /dev/kvm, which exists",
        );
    }
    if !is_loaded(host, facts) {
        return absent_driver(host, facts, &format!("there is no {node}"));
    }
    match &facts.container {
        Some(kind) => Problem::error(
            Kind::NodeMissing,
            format!("there is no {node} in this container ({kind}), though its host has KVM"),
            format!("start the container with {}", device_option(facts)),
        ),
        None => Problem::error(
            Kind::NodeMissing,
            format!("there is no {node}, though KVM is loaded"),
            format!("let udev make it, or run `sudo mknod -m 0666 {node} c 10 232`"),
        ),
    }
}

fn no_driver(host: &Host, facts: &HostFacts) -> Problem {
    let node = host.node.display();
    absent_driver(host, facts, &format!("no driver answers behind {node}"))
}

/// KVM is not there: not built, not loaded, or nothing for it to drive.
fn absent_driver(host: &Host, facts: &HostFacts, what: &str) -> Problem {
    let software = host.ships(&facts.kernel, "kvm_pvm") == Some(true);
    match facts.extension {
        Some(extension) => {
            let (module, setting) = (extension.module(), extension.setting());
            if host.ships(&facts.kernel, module) == Some(false) {
                return Problem::error(
                    Kind::ModuleMissing,
                    format!("{what}: kernel {} was built without {module}", facts.kernel),
                    format!(
                        "boot a kernel that has it (CONFIG_{})",
                        module.to_uppercase()
                    ),
                );
            }
            let place = if facts.container.is_some() {
                format!(
                    "on the container's host, then start the container with {}",
                    device_option(facts)
                )
            } else {
                "here".to_string()
            };
            Problem::error(
                Kind::ModuleMissing,
                format!("{what}: the module {module} is not loaded"),
                format!(
                    "run `sudo modprobe {module}` {place}; should that answer \"Operation not \
                     supported\", switch on {setting} in the firmware settings (BIOS)"
                ),
            )
        }
        None if software => Problem::error(
            Kind::ModuleMissing,
            format!("{what}: the module kvm_pvm is not loaded"),
            "run `sudo modprobe kvm_pvm`, which needs no VMX or SVM",
        ),
        None if facts.nested == Some(true) => no_nesting(facts, what),
        None => Problem::error(
            Kind::NoExtension,
            format!("{what}: the processor shows neither VMX nor SVM"),
            "switch on Intel VT-x or AMD-V (SVM) in the firmware settings (BIOS), or take another \
             machine if it has no such setting",
        ),
    }
}

fn no_nesting(facts: &HostFacts, what: &str) -> Problem {
    let hypervisor = facts.hypervisor.as_deref();
    let above = hypervisor.map_or("a hypervisor", nested::name);
    Problem::error(
        Kind::NoNesting,
        format!("{what}: this machine is a VM under {above}, which offers it neither VMX nor SVM"),
        nested::mend(hypervisor),
    )
}

/// EACCES: the node's owner and mode keep this user out.
fn forbidden(host: &Host, facts: &HostFacts) -> Problem {
    let node = host.node.display();
    let mut what = format!("no permission to open {node}");
    let mut group_may = true;
    if let Ok(meta) = host.node.metadata() {
        let (group, mode) = (group_name(host, meta.gid()), meta.permissions().mode());
        what += &format!(" (group {group}, mode {:04o})", mode & 0o7777);
        if mode & 0o006 == 0o006 {
            return guarded(&what, facts);
        }
        group_may = group == "kvm" && mode & 0o060 == 0o060;
    }
    let rule = "the udev rule `KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0666\"` in \
                /etc/udev/rules.d/99-kvm.rules and `sudo udevadm control --reload && sudo udevadm \
                trigger --name-match=kvm`";
    let join = "`sudo usermod -aG kvm $USER`";
    let mend = match (&facts.container, group_may) {
        (Some(_), _) => format!(
            "start the container with {} and `--group-add $(stat -c %g /dev/kvm)`; should its host \
             keep the group out too, set there {rule}, or run {join} and log in again",
            device_option(facts)
        ),
        (None, true) => format!("run {join} and log in again, or let every user in with {rule}"),
        (None, false) => {
            format!("let users in with {rule}, or give it to group kvm and run {join}")
        }
    };
    Problem::error(Kind::Permission, what, mend)
}

/// EACCES, though the mode lets everybody in: neither a group nor a udev rule would help.
fn guarded(what: &str, facts: &HostFacts) -> Problem {
    let place = match facts.container {
        Some(_) => {
            "of this container's host (Docker: `--security-opt label=disable` shows whether it is)"
        }
        None => "of this host",
    };
    Problem::error(
        Kind::Policy,
        format!("{what}, though its mode lets every user in"),
        format!(
            "let this program open it in the security module {place}: `sudo dmesg | grep -i denied` names \
             the rule of SELinux or AppArmor"
        ),
    )
}

/// EPERM: the mode would allow it, a device policy does not.
fn denied(host: &Host, facts: &HostFacts) -> Problem {
    let node = host.node.display();
    match &facts.container {
        Some(kind) => Problem::error(
            Kind::Policy,
            format!("the device policy of this container ({kind}) denies {node}"),
            format!("start the container with {}", device_option(facts)),
        ),
        None => Problem::error(
            Kind::Policy,
            format!("a device policy denies {node}"),
            "allow it in the service (`DeviceAllow=/dev/kvm rw`) or in the security module that \
             `sudo dmesg` names",
        ),
    }
}

/// How this kind of container is given the device.
fn device_option(facts: &HostFacts) -> &'static str {
    match facts.container.as_deref() {
        Some("kubernetes" | "kubepods") => {
            "a KVM device plugin's resource (outside Kubernetes: `--device /dev/kvm`)"
        }
        Some("lxc") => {
            "`lxc.cgroup2.devices.allow = c 10:232 rwm` and a bind mount of /dev/kvm (Docker: \
             `--device /dev/kvm`)"
        }
        Some("systemd-nspawn") => "`--bind=/dev/kvm --property=DeviceAllow=\"/dev/kvm rw\"`",
        _ => "`--device /dev/kvm`",
    }
}

/// Whether the kernel has KVM's device registered.
fn is_loaded(host: &Host, facts: &HostFacts) -> bool {
    let registered = host
        .text("proc/misc")
        .is_some_and(|misc| misc.lines().any(|line| line.trim().ends_with(" kvm")));
    registered || !facts.modules.is_empty()
}

fn group_name(host: &Host, gid: u32) -> String {
    let groups = host.text("etc/group").unwrap_or_default();
    groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&gid.to_string().as_str()))
        .map_or_else(|| gid.to_string(), |fields| fields[0].to_string())
}
