//! Guests that do not end by themselves, and those that cannot go on.

use std::thread;
use std::time::Duration;

use hypercall_abi::{Mode, layout};
use hypervisor::{Config, End, GuestFault, StopReason};
use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, al, cr0, cr3, dword_ptr, eax, ecx, edx, qword_ptr, r12, rax, rcx, rsp,
};
use tests::{
    Ran, each_mode, image, kernel, need_kvm, run, run_for, run_until_it_says, run_with, script,
};

/// Long enough for a kernel to boot, on a slow host too.
const SOON: Duration = Duration::from_millis(600);

#[track_caller]
fn run_briefly(config: Config) -> Ran {
    run_for(SOON, config, |_| {}).expect("the host can run it")
}

#[test]
fn a_sleeping_kernel_is_stopped_with_a_report() {
    each_mode(|mode| {
        let ran = run_until_it_says("now\n", kernel(mode, "echo now; sleep 100000; echo never"));
        let report = ran.timed_out();
        assert!(
            report.starts_with("at 0x") && report.contains("cr3"),
            "{report}"
        );
        assert!(ran.output.ends_with("now\n"), "{}", ran.output);
    });
}

#[test]
fn a_busy_guest_is_stopped_and_its_last_words_are_shown() {
    need_kvm!();
    // Nothing drains the ring: the guest only spins.
    let ran = run_briefly(script("say last words; spin"));
    ran.timed_out();
    assert_eq!(ran.output, "last words\n");
}

#[test]
fn a_busy_native_guest_is_stopped() {
    need_kvm!();
    let ran = run_briefly(image::instructions(Mode::Hvm, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.jmp(again)
    }));
    let report = ran.timed_out();
    assert!(report.starts_with("at 0xffffffff80100000"), "{report}");
    assert!(report.contains("code eb fe"), "{report}");
}

#[test]
fn a_processor_that_is_halted_for_good_is_stopped() {
    need_kvm!();
    let ran = run_briefly(image::instructions(Mode::Hvm, |a| {
        a.cli()?;
        a.hlt()
    }));
    ran.timed_out();
    // In pv, `idle` with nothing to wake it.
    run_briefly(script("monitor 5; say never")).timed_out();
}

#[test]
fn an_exception_that_cannot_be_delivered_ends_the_guest() {
    need_kvm!();
    // There is no interrupt descriptor table yet.
    let ran = run(image::instructions(Mode::Hvm, |a| a.ud2()));
    assert_eq!(*ran.fault(), GuestFault::TripleFault);
    let report = ran.report();
    let is_readable = report.contains("code 0f 0b");
    assert!(
        is_readable || report.contains("the registers are lost"),
        "{report}"
    );
}

#[test]
fn a_port_without_a_device_ends_the_guest_and_is_named() {
    need_kvm!();
    let ran = run(image::instructions(Mode::Hvm, |a| a.out(0x80, al)));
    assert_eq!(
        ran.fault().to_string(),
        "write to port 0x80, 1 bytes: no device is there"
    );
    let ran = run(image::instructions(Mode::Hvm, |a| a.in_(eax, 0x60)));
    assert_eq!(
        ran.fault().to_string(),
        "read from port 0x60, 4 bytes: no device is there"
    );
    // The pv guest's ports mean nothing here.
    let ran = run(image::instructions(Mode::Hvm, |a| a.out(0xe7, eax)));
    assert_eq!(
        ran.fault().to_string(),
        "write to port 0xe7, 4 bytes: no device is there"
    );
}

#[test]
fn an_address_without_memory_ends_the_guest_and_is_named() {
    need_kvm!();
    for (statement, sentence) in [
        (
            "fill d0000000 1 0",
            "write to guest-physical 0xd0000000, 1 bytes: neither memory nor a device is there",
        ),
        (
            "show d0000007 1",
            "read from guest-physical 0xd0000007, 1 bytes: neither memory nor a device is there",
        ),
    ] {
        // The boot tables of so much memory map the device hole too.
        let mut config = script(statement);
        config.memory_bytes = 5 << 30;
        assert_eq!(run(config).fault().to_string(), sentence);
    }
}

#[test]
fn an_access_beside_the_doorbell_ends_the_guest_and_is_named() {
    need_kvm!();
    for offset in [1, 4, 8, 0x10, 0xffc] {
        let ran = run(script(&format!(
            "store {:x} 0",
            layout::DOORBELL_PAGE + offset
        )));
        let at = layout::DOORBELL_PHYS + offset;
        let (width, write) = (4, true);
        assert_eq!(*ran.fault(), GuestFault::Mmio { at, width, write });
    }
    let ran = run(script(&format!("load {:x}", layout::DOORBELL_PAGE)));
    assert!(matches!(ran.fault(), GuestFault::Mmio { write: false, .. }));
}

