//! A made-up host: the files that the doctor reads, and nothing behind them.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::{Host, Problem, node};

/// A host that is nothing but files below a folder of its own, removed at the end.
pub(super) struct Fake {
    pub(super) host: Host,
}

impl Fake {
    pub(super) fn new(flags: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "paravane-doctor-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let root = std::env::temp_dir().join(name);
        let host = Host {
            node: PathBuf::from("/dev/kvm"),
            root,
            hypervisor: None,
        };
        let cpuinfo = format!("processor\t: 0\nmodel name\t: Fake 9000\nflags\t\t: fpu {flags}\n");
        Self { host }
            .file("proc/cpuinfo", &cpuinfo)
            .file("proc/sys/kernel/osrelease", "6.1.0-fake\n")
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        let path = self.host.root.join(path);
        fs::create_dir_all(path.parent().expect("a path below the root")).expect("a folder");
        fs::write(path, text).expect("a file");
        self
    }

    pub(super) fn under(mut self, signature: &str) -> Self {
        self.host.hypervisor = Some(signature.to_string());
        self
    }

    /// The problem of a node that does not open with `errno`.
    pub(super) fn open_problem(&self, errno: i32) -> Problem {
        let error = io::Error::from_raw_os_error(errno);
        node::open_problem(&self.host, &self.host.facts(), &error)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.host.root);
    }
}

#[track_caller]
pub(super) fn expect(problem: &Problem, what: &str, mend: &str) {
    assert!(problem.is_error(), "{problem:?}");
    assert!(problem.what.contains(what), "{problem:?}");
    assert!(problem.mend.contains(mend), "{problem:?}");
    assert!(
        !problem.sentence().contains(". "),
        "one sentence: {problem:?}"
    );
}
