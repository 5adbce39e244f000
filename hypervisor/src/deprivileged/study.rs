//! What is known of an image's code before its machine is there: read from where it is kept, or found in the image's
//! bytes, by a thread, while KVM makes the machine. The code is followed from the entry, and patched where that is done
//! ahead of the first trap: so a first run begins as a later one does. The thread puts copies and patches into the machine's
//! memory, too. Called by `Vm::new`.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use hypercall_abi::Mode;
use iced_x86::{Decoder, DecoderOptions};

use super::copies::{Copies, Ground, Own};
use super::is_silent;
use super::learned::{Knowledge, Learned, Text};
use super::making::When;
use super::patching::Patching;
use crate::beside;
use crate::config::Config;
use crate::loader::{self, Placed, Plan, Segment, Symbols};
use crate::memory::Memory;
use crate::patch::Policy;

const PAGE: u64 = 4096;
/// How long a thread is waited for without sleep.
const SOON: Duration = Duration::from_millis(1);

/// Knowledge of an image that is there, or on its way.
#[derive(Debug)]
pub enum Study {
    /// It is there, if there is any.
    Known(Option<Arc<Knowledge>>),
    /// A thread is at it, which waits for the machine's memory.
    Begun(Task, Sender<Memory>, Receiver<Knowledge>),
}

/// What is to be known.
#[derive(Clone, Debug)]
pub struct Task {
    image: Arc<Placed>,
    /// In mode `patch`.
    policy: Option<Policy>,
    learned: Learned,
}

impl Study {
    /// Begin with a configuration's image, unless all is known. What is no image, the loader refuses.
    pub fn begin(config: &Config) -> Self {
        let Ok(plan) = loader::plan(&config.image) else {
            return Self::Known(None);
        };
        let image = config.image.clone();
        let task = Task {
            image: Arc::new(Placed { image, plan }),
            policy: (config.mode == Mode::Patch).then_some(config.patch),
            learned: config.learned.clone().unwrap_or_default(),
        };
        if let Some(known) = task.learned.here().filter(|known| task.is_of(known)) {
            static ONCE: Once = Once::new();
            // Without a thread the first use makes them.
            ONCE.call_once(|| drop(beside::spawn("decoder", make_tables)));
            return Self::Known(Some(known));
        }
        let (send, known) = mpsc::channel();
        let (give, memory) = mpsc::channel();
        let own = task.clone();
        // Without a thread nothing is sent.
        let _ = beside::spawn("study", move || {
            let mut known = own.done();
            // The machine may have failed meanwhile.
            if let Ok(memory) = memory.recv() {
                // What could not be put there, the machine puts there itself, and says why it cannot.
                let _ = known.put(&memory);
                let _ = send.send(known);
            }
            make_tables();
        });
        Self::Begun(task, give, known)
    }

    /// What is known is to be put into a machine's memory, which nobody uses yet.
    pub fn put_into(&self, memory: &Memory) {
        if let Self::Begun(_, give, _) = self {
            // The thread may have failed: then nothing is sent.
            let _ = give.send(memory.clone());
        }
    }

    /// What is known. Waits until it is, and in the machine's memory.
    pub fn end(self) -> Option<Knowledge> {
        match self {
            Self::Known(known) => known.map(|known| Knowledge::clone(&known)),
            Self::Begun(task, give, known) => {
                // Nobody waits for what was not given.
                drop(give);
                let begun = Instant::now();
                // To be woken takes longer than is mostly left.
                let there = loop {
                    match known.try_recv() {
                        Err(TryRecvError::Empty) if begun.elapsed() < SOON => thread::yield_now(),
                        Err(TryRecvError::Empty) => break known.recv().ok(),
                        there => break there.ok(),
                    }
                };
                Some(there.unwrap_or_else(|| task.done()))
            }
        }
    }
}

impl Task {
    fn is_of(&self, known: &Knowledge) -> bool {
        self.image.is_of(known, self.policy)
    }

    fn done(&self) -> Knowledge {
        let known = self.learned.get().filter(|known| self.is_of(known));
        let known = known.map(|known| Knowledge::clone(&known));
        known.unwrap_or_else(|| self.image.study(self.policy))
    }
}

