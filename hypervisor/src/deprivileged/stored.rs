//! What is known of an image's code as bytes, to be kept in a file from one process to the next. Nothing that a
//! file says is believed but what concerns the guest alone: where its code goes on, and what stands for it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::copies::{self, Own};
use super::learned::{Knowledge, Text};
use super::patching::Patching;
use crate::patch::{Area, Live, Patch, Policy, Site};

const PAGE: u64 = 4096;
/// Counts grow from here by what one run adds: far from where they would not fit any more.
const COUNT_LIMIT: u64 = 1 << 32;

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    text: Vec<Text>,
    #[serde(borrow)]
    copies: copies::Stored<'a>,
    patching: Option<StoredPatching>,
}

#[derive(Serialize, Deserialize)]
struct StoredPatching {
    policy: Policy,
    patches: Vec<Patch>,
    sites: BTreeMap<u64, Site>,
    executed_at: HashMap<u64, u64>,
    arrivals: HashMap<u64, usize>,
    is_tight: bool,
}

impl Knowledge {
    /// As bytes; `None` when it is too much.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let stored = Stored {
            text: self.text.clone(),
            copies: copies::Stored::of(&self.copies),
            patching: self.patching.as_ref().map(StoredPatching::of),
        };
        postcard::to_allocvec(&stored).ok()
    }

    /// Of bytes. `own` are the bytes that the image has in a frame. `None`: the bytes are damaged, or of another image.
    pub fn from_bytes(bytes: &[u8], own: impl Fn(u64) -> Option<Own>) -> Option<Self> {
        let stored: Stored<'_> = postcard::from_bytes(bytes).ok()?;
        let patching = match stored.patching {
            Some(patching) => Some(patching.revive()?),
            None => None,
        };
        Some(Self {
            text: stored.text,
            copies: stored.copies.revive(own)?,
            patching,
        })
    }
}

impl StoredPatching {
    fn of(patching: &Patching) -> Self {
        Self {
            policy: patching.policy(),
            patches: patching.live.iter().cloned().collect(),
            sites: patching.sites.clone(),
            executed_at: patching.executed_at.clone(),
            arrivals: patching.arrivals.clone(),
            is_tight: patching.is_tight,
        }
    }

    fn revive(self) -> Option<Patching> {
        let is_few = |count: u64| count < COUNT_LIMIT;
        let sites = self.sites.values();
        let are_sites = sites
            .clone()
            .all(|site| is_few(site.traps) && is_few(site.wait));
        let are_arrivals = self.arrivals.values().all(|count| is_few(*count as u64));
        if !are_sites || !are_arrivals || !self.patches.iter().all(is_patch) {
            return None;
        }
        let mut patching = Patching::new(self.policy);
        patching.area = Area::with(&self.patches, !self.is_tight)?;
        patching.is_tight = self.is_tight;
        patching.live = Live::with(self.patches);
        patching.sites = self.sites;
        patching.executed_at = self.executed_at;
        patching.arrivals = self.arrivals;
        Some(patching)
    }
}

/// Whether a patch is of a range in one page.
fn is_patch(patch: &Patch) -> bool {
    let is_in_page = |end: u64| (patch.start..=patch.start | (PAGE - 1)).contains(&(end - 1));
    patch.frame.is_multiple_of(PAGE)
        && patch.end > patch.start
        && is_in_page(patch.end)
        && patch.steps.iter().all(|step| step.at < patch.code.len())
}
