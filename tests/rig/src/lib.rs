//! The rig: a virtual machine in which `/dev/kvm` is AMD's SVM, emulated by QEMU without any KVM.
//!
//! It shows what KVM on hardware does on a host that has none (docs/rig.md). In walking order: the
//! command line says what to run, [`setup`] finds QEMU, busybox and a kernel, [`archive`] packs an
//! initramfs, [`machine`] boots it, [`agent`] carries out the [`plan`] inside and reports back.
#![forbid(unsafe_code)]

pub mod agent;
pub mod archive;
pub mod cargo;
pub mod cli;
pub mod error;
pub mod kernel;
pub mod libraries;
pub mod libtest;
pub mod machine;
pub mod modules;
pub mod packages;
pub mod plan;
pub mod program;
pub mod prove;
pub mod report;
pub mod setup;
pub mod suite;
pub mod tools;
pub mod verdict;
