//! The example's guest makes a call of the table and one of its own; both are served.

use std::process::Command;

#[test]
fn a_call_of_the_table_and_a_vendor_call_are_both_served() {
    let run = Command::new(env!("CARGO_BIN_EXE_vendor-call"))
        .output()
        .expect("the example starts");
    let text = String::from_utf8_lossy(&run.stdout);
    let errors = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{text}{errors}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..2],
        ["host: hello, paravane", "guest: greeted 1 time"],
        "{text}"
    );
    let year = lines[2]
        .strip_prefix("guest: the year is ")
        .and_then(|year| year.parse::<u64>().ok());
    assert!(
        year.is_some_and(|year| (2024..2200).contains(&year)),
        "{text}"
    );
    assert_eq!(
        lines[3],
        "guest: a bad pointer is refused: a pointer and its length leave guest memory"
    );
}
