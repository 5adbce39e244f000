//! A KVM that opens and then refuses, as a filter of system calls has it; and one that is not there.

mod common;

use std::os::unix::process::CommandExt;

use common::{Ran, arg, command, file, finish, holds_kvm};
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    sock_filter, sock_fprog,
};

/// `KVM_CREATE_VM` and `KVM_CREATE_VCPU` of linux/kvm.h.
const CREATE_VM: u32 = 0xae01;
const CREATE_VCPU: u32 = 0xae41;

/// Run the program where this ioctl answers with this error.
#[track_caller]
fn refusing(args: &[&str], request: u32, errno: i32) -> Ran {
    let step = |code: u32, k: u32, [jt, jf]: [u8; 2]| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
    const EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;
    const RETURN: u32 = BPF_RET | BPF_K;
    // struct seccomp_data: the call's number at 0, the low half of its second argument at 24.
    let filter = [
        step(LOAD, 0, [0, 0]),
        step(EQUAL, libc::SYS_ioctl as u32, [0, 3]),
        step(LOAD, 24, [0, 0]),
        step(EQUAL, request, [0, 1]),
        step(RETURN, SECCOMP_RET_ERRNO | errno as u32, [0, 0]),
        step(RETURN, SECCOMP_RET_ALLOW, [0, 0]),
    ];
    let install = move || {
        let program = sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_ptr().cast_mut(),
        };
        // SAFETY: both calls change this child alone; the kernel copies the program, which is a local.
        let is_set = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
        };
        match is_set {
            true => Ok(()),
            false => Err(std::io::Error::last_os_error()),
        }
    };
    let mut command = command(args);
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
    finish(command)
}

#[test]
fn a_kvm_that_creates_no_vm_is_explained_by_the_doctor() {
    if !holds_kvm() {
        return;
    }
    for (errno, kind, mend) in [
        (libc::ENOMEM, "memory", "memory limit"),
        (libc::EBUSY, "busy", "VirtualBox"),
        (libc::EMFILE, "files", "ulimit -n"),
        (libc::EPERM, "policy", "seccomp"),
        (libc::EOPNOTSUPP, "refused", "dmesg"),
    ] {
        for (request, thing) in [(CREATE_VM, "VM"), (CREATE_VCPU, "vCPU")] {
            let json = refusing(&["doctor", "--json"], request, errno)
                .expect(1)
                .json();
            let problem = &json["problems"][0];
            assert_eq!(
                (&json["usable"], &problem["kind"]),
                (&false.into(), &kind.into())
            );
            let what = problem["what"].as_str().expect("words");
            assert!(
                what.starts_with(&format!("KVM cannot create a {thing}: ")),
                "{what}"
            );
            assert!(
                problem["mend"].as_str().expect("words").contains(mend),
                "{problem}"
            );
            // It did open, and says what it can do.
            assert_eq!(json["kvm"]["api_version"], 12);
            assert!(json["kvm"]["bare_exit"].is_null() && json["gates"].is_null());
        }
    }
}

#[test]
fn a_kvm_that_creates_no_vm_ends_each_command_with_the_same_sentence() {
    if !holds_kvm() {
        return;
    }
    for (request, thing) in [(CREATE_VM, "a VM"), (CREATE_VCPU, "a vCPU")] {
        let ran = refusing(&["run"], request, libc::EPERM).expect(125);
        let words = [
            &format!("KVM cannot create {thing}: "),
            "; to mend it, allow KVM's ioctls",
        ];
        let ran = ran.says(&words.map(|word| word as &str));
        assert_eq!((ran.out.as_str(), ran.err.lines().count()), ("", 1));
    }
    let scenarios = file("refused.toml", b"[[scenario]]\nname = \"a\"\nstatus = 0\n");
    let ran = refusing(&["ci", arg(&scenarios)], CREATE_VM, libc::ENOMEM).expect(125);
    assert!(ran.out.contains("KVM cannot create a VM") && ran.out.contains("memory limit"));
    std::fs::remove_file(scenarios).expect("it exists");
    let ran = refusing(&["bench", "--quick"], CREATE_VM, libc::ENOMEM).expect(125);
    assert!(
        ran.err.contains("KVM_CREATE_VM") || ran.err.contains("create"),
        "{}",
        ran.err
    );
    assert_eq!(ran.out, "");
}

#[test]
fn an_absent_kvm_is_told_whatever_the_tests_variable_says() {
    // PARAVANE_NO_KVM is for `cargo test` in this repository: no command looks at it.
    for value in [None, Some("0"), Some("1")] {
        let with = |args: &[&str]| {
            let mut command = command(args);
            match value {
                Some(value) => command.env("PARAVANE_NO_KVM", value),
                None => command.env_remove("PARAVANE_NO_KVM"),
            };
            finish(command)
        };
        let absent = ["--kvm", "/nonexistent/kvm"];
        let ran = with(&[&["run"][..], &absent].concat()).expect(125);
        ran.says(&["there is no /nonexistent/kvm", "; to mend it, "]);
        let json = with(&[&["doctor", "--json"][..], &absent].concat())
            .expect(1)
            .json();
        assert_eq!(
            (&json["usable"], &json["kvm"]),
            (&false.into(), &serde_json::Value::Null)
        );
    }
    if holds_kvm() {
        let mut command = command(&["doctor", "--json"]);
        command.env("PARAVANE_NO_KVM", "1");
        assert_eq!(finish(command).expect(0).json()["usable"], true);
    }
}

#[test]
fn too_few_file_descriptors_are_told_as_such() {
    if !holds_kvm() {
        return;
    }
    // Standard streams, one for the loader, then the signals, the node, the machine: each is the first to miss one.
    let mut kinds = Vec::new();
    for limit in 4..16 {
        let mut command = command(&["doctor", "--json"]);
        let limit = libc::rlimit {
            rlim_cur: limit,
            rlim_max: limit,
        };
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let ran = finish(command);
        assert!(!ran.err.contains("panicked"), "{ran:?}");
        assert!(matches!(ran.status, Some(0 | 1 | 125)), "{ran:?}");
        if ran.status == Some(1) {
            let json = ran.json();
            kinds.push((json["problems"][0]["kind"].clone(), json["kvm"].is_null()));
        }
    }
    assert!(kinds.contains(&("files".into(), false)), "{kinds:?}");
}
