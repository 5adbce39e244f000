//! Reads the parts of `kvm_run` that are unions.

use kvm_bindings::kvm_run;

use crate::error::GuestFault;

/// KVM_INTERNAL_ERROR_EMULATION.
const EMULATION: u32 = 1;
/// KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES.
const HAS_BYTES: u64 = 1;

/// What KVM says of an internal error.
pub fn internal_error(run: &kvm_run) -> GuestFault {
    // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR (the caller's match), so KVM has filled
    // `internal`, of which `emulation_failure` is the longer form with the same first fields; all
    // are plain integers, valid for any bits.
    let (suberror, failure) = unsafe {
        let union = &run.__bindgen_anon_1;
        (union.internal.suberror, union.emulation_failure)
    };
    if suberror != EMULATION {
        return GuestFault::Internal { suberror };
    }
    let has_bytes = failure.ndata >= 2 && failure.flags & HAS_BYTES != 0;
    // SAFETY: as above.
    let (len, bytes) = unsafe {
        let inner = &failure.__bindgen_anon_1.__bindgen_anon_1;
        (usize::from(inner.insn_size), inner.insn_bytes)
    };
    let bytes = if has_bytes {
        bytes
            .get(..len.min(bytes.len()))
            .unwrap_or_default()
            .to_vec()
    } else {
        Vec::new()
    };
    GuestFault::Emulation { bytes }
}
