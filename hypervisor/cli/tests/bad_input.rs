//! Every bad input gets a sentence that names it, and the documented status.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use common::{arg, file, finish, has_kvm, paravane};

#[track_caller]
fn usage(args: &[&str], words: &[&str]) {
    let ran = paravane(args).expect(2).says(words);
    assert_eq!(ran.out, "");
}

#[track_caller]
fn host(args: &[&str], words: &[&str]) {
    let ran = paravane(args).expect(125).says(words);
    assert_eq!(ran.out, "");
    assert_eq!(ran.err.lines().count(), 1, "one sentence: {}", ran.err);
}

#[test]
fn unknown_commands_and_options_are_usage_errors() {
    usage(&["fly"], &["fly"]);
    usage(&["run", "--fast"], &["--fast"]);
    usage(&["run", "a", "b"], &["b"]);
    usage(&["audit", "a", "--image", "pv"], &["--image"]);
    usage(&["audit", "--image", "both"], &["both", "pv", "native"]);
    usage(&["hypercalls", "--json", "--markdown"], &["--markdown"]);
}

#[test]
fn values_out_of_range_are_usage_errors() {
    usage(&["run", "--mode", "xen"], &["xen", "hvm", "pv"]);
    usage(
        &["run", "--cpus", "2"],
        &["this version runs one processor", "--cpus 1"],
    );
    usage(&["run", "--cpus", "many"], &["many"]);
    usage(&["run", "--mem", "lots"], &["lots", "64M"]);
    usage(&["run", "--mem", "64MB"], &["64MB", "64M"]);
    usage(&["run", "--mem", "99999999999T"], &["64 bits"]);
    usage(&["run", "--timeout", "0"], &["above 0"]);
    usage(&["run", "--timeout", "soon"], &["soon"]);
}

#[test]
fn a_disk_that_makes_no_sense_is_refused() {
    usage(&["run", "--disk", ",ro"], &["name the disk's file first"]);
    usage(&["run", "--disk", "a,rw"], &["rw", "use ro, direct"]);
    if !has_kvm() {
        return;
    }
    host(
        &["run", "--disk", "/nonexistent.img"],
        &["the disk /nonexistent.img", "truncate -s"],
    );
    let odd = file("odd.img", &[0; 700]);
    host(
        &["run", "--disk", arg(&odd)],
        &["700 bytes", "whole sectors"],
    );
    let rng = ["--rng"; 1];
    let mut many = vec!["run"];
    let good = file("good.img", &[0; 512]);
    let disk = format!("{},ro", arg(&good));
    for _ in 0..14 {
        many.extend(["--disk", &disk]);
    }
    many.extend(rng);
    usage(&many, &["15 devices", "14 at most"]);
}

