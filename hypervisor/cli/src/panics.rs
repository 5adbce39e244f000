//! A panic in any thread ends the process: its message, then status 70, with the terminal restored.

use crate::{output, status, terminal};

/// Have it so from now on.
pub fn end_the_process() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        terminal::restore_now();
        default(info);
        output::say("this is a bug in paravane: please report it with the message above");
        std::process::exit(i32::from(status::INTERNAL));
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    const CHILD: &str = "PARAVANE_TEST_PANIC_CHILD";

    /// The harness runs this in the child that the next test starts.
    #[test]
    fn child_panics_in_a_thread() {
        if std::env::var_os(CHILD).is_some() {
            super::end_the_process();
            let _ = std::thread::spawn(|| panic!("on purpose")).join();
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    #[test]
    fn a_panic_in_a_thread_ends_the_process_at_once() {
        let start = Instant::now();
        let output = Command::new(std::env::current_exe().expect("this test's path"))
            .args([
                "--exact",
                "panics::tests::child_panics_in_a_thread",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .output()
            .expect("the child runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{text}");
        assert!(
            text.contains("on purpose") && text.contains("a bug in paravane"),
            "{text}"
        );
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