#[test]
fn a_native_guest_has_no_doorbell() {
    need_kvm!();
    // The boot tables of so much memory map the device hole.
    let mut config = image::instructions(Mode::Hvm, |a| {
        a.mov(rcx, layout::DIRECT_MAP + layout::DOORBELL_PHYS)?;
        a.mov(eax, 0x40)?;
        a.mov(dword_ptr(rcx), eax)
    });
    config.memory_bytes = 5 << 30;
    let ran = run(config);
    let (at, width, write) = (layout::DOORBELL_PHYS, 4, true);
    assert_eq!(*ran.fault(), GuestFault::Mmio { at, width, write });
    assert!(ran.outcome.stats.calls.is_empty());
}

#[test]
fn the_monitor_s_memory_is_not_the_guest_s_to_change() {
    need_kvm!();
    for at in [
        layout::HYPERCALL_PAGE,
        layout::PAD_PAGE,
        layout::vcpu_area(0),
        layout::vcpu_area(0) + layout::AREA_TABLES,
        layout::vcpu_area(0) + layout::AREA_PRIVATE,
        layout::vcpu_area(0) + layout::AREA_STACKS,
    ] {
        let ran = run(script(&format!("store {at:x} 0; say never")));
        let fault = ran.fault();
        assert!(
            matches!(fault, GuestFault::NoEntries { entry: 14, .. }),
            "{at:#x}: {fault}"
        );
        assert!(ran.report().contains("guests::script"), "{}", ran.report());
    }
}

#[test]
fn an_interrupt_before_there_is_an_entry_for_it_waits_or_ends_the_guest() {
    need_kvm!();
    let flag = layout::vcpu_area(0) + layout::AREA_SHARED;
    let ran = run(script("monitor 7 0 21; monitor 4; say on"));
    assert_eq!(ran.lines(), ["Ok(0)", "Ok(1)", "on"]);
    let ran = run(script(&format!(
        "store {flag:x} 0; monitor 7 0 21; say never"
    )));
    assert!(matches!(
        ran.fault(),
        GuestFault::NoEntries { entry: 33, .. }
    ));
}

#[test]
fn whatever_a_pv_guest_asks_of_its_local_apic_it_ends_in_a_defined_way() {
    need_kvm!();
    let command = layout::APIC_PAGE + 0x300;
    // To itself: NMI, INIT, SIPI, SMI, and vectors 0, 0x10 and 0xff.
    for word in [
        "40400", "40500", "40600", "40200", "40000", "40010", "400ff",
    ] {
        for first in ["entries", "say no entries"] {
            let ran = run_briefly(script(&format!(
                "{first}; store {command:x} {word}; say on"
            )));
            assert_defined(&ran, word);
        }
    }
}

#[track_caller]
fn assert_defined(ran: &Ran, what: &str) {
    let outcome = &ran.outcome;
    match &outcome.end {
        End::PowerOff(_) => {}
        End::Fault(_) => assert!(outcome.report.is_some(), "{what}: {ran:?}"),
        End::Stopped(_) => panic!("{what} hangs: {ran:?}"),
    }
}

#[test]
fn whatever_a_native_guest_does_to_its_processor_it_ends_in_a_defined_way() {
    need_kvm!();
    type Write = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let programs: [(&str, Write); 13] = [
        ("a breakpoint", |a| a.int3()),
        ("a VMX call", |a| a.vmcall()),
        ("an SVM call", |a| a.vmmcall()),
        ("no cache", |a| a.wbinvd()),
        ("no paging", |a| a.mov(cr0, rax)),
        ("no root", |a| {
            a.mov(rcx, 0xffff_ffff_ffff_f000u64)?;
            a.mov(cr3, rcx)
        }),
        ("no long mode", |a| {
            a.mov(ecx, 0xc000_0080u32)?;
            a.wrmsr()
        }),
        ("no such MSR", |a| {
            a.mov(ecx, 0x1234_5678u32)?;
            a.wrmsr()
        }),
        ("a local APIC elsewhere", |a| {
            a.mov(ecx, 0x1b)?;
            a.mov(eax, 0x10_0900)?;
            a.wrmsr()
        }),
        ("an NMI to itself", |a| interrupt_itself(a, 0x4_0400)),
        ("INIT to itself", |a| interrupt_itself(a, 0x4_0500)),
        ("a wait without a monitor", |a| a.mwait()),
        ("a power switch of one byte", |a| a.out(0xf4, al)),
    ];
    for (name, write) in programs {
        let ran = run_briefly(image::instructions(Mode::Hvm, |a| {
            a.xor(eax, eax)?;
            a.xor(edx, edx)?;
            write(a)?;
            a.mov(eax, 3)?;
            a.out(0xf4, eax)
        }));
        assert_defined(&ran, name);
    }
}

