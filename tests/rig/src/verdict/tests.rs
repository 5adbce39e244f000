//! A run is good only if each test of the list has passed and the binary has ended well.

use super::*;

const GOOD: &str =
    "running 2 tests\ntest a ... ok\ntest b ... ok\n\ntest result: ok. 2 passed; 0 failed\n";

fn judge(out: &str, end: Option<End>) -> BinaryRun {
    let evidence = Evidence {
        end,
        out: out.as_bytes().to_vec(),
        err: b"from the depths\n".to_vec(),
        ms: 5,
    };
    BinaryRun::judge(
        "tests::x".to_owned(),
        &["a".to_owned(), "b".to_owned()],
        &evidence,
        7,
    )
}

#[track_caller]
fn assert_fails(out: &str, end: Option<End>, why: &str) -> BinaryRun {
    let run = judge(out, end);
    assert!(run.failures() > 0, "{run:?}");
    assert!(
        run.reasons().iter().any(|(_, text)| text.contains(why)),
        "{:?}",
        run.reasons()
    );
    run
}

#[test]
fn all_tests_of_the_list_passed() {
    let run = judge(GOOD, Some(End::Status(0)));
    assert_eq!((run.count(Result::Passed), run.failures()), (2, 0));
    assert_eq!(run.why, None);
}

#[test]
fn a_failed_test_is_named_with_its_panic() {
    let out = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\n\
        thread 'b' panicked at x.rs:1:1:\nthe timer is dead\n\n\nfailures:\n    b\n\n\
        test result: FAILED. 1 passed; 1 failed\n";
    let run = judge(out, Some(End::Status(101)));
    let expected = ("tests::x::b".to_owned(), "the timer is dead".to_owned());
    assert_eq!(run.reasons(), [expected]);
    assert_eq!(run.why, None);
}

#[test]
fn a_run_that_hangs_names_the_test_it_hangs_in() {
    let run = assert_fails("test a ... ok\ntest b ... ", Some(End::OutOfTime), "7 s");
    assert_eq!(run.reasons()[0].0, "tests::x::b");
    assert!(run.why.unwrap().contains("from the depths"));
}

#[test]
fn a_binary_that_dies_after_its_tests_fails() {
    assert_fails(GOOD, Some(End::Signal(11)), "signal 11");
    assert_fails(GOOD, Some(End::Status(3)), "status 3");
    assert_fails(GOOD, None, "the rig ended");
}

#[test]
fn a_binary_that_runs_less_than_it_lists_fails() {
    let out = "test a ... ok\n\ntest result: ok. 1 passed; 0 failed\n";
    let run = assert_fails(out, Some(End::Status(0)), "left tests out");
    assert_eq!(run.count(Result::NotRun), 1);
    assert_fails("", Some(End::Status(0)), "without a result");
    assert_fails(
        "",
        Some(End::NotStarted("no loader".to_owned())),
        "no loader",
    );
}

#[test]
fn a_binary_that_runs_nothing_fails() {
    let out = "test a ... ignored\ntest b ... ignored\n\ntest result: ok. 0 passed; 0 failed\n";
    assert_fails(out, Some(End::Status(0)), "ran no test");
}

#[test]
fn a_test_that_was_left_out_for_want_of_kvm_is_a_failure() {
    let out = "test a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- a stdout ----\n\
        PARAVANE_NO_KVM=1: nothing is tested here\n\n\ntest result: ok. 2 passed; 0 failed\n";
    assert_fails(out, Some(End::Status(0)), "the rig has KVM");
}

#[test]
fn failures_that_a_status_denies_are_failures_all_the_same() {
    let out = "test a ... ok\ntest b ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed\n";
    assert_fails(out, Some(End::Status(0)), "status 0 though");
}
