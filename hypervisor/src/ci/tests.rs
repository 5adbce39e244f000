//! Patterns, text and XML; whole cases on KVM are in `hypervisor/cli/tests/ci.rs`.

use std::io::Write;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;

use super::transcript::{Transcript, Wait};
use super::*;
use crate::Config;

/// Where a pattern matches, when the text comes at once; it must match the same byte by byte.
fn find(pattern: &str, text: &[u8]) -> Option<usize> {
    let pattern = Pattern::new(pattern).expect("a pattern");
    let at_once = pattern.search(0).advance(text);
    let mut search = pattern.search(0);
    let in_pieces = (0..=text.len()).find_map(|end| search.advance(&text[..end]));
    assert_eq!(at_once, in_pieces, "{pattern} in {text:?}");
    at_once
}

#[test]
fn a_pattern_is_text_of_one_line() {
    assert_eq!(find("ready", b"not yet\nready\n> "), Some(13));
    assert_eq!(find("ready", b"rea\ndy"), None);
    assert_eq!(find("aab", b"aaaab"), Some(5));
    assert_eq!(find("(.+)", b"x(.+)"), Some(5));
    assert_eq!(find("gr\u{fc}n", "gr\u{fc}n".as_bytes()), Some(5));
    assert_eq!(find("x", b""), None);
}

#[test]
fn a_star_stays_in_its_line() {
    assert_eq!(find("mem*free", b"mem\nfree\nmem: 3 free"), Some(20));
    assert_eq!(find("a*b*c", b"a c b\nab c"), Some(10));
    assert_eq!(find("*a**", b"xa"), Some(2));
    assert_eq!(find(r"a\*b", b"axb a*b"), Some(7));
    assert_eq!(find(r"a\\*b", br"a\xb"), Some(4));
    assert_eq!(find(r"a\n", br"a\n"), Some(3));
}

#[test]
fn what_matches_always_or_never_is_no_pattern() {
    assert_eq!(Pattern::new(""), Err(PatternError::Empty));
    assert_eq!(Pattern::new("**"), Err(PatternError::Empty));
    assert_eq!(Pattern::new("a\nb"), Err(PatternError::Newline));
}

#[test]
fn the_next_search_begins_behind_the_match() {
    let pattern = Pattern::new("> ").expect("a pattern");
    let text = b"> mem\n> ";
    assert_eq!(pattern.search(0).advance(text), Some(2));
    assert_eq!(pattern.search(2).advance(text), Some(8));
    assert_eq!(pattern.search(8).advance(text), None);
}

#[test]
fn output_is_bounded() {
    let mut transcript = Transcript::new(4);
    let late = Instant::now();
    transcript.write_all(b"abcd").expect("it takes all");
    assert_eq!(transcript.now(), Wait::Late);
    transcript.write_all(b"ef").expect("it takes all");
    assert_eq!(transcript.wait_end(late), Wait::Overflowed);
    let pattern = Pattern::new("cd").expect("a pattern");
    let found = transcript.wait_for(&mut pattern.search(0), late);
    assert_eq!(found, Wait::Found(4), "what is there counts");
    assert_eq!(transcript.take(), b"abcd");
}

#[test]
fn control_characters_are_shown_and_not_sent() {
    assert_eq!(
        visible(b"\x1b[2Ja\tb\r\nc\rd\0"),
        "\\x1b[2Ja\tb\nc\\x0dd\\x00"
    );
    assert_eq!(visible(b"\xff]]>\xc2\x9b"), "\u{fffd}]]>\\x9b");
    assert_eq!(visible("\u{ffff}\u{202e}".as_bytes()), "\u{fffd}\\u{202e}");
}

#[test]
fn the_tail_is_the_last_lines_and_no_more() {
    assert_eq!(tail(b"one\ntwo\r\nthree\n\n", 2), "two\nthree\n");
    assert_eq!(tail(b"one", 5), "one\n");
    assert_eq!(tail(b"\n\n", 5), "");
    let long = tail(&[b'x'; 100_000], 5);
    assert!(long.len() < 500 && long.ends_with("...\n"), "{long}");
}

fn scenario() -> Scenario {
    Scenario::new(
        "a \"<case>\" & more\n",
        Config::new(Mode::Pv, b"".as_slice(), "none"),
    )
}

#[test]
fn hostile_text_leaves_the_xml_whole() {
    let mut case = Case::skipped(&scenario(), "no ]]> here");
    case.console = b"]]></system-out>\0\x1b[31m\xff&amp;\n".to_vec();
    let report = Report::new(vec![Suite {
        name: "s'".to_owned(),
        cases: vec![case],
    }]);
    let xml = report.junit();
    assert!(!xml.contains("]]>"), "{xml}");
    assert!(!xml.chars().any(|c| c.is_control() && c != '\n'), "{xml}");
    assert!(
        xml.contains("name=\"a &quot;&lt;case&gt;&quot; &amp; more&#10;\""),
        "{xml}"
    );
    assert!(
        xml.contains("]]&gt;&lt;/system-out&gt;\\x00\\x1b[31m\u{fffd}&amp;amp;"),
        "{xml}"
    );
    assert!(xml.contains("skipped=\"1\""), "{xml}");
    assert_eq!(report.summary(), "0 passed, 0 failed, 1 skipped");
}

#[test]
fn only_the_end_of_a_long_console_is_in_the_xml() {
    let mut case = Case::skipped(&scenario(), "");
    case.console = vec![b'x'; 1 << 20];
    let suites = vec![Suite {
        name: String::new(),
        cases: vec![case],
    }];
    let xml = Report::new(suites).junit();
    assert!(xml.len() < 70_000 && xml.contains("bytes before this are left out"));
}

#[test]
fn a_host_without_kvm_is_an_error_and_no_failure() {
    let mut config = Config::new(Mode::Pv, b"".as_slice(), "none");
    config.kvm_node = "/nonexistent/kvm".into();
    let scenario = Scenario::new("it", config)
        .status(0)
        .timeout(Duration::from_secs(1));
    let report = run("suite", &[scenario]);
    let case = &report.suites[0].cases[0];
    assert_eq!(case.verdict, Verdict::Error);
    assert!(case.evidence().contains("/nonexistent/kvm"), "{case:?}");
    assert_eq!((report.failed, report.errors), (0, 1));
    assert!(report.junit().contains("<error type=\"host\""));
}

#[test]
fn a_scenario_that_asks_for_nothing_is_empty() {
    assert!(scenario().is_empty());
    assert!(!scenario().status(0).is_empty());
    assert!(!scenario().expect("x").expect("a pattern").is_empty());
}
