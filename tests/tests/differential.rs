//! Random sequences of privileged and sensitive instructions come to the same in every mode as in
//! `hvm`, where hardware, as the rig has it, does what they ask.

use case_runner::Case;
use hypercall_abi::Mode;
use hypervisor::doctor::{self, Platform};
use tests::differential::{self, Difference, MODES};
use tests::need_kvm;

/// Seeds and numbers of cases of a fresh run.
fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => otherwise,
    }
}

/// Whether mode `hvm` runs the cases as hardware does.
fn has_reference() -> bool {
    doctor::platform() != Platform::KvmPvm
}

/// Where a mode comes to something else than expected.
fn differences(mode: Mode, cases: &[Case], expected: &[String]) -> Vec<Difference> {
    let results = differential::run(mode, cases);
    assert_eq!(results.len(), cases.len());
    cases
        .iter()
        .zip(expected.iter().zip(results))
        .filter(|(_, (expected, got))| *expected != got)
        .map(|(case, (expected, got))| Difference {
            case: case.clone(),
            expected: expected.clone(),
            got,
        })
        .collect()
}

/// Fail for differences, with the first of them in full.
#[track_caller]
fn expect_none(mode: Mode, count: usize, differences: &[Difference]) {
    let shown: String = differences
        .iter()
        .take(60)
        .map(|difference| format!("{difference}\n"))
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {count} cases differ in mode {}:\n{shown}",
        differences.len(),
        mode.name()
    );
    println!("mode {}: {count} cases, no difference", mode.name());
}

/// Cases with what they come to on hardware.
const CORPUS: &str = include_str!("../corpus/cases.txt");

#[test]
fn every_case_of_the_corpus_comes_to_what_hardware_made_of_it() {
    need_kvm!();
    let entries = differential::read(CORPUS).expect("the corpus makes sense");
    assert!(!entries.is_empty());
    let cases: Vec<Case> = entries.iter().map(|entry| entry.case.clone()).collect();
    let expected: Vec<String> = entries.into_iter().map(|entry| entry.expected).collect();
    let reference = has_reference().then_some(Mode::Hvm);
    for mode in reference.into_iter().chain(MODES) {
        let found = differences(mode, &cases, &expected);
        expect_none(mode, cases.len(), &found);
    }
}

#[test]
fn a_case_that_comes_to_something_else_is_explained() {
    need_kvm!();
    let entries = differential::read(CORPUS).expect("the corpus makes sense");
    let case = entries[0].case.clone();
    let wrong = format!("{} cr9=1", entries[0].expected);
    let found = differences(MODES[0], &[case], &[wrong]);
    assert_eq!(found.len(), 1);
    let text = found[0].to_string();
    assert!(text.contains("only expected: cr9=1\n"), "{text}");
}

/// The fresh cases that the environment asks for, and what they come to in `hvm`.
fn fresh() -> (Vec<Case>, Vec<String>) {
    let (seed, count) = (
        number("DIFFERENTIAL_SEED", 1),
        number("DIFFERENTIAL_CASES", 500),
    );
    let cases = differential::generate(seed, count as usize);
    assert!(has_reference(), "mode hvm is no reference on this KVM");
    let expected = differential::run(Mode::Hvm, &cases);
    (cases, expected)
}

/// Needs hardware: `cargo run -p rig -- test --test differential -- --ignored`, with
/// `--env DIFFERENTIAL_SEED=N --env DIFFERENTIAL_CASES=N`.
#[test]
#[ignore = "as many cases as asked for, against hvm, which is a reference on hardware alone"]
fn fresh_cases_come_to_the_same_in_every_mode() {
    need_kvm!();
    let (cases, expected) = fresh();
    // All modes, and then the verdict: a difference in one says nothing of the next.
    let all = MODES.map(|mode| (mode, differences(mode, &cases, &expected)));
    for (mode, found) in &all {
        println!(
            "mode {}: {} of {} differ",
            mode.name(),
            found.len(),
            cases.len()
        );
        found.iter().for_each(|difference| println!("{difference}"));
    }
    for (mode, found) in &all {
        expect_none(*mode, cases.len(), found);
    }
}

/// Needs hardware, as above. `tests/corpus/README.md` says what to do with the output.
#[test]
#[ignore = "prints cases for a corpus, and tests nothing"]
fn print_a_corpus() {
    need_kvm!();
    let (cases, expected) = fresh();
    for (case, expected) in cases.iter().zip(&expected) {
        print!("{}", differential::write(case, expected));
    }
}
