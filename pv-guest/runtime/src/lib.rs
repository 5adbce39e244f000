//! The memory functions that compiled code calls, for freestanding images.
//!
//! Only images depend on this package: in a host program these symbols would replace libc's.
//! `rep movsq` and `rep stosq` with a byte tail, because where CPL 0 is interpreted (kvm_pvm) a
//! byte-wise `rep` costs ten times as much a byte.
#![no_std]

core::arch::global_asm!(include_str!("memory.S"));
