//! Control registers and translations.

use super::guest::*;
use super::{NONE, exception, gp, ud};
use crate::machine::cpu::{Changes, Effect, Exception, Limits, Place, SegmentName, cr0, cr4};

fn write(guest: &mut Guest, number: u8, value: u64) -> Result<Effect, Exception> {
    guest.cpu.write_control(number, value)
}

fn refused(guest: &mut Guest, number: u8, value: u64) -> Exception {
    guest
        .unchanged(|guest| write(guest, number, value))
        .unwrap_err()
}

#[test]
fn a_processor_starts_as_hvm_starts_it() {
    let cpu = Guest::new().cpu;
    assert_eq!(cpu.read_control(0), Ok(0x8005_0033));
    assert_eq!(cpu.read_control(4), Ok(0x620));
    assert_eq!(cpu.read_control(3), Ok(0x10_0000));
    assert_eq!(
        (cpu.efer, cpu.cs.selector.0, cpu.ss.selector.0),
        (0xd01, 0x10, 0x18)
    );
    assert_eq!((cpu.cpl, cpu.is_64_bit()), (0, true));
}

#[test]
fn a_program_touches_no_control_register() {
    let mut user = Guest::user();
    for number in [0, 2, 3, 4, 8] {
        assert_eq!(user.cpu.read_control(number), Err(gp(0)));
        assert_eq!(refused(&mut user, number, 0x8005_0033), gp(0));
    }
}

#[test]
fn registers_between_do_not_exist() {
    let mut guest = Guest::new();
    for number in [1, 5, 6, 7, 9, 15] {
        assert_eq!(guest.cpu.read_control(number), Err(ud()));
        assert_eq!(refused(&mut guest, number, 0), ud());
    }
}

#[test]
fn cr0_keeps_long_mode_and_tells_what_changed() {
    let mut guest = Guest::new();
    let now = guest.cpu.cr0;
    for bad in [
        now & !cr0::PG,
        now & !cr0::PE,
        now & !(cr0::PE | cr0::PG),
        now | cr0::NW,
        now | 1 << 32,
    ] {
        assert_eq!(refused(&mut guest, 0, bad), gp(0), "{bad:#x}");
    }
    assert_eq!(
        write(&mut guest, 0, now & !cr0::WP),
        Ok(Changes::RIGHTS.into())
    );
    assert_eq!(write(&mut guest, 0, now & !cr0::WP), Ok(NONE));
    let both = Changes::RIGHTS | Changes::CONTROL;
    assert_eq!(write(&mut guest, 0, now | cr0::TS), Ok(both.into()));
    assert_eq!(
        write(&mut guest, 0, now | cr0::CD | cr0::NW),
        Ok(Changes::CONTROL.into())
    );
    // Reserved bits of the lower half are not kept, and ET is fixed.
    write(&mut guest, 0, now & !cr0::ET | 1 << 8).unwrap();
    assert_eq!(guest.cpu.cr0, now);
}

#[test]
fn cr3_takes_what_the_processor_can_address() {
    let mut guest = Guest::new();
    let root = 0xff_ffff_f018;
    assert_eq!(write(&mut guest, 3, root), Ok(Changes::ROOT.into()));
    assert_eq!((guest.cpu.cr3, guest.cpu.root()), (root, 0xff_ffff_f000));
    for bad in [1 << 40, 1 << 52, 1 << 63] {
        assert_eq!(refused(&mut guest, 3, bad), gp(0));
    }
}

#[test]
fn cr4_takes_what_cpuid_shows_and_keeps_pae() {
    let mut guest = Guest::new();
    let now = guest.cpu.cr4;
    // VME, UMIP, LA57, VMXE, PCIDE, SMEP, SMAP, PKE.
    for bit in [0, 11, 12, 13, 17, 20, 21, 22, 63] {
        assert_eq!(refused(&mut guest, 4, now | 1 << bit), gp(0), "bit {bit}");
    }
    assert_eq!(refused(&mut guest, 4, now & !cr4::PAE), gp(0));
    assert_eq!(
        write(&mut guest, 4, now | cr4::PGE),
        Ok(Changes::ALL_PAGES.into())
    );
    let felt = now | cr4::PGE | cr4::OSXSAVE | cr4::FSGSBASE;
    assert_eq!(write(&mut guest, 4, felt), Ok(Changes::CONTROL.into()));
    assert_eq!(write(&mut guest, 4, felt | cr4::DE), Ok(NONE));
    guest.cpu.limits = Limits::default();
    assert_eq!(refused(&mut guest, 4, felt), gp(0));
}

#[test]
fn cr8_has_four_bits() {
    let mut guest = Guest::new();
    assert_eq!(write(&mut guest, 8, 15), Ok(Changes::PRIORITY.into()));
    assert_eq!(guest.cpu.read_control(8), Ok(15));
    assert_eq!(refused(&mut guest, 8, 16), gp(0));
}

