//! Writes `docs/abi.md`: the prose of `abi_doc/template.md`, with every number and table from
//! `hypercall-abi`. A test compares the two, so the document cannot be stale.

mod places;
mod tables;

use hypercall_abi::boot;
use hypercall_abi::shared::{Entry, RING_ENTRIES};
use hypercall_abi::{Row, layout, table};

use tables::tables;

/// The whole of `docs/abi.md`.
pub fn markdown() -> String {
    let mut text = include_str!("abi_doc/template.md").to_owned();
    for (name, value) in numbers().into_iter().chain(tables()) {
        text = text.replace(&format!("{{{{{name}}}}}"), &value);
    }
    text
}

/// A call as the table declares it: `load_root(root: Frame) -> ()`.
pub fn signature(row: &Row) -> String {
    let args: Vec<String> = row
        .args
        .iter()
        .map(|(name, kind)| format!("{name}: {}", kind.replace(' ', "")))
        .collect();
    format!("{}({}) -> {}", row.name, args.join(", "), row.result)
}

/// What a call does, on one line.
pub fn sentence(row: &Row) -> String {
    row.doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn numbers() -> Vec<(&'static str, String)> {
    let hex = |value: u64| format!("{value:#x}");
    let plain = |value: u64| value.to_string();
    let note_name = boot::NOTE_NAME
        .split_last()
        .map_or(&[][..], |(_, name)| name);
    vec![
        ("ABI_VERSION", plain(boot::ABI_VERSION.into())),
        ("MONITOR_NUMBERS", hex(table::MONITOR_NUMBERS)),
        ("HYPERCALL_PAGE", hex(layout::HYPERCALL_PAGE)),
        ("SLOT_SIZE", plain(layout::SLOT_SIZE)),
        ("VENDOR_FIRST", hex(*table::VENDOR.start())),
        ("VENDOR_LAST", hex(*table::VENDOR.end())),
        ("AREA_SHARED", hex(layout::AREA_SHARED)),
        ("AREA_RING", hex(layout::AREA_RING)),
        ("AREA_EVENTS", hex(layout::AREA_EVENTS)),
        ("AREA_USER", hex(layout::AREA_USER)),
        ("RING_ENTRIES", plain(RING_ENTRIES.into())),
        ("ENTRY_SIZE", plain(size_of::<Entry>() as u64)),
        ("ENTRIES", plain(layout::ENTRIES)),
        ("ENTRY_STRIDE", plain(layout::ENTRY_STRIDE)),
        ("LAST_VECTOR", plain(layout::ENTRY_VECTORS - 1)),
        ("ENTRY_SYSCALL", plain(layout::ENTRY_SYSCALL)),
        ("ENTRY_PENDING", plain(layout::ENTRY_PENDING)),
        ("EXCEPTION_SLOT_END", hex(layout::EXCEPTION_SLOT_END)),
        ("INTERRUPT_SLOT_END", hex(layout::INTERRUPT_SLOT_END)),
        ("SCRATCH_END", hex(layout::SCRATCH_END)),
        ("USER_FRAME", hex(layout::USER_FRAME)),
        ("USER_CS", hex(layout::USER_CS.into())),
        ("USER_SS", hex(layout::USER_SS.into())),
        ("MONITOR_GIB", hex(layout::MONITOR_GIB)),
        ("DIRECT_MAP", hex(layout::DIRECT_MAP)),
        ("KERNEL_BASE", hex(layout::KERNEL_BASE)),
        ("HOLE_START", hex(layout::HOLE_START)),
        ("HOLE_END", hex(layout::HOLE_END)),
        ("NOTE_NAME", String::from_utf8_lossy(note_name).into_owned()),
        ("NOTE_TYPE", plain(boot::NOTE_TYPE.into())),
        ("KIND_NATIVE", plain(boot::ImageKind::Native as u64)),
        ("KIND_PV", plain(boot::ImageKind::Pv as u64)),
        ("MAGIC", hex(boot::MAGIC)),
        ("UART_PORT", hex(layout::UART_PORT.into())),
        ("POWER_PORT", hex(layout::POWER_PORT.into())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/abi.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/abi.md is stale; mend it with\n  cargo run --release -- hypercalls --markdown > docs/abi.md\n\
             and write prose into hypervisor/src/abi_doc/template.md"
        );
    }

    #[test]
    fn every_placeholder_is_filled_and_every_row_is_there() {
        let text = markdown();
        assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        for row in table::rows() {
            assert!(
                text.contains(&format!("`{}`", signature(row))),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn every_value_is_used() {
        let template = include_str!("abi_doc/template.md");
        for (name, _) in numbers().into_iter().chain(tables()) {
            assert!(template.contains(&format!("{{{{{name}}}}}")), "{name}");
        }
    }

    #[test]
    fn signatures_read_as_the_table_does() {
        let row = table::find(0x31).expect("console_write");
        assert_eq!(
            signature(row),
            "console_write(text: GuestPtr<u8>, len: u64) -> ()"
        );
    }
}
