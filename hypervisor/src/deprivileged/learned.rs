//! What a run has learned of an image's code, for the next machine that boots the same image: what is code, and
//! which of it is patched, where to. Nothing is believed: the code has to be the same, byte for byte, where the
//! processor executes it.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::copies::Copies;
use super::patching::Patching;
use super::{Deprivileged, layout};
use crate::error::HostError;
use crate::memory::Memory;

const PAGE: u64 = 4096;

/// What machines learn of an image's code, shared by those that boot it one after another (or side by side) in
/// mode `trap` or `patch`. The first one follows the code as it executes it; those that begin after its end know
/// the code already, if it is the same.
#[derive(Clone, Debug, Default)]
pub struct Learned(Arc<Mutex<Option<Arc<Knowledge>>>>);

impl Learned {
    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.get().is_none()
    }

    pub(crate) fn get(&self) -> Option<Arc<Knowledge>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, knowledge: Knowledge) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(knowledge));
    }
}

/// Code of an image that nobody may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Guest-physical.
    pub frames: Range<u64>,
    /// The linear address of its first byte.
    pub linear: u64,
}

impl Text {
    /// Where one of its frames is executed.
    fn linear_of(&self, frame: u64) -> Option<u64> {
        let is_here = self.frames.contains(&frame);
        is_here.then(|| self.linear.wrapping_add(frame - self.frames.start))
    }
}

/// What one machine knew of an image's code at its end.
#[derive(Debug)]
pub struct Knowledge {
    pub(super) text: Vec<Text>,
    pub(super) copies: Copies,
    /// In mode `patch`.
    pub(super) patching: Option<Patching>,
    /// The image, if it is part of this program.
    pub(super) built_in: Option<&'static [u8]>,
}

impl Deprivileged {
    /// What is known of the image's code now, if it is more than at the beginning.
    pub fn knowledge(&self) -> Option<Knowledge> {
        let news = self.patching.as_ref().map_or(0, Patching::news);
        if self.copies.counts().instructions == 0 && news == 0 {
            return None;
        }
        let is_text = |frame| {
            self.image_text
                .iter()
                .any(|text| text.frames.contains(&frame))
        };
        let image = self.image.start & !(PAGE - 1)..self.image.end;
        let is_image = |frame| image.contains(&frame);
        // What it names elsewhere may be something else in another machine.
        if !self.copies.named_frames().all(is_image) {
            return None;
        }
        Some(Knowledge {
            text: self.image_text.clone(),
            copies: self.copies.of_frames(is_text),
            patching: self
                .patching
                .as_ref()
                .map(|patching| patching.of_frames(is_text)),
            built_in: self.built_in.as_ref().map(|image| image.image),
        })
    }

    /// Know what another machine learned, where the code is the same.
    ///
    /// # Errors
    /// [`HostError`], when it cannot be written.
    pub(super) fn recall(&mut self, memory: &Memory) -> Result<(), HostError> {
        let Some(known) = self.learned.take() else {
            return Ok(());
        };
        // What is patched is a policy's own: with `Policy::Never` nothing may be.
        let policy = |patching: &Option<Patching>| patching.as_ref().map(Patching::policy);
        if policy(&known.patching) != policy(&self.patching) || !self.is_same(memory, &known) {
            return Ok(());
        }
        self.copies.recall(&known.copies);
        self.copies.write_back(memory)?;
        // What it has no copies of was never executed: that is copied page by page, if at all.
        self.text.clear();
        if let (Some(own), Some(theirs)) = (&mut self.patching, &known.patching) {
            *own = theirs.clone();
            own.put(memory)?;
        }
        let frames: Vec<u64> = self.copies.originals().map(|(frame, _)| frame).collect();
        for frame in frames {
            self.frame_changed(memory, frame);
        }
        Ok(())
    }

    /// Whether the code is that which another machine has learned: the same bytes at the same places, or of the one
    /// image that is part of this program, which has just been loaded.
    fn is_same(&self, memory: &Memory, known: &Knowledge) -> bool {
        let images = self.built_in.as_ref().zip(known.built_in);
        if images.is_some_and(|(own, theirs)| std::ptr::eq(own.image, theirs)) {
            return known.text == self.image_text;
        }
        let mut here = [0; PAGE as usize];
        let mut is_same = |frame: u64, bytes: &[u8; PAGE as usize]| {
            let linear = known.text.iter().find_map(|text| text.linear_of(frame));
            linear.is_some_and(|at| self.frame_of(memory, at) == Some(frame))
                && memory.get(frame, &mut here)
                && here == *bytes
        };
        let mut pages = known.copies.originals();
        known.text == self.image_text && pages.all(|(frame, bytes)| is_same(frame, bytes))
    }
}

impl Patching {
    /// These patches for another machine, of chosen frames alone.
    fn of_frames(&self, is_chosen: impl Fn(u64) -> bool) -> Self {
        let mut chosen = self.clone();
        chosen.keep(is_chosen);
        chosen
    }

    /// Put the patches' code into the machine.
    fn put(&self, memory: &Memory) -> Result<(), HostError> {
        // They are one after another, from the first one on.
        let first = layout::phys(layout::PATCH_CODE.start);
        memory.populate(first, self.area_pages().count() as u64 * PAGE);
        for (linear, phys) in self.area_pages() {
            memory.put(
                layout::patch_entry(linear),
                &super::patching::entry_of(phys),
            )?;
        }
        for patch in self.live.iter() {
            self.put_code(memory, patch)?;
        }
        Ok(())
    }
}
