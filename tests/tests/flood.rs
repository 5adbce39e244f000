//! Guests that run at once: two with much to read and to write, and one that loads its vector registers
//! all the time. What each typed line asks for comes out, once; no register changes; and each guest
//! ends as it was told.
//!
//! This does not catch the rig's fault of `docs/decisions/0009`: it passed in a rig without the mend, too.

use std::sync::mpsc;
use std::thread;

use hypercall_abi::Mode;
use hypervisor::{End, StopReason};
use tests::{Ran, interactive, need_kvm, run_with, tiny};

/// How many lines are typed at each guest.
const LINES: usize = 20;
/// Why the guest that loads registers is ended: a signal of this number.
const ENOUGH: StopReason = StopReason::Signal(15);

#[test]
fn guests_at_once_keep_their_input_their_output_and_their_registers() {
    need_kvm!();
    let word = "x".repeat(200);
    thread::scope(|scope| {
        let (send, stop) = mpsc::channel();
        let loading = scope.spawn(move || {
            run_with(tiny("vectors 7"), |vm| {
                send.send(vm.stop_handle()).expect("the test waits for it");
            })
        });
        let stop = stop.recv().expect("the guest is built");
        let typed = [3, 4].map(|status| {
            (
                status,
                scope.spawn({
                    let word = &word;
                    move || flooded(word, status)
                }),
            )
        });
        let typed = typed.map(|(status, guest)| (status, guest.join()));
        stop.stop(ENOUGH);
        let loading = loading.join().expect("the guest's thread does not panic");
        for (status, ran) in typed {
            let ran = ran.expect("the guest's thread does not panic");
            assert_eq!(ran.status(), status, "{}", ran.output);
            let lines = ran.output.lines().filter(|line| *line == word);
            assert_eq!(lines.count(), LINES, "{}", ran.output);
        }
        let end = &loading.outcome.end;
        assert_eq!(*end, End::Stopped(ENOUGH), "{}", loading.output);
        assert_eq!(loading.output, "loading\n");
    });
}

/// Run the kernel, in mode `pv`: in the others each byte is an exit, and the rig is slow. Meanwhile
/// type lines at it, the last of which ends it with `status`.
fn flooded(word: &str, status: u8) -> Ran {
    thread::scope(|scope| {
        run_with(interactive(Mode::Pv), |vm| {
            let keyboard = vm.keyboard();
            scope.spawn(move || {
                for _ in 0..LINES {
                    keyboard.type_bytes(format!("echo {word}\r").as_bytes());
                    thread::yield_now();
                }
                keyboard.type_bytes(format!("poweroff {status}\r").as_bytes());
            });
        })
    })
}
