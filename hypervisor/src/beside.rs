//! Starts threads that run beside the one that starts them.

use std::io;
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Start a thread that begins on another processor than this one, if there is another.
///
/// A kernel that runs in a virtual machine takes its idle processors for busy where it is told that the host does not run
/// them (KVM's steal time), and has a new thread wait for the processor of the one that has made it.
///
/// # Errors
/// There can be no more threads.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    begin(name, work, || {})
}

/// As [`spawn`]; `begun` is done between the thread's start and its move.
fn begin(name: &str, work: impl FnOnce() + Send + 'static, begun: impl FnOnce()) -> io::Result<()> {
    let all = sched_getaffinity(None).ok();
    let (is_kept, kept) = mpsc::channel::<()>();
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // From now on it may run anywhere. Where that is refused, it ends elsewhere, too.
            let _ = all.map(|all| sched_setaffinity(None, &all));
            work();
            // Until the other end is dropped.
            let _ = kept.recv();
        })?;
    begun();
    if let Some(mut others) = all {
        others.unset(sched_getcpu());
        if others.count() > 0 {
            keep_to(&thread, &others);
        }
    }
    drop(is_kept);
    Ok(())
}

/// Have a thread that has not ended run on some processors. Where that is refused, it runs where it would have.
fn keep_to(thread: &JoinHandle<()>, processors: &CpuSet) {
    let set = (0..CpuSet::MAX_CPU).filter(|number| processors.is_set(*number));
    // SAFETY: all bits zero is a set of no processors (CPU_SET(3)).
    let mut raw: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for number in set {
        // SAFETY: the set is ours alone, and has a bit for each number below `MAX_CPU`, which is CPU_SETSIZE.
        unsafe { libc::CPU_SET(number, &mut raw) };
    }
    // SAFETY: the thread's handle is not joined or dropped yet, so its identifier stands for it; the set is whole. It
    // has not ended, or the C library would take the caller for it: `spawn` has it wait.
    unsafe {
        libc::pthread_setaffinity_np(thread.as_pthread_t(), size_of_val(&raw), &raw);
    }
}

const _: () = assert!(CpuSet::MAX_CPU == libc::CPU_SETSIZE as usize);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_runs_to_its_end_and_may_run_anywhere() {
        let (send, done) = mpsc::channel();
        let all = sched_getaffinity(None).unwrap();
        spawn("beside", move || {
            let name = thread::current().name().map(str::to_owned);
            send.send((name, sched_getaffinity(None).unwrap())).unwrap();
        })
        .unwrap();
        let (name, own) = done.recv().unwrap();
        assert_eq!(name.as_deref(), Some("beside"));
        // It may have set its processors before they were set for it.
        assert!(own == all || own.count() + 1 == all.count());
    }

    #[test]
    fn who_starts_a_thread_that_ends_at_once_may_run_anywhere_as_before() {
        let all = sched_getaffinity(None).unwrap();
        let (send, done) = mpsc::channel();
        let ended = || {
            done.recv().unwrap();
            // Were it to end now, it would.
            thread::sleep(Duration::from_millis(50));
        };
        begin("short", move || send.send(()).unwrap(), ended).unwrap();
        assert!(sched_getaffinity(None).unwrap() == all);
    }
}
