//! What one machine learns of an image's code, the next one knows, if the code is the same.

mod kept;

use hypercall_abi::{Mode, layout};
use hypervisor::patch::Policy;
use hypervisor::{Config, Learned};
use iced_x86::IcedError;
use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{CodeAssembler, byte_ptr, ptr};
use tests::{Ran, image, kernel, kernel_image, need_kvm, run};

/// The modes that learn.
const MODES: [Mode; 2] = [Mode::Trap, Mode::Patch];
/// A NOP of five bytes, as compilers align code with, and another one.
const NOPS: [[u8; 5]; 2] = [[0x0f, 0x1f, 0x44, 0, 0], [0x0f, 0x1f, 0x44, 1, 0]];

fn with(learned: &Learned, mut config: Config) -> Ran {
    config.learned = Some(learned.clone());
    run(config)
}

fn boot(mode: Mode, learned: &Learned) -> Ran {
    let ran = with(learned, kernel(mode, "help; threads"));
    assert_eq!(ran.status(), 0, "{}", ran.output);
    ran
}

/// How often a PUSHF trapped.
fn pushes(ran: &Ran) -> u64 {
    let found = ran.outcome.stats.exits.get("trap pushf");
    found.map_or(0, |found| found.count)
}

fn discoveries(ran: &Ran) -> u64 {
    let found = ran.outcome.stats.exits.get("discovery");
    found.map_or(0, |found| found.count)
}

/// The kernel, with the other NOP in place of each.
fn with_other_nops() -> Vec<u8> {
    let mut changed = kernel_image(Mode::Trap).to_vec();
    let places = |image: &[u8]| -> Vec<usize> {
        let windows = image.windows(NOPS[0].len()).enumerate();
        windows
            .filter_map(|(at, bytes)| (bytes == NOPS[0]).then_some(at))
            .collect()
    };
    let all = places(&changed);
    assert!(all.len() > 10, "{}", all.len());
    for at in all {
        changed = image::with_bytes(&changed, at, &NOPS[1]);
    }
    changed
}

#[test]
fn a_second_boot_discovers_nothing() {
    need_kvm!();
    for mode in MODES {
        let learned = Learned::default();
        let first = boot(mode, &learned);
        assert!(discoveries(&first) > 0 && !learned.is_empty(), "{mode:?}");
        let second = boot(mode, &learned);
        assert_eq!(second.output, first.output, "{mode:?}");
        assert_eq!(discoveries(&second), 0, "{mode:?}");
        assert!(second.exits() < first.exits(), "{mode:?}");
    }
}

#[test]
fn what_earlier_boots_did_not_execute_is_found() {
    need_kvm!();
    for mode in MODES {
        let learned = Learned::default();
        let plain = boot(mode, &Learned::default());
        let first = with(&learned, kernel(mode, "echo"));
        let second = boot(mode, &learned);
        assert_eq!((first.status(), &second.output), (0, &plain.output));
        assert!(discoveries(&second) > 0, "{mode:?}");
        let third = boot(mode, &learned);
        assert_eq!((&third.output, discoveries(&third)), (&plain.output, 0));
    }
}

/// A configuration whose sites are patched once they have trapped three times.
fn adaptive(config: Config) -> Config {
    Config {
        patch: Policy::Adaptive { after: 3 },
        ..config
    }
}

#[test]
fn what_the_entry_leads_to_is_patched_before_a_first_boot_executes_it() {
    need_kvm!();
    let script = || kernel(Mode::Patch, "help; threads");
    let trapped = with(&Learned::default(), adaptive(script()));
    let found = boot(Mode::Patch, &Learned::default());
    assert_eq!(found.output, trapped.output);
    assert!(
        pushes(&trapped) > 10 && pushes(&found) * 4 < pushes(&trapped),
        "{} of {}",
        pushes(&found),
        pushes(&trapped)
    );
    assert!(found.exits() < trapped.exits());
    // The same code is followed, whoever patches it when.
    assert_eq!(discoveries(&found), discoveries(&trapped));
}

