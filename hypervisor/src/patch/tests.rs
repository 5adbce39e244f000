//! Plans, places and moved code, without a guest.

use std::collections::{HashMap, HashSet};

use iced_x86::code_asm::registers::*;
use iced_x86::code_asm::{CodeAssembler, CodeLabel, qword_ptr};
use iced_x86::{Decoder, DecoderOptions, IcedError, Instruction};
use proptest::prelude::*;

use super::plan::{Code, JUMP, Plan, plan};
use super::{Area, Kind, Live, Patch, Refusal, Undo, jump, relocate, room};
use crate::monitor::native::layout::{PATCH_FIRST, PATCHES, PATCHES_LEN, patch_linear};

const BASE: u64 = 0xffff_ffff_8010_0000;

/// A page whose known code was followed from its start; the rest is blank, or data.
#[derive(Default)]
struct Page {
    instructions: HashMap<usize, Instruction>,
    known: HashSet<usize>,
    data: HashSet<usize>,
    branches: HashMap<usize, usize>,
}

impl Page {
    /// Code at an offset.
    fn with(
        mut self,
        at: usize,
        write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Self {
        let mut assembler = CodeAssembler::new(64).expect("64 bits");
        write(&mut assembler).expect("instructions");
        let ip = BASE + at as u64;
        let bytes = assembler.assemble(ip).expect("they assemble");
        for found in &mut Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE) {
            let at = (found.ip() - BASE) as usize;
            self.instructions.insert(at, found);
            self.known.extend(at..at + found.len());
            if found.near_branch_target() != 0 {
                let target = (found.near_branch_target() - BASE) as usize;
                *self.branches.entry(target).or_default() += 1;
            }
        }
        self
    }
}

impl Code for Page {
    fn instruction(&self, at: usize) -> Option<Instruction> {
        self.instructions.get(&at).copied()
    }
    fn begins(&self, at: usize) -> bool {
        self.instructions.contains_key(&at)
    }
    fn is_known(&self, at: usize) -> bool {
        self.known.contains(&at)
    }
    fn is_blank(&self, at: usize) -> bool {
        !self.known.contains(&at) && !self.data.contains(&at)
    }
    fn branches_to(&self, at: usize) -> usize {
        self.branches.get(&at).copied().unwrap_or(0)
    }
    fn is_patched(&self, _: usize) -> bool {
        false
    }
}

fn never(_: &Instruction) -> bool {
    false
}

#[test]
fn the_bytes_where_instructions_begin_trap() {
    let page = Page::default().with(0x10, |a| {
        a.cli()?;
        a.push(rax)?;
        a.mov(ecx, 5)
    });
    let found = plan(&page, 0x10).expect("a plan");
    assert_eq!((found.start, found.end), (0x10, 0x17));
    assert_eq!(found.traps, [true, true, false, false]);
    assert!(found.falls_through);
}

#[test]
fn what_follows_a_return_is_not_moved() {
    let page = Page::default().with(0x10, |a| {
        a.mov(eax, 5)?;
        a.sti()?;
        a.ret()
    });
    let found = plan(&page, 0x15).expect("a plan");
    assert_eq!((found.start, found.end), (0x10, 0x17));
    assert!(!found.falls_through);
    // From the site alone, blank bytes would have to trap, the last one of the jump among them.
    let page = Page::default().with(0x10, |a| {
        a.push(rcx)?;
        a.sti()?;
        a.ret()
    });
    assert_eq!(plan(&page, 0x11).err(), Some(Refusal::Arrival));
}

#[test]
fn a_site_stays_where_the_last_byte_may_be_arrived_at() {
    let page = Page::default().with(0x10, |a| {
        a.ret()?;
        a.cli()?;
        a.xor(eax, eax)?;
        a.push(rax)?;
        a.push(rcx)?;
        a.push(rdx)
    });
    assert_eq!(plan(&page, 0x11).err(), Some(Refusal::Arrival));
}

#[test]
fn a_site_stays_next_to_data_and_at_the_end_of_the_page() {
    let mut page = Page::default().with(0x10, |a| {
        a.ret()?;
        a.sti()?;
        a.ret()
    });
    page.data.insert(0x14);
    assert_eq!(plan(&page, 0x11).err(), Some(Refusal::Data));
    let page = Page::default().with(0xffd, |a| {
        a.ret()?;
        a.cli()?;
        a.ret()
    });
    assert_eq!(plan(&page, 0xffe).err(), Some(Refusal::Page));
}

