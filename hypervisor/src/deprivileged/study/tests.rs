//! What an image's bytes say of its code.

use super::*;
use crate::loader::elf::Access;
use crate::patch::{PatchedSite, State};

const TEXT: u64 = 0xffff_ffff_8010_0000;
const DATA: u64 = TEXT + 0x2000;
const PHYS: u64 = 0x10_0000;
/// Where the function is that only a pointer in the data leads to.
const POINTED: u64 = 0x800;
/// Where it jumps to.
const XOR: u64 = 15;

/// `call [DATA]; pushf; pop rax; cli; je +1; sti; xor eax, eax; ret`, and a function: `pushf; pop rax; nop..; jmp` to
/// the `xor`.
fn image() -> Placed {
    let mut bytes = vec![0; 0x3000];
    let call = (DATA - TEXT) as u32 - 6;
    let code = [
        &[0xff, 0x15],
        &call.to_le_bytes()[..],
        &[
            0x9c, 0x58, 0xfa, 0x48, 0x85, 0xc0, 0x74, 0x01, 0xfb, 0x31, 0xc0, 0x0f, 0x1f, 0x40, 0,
            0xc3,
        ],
    ]
    .concat();
    bytes[..code.len()].copy_from_slice(&code);
    let jump = XOR.wrapping_sub(POINTED + 12) as u32;
    let pointed = [
        &[0x9c, 0x58, 0x0f, 0x1f, 0x44, 0, 0, 0xe9],
        &jump.to_le_bytes()[..],
    ]
    .concat();
    bytes[POINTED as usize..][..pointed.len()].copy_from_slice(&pointed);
    bytes[0x2000..0x2008].copy_from_slice(&(TEXT + POINTED).to_le_bytes());
    let segment = |index: usize, write: bool| Segment {
        index,
        virt: TEXT + index as u64 * 0x2000,
        phys: PHYS + index as u64 * 0x2000,
        file: index * 0x2000..index * 0x2000 + 0x1000,
        mem_len: 0x1000,
        flags: Access {
            read: true,
            write,
            execute: !write,
        },
    };
    Placed {
        image: bytes.into(),
        plan: Plan {
            entry: TEXT,
            segments: vec![segment(0, false), segment(1, true)],
        },
    }
}

/// The offsets of the sites that are patched with a policy.
fn patched(policy: Policy) -> Vec<u64> {
    let known = image().study(Some(policy));
    let sites = known.patching.expect("mode patch").listing();
    let patched = |site: &PatchedSite| site.site.state == State::Patched;
    sites
        .iter()
        .filter(|site| patched(site))
        .map(|site| site.at - TEXT)
        .collect()
}

#[test]
fn the_code_is_followed_from_the_entry_and_where_pointers_lead() {
    let known = image().study(None);
    for offset in [0, 6, 8, 14, XOR, POINTED, POINTED + 1] {
        assert!(known.copies.is_known(PHYS + offset), "{offset:#x}");
    }
    assert!(!known.copies.is_known(PHYS + 0x700));
    assert_eq!(known.text.len(), 1);
    assert!(known.patching.is_none());
}

#[test]
fn what_a_policy_patches_ahead_is_patched() {
    // STI is moved with what comes next, and that is what somebody jumps to: it waits for its first traps.
    assert_eq!(patched(Policy::Found { after: 3 }), [6, 8, POINTED]);
    assert_eq!(patched(Policy::Eager), [6, 8, 14, POINTED]);
    for policy in [Policy::Adaptive { after: 3 }, Policy::Never] {
        assert!(patched(policy).is_empty(), "{policy:?}");
    }
}

#[test]
fn knowledge_is_of_the_same_bytes_and_the_same_policy() {
    let policy = Some(Policy::default());
    let known = image().study(policy);
    assert!(image().is_of(&known, policy));
    assert!(!image().is_of(&known, Some(Policy::Eager)));
    assert!(!image().is_of(&known, None));
    // A byte that nobody executes, in a page with code.
    let mut other = image();
    let mut bytes = other.image.to_vec();
    bytes[0x900] ^= 1;
    other.image = bytes.into();
    assert!(!other.is_of(&known, policy));
    let mut moved = image();
    for segment in &mut moved.plan.segments {
        segment.phys += 0x1000;
    }
    assert!(!moved.is_of(&known, policy));
}

#[test]
fn a_study_ends_also_where_its_thread_knows_nothing() {
    let (_, known) = mpsc::channel();
    let (give, _) = mpsc::channel();
    let task = Task {
        image: Arc::new(image()),
        policy: None,
        learned: Learned::default(),
    };
    let known = Study::Begun(task, give, known)
        .end()
        .expect("it is looked up here");
    assert!(known.copies.is_known(PHYS));
}