impl Placed {
    /// The bytes that the image has in a frame once it is loaded, if there are any.
    pub fn own(&self, frame: u64) -> Option<Own> {
        let whole = self.built_in_page(frame).map(Own::BuiltIn);
        let padded = || Some(Own::Kept(Arc::new(self.padded_page(frame)?)));
        whole.or_else(padded)
    }

    /// Whether knowledge is of this image, as it is with a policy: the same bytes at the same places.
    fn is_of(&self, known: &Knowledge, policy: Option<Policy>) -> bool {
        let mut pages = known.copies.originals();
        // What is patched is a policy's own: with `Policy::Never` nothing may be.
        known.patching.as_ref().map(Patching::policy) == policy
            && known.text == text_of(&self.plan)
            && pages.all(|(frame, bytes)| self.has(frame, bytes))
    }

    fn study(&self, policy: Option<Policy>) -> Knowledge {
        let text = text_of(&self.plan);
        let mut copies = Copies::default();
        self.follow(&mut copies, &text, self.plan.entry);
        if policy == Some(Policy::Eager) {
            for function in Symbols::read(&self.image).functions() {
                self.follow(&mut copies, &text, function);
            }
        }
        let found = copies.take_sites();
        // A machine asks for those that it makes itself.
        copies.take_made();
        let mut patching = policy.map(Patching::new);
        if let Some(patching) = patching.as_mut().filter(|patching| patching.is_ahead()) {
            // Each takes time to be backed with memory.
            patching.area.may_share = true;
            for (at, kind) in found {
                if patching.live.of(at).is_none() && patching.is_early(kind) {
                    patching.attempt(&mut copies, self.frame_at(at), (at, kind), When::Found);
                }
            }
            patching.area.may_share = false;
        }
        Knowledge {
            text,
            copies,
            patching,
        }
    }

    fn follow(&self, copies: &mut Copies, text: &[Text], from: u64) {
        let is_text = |frame| text.iter().any(|text| text.frames.contains(&frame));
        let read = |at: u64, bytes: &mut [u8]| self.read(at, bytes);
        let pointer_at = |at| {
            let mut pointer = [0; 8];
            let is_there = read(self.phys_of(at, |_| true)?, &mut pointer);
            is_there.then(|| u64::from_le_bytes(pointer))
        };
        let ground = Ground {
            read: &read,
            pointer_at: &pointer_at,
            frame_at: &mut |page| self.frame_at(page),
            is_silent: &is_silent,
            begin: &|frame| self.own(frame).filter(|_| is_text(frame)),
        };
        copies.discover(ground, from);
    }

    /// The frame that a linear address is executed from.
    fn frame_at(&self, at: u64) -> Option<u64> {
        self.phys_of(at & !(PAGE - 1), |segment| segment.flags.execute)
    }

    /// Where a linear address is in memory, of segments of a kind.
    fn phys_of(&self, at: u64, is_of_kind: impl Fn(&Segment) -> bool) -> Option<u64> {
        let mut segments = self
            .plan
            .segments
            .iter()
            .filter(|segment| is_of_kind(segment));
        segments.find_map(|segment| {
            let first = segment.virt & !(PAGE - 1);
            let is_here = (first..segment.virt.saturating_add(segment.mem_len)).contains(&at);
            is_here.then(|| (segment.phys & !(PAGE - 1)) + (at - first))
        })
    }
}

/// The code of an image that nobody may write.
pub fn text_of(plan: &Plan) -> Vec<Text> {
    let is_text = |segment: &&Segment| segment.flags.execute && !segment.flags.write;
    let text = plan.segments.iter().filter(is_text).map(|segment| {
        let range = segment.phys_range();
        Text {
            frames: range.start & !(PAGE - 1)..range.end,
            linear: segment.virt & !(PAGE - 1),
        }
    });
    text.collect()
}

/// Make the tables of decoder and classes: their first use in a process takes 1.4 ms and 0.2 ms.
fn make_tables() {
    let nothing = Decoder::new(64, &[], DecoderOptions::NONE).decode();
    is_silent(&nothing);
}

#[cfg(test)]
mod tests;
