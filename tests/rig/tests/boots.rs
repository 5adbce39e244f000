//! The rig as it is, booted: what runs inside comes out as it should. These need QEMU and a kernel,
//! or root and the network to fetch them, so they run only when asked for: `.ci/run` does.

use std::process::{Command, Output};

fn rig(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rig"))
        .args(args)
        .output()
        .expect("rig runs")
}

fn shell(options: &[&str], script: &str) -> Output {
    let mut args = vec!["run"];
    args.extend(options);
    args.extend(["--", "/bin/sh", "-c", script]);
    rig(&args)
}

#[track_caller]
fn assert_ends(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
}

#[test]
#[ignore = "boots the rig"]
fn output_status_and_variables_pass_unharmed() {
    let script = "printf 'a\\001\\377\\000z'; echo $WORD >&2; exit 7";
    let output = shell(&["--env", "WORD=two words"], script);
    assert_ends(&output, 7);
    assert_eq!(output.stdout, b"a\x01\xff\0z");
    assert_eq!(output.stderr, b"two words\n");
}

#[test]
#[ignore = "boots the rig"]
fn programs_have_as_many_processors_as_asked_for_and_not_the_first() {
    let script = "nproc; taskset -p $$ | sed 's/.*: //'; nproc --all";
    let output = shell(&["--cpus", "2"], script);
    assert_ends(&output, 0);
    assert_eq!(output.stdout, b"2\n6\n3\n");
}

#[test]
#[ignore = "boots the rig"]
fn a_program_without_end_is_ended_in_time_with_its_children() {
    let output = shell(&["--timeout", "2"], "echo begun; sleep 1000 & wait");
    assert_ends(&output, 124);
    assert_eq!(output.stdout, b"begun\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("did not end in 2 s"), "{said}");
}

#[test]
#[ignore = "boots the rig"]
fn a_child_that_is_left_behind_does_not_hold_the_rig() {
    let output = shell(&[], "setsid sleep 1000 & exit 3");
    assert_ends(&output, 3);
}

#[test]
#[ignore = "boots the rig"]
fn a_kernel_that_panics_is_told_of_with_its_last_words() {
    let output = shell(&[], "echo c > /proc/sysrq-trigger");
    assert_ends(&output, 125);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("ended before its work")
            && said.contains("Kernel panic - not syncing: sysrq"),
        "{said}"
    );
}

#[test]
#[ignore = "boots the rig"]
fn a_processor_that_is_stuck_is_to_end_the_kernel() {
    let script = "cd /proc/sys/kernel && cat softlockup_panic watchdog_thresh soft_watchdog panic_on_rcu_stall && \
                  cat /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout";
    let output = shell(&[], script);
    assert_ends(&output, 0);
    assert_eq!(output.stdout, b"1\n60\n1\n1\n120\n");
}

#[test]
#[ignore = "boots the rig"]
fn a_disk_a_module_and_a_carried_folder_are_there() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "carried\n").expect("a file");
    let carried = folder.path().to_str().expect("text");
    let options = [
        "--disk", "16", "--module", "tun", "--carry", carried, "--cpus", "1",
    ];
    let script = format!(
        "mke2fs /dev/vda >/dev/null && mkdir /m && mount -t ext2 /dev/vda /m && \
         cp {carried}/file /m && cat /m/file && test -c /dev/net/tun && nproc"
    );
    let output = shell(&options, &script);
    assert_ends(&output, 0);
    assert_eq!(output.stdout, b"carried\n1\n");
}