#[test]
fn sti_is_moved_with_the_instruction_that_it_holds_interrupts_back_for() {
    let page = Page::default().with(0x10, |a| {
        a.mov(eax, 5)?;
        a.sti()?;
        a.hlt()?;
        a.mov(eax, 6)
    });
    let found = plan(&page, 0x15).expect("a plan");
    let (code, steps) =
        relocate(&found, PATCHES + 0x10_0000, BASE + found.end as u64, &never).expect("code");
    let after = steps
        .iter()
        .find(|step| step.after_sti)
        .expect("a step after sti");
    assert_eq!(after.rip, BASE + 0x16);
    assert_eq!(code.get(after.at), Some(&0xf4));
}

#[test]
fn a_branch_in_the_range_leads_to_what_was_moved() {
    // test; je 1f; sti; 1: xor: all of it is moved, and nobody arrives in the middle.
    let page = Page::default().with(0x10, |a| {
        let mut after: CodeLabel = a.create_label();
        a.test(eax, 0x200)?;
        a.je(after)?;
        a.sti()?;
        a.set_label(&mut after)?;
        a.xor(ecx, ecx)?;
        a.mov(edx, 1)
    });
    let found = plan(&page, 0x17).expect("a plan");
    assert_eq!(found.arrivals, 0);
    let at = PATCHES + 0x10_0000;
    let (code, steps) = relocate(&found, at, BASE + found.end as u64, &never).expect("code");
    let mut decoder = Decoder::with_ip(64, &code, at, DecoderOptions::NONE);
    let je = decoder.iter().nth(1).expect("it is behind test");
    let xor = steps
        .iter()
        .find(|step| step.rip == BASE + 0x18)
        .expect("a step");
    assert_eq!(je.near_branch_target(), at + xor.at as u64);
}