#[test]
fn what_the_library_refuses_of_the_options_is_a_usage_error() {
    if !has_kvm() {
        return;
    }
    usage(&["run", "--mem", "4M"], &["--mem", "8M"]);
    usage(&["run", "--mem", "0"], &["--mem"]);
    usage(&["run", "--mem", "67108865"], &["multiple of 4 KiB"]);
    usage(&["run", "--mem", "2T"], &["256G"]);
    usage(&["run", "--mode", "pva"], &["pva", "hvm, trap, patch, pv"]);
    usage(&["run", "--patch", "often"], &["often", "eager"]);
    usage(&["run", "--cmdline", &"x".repeat(5000)], &["5000", "4095"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    host(
        &["run", "/nonexistent/kernel"],
        &["/nonexistent/kernel", "No such file"],
    );
    host(&["run", "/proc"], &["/proc", "directory"]);
    host(
        &["run", "--initrd", "/nonexistent/initrd"],
        &["/nonexistent/initrd"],
    );
    host(
        &["run", "--initrd", "/dev/zero"],
        &["/dev/zero", "has more than 67108864 bytes"],
    );
    host(
        &["run", "--trace", "/nonexistent/trace"],
        &["/nonexistent/trace"],
    );
    host(&["audit", "/nonexistent/kernel"], &["/nonexistent/kernel"]);
}

#[test]
fn a_bad_image_is_named_with_its_fault() {
    if !has_kvm() {
        return;
    }
    let good = guest_images::PV;
    let with = |at: usize, bytes: &[u8]| {
        let mut image = good.to_vec();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("empty", Vec::new(), "empty"),
        ("text", b"#!/bin/sh\nexit 0\n".to_vec(), "not an ELF64"),
        ("header-cut", good[..40].to_vec(), "cut short"),
        ("cut", good[..1000].to_vec(), "ends past the file"),
        (
            "machine",
            with(18, &183u16.to_le_bytes()),
            "e_machine is 183",
        ),
        ("class", with(4, &[1]), "EI_CLASS is 1"),
    ];
    for (name, bytes, fault) in cases {
        let path = file(name, &bytes);
        host(&["run", arg(&path)], &[arg(&path), fault]);
        std::fs::remove_file(path).expect("it exists");
    }
}

#[test]
fn an_image_of_the_wrong_kind_is_refused() {
    if !has_kvm() {
        return;
    }
    let (pv, native) = (guest_images::PV_PATH, guest_images::NATIVE_PATH);
    host(
        &["run", native],
        &[native, "a native image", "--mode pv needs a pv image"],
    );
    host(
        &["run", pv, "--mode", "hvm"],
        &[pv, "a pv image", "--mode hvm needs a native image"],
    );
}

#[test]
fn an_audit_of_no_elf_file_is_refused() {
    let path = file("audit-text", b"no ELF file");
    host(&["audit", arg(&path)], &[arg(&path), "not an ELF file"]);
    std::fs::write(&path, &guest_images::PV[..50]).expect("it exists");
    host(
        &["audit", arg(&path)],
        &[arg(&path), "inside the ELF header"],
    );
    std::fs::remove_file(path).expect("it exists");
}

#[test]
fn an_initrd_that_does_not_fit_is_refused() {
    if !has_kvm() {
        return;
    }
    let path = file("initrd", &vec![0; 63 << 20]);
    host(&["run", "--initrd", arg(&path)], &["initramfs"]);
    std::fs::remove_file(path).expect("it exists");
}

#[test]
fn without_kvm_a_sentence_has_the_mend() {
    host(
        &["run", "--kvm", "/nonexistent/kvm"],
        &["there is no /nonexistent/kvm; "],
    );
    host(
        &["run", "--kvm", "/dev/null"],
        &["/dev/null is not KVM's node; ", "/dev/kvm"],
    );
    host(&["run", "--kvm", "/"], &["/ is a directory"]);
    let plain = file("node", b"");
    host(&["run", "--kvm", arg(&plain)], &["is not KVM's node"]);
    std::fs::remove_file(plain).expect("it exists");
}

#[test]
fn a_node_without_permission_has_the_mend() {
    // Root may open anything: nobody tries it, with a copy of the program that it can reach.
    let folder = std::env::temp_dir().join(format!("paravane-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for all");
    let (program, node) = (folder.join("paravane"), folder.join("kvm"));
    // Not by this process: a test beside this one may start a child while the copy is open to be written,
    // and then it cannot be executed (ETXTBSY) until that child has become its program.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_paravane"))
        .arg(&program)
        .status();
    assert!(copied.expect("cp starts").success(), "room for a copy");
    std::fs::write(&node, b"").expect("room for a file");
    std::fs::set_permissions(&node, PermissionsExt::from_mode(0o000)).expect("it is ours");
    let mut command = Command::new(&program);
    command.args(["run", "--kvm", arg(&node)]).current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65534).gid(65534);
    }
    let ran = finish(command);
    std::fs::remove_dir_all(folder).expect("it is ours");
    ran.expect(125)
        .says(&["no permission to open", arg(&node), "; ", "usermod -aG kvm"]);
}
