//! An image that is part of this program: its bytes stay where they are.

use super::Plan;

const PAGE: u64 = 4096;

/// An image that is part of this program, and where it is loaded.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    /// The image.
    pub image: &'static [u8],
    /// Where it is loaded.
    pub plan: Plan,
}

impl BuiltIn {
    /// The page that is loaded into a frame. `None` where that is not all the image's.
    pub fn page(&self, frame: u64) -> Option<&'static [u8; 4096]> {
        self.plan.segments.iter().find_map(|segment| {
            let bytes = self.image.get(segment.file.clone())?;
            let at = usize::try_from(frame.checked_sub(segment.phys)?).ok()?;
            bytes.get(at..)?.first_chunk()
        })
    }

    /// The page that is loaded into a frame, zeros where nothing is. `None`: nothing of it is the image's.
    pub fn padded_page(image: &[u8], plan: &Plan, frame: u64) -> Option<[u8; 4096]> {
        let pages = frame..frame.checked_add(PAGE)?;
        let mut page = None;
        for segment in &plan.segments {
            let bytes = image.get(segment.file.clone())?;
            let range = segment.phys..segment.phys.checked_add(bytes.len() as u64)?;
            let (start, end) = (range.start.max(pages.start), range.end.min(pages.end));
            if start < end {
                let distance = |from: u64, to: u64| usize::try_from(to.checked_sub(from)?).ok();
                let from = distance(range.start, start)?..distance(range.start, end)?;
                let to = distance(pages.start, start)?..distance(pages.start, end)?;
                let page = page.get_or_insert([0; PAGE as usize]);
                page.get_mut(to)?.copy_from_slice(bytes.get(from)?);
            }
        }
        page
    }
}
