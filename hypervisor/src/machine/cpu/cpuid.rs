//! What CPUID says of the virtual processor: no feature that the verbs do not have, and the bits
//! that follow control registers (SDM vol. 2, CPUID).

use super::{Cpu, cr4};

/// What this processor can do, by CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bits of CR4 that the guest may set; the others are reserved.
    pub cr4: u64,
    /// Bits of XCR0 that the guest may set.
    pub xcr0: u64,
    /// Bits of a physical address: 36 to 52.
    pub physical_bits: u8,
}

/// The CPUID function of the machine below: leaf and subleaf to EAX, EBX, ECX, EDX.
pub type Cpuid<'a> = &'a dyn Fn(u32, u32) -> [u32; 4];

/// XCR0: x87, SSE, AVX. Wider states are not shown.
const XCR0_KNOWN: u64 = 7;

// Leaf 1, ECX: MONITOR, VMX, SMX, PDCM, PCID, which the verbs do not have.
const HIDE_1_ECX: u32 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 15 | 1 << 17;
const XSAVE: u32 = 1 << 26;
const OSXSAVE: u32 = 1 << 27;
// Leaf 1, EDX: VME, MTRR, MCA, DS.
const HIDE_1_EDX: u32 = 1 << 1 | 1 << 12 | 1 << 14 | 1 << 21;
const APIC: u32 = 1 << 9;
// Leaf 7, EBX: SGX, SMEP, MPX, SMAP, PT.
const HIDE_7_EBX: u32 = 1 << 2 | 1 << 7 | 1 << 14 | 1 << 20 | 1 << 25;
const FSGSBASE: u32 = 1 << 0;
// Leaf 7, ECX: UMIP, PKU, OSPKE, WAITPKG, CET_SS, LA57, KL, bus-lock detection, ENQCMD, SGX_LC,
// PKS.
const HIDE_7_ECX: u32 = 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 7
    | 1 << 16
    | 1 << 23
    | 1 << 24
    | 1 << 29
    | 1 << 30
    | 1 << 31;
// Leaf 7, EDX: UINTR, CET_IBT, AMX, and what is behind MSRs that do not exist here: SPEC_CTRL,
// STIBP, L1D_FLUSH, ARCH_CAPABILITIES, CORE_CAPABILITIES, SSBD.
const HIDE_7_EDX: u32 = 1 << 5
    | 1 << 20
    | 1 << 22
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
// Leaf 0x80000001, ECX: SVM, IBS, SKINIT, WDT, LWP, performance counters, MONITORX.
const HIDE_AMD_ECX: u32 =
    1 << 2 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 29;
// Leaf 0x80000001, EDX: MTRR, MCA, FFXSR.
const HIDE_AMD_EDX: u32 = 1 << 12 | 1 << 14 | 1 << 25;

impl Limits {
    /// What the machine below can do, as far as the verbs go along.
    pub fn new(cpuid: Cpuid<'_>) -> Self {
        let [_, _, basic, _] = cpuid(1, 0);
        let [_, structured, _, _] = cpuid(7, 0);
        let [sizes, ..] = cpuid(0x8000_0008, 0);
        let mut limits = Self::default();
        if structured & FSGSBASE != 0 {
            limits.cr4 |= cr4::FSGSBASE;
        }
        if basic & XSAVE != 0 {
            let [low, _, _, high] = cpuid(0xd, 0);
            limits.cr4 |= cr4::OSXSAVE;
            limits.xcr0 |= (u64::from(high) << 32 | u64::from(low)) & XCR0_KNOWN;
        }
        if let bits @ 36..=52 = (sizes & 0xff) as u8 {
            limits.physical_bits = bits;
        }
        limits
    }
}

impl Default for Limits {
    /// What every 64-bit processor can do.
    fn default() -> Self {
        Self {
            cr4: cr4::BASIC,
            xcr0: 1,
            physical_bits: 36,
        }
    }
}

impl Cpu {
    /// CPUID at any level.
    pub fn identify(&self, cpuid: Cpuid<'_>, leaf: u32, subleaf: u32) -> [u32; 4] {
        let [mut eax, mut ebx, mut ecx, mut edx] = cpuid(leaf, subleaf);
        match (leaf, subleaf) {
            (1, _) => {
                ecx &= !HIDE_1_ECX;
                edx &= !HIDE_1_EDX;
                ecx &= !OSXSAVE;
                if self.cr4 & cr4::OSXSAVE != 0 {
                    ecx |= OSXSAVE;
                }
                if self.apic_base & 1 << 11 == 0 {
                    edx &= !APIC;
                }
            }
            (7, 0) => {
                ebx &= !HIDE_7_EBX;
                ecx &= !HIDE_7_ECX;
                edx &= !HIDE_7_EDX;
                eax = 0;
            }
            // Leaf 7's later subleaves, performance counters, protection keys of memory, SGX, PT,
            // AMX, KVM's own features, SVM, AMD's extensions of speculation control.
            (7 | 0xa | 0x12 | 0x14 | 0x1d | 0x1e | 0x4000_0001 | 0x8000_000a | 0x8000_0021, _) => {
                (eax, ebx, ecx, edx) = (0, 0, 0, 0);
            }
            (0xd, 0) => {
                eax &= self.limits.xcr0 as u32;
                edx = 0;
            }
            // XSAVEOPT and XSAVEC; no XGETBV of index 1, no XSAVES.
            (0xd, 1) => (eax, ebx, ecx, edx) = (eax & 3, 0, 0, 0),
            (0xd, 2) if self.limits.xcr0 & 4 != 0 => {}
            (0xd, _) => (eax, ebx, ecx, edx) = (0, 0, 0, 0),
            (0x8000_0001, _) => {
                ecx &= !HIDE_AMD_ECX;
                edx &= !HIDE_AMD_EDX;
            }
            // CLZERO, error pointers and WBNOINVD stay; INVLPGB, RDPRU and speculation control go.
            (0x8000_0008, _) => ebx &= 1 << 0 | 1 << 2 | 1 << 9,
            _ => {}
        }
        [eax, ebx, ecx, edx]
    }
}
