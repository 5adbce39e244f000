//! How nested virtualization is switched on, for each hypervisor that this host may run under.

/// Signatures of CPUID leaf 0x4000_0000, the name people know, and the mend.
const KINDS: [(&str, &str, &str); 7] = [
    (
        "KVMKVMKVM",
        "KVM",
        "switch on nested virtualization where this VM runs: load kvm_intel or kvm_amd with \
         `nested=1` and give the VM the host's CPU model, create a Google Cloud VM with \
         `--enable-nested-virtualization`, or take a bare metal instance elsewhere",
    ),
    (
        "Microsoft Hv",
        "Hyper-V",
        "switch on nested virtualization where this VM runs: `Set-VMProcessor -VMName <vm> \
         -ExposeVirtualizationExtensions $true`, an Azure size that supports nesting, or for WSL 2 \
         `nestedVirtualization=true` under `[wsl2]` in `.wslconfig`",
    ),
    (
        "VMwareVMware",
        "VMware",
        "set `vhv.enable = \"TRUE\"` in this VM's .vmx file (\"Expose hardware assisted \
         virtualization\") and start it afresh",
    ),
    (
        "XenVMMXenVMM",
        "Xen",
        "set `nestedhvm=1` in this VM's configuration, or take a bare metal instance",
    ),
    (
        "VBoxVBoxVBox",
        "VirtualBox",
        "run `VBoxManage modifyvm <vm> --nested-hw-virt on` on its host",
    ),
    (
        "TCGTCGTCGTCG",
        "QEMU without KVM",
        "start it with `-cpu max`, which emulates SVM",
    ),
    (
        "bhyve bhyve",
        "bhyve",
        "take another host: bhyve has no nested virtualization",
    ),
];

/// The name people know a hypervisor by.
pub(super) fn name(signature: &str) -> &str {
    kind(signature).map_or(signature, |(_, name, _)| name)
}

/// How its administrator switches on nested virtualization.
pub(super) fn mend(signature: Option<&str>) -> &'static str {
    signature.and_then(kind).map_or(
        "switch on nested virtualization for this VM in the hypervisor that runs it",
        |(_, _, mend)| mend,
    )
}

fn kind(signature: &str) -> Option<(&'static str, &'static str, &'static str)> {
    KINDS.into_iter().find(|kind| kind.0 == signature.trim())
}
