//! A real symbol table: that of the program which runs this test.

use ::elf::ElfBytes;
use ::elf::abi::STT_FUNC;
use ::elf::endian::LittleEndian;

use crate::loader::Symbols;

#[test]
fn every_function_of_this_program_is_found() {
    let image = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let symbols = Symbols::read(&image);
    assert!(symbols.missing().is_none(), "{:?}", symbols.missing());
    // Another reader of the same table, without ours.
    let file = ElfBytes::<LittleEndian>::minimal_parse(&image).unwrap();
    let (table, _) = file.symbol_table().unwrap().unwrap();
    let is_function = |s: &::elf::symbol::Symbol| s.st_symtype() == STT_FUNC && s.st_shndx != 0;
    let functions: Vec<_> = table
        .iter()
        .filter(|s| is_function(s) && s.st_size > 0)
        .collect();
    assert!(functions.len() > 1000);
    for function in functions {
        let (name, offset) = symbols.lookup(function.st_value).unwrap();
        assert!(
            offset == 0 && !name.is_empty(),
            "{:#x}: {name}+{offset:#x}",
            function.st_value
        );
    }
}

/// A function that has a symbol in every build: what is not inlined, and used.
#[inline(never)]
fn named_for_a_test(number: u32) -> u32 {
    std::hint::black_box(number)
}

#[test]
fn a_name_of_ours_comes_back_demangled() {
    assert_eq!(named_for_a_test(7), 7);
    let image = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let file = ElfBytes::<LittleEndian>::minimal_parse(&image).unwrap();
    let (table, names) = file.symbol_table().unwrap().unwrap();
    let is_ours = |name: &str| name.contains("named_for_a_test");
    let named = |s: &::elf::symbol::Symbol| names.get(s.st_name as usize).is_ok_and(is_ours);
    let ours = table
        .iter()
        .find(|s| s.st_symtype() == STT_FUNC && named(s))
        .unwrap();
    let text = Symbols::read(&image).describe(ours.st_value + 1);
    assert_eq!(
        text,
        "hypervisor::loader::tests::symbols_real::named_for_a_test+0x1"
    );
}
