//! Makes a patch of a site in the copies of code. No machine is needed: what it has to be told is left to the caller.

use super::copies::Copies;
use super::is_silent;
use super::patching::Patching;
use crate::patch::{self, Kind, Patch, Policy, Refusal, Site, State};

const PAGE: u64 = 4096;

/// Why a site is to be patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It was found.
    Found,
    /// It trapped often enough.
    Trapped,
}

/// What a new patch asks of the machine, beside its code.
#[derive(Clone, Debug)]
pub struct Made {
    /// New pages of the area: linear and guest-physical address.
    pub pages: Vec<(u64, u64)>,
    /// The frame, if it is the first patch there: nobody may execute it at another linear page any more.
    pub first_of: Option<u64>,
}

impl Patching {
    /// Patch a site, if it can be. Its code is still to be put into the machine, and the copy to be written.
    pub fn attempt(
        &mut self,
        copies: &mut Copies,
        frame: Option<u64>,
        (at, kind): (u64, Kind),
        when: When,
    ) -> Option<Made> {
        // Until it traps nobody knows whether it is executed at all.
        let may_wait = when == When::Found && self.policy() != Policy::Eager;
        let made = frame.ok_or(Refusal::Neighbour);
        let refusal = match made.and_then(|frame| self.make(copies, frame, at, may_wait)) {
            Ok(made) => return Some(made),
            Err(_) if may_wait => return None,
            Err(refusal) => refusal,
        };
        let site = self.sites.entry(at).or_insert(Site::new(kind));
        site.state = State::Trapping(Some(refusal));
        site.wait = (site.wait * 2).clamp(1, 1 << 20);
        None
    }

    fn make(
        &mut self,
        copies: &mut Copies,
        frame: u64,
        at: u64,
        may_wait: bool,
    ) -> Result<Made, Refusal> {
        let linear = at & !(PAGE - 1);
        let code = copies.code(frame, linear).ok_or(Refusal::Neighbour)?;
        if self.sites.get(&at).is_some_and(|site| site.is_barred) {
            return Err(Refusal::Changed);
        }
        let known = self.executed_at.get(&frame);
        if known.is_some_and(|page| *page != linear) {
            return Err(Refusal::Alias);
        }
        let plan = patch::plan(&code, (at % PAGE) as usize)?;
        // Each arrival would trap.
        if may_wait && plan.arrivals > 0 {
            return Err(Refusal::Arrival);
        }
        let start = linear + plan.start as u64;
        let end = linear + plan.end as u64;
        let room = patch::room(&plan);
        let mut place = self.area.find(start, &plan, room).inspect_err(|refusal| {
            self.is_tight |= *refusal == Refusal::Full && self.area.is_shared();
        })?;
        let (mut code, mut steps) = patch::relocate(&plan, place, end, &is_silent)?;
        if code.len() > room && !self.area.is_free(place, code.len()) {
            place = self.area.find(start, &plan, code.len())?;
            (code, steps) = patch::relocate(&plan, place, end, &is_silent)?;
        }
        let jump = patch::jump(start, place)?;
        let pages = self.area.take(place, &code);
        let sites = plan.instructions.iter();
        let sites = sites.filter_map(|found| Some((found.ip(), Kind::of(found)?)));
        let before = copies.original(frame, plan.start, plan.end);
        let patch = Patch {
            start,
            end,
            frame,
            at: place,
            code,
            steps,
            sites: sites.collect(),
            before: before.unwrap_or_default().to_vec(),
        };
        copies.patch(frame, (plan.start, plan.end), jump);
        for (at, kind) in &patch.sites {
            let site = self.sites.entry(*at).or_insert(Site::new(*kind));
            site.state = State::Patched;
        }
        self.live.add(patch);
        self.learned_more();
        let is_first = self.executed_at.insert(frame, linear).is_none();
        Ok(Made {
            pages,
            first_of: is_first.then_some(frame),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::deprivileged::copies::{Ground, Own};
    use crate::patch::Area;

    const LINEAR: u64 = 0xffff_ffff_8010_0000;
    const FRAME: u64 = 0x10_0000;
    /// `pushf; pop rax; cli; nop; ret`: three bytes of the jump are given, so there is one place.
    const CODE: [u8; 7] = [0x9c, 0x58, 0xfa, 0x0f, 0x1f, 0, 0xc3];

    fn copies() -> Copies {
        copies_of(&CODE)
    }

    fn copies_of(code: &[u8]) -> Copies {
        let mut page = [0; PAGE as usize];
        page[..code.len()].copy_from_slice(code);
        let mut copies = Copies::default();
        copies.discover(
            Ground {
                read: &|_, _| false,
                pointer_at: &|_| None,
                frame_at: &mut |at| (at == LINEAR).then_some(FRAME),
                is_silent: &is_silent,
                begin: &|_| Some(Own::Kept(Arc::new(page))),
            },
            LINEAR,
        );
        copies
    }

    #[test]
    fn what_begins_behind_the_jump_stays_for_who_arrives_there() {
        // pushf; pop rax; test eax, 0x200; je +1; cli; ret
        let code = [0x9c, 0x58, 0xa9, 0, 2, 0, 0, 0x74, 1, 0xfa, 0xc3];
        let mut copies = copies_of(&code);
        let mut patching = Patching::new(Policy::default());
        let site = (LINEAR, Kind::Pushf);
        let made = patching.attempt(&mut copies, Some(FRAME), site, When::Found);
        assert!(made.is_some());
        let patch = patching.live.of(LINEAR).expect("a patch");
        assert_eq!((patch.end, patch.sites.len()), (LINEAR + 10, 2));
        let executed = copies.executed(FRAME).expect("a copy");
        assert_eq!(executed[0], 0xe9);
        // The end of what the jump covers in part, and what comes behind.
        assert_eq!(executed[5..7], [0xf4; 2]);
        assert_eq!(executed[7..11], code[7..11]);
    }

    /// Patch the site where these patches are already; whether there was room, and the patches.
    fn patched(area: Area) -> (bool, Patching) {
        let mut patching = Patching::new(Policy::Eager);
        patching.area = area;
        let site = (LINEAR, Kind::Pushf);
        let made = patching.attempt(&mut copies(), Some(FRAME), site, When::Trapped);
        (made.is_some(), patching)
    }

    #[test]
    fn who_finds_the_only_place_taken_for_pages_share_frames_has_them_apart_from_then_on() {
        let (is_made, patching) = patched(Area::default());
        let place = patching.live.of(LINEAR).expect("a patch").at;
        assert!(is_made && !patching.is_tight);
        // One in the same page, elsewhere; and one in the next page, at the same offset.
        let other = |at: u64| Patch {
            at,
            ..patching.live.of(LINEAR).expect("a patch").clone()
        };
        let others = [other(place ^ 0x800), other(place + PAGE)];
        let shared = Area::with(&others, true).expect("they are apart");
        assert!(shared.is_shared());
        let (is_made, patching) = patched(shared);
        assert!(!is_made && patching.is_tight);
        let (is_made, patching) = patched(Area::with(&others, false).expect("as before"));
        assert!(is_made && !patching.is_tight);
    }
}