/// `pushf; pop; test; je 1f; cli; 1: mov`, and what `more` has branch there.
fn guarded(more: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Page {
    let page = Page::default().with(0x10, |a| {
        let mut after: CodeLabel = a.create_label();
        a.pushfq()?;
        a.pop(r14)?;
        a.test(r14d, 0x200)?;
        a.je(after)?;
        a.cli()?;
        a.set_label(&mut after)?;
        a.mov(edx, 1)
    });
    page.with(0x100, more)
}

#[test]
fn a_cli_with_a_branch_around_it_is_moved_along_with_what_it_comes_behind() {
    let found = plan(&guarded(|a| a.ret()), 0x10).expect("a plan");
    assert_eq!((found.start, found.end), (0x10, 0x1d));
    assert_eq!(
        found.instructions.last().and_then(Kind::of),
        Some(Kind::Cli)
    );
    let at = PATCHES + 0x10_0000;
    let (code, _) = relocate(&found, at, BASE + 0x1d, &never).expect("code");
    let moved = Decoder::with_ip(64, &code, at, DecoderOptions::NONE);
    let leave = moved
        .into_iter()
        .filter(|found| found.near_branch_target() == BASE + 0x1d);
    assert_eq!(leave.count(), 2, "the branch around it, and the jump back");
    // Somebody else comes to it, or to the branch: it stays, for a patch of its own.
    for to in [0x1a, 0x1c] {
        let found = plan(&guarded(|a| a.jmp(BASE + to)), 0x10).expect("a plan");
        assert_eq!((found.end, found.arrivals), (0x1a, 0), "{to:#x}");
    }
}

#[test]
fn who_arrives_behind_the_jump_and_the_last_site_does_not_count() {
    // test; je 1f; sti; 1: add, and somebody else jumps there.
    let page = |to: u64| {
        let page = Page::default().with(0x10, |a| {
            let mut after: CodeLabel = a.create_label();
            a.test(r14d, 0x200)?;
            a.je(after)?;
            a.sti()?;
            a.set_label(&mut after)?;
            a.add(rsp, 0x88)
        });
        page.with(0x100, |a| a.jmp(BASE + to))
    };
    let found = plan(&page(0x1a), 0x19).expect("a plan");
    assert_eq!((found.start, found.end, found.arrivals), (0x10, 0x21, 0));
    // At the branch it does: the site comes behind.
    let found = plan(&page(0x17), 0x19).expect("a plan");
    assert_eq!((found.start, found.arrivals), (0x17, 0));
}

#[test]
fn a_call_pushes_the_guest_s_address() {
    let page = Page::default().with(0x10, |a| {
        a.cli()?;
        a.call(BASE + 0x800)?;
        a.mov(eax, 1)
    });
    let found = plan(&page, 0x10).expect("a plan");
    let at = PATCHES + 0x10_0000;
    let (code, steps) = relocate(&found, at, BASE + found.end as u64, &never).expect("code");
    let last: Vec<_> = Decoder::with_ip(64, &code, at, DecoderOptions::NONE)
        .into_iter()
        .skip(1)
        .collect();
    assert_eq!(last[0].immediate(0), BASE + 0x16);
    assert_eq!(last[1].near_branch_target(), BASE + 0x800);
    assert_eq!(steps.last().map(|step| step.undo), Some(Undo::Rsp));
    assert_eq!(last.len(), 2, "it does not come back by itself");
}

#[test]
fn the_room_of_patches_is_what_they_take_and_nothing_else() {
    let first = patch_linear(PATCH_FIRST);
    let patch = |at: u64, len: usize| Patch {
        start: BASE,
        end: BASE + JUMP as u64,
        frame: 0,
        at,
        code: vec![0x90; len],
        steps: Vec::new(),
        sites: Vec::new(),
        before: Vec::new(),
    };
    // The second one goes over a page's end.
    let taken = [patch(first + 70, 60), patch(first + 0x2ff0, 40)];
    let area = Area::with(&taken, false).expect("they fit");
    let pages: Vec<u64> = area.pages().map(|(linear, _)| linear).collect();
    assert_eq!(pages, [first, first + 0x2000, first + 0x3000]);
    assert!(area.frames() == 3 && !area.is_shared());
    let shared = Area::with(&taken, true).expect("they fit");
    assert!(
        shared.frames() == 1 && shared.is_shared(),
        "their code is apart"
    );
    assert!(
        shared.pages().eq(pages
            .iter()
            .map(|page| (*page, shared.phys(*page).expect("its frame"))))
    );
    for (at, len, is_free) in [
        (first, 70, true),
        (first, 71, false),
        (first + 129, 1, false),
        (first + 130, 0xed0, true),
        (first + 0x2fef, 1, true),
        (first + 0x2fef, 2, false),
        (first + 0x3017, 1, false),
        (first + 0x3018, 0xfe8, true),
        // Not in the area, and no room at all.
        (first - 1, 2, false),
        (PATCHES + PATCHES_LEN - 1, 2, false),
        (u64::MAX, 2, false),
        (0, 1, false),
        (first, 0, false),
    ] {
        let more = [taken.as_slice(), &[patch(at, len)]].concat();
        for may_share in [false, true] {
            let is_room = Area::with(&more, may_share).is_some();
            assert_eq!(is_room, is_free, "{at:#x} {len} {may_share}");
        }
    }
}

#[test]
fn new_pages_share_a_frame_where_they_may_and_their_code_is_apart() {
    let first = patch_linear(PATCH_FIRST);
    let frames = |may_share: bool| {
        let mut area = Area::default();
        area.may_share = may_share;
        // Two of the same offset, and one behind it.
        for at in [first, first + 0x1000, first + 0x2020] {
            assert!(area.is_free(at, 0x20));
            assert_eq!(area.take(at, &[0x90; 0x20]).len(), 1, "a new page");
        }
        // What another page has in the frame is taken here, too.
        assert_eq!(area.is_free(first + 0x2000, 0x20), !may_share);
        area.frames()
    };
    assert_eq!((frames(false), frames(true)), (3, 2));
}

#[test]
fn an_area_that_is_out_of_reach_or_full_is_refused() {
    let page = Page::default().with(0x10, |a| {
        a.cli()?;
        a.mov(eax, 1)
    });
    let found = plan(&page, 0x10).expect("a plan");
    let mut area = Area::default();
    assert_eq!(
        area.find(0xffff_8000_0000_0000, &found, 20).err(),
        Some(Refusal::Reach)
    );
    // One address in 256 fits, so a page has room for sixteen; there are 224 pages.
    let mut taken = 0;
    while let Ok(at) = area.find(BASE, &found, 20) {
        area.take(at, &[0x90; 20]);
        taken += 1;
        assert!(taken < 10_000, "the area does not end");
    }
    assert_eq!(area.find(BASE, &found, 20).err(), Some(Refusal::Full));
    assert!((224 * 15..=224 * 16).contains(&taken), "{taken}");
    area.clear();
    assert!(area.find(BASE, &found, 20).is_ok());
}

#[test]
fn a_kernel_in_the_low_gigabyte_reaches_the_area_around_the_end_of_the_addresses() {
    let page = Page::default().with(0x10, |a| {
        a.cli()?;
        a.mov(eax, 1)
    });
    let found = plan(&page, 0x10).expect("a plan");
    let at = Area::default().find(0x10_0010, &found, 20);
    let [_, low, ..] = jump(0x10_0010, at.expect("a place")).expect("a jump");
    assert_eq!(low, 0xf4);
}

#[test]
fn addresses_lead_there_and_back() {
    let page = Page::default().with(0x10, |a| {
        a.pushfq()?;
        a.pop(rax)?;
        a.cli()?;
        a.mov(ecx, 1)
    });
    let found = plan(&page, 0x10).expect("a plan");
    let (at, end) = (PATCHES + 0x10_0000, BASE + found.end as u64);
    let (code, steps) = relocate(&found, at, end, &never).expect("code");
    let start = BASE + 0x10;
    let mut live = Live::default();
    live.add(Patch {
        start,
        end,
        frame: 0,
        at,
        code,
        steps,
        sites: vec![(start, Kind::Pushf)],
        before: Vec::new(),
    });
    assert!(live.enter(start).is_none(), "the jump stands there");
    for rip in [0x11, 0x12, 0x13].map(|offset| BASE + offset) {
        let (_, inside) = live.enter(rip).expect("it was moved");
        let step = live.leave(inside).expect("it is in the area");
        assert_eq!((step.rip, step.undo), (rip, Undo::Nothing));
    }
    // In the middle of what stands for pushf.
    let step = live.leave(at + 9).expect("it is in the area");
    assert_eq!((step.rip, step.undo), (start, Undo::Push));
    assert!(live.leave(at - 1).is_none() && live.leave(PATCHES).is_none());
    assert_eq!(live.remove(|patch| patch.start == start).len(), 1);
    assert!(live.of(BASE + 0x12).is_none() && live.leave(at).is_none());
}

/// Instructions of kinds that compilers put around sites.
fn some(choice: u8, a: &mut CodeAssembler) -> Result<(), IcedError> {
    match choice % 12 {
        0 => a.cli(),
        1 => a.sti(),
        2 => a.pushfq(),
        3 => a.popfq(),
        4 => a.pop(rax),
        5 => a.xor(eax, eax),
        6 => a.mov(rax, qword_ptr(rbx + 8)),
        7 => a.test(ecx, 0x200),
        8 => a.mov(rcx, qword_ptr(BASE + 0x900)),
        9 => a.je(BASE + 0x700),
        10 => a.call(BASE + 0x800),
        _ => a.mov(qword_ptr(rsp + 16), rdx),
    }
}

proptest! {
    /// Whatever is moved: the jump traps where it must, and the moved code is the guest's instructions,
    /// one by one, each known by its address.
    #[test]
    fn moved_code_is_what_it_was(choices in prop::collection::vec(any::<u8>(), 4..30), site in 0usize..30) {
        let page = Page::default().with(0x100, |a| choices.iter().try_for_each(|choice| some(*choice, a)));
        let mut sites: Vec<usize> = page.instructions.iter().filter(|(_, found)| Kind::of(found).is_some()).map(|(at, _)| *at).collect();
        sites.sort_unstable();
        prop_assume!(!sites.is_empty());
        let Ok(found) = plan(&page, sites[site % sites.len()]) else { return Ok(()); };
        let (start, end) = (BASE + found.start as u64, BASE + found.end as u64);
        let place = Area::default().find(start, &found, room(&found)).expect("room");
        prop_assert!((PATCHES..PATCHES + PATCHES_LEN).contains(&place));
        let (code, steps) = relocate(&found, place, end, &never).expect("in reach");
        prop_assert!(code.len() <= room(&found));
        let bytes = jump(start, place).expect("in reach");
        for (offset, byte) in bytes.into_iter().enumerate().skip(1) {
            if page.instructions.contains_key(&(found.start + offset)) {
                prop_assert_eq!(byte, 0xf4);
            }
        }
        for moved in &found.instructions {
            let step = steps.iter().find(|step| step.rip == moved.ip()).expect("a step each");
            prop_assert_eq!(step.undo, Undo::Nothing);
            let now = Decoder::with_ip(64, &code[step.at..], place + step.at as u64, DecoderOptions::NONE).decode();
            match Kind::of(moved) {
                Some(_) => prop_assert!(now.op_count() > 0, "a plain access"),
                None if moved.is_call_near() => prop_assert_eq!(now.immediate(0), moved.next_ip()),
                None => {
                    prop_assert_eq!(now.mnemonic(), moved.mnemonic());
                    prop_assert_eq!(now.near_branch_target(), moved.near_branch_target());
                    prop_assert_eq!(now.memory_displacement64(), moved.memory_displacement64());
                }
            }
        }
        check_lengths(&found)?;
    }
}

fn check_lengths(found: &Plan) -> Result<(), TestCaseError> {
    let moved: usize = found.instructions.iter().map(Instruction::len).sum();
    prop_assert!(found.end - found.start >= JUMP.max(moved));
    Ok(())
}