#[test]
fn what_was_patched_traps_no_more() {
    need_kvm!();
    let learned = Learned::default();
    let boot = || with(&learned, adaptive(kernel(Mode::Patch, "help; threads")));
    let first = boot();
    // A site is patched when it has trapped three times, in whichever boots.
    let boots: Vec<Ran> = (0..3).map(|_| boot()).collect();
    let last = boots.last().expect("there were three");
    assert!(
        pushes(&first) > 10 && pushes(last) < 3,
        "{} {}",
        pushes(&first),
        pushes(last)
    );
    assert_eq!(last.output, first.output);
}

#[test]
fn code_that_differs_is_learned_anew() {
    need_kvm!();
    for mode in MODES {
        let learned = Learned::default();
        let first = boot(mode, &learned);
        let changed = || Config {
            image: with_other_nops().into(),
            ..kernel(mode, "help; threads")
        };
        let other = with(&learned, changed());
        assert_eq!(
            (other.status(), &other.output),
            (0, &first.output),
            "{mode:?}"
        );
        assert!(discoveries(&other) > 0, "{mode:?}");
        let again = with(&learned, changed());
        assert_eq!(
            (again.status(), &again.output),
            (0, &first.output),
            "{mode:?}"
        );
        assert_eq!(discoveries(&again), 0, "{mode:?}");
    }
}

/// A guest that prints what an instruction of its own says, changes that, prints it again, and changes it once more.
fn changing(a: &mut CodeAssembler) -> Result<(), IcedError> {
    /// `mov al, imm8`.
    const MOV: [u8; 2] = [0xb0, b'A'];
    let (mut again, mut said) = (a.create_label(), a.create_label());
    a.lea(rbx, ptr(said))?;
    a.mov(rax, layout::DIRECT_MAP.wrapping_sub(layout::KERNEL_BASE))?;
    a.add(rbx, rax)?;
    a.mov(ecx, 2)?;
    a.set_label(&mut again)?;
    a.mov(edx, u32::from(layout::UART_PORT))?;
    a.set_label(&mut said)?;
    a.db(&MOV)?;
    a.out(dx, al)?;
    a.inc(byte_ptr(rbx + 1))?;
    a.dec(ecx)?;
    a.jnz(again)?;
    a.xor(eax, eax)?;
    a.mov(edx, u32::from(layout::POWER_PORT))?;
    a.out(dx, eax)
}

#[test]
fn what_a_guest_has_changed_of_its_code_is_not_known_to_the_next_one() {
    need_kvm!();
    for mode in MODES {
        let learned = Learned::default();
        let config = image::instructions(mode, changing);
        for turn in 0..3 {
            let ran = with(&learned, config.clone());
            assert_eq!((ran.status(), &*ran.output), (0, "AB"), "{mode:?} {turn}");
            assert!(!learned.is_empty(), "{mode:?}");
        }
    }
}

#[test]
fn what_is_code_in_one_mode_is_learned_again_in_the_other() {
    need_kvm!();
    let learned = Learned::default();
    let first = boot(Mode::Trap, &learned);
    let other = boot(Mode::Patch, &learned);
    assert!(discoveries(&other) > 0 && other.output == first.output);
}

#[test]
fn what_one_policy_patched_traps_with_another() {
    need_kvm!();
    let learned = Learned::default();
    boot(Mode::Patch, &learned);
    boot(Mode::Patch, &learned);
    let never = with(
        &learned,
        Config {
            patch: Policy::Never,
            ..kernel(Mode::Patch, "help; threads")
        },
    );
    assert_eq!(never.status(), 0, "{}", never.output);
    assert!(discoveries(&never) > 0 && pushes(&never) > 10);
}

#[test]
fn modes_that_run_the_kernels_own_pages_learn_nothing() {
    need_kvm!();
    for mode in [Mode::Hvm, Mode::Pv] {
        let learned = Learned::default();
        boot(mode, &learned);
        assert!(learned.is_empty(), "{mode:?}");
    }
}
