//! Which instructions use vector, mask, tile, MMX or x87 registers. Called by [`super::classes`].

use iced_x86::CpuidFeature as F;
use iced_x86::{Code, Mnemonic};

/// True if the instruction belongs to the class.
pub(super) fn is_simd(code: Code) -> bool {
    let features = code.cpuid_features();
    let comes_with_simd = features.iter().any(|feature| FEATURES.contains(feature));
    // FWAIT is as old as the 8086, and iced files it there.
    (comes_with_simd && !is_integer_only(code.mnemonic())) || code.mnemonic() == Mnemonic::Wait
}

/// Instructions that came with SSE but touch integer registers and memory only.
fn is_integer_only(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{
        Crc32, Lfence, Mfence, Movnti, Prefetchnta, Prefetcht0, Prefetcht1, Prefetcht2, Sfence,
    };
    matches!(
        mnemonic,
        Lfence
            | Mfence
            | Sfence
            | Prefetchnta
            | Prefetcht0
            | Prefetcht1
            | Prefetcht2
            | Movnti
            | Crc32
    )
}

/// The extensions that brought such registers or instructions on them.
#[rustfmt::skip]
const FEATURES: &[F] = &[
    F::FPU, F::FPU287, F::FPU287XL_ONLY, F::FPU387, F::FPU387SL_ONLY, F::CYRIX_FPU,
    F::MMX, F::D3NOW, F::D3NOWEXT, F::CYRIX_D3NOW, F::CYRIX_EMMI,
    F::SSE, F::SSE2, F::SSE3, F::SSSE3, F::SSE4_1, F::SSE4_2, F::SSE4A,
    F::AES, F::PCLMULQDQ, F::SHA, F::GFNI, F::VAES, F::VPCLMULQDQ, F::AESKLE, F::WIDE_KL,
    F::AVX, F::AVX2, F::F16C, F::FMA, F::FMA4, F::XOP, F::SHA512, F::SM3, F::SM4,
    F::AVX_VNNI, F::AVX_IFMA, F::AVX_NE_CONVERT, F::AVX_VNNI_INT8, F::AVX_VNNI_INT16,
    F::AVX512F, F::AVX512BW, F::AVX512CD, F::AVX512DQ, F::AVX512ER, F::AVX512PF, F::AVX512VL,
    F::AVX512_4FMAPS, F::AVX512_4VNNIW, F::AVX512_BF16, F::AVX512_BITALG, F::AVX512_FP16,
    F::AVX512_IFMA, F::AVX512_VBMI, F::AVX512_VBMI2, F::AVX512_VNNI, F::AVX512_VP2INTERSECT,
    F::AVX512_VPOPCNTDQ,
    F::AMX_TILE, F::AMX_BF16, F::AMX_INT8, F::AMX_FP16, F::AMX_COMPLEX,
];
