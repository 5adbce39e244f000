//! Symbol tables, good and damaged.

use proptest::prelude::*;

use super::builder::{BASE, FUNC, GLOBAL, LABEL, kernel, kernel_with, put, sym};
use crate::loader::Symbols;
use crate::loader::symbols::NoSymbols;

const CODE: u64 = BASE + 0x10_0000;

#[test]
fn names_are_demangled_and_offsets_counted() {
    let image = kernel_with(&[
        sym(
            "_ZN8pv_guest5shell3run17h0123456789abcdefE",
            CODE + 0x10,
            0x20,
            FUNC,
        ),
        sym(
            "_RNvNtCs1234_8pv_guest4boot5start",
            CODE + 0x40,
            0x20,
            FUNC | GLOBAL,
        ),
    ]);
    let symbols = Symbols::read(&image);
    assert_eq!(symbols.len(), 2);
    assert_eq!(
        symbols.lookup(CODE + 0x22),
        Some(("pv_guest::shell::run".to_owned(), 0x12))
    );
    assert_eq!(symbols.describe(CODE + 0x22), "pv_guest::shell::run+0x12");
    assert_eq!(symbols.describe(CODE + 0x40), "pv_guest::boot::start+0x0");
}

#[test]
fn addresses_between_symbols_have_no_name() {
    let image = kernel_with(&[sym("a", CODE, 4, FUNC), sym("b", CODE + 8, 4, FUNC)]);
    let symbols = Symbols::read(&image);
    for address in [0, CODE - 1, CODE + 4, CODE + 12, u64::MAX] {
        assert_eq!(symbols.lookup(address), None);
        assert_eq!(symbols.describe(address), format!("{address:#x}"));
    }
    assert!(symbols.lookup(CODE + 3).is_some() && symbols.lookup(CODE + 8).is_some());
}

#[test]
fn label_reaches_to_the_next_symbol_or_the_end_of_its_section() {
    let image = kernel_with(&[
        sym("entry", CODE, 0, LABEL),
        sym("exit", CODE + 0x40, 0, LABEL),
    ]);
    let symbols = Symbols::read(&image);
    assert_eq!(symbols.describe(CODE + 0x3f), "entry+0x3f");
    assert_eq!(symbols.describe(CODE + 0x17ff), "exit+0x17bf");
    assert_eq!(symbols.lookup(CODE + 0x1800), None);
}

#[test]
fn routine_around_another_covers_what_follows_it() {
    let image = kernel_with(&[
        sym("outer", CODE, 0x40, FUNC),
        sym("inner", CODE + 8, 8, FUNC),
    ]);
    let symbols = Symbols::read(&image);
    assert_eq!(symbols.describe(CODE + 9), "inner+0x1");
    assert_eq!(symbols.describe(CODE + 0x10), "outer+0x10");
}

#[test]
fn function_is_preferred_to_a_label_at_its_address() {
    let image = kernel_with(&[
        sym("__text_start", CODE, 0, LABEL | GLOBAL),
        sym("local", CODE, 8, FUNC),
        sym("start", CODE, 8, FUNC | GLOBAL),
    ]);
    let symbols = Symbols::read(&image);
    assert_eq!(
        (symbols.len(), symbols.describe(CODE)),
        (1, "start+0x0".to_owned())
    );
}

#[test]
fn what_is_not_code_is_left_out() {
    let object = 1;
    let outside = sym("data", BASE + 0x10_3010, 8, FUNC);
    let image = kernel_with(&[
        sym("object", CODE, 8, object),
        outside,
        sym("", CODE, 8, FUNC),
    ]);
    let symbols = Symbols::read(&image);
    // The third has no name; its row points at an empty one.
    assert_eq!(symbols.describe(CODE + 8), format!("{:#x}", CODE + 8));
    assert_eq!(
        symbols.describe(BASE + 0x10_3010),
        format!("{:#x}", BASE + 0x10_3010)
    );
}

#[test]
fn image_without_a_table_gives_a_reason() {
    let reason = |image: &[u8]| {
        let symbols = Symbols::read(image);
        assert!(symbols.is_empty() && symbols.lookup(CODE).is_none());
        symbols.missing().map(ToString::to_string).unwrap()
    };
    assert!(reason(b"").contains("section headers"));
    assert!(reason(b"\x1f\x8b").contains("section headers"));
    assert!(reason(&kernel()).contains("stripped"));
    assert!(reason(&kernel_with(&[])).contains("1 symbols, and none"));
}

#[test]
fn damaged_table_gives_a_reason() {
    let mut image = kernel_with(&[sym("a", CODE, 4, FUNC)]);
    let sections = image.len() - 4 * 64;
    // sh_link of .symtab: no such section.
    put(&mut image, sections + 2 * 64 + 40, &[9]);
    assert!(matches!(
        Symbols::read(&image).missing(),
        Some(NoSymbols::Table(_))
    ));
    // sh_offset of .strtab: past the end.
    put(&mut image, sections + 2 * 64 + 40, &[3]);
    put(&mut image, sections + 3 * 64 + 24, &u64::MAX.to_le_bytes());
    assert!(matches!(
        Symbols::read(&image).missing(),
        Some(NoSymbols::Table(_))
    ));
}

#[test]
fn names_are_bounded_and_fit_for_a_terminal() {
    let long: &'static str = "x".repeat(100_000).leak();
    let image = kernel_with(&[
        sym("\x1b[2J\u{202e}\n", CODE, 4, FUNC),
        sym(long, CODE + 4, 4, FUNC),
    ]);
    let symbols = Symbols::read(&image);
    assert_eq!(symbols.describe(CODE), "?[2J??+0x0");
    let name = symbols.lookup(CODE + 4).unwrap().0;
    assert!(name.len() == 515 && name.ends_with("x..."));
}

#[test]
fn section_table_anywhere_is_survived() {
    let mut image = kernel_with(&[sym("a", CODE, 4, FUNC)]);
    let len = image.len() as u64;
    for offset in [1, 63, len - 1, len, u64::MAX - 63, u64::MAX] {
        // With and without a count: without, the first section would hold it.
        for count in [4, 0, u8::MAX] {
            put(&mut image, 40, &offset.to_le_bytes());
            put(&mut image, 60, &[count]);
            assert!(Symbols::read(&image).is_empty(), "{offset:#x}, {count}");
        }
    }
}

proptest! {
    #[test]
    fn damage_never_panics(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<proptest::sample::Index>(), is_cut: bool,
    ) {
        let labelled = sym("_RNvC1a1b", CODE + 8, 0, LABEL);
        let mut image = kernel_with(&[sym("a", CODE, 4, FUNC), labelled]);
        for (at, value) in changes {
            let at = at.index(image.len());
            image[at] = value;
        }
        if is_cut {
            image.truncate(cut.index(image.len()));
        }
        let symbols = Symbols::read(&image);
        prop_assert_eq!(symbols.is_empty(), symbols.missing().is_some());
        for address in [0, CODE, CODE + 3, CODE + 8, u64::MAX] {
            symbols.describe(address);
        }
    }

    #[test]
    fn any_name_is_bounded_and_printable(name in "(_R|_ZN|)[ -~]{0,40}|_R[A-Za-z0-9_]{0,200}") {
        let symbols = Symbols::read(&kernel_with(&[sym(name.leak(), CODE, 4, FUNC)]));
        if let Some((shown, _)) = symbols.lookup(CODE) {
            prop_assert!(shown.chars().count() <= 515 && !shown.chars().any(char::is_control));
        }
    }
}
