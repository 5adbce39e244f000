//! Accessed and dirty bits (SDM vol. 3, 4.8).

use super::entry::{ACCESSED, DIRTY};
use super::{Physical, Translation};

/// Set the accessed bit of every entry on a path, and the dirty bit of the last if the access is a
/// `write`; the translation has the new values afterwards. Bits that are set are not written again.
///
/// `false` when an entry is not what the walk saw: somebody has changed the tables meanwhile, and
/// the access begins anew. What was marked until then stays, as a processor may leave it.
#[must_use]
pub fn mark(memory: &impl Physical, translation: &mut Translation, write: bool) -> bool {
    let steps = translation.path.steps_mut();
    let last = steps.len().saturating_sub(1);
    for (depth, step) in steps.iter_mut().enumerate() {
        let dirty = if write && depth == last { DIRTY } else { 0 };
        let wanted = ACCESSED | dirty;
        if step.value & wanted == wanted {
            continue;
        }
        // A table that maps itself has an entry on the path twice: read it again.
        let now = memory.read_word(step.at).unwrap_or(0);
        let is_same = (now ^ step.value) & !(ACCESSED | DIRTY) == 0;
        if !is_same || (now & wanted != wanted && !memory.write_word(step.at, now, now | wanted)) {
            return false;
        }
        step.value = now | wanted;
    }
    translation.dirty |= write;
    true
}
