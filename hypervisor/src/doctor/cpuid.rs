//! Asks the processor which hypervisor this host itself runs under.

use std::arch::x86_64::__cpuid;

/// CPUID.1:ECX[31], reserved for hypervisors to say that they are there.
const HYPERVISOR_PRESENT: u32 = 1 << 31;

/// The hypervisor's signature; `None` on bare metal.
pub(super) fn hypervisor_signature() -> Option<String> {
    if cpuid(1)[2] & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    Some(own(signature(0x4000_0000), signature(0x4000_0100)))
}

/// KVM and Xen that pose as Hyper-V, to please Windows, move their own leaves up by 0x100.
pub(super) fn own(first: String, moved: String) -> String {
    match moved.as_str() {
        "KVMKVMKVM" | "XenVMMXenVMM" => moved,
        _ => first,
    }
}

fn signature(leaf: u32) -> String {
    let [_, ebx, ecx, edx] = cpuid(leaf);
    [ebx, ecx, edx]
        .iter()
        .flat_map(|register| register.to_le_bytes())
        .filter(|byte| byte.is_ascii_graphic() || *byte == b' ')
        .map(char::from)
        .collect()
}

/// Registers eax, ebx, ecx, edx of a leaf.
fn cpuid(leaf: u32) -> [u32; 4] {
    // Newer toolchains know that the instruction is safe; the oldest we build with does not.
    #[allow(unused_unsafe)]
    // SAFETY: every x86-64 processor has CPUID, and it changes nothing but the four registers
    // that the intrinsic returns; a leaf that does not exist answers with another's data.
    let leaf = unsafe { __cpuid(leaf) };
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
}
