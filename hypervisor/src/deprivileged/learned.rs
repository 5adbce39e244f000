//! What a run has learned of an image's code, for the next machine that boots the same image: what is code, and
//! which of it is patched, where to. Nothing is believed: the code has to be the same, byte for byte, where the
//! processor executes it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::copies::Copies;
use super::patching::Patching;
use super::{Deprivileged, layout};
use crate::error::HostError;
use crate::memory::Memory;
use crate::patch::{Area, Patch};

const PAGE: u64 = 4096;

/// What machines learn of an image's code, shared by those that boot it one after another (or side by side) in
/// mode `trap` or `patch`. The first one follows the code as it executes it; those that begin after its end know
/// the code already, if it is the same.
#[derive(Clone, Debug, Default)]
pub struct Learned(Arc<Mutex<Source>>);

/// Where knowledge is.
#[derive(Default)]
enum Source {
    /// Nowhere.
    #[default]
    None,
    /// Somewhere else: how to get it.
    Elsewhere(Box<dyn FnOnce() -> Option<Knowledge> + Send>),
    /// Here. `is_new`: it was learned since it was read.
    Here { known: Arc<Knowledge>, is_new: bool },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Elsewhere(_) => "Elsewhere",
            Self::Here { .. } => "Here",
        })
    }
}

impl Learned {
    /// What is read when somebody asks.
    pub(crate) fn elsewhere(read: impl FnOnce() -> Option<Knowledge> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Source::Elsewhere(Box::new(read)))))
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.get().is_none()
    }

    /// What is known; it is read now if it was not.
    pub(crate) fn get(&self) -> Option<Arc<Knowledge>> {
        let mut source = self.lock();
        *source = match std::mem::take(&mut *source) {
            Source::Elsewhere(read) => match read().map(Arc::new) {
                Some(known) => Source::Here {
                    known,
                    is_new: false,
                },
                None => Source::None,
            },
            other => other,
        };
        here(&source)
    }

    /// What is known and need not be read.
    pub(crate) fn here(&self) -> Option<Arc<Knowledge>> {
        here(&self.lock())
    }

    /// What was learned since what is kept was read, if anything was.
    pub(crate) fn news(&self) -> Option<Arc<Knowledge>> {
        match &*self.lock() {
            Source::Here {
                known,
                is_new: true,
            } => Some(Arc::clone(known)),
            _ => None,
        }
    }

    pub(crate) fn set(&self, knowledge: Knowledge) {
        *self.lock() = Source::Here {
            known: Arc::new(knowledge),
            is_new: true,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn here(source: &Source) -> Option<Arc<Knowledge>> {
    match source {
        Source::Here { known, .. } => Some(Arc::clone(known)),
        Source::None | Source::Elsewhere(_) => None,
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

/// What one machine knew of an image's code at its end, or what the image's bytes say (`Study`). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Knowledge {
    pub(super) text: Vec<Text>,
    pub(super) copies: Copies,
    /// In mode `patch`.
    pub(super) patching: Option<Patching>,
}

impl Knowledge {
    /// Put what is known into the memory of a machine, as far as it is not there already.
    ///
    /// # Errors
    /// [`HostError`], when it cannot be written.
    pub(super) fn put(&mut self, memory: &Memory) -> Result<(), HostError> {
        self.copies.write_back(memory)?;
        match &mut self.patching {
            Some(patching) => patching.put(memory),
            None => Ok(()),
        }
    }
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
        })
    }

    /// Know what is known of the image from the start.
    ///
    /// # Errors
    /// [`HostError`], when it cannot be written.
    pub(super) fn recall(&mut self, memory: &Memory) -> Result<(), HostError> {
        let Some(mut known) = self.learned.take() else {
            return Ok(());
        };
        known.put(memory)?;
        self.copies.recall(known.copies);
        if let (Some(own), Some(theirs)) = (&mut self.patching, known.patching) {
            *own = theirs;
        }
        let frames: Vec<u64> = self.copies.originals().map(|(frame, _)| frame).collect();
        for frame in frames {
            self.frame_changed(memory, frame);
        }
        Ok(())
    }
}

impl Patching {
    /// These patches for another machine, of chosen frames alone.
    fn of_frames(&self, is_chosen: impl Fn(u64) -> bool) -> Self {
        let mut chosen = self.clone();
        chosen.keep(is_chosen);
        let patches: Vec<Patch> = chosen.live.iter().cloned().collect();
        // What is gone left room.
        if let Some(area) = Area::with(&patches, !chosen.is_tight) {
            chosen.area = area;
        }
        chosen.is_put = false;
        chosen
    }

    /// Put the patches' code into the machine, unless it is there.
    fn put(&mut self, memory: &Memory) -> Result<(), HostError> {
        if self.is_put {
            return Ok(());
        }
        // They are one after another, from the first one on.
        let first = layout::phys(layout::PATCH_CODE.start);
        memory.populate(first, self.area.frames() * PAGE);
        for (linear, phys) in self.area_pages() {
            memory.put(
                layout::patch_entry(linear),
                &super::patching::entry_of(phys),
            )?;
        }
        self.area
            .bytes()
            .try_for_each(|(phys, bytes)| memory.put(phys, bytes))?;
        self.is_put = true;
        Ok(())
    }
}