#[test]
fn lmsw_sets_pe_and_clts_clears_ts() {
    let mut guest = Guest::new();
    let now = guest.cpu.cr0;
    assert_eq!(
        guest.cpu.load_status_word(0xfff8),
        Ok(Changes::CONTROL.into())
    );
    assert_eq!(guest.cpu.cr0, now & !15 | cr0::TS | cr0::PE);
    assert_eq!(guest.cpu.clear_task_switched(), Ok(Changes::CONTROL.into()));
    assert_eq!(guest.cpu.cr0, now & !15 | cr0::PE);
    let mut user = Guest::user();
    assert_eq!(user.cpu.load_status_word(1), Err(gp(0)));
    assert_eq!(user.cpu.clear_task_switched(), Err(gp(0)));
}

#[test]
fn xcr0_takes_states_that_fit_together() {
    let mut guest = Guest::new();
    assert_eq!(guest.cpu.write_extended(0, 7), Err(ud()));
    assert_eq!(guest.cpu.read_extended(0), Err(ud()));
    guest.cpu.cr4 |= cr4::OSXSAVE;
    for (index, value) in [(0, 0), (0, 2), (0, 5), (0, 0xf), (1, 7)] {
        let answer = guest.unchanged(|guest| guest.cpu.write_extended(index, value));
        assert_eq!(answer, Err(gp(0)), "{index} {value:#x}");
    }
    assert_eq!(guest.cpu.write_extended(0, 7), Ok(Changes::XCR0.into()));
    assert_eq!(guest.cpu.read_extended(0), Ok(7));
    assert_eq!(guest.cpu.read_extended(1), Err(gp(0)));
    guest.cpu.cpl = 3;
    assert_eq!(guest.cpu.read_extended(0), Ok(7));
    assert_eq!(guest.cpu.write_extended(0, 7), Err(gp(0)));
}

#[test]
fn invlpg_names_its_page_and_ignores_what_is_not_canonical() {
    let mut guest = Guest::new();
    guest.cpu.gs.base = 0x1000;
    let place = |segment, offset| Place { segment, offset };
    let gs = place(SegmentName::Gs, 0x234);
    assert_eq!(guest.cpu.invalidate_page(gs), Ok(Effect::page(0x1234)));
    let hole = place(SegmentName::Ds, 0x8000_0000_0000);
    assert_eq!(guest.cpu.invalidate_page(hole), Ok(NONE));
    assert_eq!(Guest::user().cpu.invalidate_page(gs), Err(gp(0)));
}

#[test]
fn invpcid_checks_its_descriptor() {
    let mut guest = Guest::new();
    let place = Place {
        segment: SegmentName::Ds,
        offset: DATA,
    };
    let mut ask = |kind: u64, words: [u64; 2]| {
        guest.memory.put_words(DATA, &words);
        guest.cpu.invalidate_context(&mut guest.memory, kind, place)
    };
    assert_eq!(ask(0, [0, 0x1234]), Ok(Effect::page(0x1234)));
    for kind in 1..=3 {
        assert_eq!(
            ask(kind, [0, 0x8000_0000_0000]),
            Ok(Changes::ALL_PAGES.into())
        );
    }
    assert_eq!(ask(2, [5, 0]), Ok(Changes::ALL_PAGES.into()));
    for (kind, words) in [
        (0, [0, 0x8000_0000_0000]),
        (0, [1, 0]),
        (1, [1, 0]),
        (2, [0x1000, 0]),
        (4, [0, 0]),
    ] {
        assert_eq!(exception(ask(kind, words)), gp(0), "{kind} {words:x?}");
    }
    let mut user = Guest::user();
    let answer = user.cpu.invalidate_context(&mut user.memory, 2, place);
    assert_eq!(exception(answer), gp(0));
}

#[test]
fn bases_need_fsgsbase() {
    let mut guest = Guest::new();
    assert_eq!(guest.cpu.read_base(true), Err(ud()));
    assert_eq!(guest.cpu.write_base(true, 1), Err(ud()));
    guest.cpu.cr4 |= cr4::FSGSBASE;
    assert_eq!(guest.cpu.write_base(true, 0x10), Ok(Changes::BASES.into()));
    assert_eq!(guest.cpu.write_base(false, 0x20), Ok(Changes::BASES.into()));
    assert_eq!((guest.cpu.gs.base, guest.cpu.fs.base), (0x10, 0x20));
    assert_eq!(
        (guest.cpu.read_base(true), guest.cpu.read_base(false)),
        (Ok(0x10), Ok(0x20))
    );
    assert_eq!(guest.cpu.write_base(true, 1 << 63), Err(gp(0)));
}

#[test]
fn tsd_keeps_the_clock_for_the_kernel() {
    let mut user = Guest::user();
    assert_eq!(user.cpu.check_clock(), Ok(()));
    user.cpu.cr4 |= cr4::TSD;
    assert_eq!(user.cpu.check_clock(), Err(gp(0)));
    user.cpu.cpl = 0;
    assert_eq!(user.cpu.check_clock(), Ok(()));
}

#[test]
fn only_the_kernel_halts() {
    assert_eq!(Guest::new().cpu.halt(), Ok(Changes::HALTED.into()));
    assert_eq!(Guest::user().cpu.halt(), Err(gp(0)));
    assert_eq!(Guest::new().cpu.read_counter(), Err(gp(0)));
}
