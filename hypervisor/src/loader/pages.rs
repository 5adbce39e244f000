//! What an image has in a page, once it is loaded.

use super::address::PAGE;
use super::{Image, Plan};

/// An image, and where it is loaded. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The image.
    pub image: Image,
    /// Where it is loaded.
    pub plan: Plan,
}

impl Placed {
    /// [`Plan::page`] of an image that is part of this program, where it stays.
    pub fn built_in_page(&self, frame: u64) -> Option<&'static [u8; 4096]> {
        self.plan.page(self.image.built_in()?, frame)
    }

    /// Whether a frame has these bytes once the image is loaded. Those of [`Placed::built_in_page`] it has.
    pub fn has(&self, frame: u64, bytes: &[u8; 4096]) -> bool {
        match self.plan.page(&self.image, frame) {
            Some(page) => std::ptr::eq(page, bytes) || page == bytes,
            None => self.padded_page(frame).is_some_and(|page| page == *bytes),
        }
    }

    /// [`Plan::padded_page`].
    pub fn padded_page(&self, frame: u64) -> Option<[u8; 4096]> {
        self.plan.padded_page(&self.image, frame)
    }

    /// [`Plan::read`].
    pub fn read(&self, at: u64, into: &mut [u8]) -> bool {
        self.plan.read(&self.image, at, into)
    }
}

impl Plan {
    /// The bytes of an image that are loaded into a frame. `None` where the frame is not all the image's.
    pub fn page<'a>(&self, image: &'a [u8], frame: u64) -> Option<&'a [u8; 4096]> {
        self.segments.iter().find_map(|segment| {
            let bytes = image.get(segment.file.clone())?;
            let at = usize::try_from(frame.checked_sub(segment.phys)?).ok()?;
            bytes.get(at..)?.first_chunk()
        })
    }

    /// As [`Plan::page`], with zeros where nothing is loaded. `None`: nothing of the frame is the image's.
    pub fn padded_page(&self, image: &[u8], frame: u64) -> Option<[u8; 4096]> {
        let mut page = [0; PAGE as usize];
        let is_there = self.read(image, frame, &mut page);
        is_there.then_some(page)
    }

    /// Read some bytes of what [`Plan::padded_page`] is. False where that is nothing, or they are of two pages.
    pub fn read(&self, image: &[u8], at: u64, into: &mut [u8]) -> bool {
        self.try_read(image, at, into).unwrap_or(false)
    }

    fn try_read(&self, image: &[u8], at: u64, into: &mut [u8]) -> Option<bool> {
        let frame = at.saturating_sub(at % PAGE);
        let page = frame..frame.checked_add(PAGE)?;
        let wanted = at..at.checked_add(into.len() as u64)?;
        if wanted.end > page.end {
            return None;
        }
        into.fill(0);
        let mut is_there = false;
        for segment in &self.segments {
            let bytes = image.get(segment.file.clone())?;
            let range = segment.phys..segment.phys.checked_add(bytes.len() as u64)?;
            is_there |= range.start.max(page.start) < range.end.min(page.end);
            let (start, end) = (range.start.max(wanted.start), range.end.min(wanted.end));
            if start < end {
                let distance = |from: u64, to: u64| usize::try_from(to.checked_sub(from)?).ok();
                let from = distance(range.start, start)?..distance(range.start, end)?;
                let to = distance(wanted.start, start)?..distance(wanted.start, end)?;
                into.get_mut(to)?.copy_from_slice(bytes.get(from)?);
            }
        }
        Some(is_there)
    }
}

#[cfg(test)]
mod tests {
    use crate::loader::elf::Access;
    use crate::loader::{Plan, Segment};

    #[test]
    fn a_page_is_of_one_segment_or_padded() {
        let image: Vec<u8> = (0..0x3000u32).map(|at| (at / 16) as u8 | 1).collect();
        let segment = |phys, file| Segment {
            index: 0,
            virt: phys,
            phys,
            file,
            mem_len: 0x4000,
            flags: Access {
                read: true,
                write: false,
                execute: true,
            },
        };
        let plan = Plan {
            entry: 0,
            segments: vec![
                segment(0x10_0800, 0x800..0x2000),
                segment(0x10_2400, 0x2400..0x2500),
            ],
        };
        let whole = plan.page(&image, 0x10_1000).unwrap();
        assert_eq!(whole[..], image[0x1000..0x2000]);
        assert_eq!(plan.padded_page(&image, 0x10_1000), Some(*whole));
        for (frame, own) in [(0x10_0000, 0x800..0x1000), (0x10_2000, 0x400..0x500)] {
            assert_eq!(plan.page(&image, frame), None);
            let page = plan.padded_page(&image, frame).unwrap();
            let mut some = [0xff; 0x30];
            assert!(plan.read(&image, frame + 0x3f0, &mut some));
            assert_eq!(some, page[0x3f0..0x420]);
            assert!(!plan.read(&image, frame + 0xff0, &mut some));
            let at = (frame - 0x10_0000) as usize;
            for (offset, byte) in page.into_iter().enumerate() {
                let is_own = own.contains(&offset);
                assert_eq!(byte, if is_own { image[at + offset] } else { 0 });
            }
        }
        for frame in [0, 0xf_f000, 0x10_3000, !0xfff] {
            assert_eq!(plan.page(&image, frame), None);
            assert_eq!(plan.padded_page(&image, frame), None);
            assert!(!plan.read(&image, frame, &mut [0]));
        }
    }
}
