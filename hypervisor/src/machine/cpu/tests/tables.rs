//! The registers of descriptor tables.

use super::guest::*;
use super::{exception, gp, np};
use crate::machine::cpu::{Place, Refusal, SegmentName, Selector, Table};

const AT: Place = Place {
    segment: SegmentName::Ds,
    offset: DATA,
};

#[test]
fn a_table_register_is_loaded_and_stored() {
    let mut guest = Guest::new();
    guest
        .memory
        .put(DATA, &[0x7f, 0, 0, 0x10, 0, 0x80, 0xff, 0xff, 0xff, 0xff]);
    let table = Table {
        base: 0xffff_ffff_8000_1000,
        limit: 0x7f,
    };
    guest.cpu.load_gdt(&mut guest.memory, AT).unwrap();
    guest.cpu.load_idt(&mut guest.memory, AT).unwrap();
    assert_eq!((guest.cpu.gdtr, guest.cpu.idtr), (table, table));

    let to = Place {
        offset: DATA + 0x100,
        ..AT
    };
    guest.cpu.store_table(&mut guest.memory, table, to).unwrap();
    assert_eq!(guest.memory.word(DATA + 0x102), table.base);
    assert_eq!(guest.memory.byte(DATA + 0x100), 0x7f);
}

#[test]
fn a_program_stores_a_table_register_and_loads_none() {
    let mut user = Guest::user_32();
    let to = Place {
        offset: USER_DATA,
        ..AT
    };
    user.memory.put_words(USER_DATA, &[u64::MAX]);
    let table = user.cpu.gdtr;
    user.cpu.store_table(&mut user.memory, table, to).unwrap();
    assert_eq!(user.memory.word(USER_DATA) >> 48, 0xffff, "six bytes");
    assert_eq!(user.memory.word(USER_DATA) >> 16 & 0xffff_ffff, GDT);
    for load in [super::super::Cpu::load_gdt, super::super::Cpu::load_idt] {
        let answer = user.unchanged(|user| load(&mut user.cpu, &mut user.memory, to));
        assert_eq!(exception(answer), gp(0));
    }
}

#[test]
fn a_table_must_be_canonical_and_its_operand_readable() {
    let mut guest = Guest::new();
    guest.memory.put_words(DATA, &[0x8000_0000 << 32, 0]);
    let answer = guest.unchanged(|guest| guest.cpu.load_idt(&mut guest.memory, AT));
    assert_eq!(exception(answer), gp(0));
    let hole = Place { offset: HOLE, ..AT };
    let answer = guest.unchanged(|guest| guest.cpu.load_idt(&mut guest.memory, hole));
    assert_eq!(exception(answer).address, Some(HOLE));
}

fn ltr(guest: &mut Guest, selector: u16) -> Result<(), Refusal> {
    guest.cpu.load_task(&mut guest.memory, Selector(selector))
}

fn lldt(guest: &mut Guest, selector: u16) -> Result<(), Refusal> {
    guest.cpu.load_ldt(&mut guest.memory, Selector(selector))
}

#[test]
fn ltr_takes_an_available_task_and_marks_it_busy() {
    let mut guest = Guest::new();
    assert_eq!(guest.kind_of(TASK), 9);
    ltr(&mut guest, TASK).unwrap();
    assert_eq!(guest.kind_of(TASK), 11);
    let tr = guest.cpu.tr;
    assert_eq!(
        (tr.selector.0, tr.base, tr.limit, tr.attributes.0),
        (TASK, TSS, 0x2067, 0x8b)
    );
    for (selector, error) in [
        (0, 0),
        (TASK, TASK), // busy now
        (BUSY, BUSY),
        (LOCAL, LOCAL),
        (STACK_SEGMENT, STACK_SEGMENT),
        (OUTSIDE, OUTSIDE),
        (TASK | 4, TASK | 4),
    ] {
        let answer = guest.unchanged(|guest| ltr(guest, selector));
        assert_eq!(exception(answer), gp(error.into()), "{selector:#x}");
    }
}

#[test]
fn lldt_takes_a_local_table_or_none() {
    let mut guest = Guest::new();
    lldt(&mut guest, LOCAL).unwrap();
    assert_eq!((guest.cpu.ldtr.base, guest.cpu.ldtr.limit), (LDT, 15));
    for selector in [TASK, CODE, OUTSIDE, LOCAL | 4] {
        let answer = guest.unchanged(|guest| lldt(guest, selector));
        assert_eq!(exception(answer), gp(selector.into()), "{selector:#x}");
    }
    lldt(&mut guest, 0).unwrap();
    assert!(!guest.cpu.ldtr.is_usable());
}

#[test]
fn a_system_descriptor_must_be_present_whole_and_canonical() {
    let mut guest = Guest::new();
    guest.descriptor(LOCAL, 0x0000_0200_4000_000f);
    assert_eq!(exception(lldt(&mut guest, LOCAL)), np(LOCAL.into()));
    let mut guest = Guest::new();
    guest
        .memory
        .put_words(GDT + u64::from(LOCAL) + 8, &[0x8000]);
    assert_eq!(exception(lldt(&mut guest, LOCAL)), gp(LOCAL.into()));
    // Its second half lies behind the table's limit.
    let mut guest = Guest::new();
    guest.cpu.gdtr.limit = LOCAL + 7;
    assert_eq!(exception(lldt(&mut guest, LOCAL)), gp(LOCAL.into()));
}

#[test]
fn a_program_loads_neither() {
    let mut user = Guest::user();
    assert_eq!(exception(user.unchanged(|user| ltr(user, TASK))), gp(0));
    assert_eq!(exception(user.unchanged(|user| lldt(user, 0))), gp(0));
}
