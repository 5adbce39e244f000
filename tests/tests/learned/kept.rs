//! What is learned is kept in files, and a file is believed as far as it can be checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::patch::Policy;
use hypervisor::{CodeCache, Config};
use tests::{Ran, kernel, need_kvm, run};

use crate::{MODES, adaptive, discoveries, pushes, with_other_nops};

const SCRIPT: &str = "help; threads";
/// Where the body of a file begins: behind a name and a checksum.
const BODY: usize = 12;

/// Boot as `paravane run` does: with what is kept, and keeping it.
fn boot(dir: &Path, mut config: Config) -> Ran {
    let kept = CodeCache::in_dir(dir)
        .find(&config)
        .expect("a mode that learns");
    config.learned = Some(kept.learned());
    let ran = run(config);
    kept.keep().expect("room for a file");
    ran
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).expect("the directory");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// The one file of a directory.
fn file(dir: &Path) -> PathBuf {
    let mut files = files(dir);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn what_was_kept_is_known_and_grows() {
    need_kvm!();
    for mode in MODES {
        let dir = tempfile::tempdir().expect("a directory");
        let boots: Vec<Ran> = (0..4)
            .map(|_| boot(dir.path(), adaptive(kernel(mode, SCRIPT))))
            .collect();
        let [first, second, .., last] = boots.as_slice() else {
            panic!("there were four");
        };
        assert!(discoveries(first) > 0, "{mode:?}");
        for later in &boots[1..] {
            assert_eq!(
                (later.status(), &later.output),
                (0, &first.output),
                "{mode:?}"
            );
            assert_eq!(discoveries(later), 0, "{mode:?}");
        }
        assert!(second.exits() < first.exits(), "{mode:?}");
        if mode == Mode::Patch {
            assert!(pushes(first) > 10 && pushes(last) < 3);
        }
        file(dir.path());
    }
}

#[test]
fn what_earlier_boots_did_not_execute_is_found() {
    need_kvm!();
    for mode in MODES {
        let dir = tempfile::tempdir().expect("a directory");
        for script in ["echo", "help", "mem; threads", "help; lsdev", "help; lsdev"] {
            let plain = run(kernel(mode, script));
            let kept = boot(dir.path(), kernel(mode, script));
            assert_eq!(
                (kept.status(), &kept.output),
                (plain.status(), &plain.output)
            );
        }
        let last = boot(dir.path(), kernel(mode, "mem; help; threads"));
        assert_eq!(discoveries(&last), 0, "{mode:?}");
    }
}

#[test]
fn as_much_is_known_from_a_file_as_in_one_process() {
    need_kvm!();
    let dir = tempfile::tempdir().expect("a directory");
    let learned = hypervisor::Learned::default();
    for number in 0..5 {
        let here = crate::boot(Mode::Patch, &learned);
        let kept = boot(dir.path(), kernel(Mode::Patch, SCRIPT));
        assert_eq!(kept.output, here.output, "boot {number}");
        let trapped = |ran: &Ran| pushes(ran) + discoveries(ran);
        assert_eq!(trapped(&kept), trapped(&here), "boot {number}");
    }
}

#[test]
fn other_code_and_other_policies_have_other_knowledge() {
    need_kvm!();
    let dir = tempfile::tempdir().expect("a directory");
    let first = boot(dir.path(), kernel(Mode::Patch, SCRIPT));
    let never = Config {
        patch: Policy::Never,
        ..kernel(Mode::Patch, SCRIPT)
    };
    let never = boot(dir.path(), never);
    assert!(discoveries(&never) > 0 && pushes(&never) > 10);
    assert_eq!(files(dir.path()).len(), 2);
    // Code that differs in the middle alone has a file of the same name, and replaces it.
    let other = || Config {
        image: with_other_nops().into(),
        ..kernel(Mode::Patch, SCRIPT)
    };
    for (number, is_known) in [false, true].into_iter().enumerate() {
        let other = boot(dir.path(), other());
        assert_eq!((other.status(), &other.output), (0, &first.output));
        assert_eq!(discoveries(&other) == 0, is_known, "boot {number}");
    }
}

#[test]
fn a_damaged_file_counts_as_none_and_is_replaced() {
    need_kvm!();
    let dir = tempfile::tempdir().expect("a directory");
    let first = boot(dir.path(), kernel(Mode::Patch, SCRIPT));
    let path = file(dir.path());
    let whole = fs::read(&path).expect("the file");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let damaged = [
        Vec::new(),
        whole[..BODY - 1].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        [whole.as_slice(), &[0]].concat(),
        vec![0xff; whole.len()],
        flipped(0),
        flipped(BODY - 1),
        flipped(BODY),
        flipped(whole.len() - 1),
    ];
    for (number, bytes) in damaged.iter().enumerate() {
        fs::write(&path, bytes).expect("room");
        let again = boot(dir.path(), kernel(Mode::Patch, SCRIPT));
        assert_eq!(again.output, first.output, "{number}");
        assert_eq!(discoveries(&again), discoveries(&first), "{number}");
        let known = boot(dir.path(), kernel(Mode::Patch, SCRIPT));
        assert_eq!(discoveries(&known), 0, "{number}");
    }
}

#[test]
fn what_a_file_says_wrongly_harms_the_guest_alone() {
    need_kvm!();
    let dir = tempfile::tempdir().expect("a directory");
    boot(dir.path(), kernel(Mode::Patch, SCRIPT));
    let path = file(dir.path());
    let whole = fs::read(&path).expect("the file");
    let mut random = fastrand::Rng::with_seed(7);
    let mut believed = 0;
    for _ in 0..20 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(BODY..bytes.len());
            bytes[at] = random.u8(..);
        }
        let check = crc32fast::hash(&bytes[BODY..]).to_le_bytes();
        bytes[BODY - 4..BODY].copy_from_slice(&check);
        fs::write(&path, &bytes).expect("room");
        // However it ends, it ends: with its script done, a report, or the time that it has.
        let config = kernel(Mode::Patch, SCRIPT);
        let kept = CodeCache::in_dir(dir.path()).find(&config).expect("a mode");
        believed += usize::from(!kept.learned().is_empty());
        let learned = Some(kept.learned());
        let limit = Duration::from_secs(2);
        tests::run_for(limit, Config { learned, ..config }, |_| {}).expect("the host goes on");
    }
    assert!(believed > 0, "all of them were refused");
}

#[test]
fn the_oldest_files_go() {
    let dir = tempfile::tempdir().expect("a directory");
    for number in 0..40 {
        fs::write(dir.path().join(format!("{number:02}.code")), b"").expect("room");
    }
    fs::write(dir.path().join("mine.txt"), b"").expect("room");
    need_kvm!();
    boot(dir.path(), kernel(Mode::Patch, SCRIPT));
    let left = files(dir.path());
    assert_eq!(left.len(), 32 + 1, "{left:?}");
    assert!(left.contains(&dir.path().join("mine.txt")));
    let ours = |path: &&PathBuf| path.to_string_lossy().contains("patch-");
    assert_eq!(left.iter().filter(ours).count(), 1);
}
