//! Segments and the instructions that show them without a fault, whatever the level.

use super::{check, check_fault};
use crate::own_events::attempt;
use crate::segments::{
    self, ABSENT_DATA, KERNEL_CODE, KERNEL_DATA, LIMIT, TASK, TASK_LIMIT, USER_CODE, USER_DATA,
};
use crate::{trap, x86};

const TOPIC: &str = "seg";

pub fn run() {
    for (what, got, wanted) in [
        ("cs", x86::cs(), KERNEL_CODE),
        ("ss", x86::ss(), KERNEL_DATA),
        ("ds", x86::ds(), KERNEL_DATA),
        ("es", x86::es(), KERNEL_DATA),
        ("fs", x86::fs(), 0),
        ("gs", x86::gs(), 0),
        ("str", x86::task(), TASK),
        ("sldt", x86::local_table(), 0),
        ("smsw", x86::machine_status() & 0xffff, 0x33),
    ] {
        check(TOPIC, what, u64::from(got), u64::from(wanted));
    }
    let (limit, is_ours) = segments::stored_gdt();
    check(TOPIC, "sgdt limit", limit.into(), LIMIT.into());
    check(TOPIC, "sgdt base is ours", is_ours.into(), 1);
    let (limit, is_ours) = trap::stored_idt();
    check(TOPIC, "sidt limit", limit.into(), trap::IDT_LIMIT.into());
    check(TOPIC, "sidt base is ours", is_ours.into(), 1);
    loads();
}

/// Segment registers that are loaded, and loads that the processor refuses.
fn loads() {
    for selector in [USER_DATA, 0, KERNEL_DATA] {
        let got = segments::reload_ds(selector);
        check(TOPIC, "ds after mov", got.into(), selector.into());
    }
    for selector in [USER_DATA, 0] {
        let got = segments::reload_fs(selector);
        check(TOPIC, "fs after pop", got, selector.into());
    }
    for (what, selector, vector) in [
        ("mov ds, beyond the table", LIMIT + 1, 13),
        ("mov ds, the task", TASK, 13),
        ("mov ds, a segment that is not present", ABSENT_DATA, 11),
    ] {
        let caught = attempt!("mov es, {segment:e}", segment = in(reg) u32::from(selector));
        check_fault(TOPIC, what, caught, vector, u64::from(selector & !3));
    }
    let caught = attempt!("mov ss, {segment:e}", segment = in(reg) u32::from(USER_DATA));
    let error = u64::from(USER_DATA & !3);
    check_fault(TOPIC, "mov ss, a user's", caught, 13, error);
    check(TOPIC, "es after all", x86::es().into(), KERNEL_DATA.into());
}

/// LAR, LSL, VERR and VERW.
pub fn descriptors() {
    const NONE: u64 = u64::MAX;
    for (what, selector, rights, limit) in [
        ("kernel code", KERNEL_CODE, 0xa0_9b00, 0xffff_ffff),
        ("kernel data", KERNEL_DATA, 0xc0_9300, 0xffff_ffff),
        ("absent data", ABSENT_DATA, 0xc0_7300, 0xffff_ffff),
        ("user code", USER_CODE, 0xa0_fb00, 0xffff_ffff),
        ("task", TASK, 0x8b00, TASK_LIMIT),
        ("null", 0, NONE, NONE),
        ("beyond the table", LIMIT + 1, NONE, NONE),
    ] {
        let got = segments::access_rights(selector).map_or(NONE, u64::from);
        check("descriptors lar", what, got, rights);
        let got = segments::segment_limit(selector).map_or(NONE, u64::from);
        check("descriptors lsl", what, got, limit);
    }
    for (what, selector, read, write) in [
        ("kernel code", KERNEL_CODE, true, false),
        ("kernel data", KERNEL_DATA, true, true),
        ("user data", USER_DATA, true, true),
        ("task", TASK, false, false),
        ("null", 0, false, false),
    ] {
        let (may_read, may_write) = segments::may_read_and_write(selector);
        check("descriptors verr", what, may_read.into(), read.into());
        check("descriptors verw", what, may_write.into(), write.into());
    }
}
