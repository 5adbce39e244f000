//! The images hold no instruction that they must not: counted, and found by name.

use hypervisor::audit::{ImageKind, Report, audit};
use tests::{FOREIGN, TINY};

#[track_caller]
fn report(image: &[u8]) -> Report {
    let report = audit(image).expect("the image can be read");
    assert!(report.instructions > 500, "{}", report.instructions);
    assert_eq!(report.unaudited_bytes, 0);
    report
}

#[track_caller]
fn assert_clean(image: &[u8], kind: ImageKind) {
    let report = report(image);
    let findings: Vec<String> = report.forbidden(kind).map(ToString::to_string).collect();
    assert_eq!(report.forbidden_count(kind), 0, "{}", findings.join("\n"));
}

#[test]
fn the_pv_image_has_no_privileged_sensitive_or_vector_instruction() {
    assert_clean(guest_images::PV, ImageKind::Paravirtual);
}

#[test]
fn the_native_image_has_no_vector_instruction_and_no_red_zone() {
    assert_clean(guest_images::NATIVE, ImageKind::Native);
}

#[test]
fn the_native_image_has_what_the_pv_image_replaces() {
    let counts = report(guest_images::NATIVE).counts;
    assert!(counts.privileged > 10, "{counts:?}");
}

#[test]
fn what_is_excused_in_the_pv_image_is_what_it_says() {
    let report = report(guest_images::PV);
    for allowed in &report.allowed {
        let (name, symbol) = (&allowed.finding.mnemonic, &allowed.finding.symbol);
        let symbol = symbol.as_deref().unwrap_or("");
        let is_expected = match name.as_str() {
            "rdtsc" => true,
            "iretq" => symbol == "event_return",
            "int3" => symbol.ends_with("::breakpoint_instruction"),
            _ => false,
        };
        assert!(is_expected, "{}", allowed.finding);
    }
}

#[test]
fn the_tiny_guests_are_as_clean_but_for_what_they_do_on_purpose() {
    let report = report(TINY);
    assert_eq!((report.counts.simd, report.counts.below_stack), (0, 0));
}

#[test]
fn the_foreign_kernel_has_every_ordinary_privileged_and_sensitive_instruction() {
    let report = report(FOREIGN);
    assert_eq!((report.counts.simd, report.counts.below_stack), (0, 0));
    for text in [
        "cli", "sti", "hlt", "pushfq", "popfq", "iretq", "ret far", "swapgs", "sysretq", "lgdt",
        "lidt", "ltr", "sgdt", "sidt", "sldt", "str", "smsw", "lar", "lsl", "verr", "verw",
        "invlpg", "rdmsr", "wrmsr", "cpuid", "in ", "out ", "outsb", "mov cr0,", "mov cr3,",
        "mov cr4,", "mov cr8,", "mov ds,", "mov es,", "mov ss,", "mov fs,", "mov gs,", "pop fs",
        "push fs",
    ] {
        let has_it = |found: &&hypervisor::audit::Finding| found.text.contains(text);
        assert!(report.findings.iter().any(|found| has_it(&found)), "{text}");
    }
}