/// In x2APIC mode (SDM vol. 3, 11.12), write the interrupt command register.
fn interrupt_itself(a: &mut CodeAssembler, command: u32) -> Result<(), IcedError> {
    for (register, value) in [(0x1b, 0xfee0_0d00), (0x80f, 0x13f), (0x830, command)] {
        a.mov(ecx, register)?;
        a.mov(eax, value)?;
        a.wrmsr()?;
    }
    Ok(())
}

#[test]
fn a_root_in_the_device_hole_ends_the_guest_or_is_stopped() {
    need_kvm!();
    for root in ["c0000", "fcfff", "fd000", "fd003", "fee00"] {
        let mut config = script(&format!("monitor 1 {root}; say never"));
        config.memory_bytes = 5 << 30;
        let ran = run_briefly(config);
        assert_eq!(ran.output, "");
        match ran.outcome.end {
            End::Fault(GuestFault::TripleFault) | End::Stopped(StopReason::Timeout) => {}
            ref other => panic!("{root}: {other:?}"),
        }
    }
}

#[test]
fn an_event_before_the_guest_has_named_its_entries_ends_it_where_it_happened() {
    need_kvm!();
    let ran = run(image::instructions(Mode::Pv, |a| {
        a.mov(r12, 0x1234u64)?;
        a.mov(rax, cr3)
    }));
    assert_eq!(
        ran.fault().to_string(),
        "event 13 at 0xffffffff8010000a, before the guest has named its event entries"
    );
    let report = ran.report();
    assert!(report.starts_with("at 0xffffffff8010000a"), "{report}");
    assert!(report.contains("code 0f 20 d8"), "{report}");
    assert!(report.contains("r12   0000000000001234"), "{report}");
    let ran = run(image::instructions(Mode::Pv, |a| {
        a.mov(rsp, 0x5678u64)?;
        a.mov(rax, qword_ptr(0x9abc))
    }));
    let sentence = ran.fault().to_string();
    assert!(
        sentence.starts_with("event 14 at 0xffffffff8010000a,"),
        "{sentence}"
    );
    let report = ran.report();
    assert!(report.contains("rsp   0000000000005678"), "{report}");
    assert!(report.contains("cr2   0000000000009abc"), "{report}");
}

#[test]
fn a_guest_stopped_before_it_starts_makes_no_step() {
    each_mode(|mode| {
        let ran = run_with(kernel(mode, "echo never"), |vm| {
            let stop = vm.stop_handle();
            stop.stop(StopReason::Signal(15));
            stop.stop(StopReason::Timeout);
        });
        // The first reason stands.
        assert_eq!(ran.outcome.end, End::Stopped(StopReason::Signal(15)));
        assert_eq!((ran.exits(), ran.output.as_str()), (0, ""));
    });
}

#[test]
fn many_threads_may_stop_a_guest_at_once() {
    each_mode(|mode| {
        let mut threads = Vec::new();
        let ran = run_with(kernel(mode, "sleep 100000"), |vm| {
            for _ in 0..4 {
                let stop = vm.stop_handle();
                threads.push(thread::spawn(move || {
                    thread::sleep(Duration::from_millis(30));
                    assert!(stop.stop(StopReason::Signal(2)), "the run has ended");
                }));
            }
        });
        assert_eq!(ran.outcome.end, End::Stopped(StopReason::Signal(2)));
        for thread in threads {
            thread.join().expect("every stop returns");
        }
    });
}

#[test]
fn stopping_a_guest_that_has_ended_changes_nothing() {
    each_mode(|mode| {
        let mut stop = None;
        let ran = run_with(kernel(mode, "poweroff 3"), |vm| {
            stop = Some(vm.stop_handle())
        });
        if let Some(stop) = stop {
            assert!(stop.stop(StopReason::Timeout), "the run has ended");
        }
        assert_eq!(ran.status(), 3);
    });
}
