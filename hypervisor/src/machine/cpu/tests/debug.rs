//! Debug registers.

use super::guest::*;
use super::{gp, ud};
use crate::machine::cpu::{Changes, Exception, cr4};

#[test]
fn breakpoints_hold_what_is_written() {
    let mut guest = Guest::new();
    for number in 0..4 {
        let value = 0x1_0000_0000 * u64::from(number + 1);
        assert_eq!(
            guest.cpu.write_debug(number, value),
            Ok(Changes::DEBUG.into())
        );
        assert_eq!(guest.cpu.read_debug(number), Ok(value));
    }
}

#[test]
fn reserved_bits_read_as_they_are_fixed() {
    let mut guest = Guest::new();
    assert_eq!(
        (guest.cpu.read_debug(6), guest.cpu.read_debug(7)),
        (Ok(0xffff_0ff0), Ok(0x400))
    );
    guest.cpu.write_debug(6, 0).unwrap();
    assert_eq!(guest.cpu.read_debug(6), Ok(0xffff_0ff0));
    guest.cpu.write_debug(6, 0xffff_ffff).unwrap();
    assert_eq!(guest.cpu.read_debug(6), Ok(0xffff_effe | 1));
    guest.cpu.write_debug(7, 0xffff_d855).unwrap();
    assert_eq!(guest.cpu.read_debug(7), Ok(0xffff_0455));
    for number in [6, 7] {
        assert_eq!(
            guest.unchanged(|guest| guest.cpu.write_debug(number, 1 << 32)),
            Err(gp(0))
        );
    }
}

#[test]
fn dr4_and_dr5_are_aliases_until_de_is_set() {
    let mut guest = Guest::new();
    assert_eq!(
        (guest.cpu.read_debug(4), guest.cpu.read_debug(5)),
        (Ok(0xffff_0ff0), Ok(0x400))
    );
    guest.cpu.cr4 |= cr4::DE;
    assert_eq!(guest.cpu.read_debug(4), Err(ud()));
    assert_eq!(guest.cpu.write_debug(5, 0), Err(ud()));
    assert_eq!(guest.cpu.read_debug(8), Err(ud()));
}

#[test]
fn a_program_touches_no_debug_register() {
    let mut user = Guest::user();
    assert_eq!(user.unchanged(|user| user.cpu.read_debug(0)), Err(gp(0)));
    assert_eq!(
        user.unchanged(|user| user.cpu.write_debug(7, 0)),
        Err(gp(0))
    );
}

#[test]
fn general_detect_raises_a_debug_exception_and_says_so_in_dr6() {
    let mut guest = Guest::new();
    guest.cpu.write_debug(7, 1 << 13).unwrap();
    let debug = Exception::plain(Exception::DEBUG);
    assert_eq!(guest.cpu.read_debug(0), Err(debug));
    assert_eq!(guest.cpu.dr6, 0xffff_2ff0);
    assert_eq!(guest.cpu.write_debug(0, 5), Err(debug));
    assert_eq!(guest.cpu.breakpoints[0], 0);
    let Guest { cpu, regs, memory } = &mut guest;
    cpu.raise(regs, memory, debug).unwrap();
    assert_eq!(guest.cpu.read_debug(0), Ok(0));
}
