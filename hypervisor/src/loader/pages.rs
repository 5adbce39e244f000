//! What an image has in a page, once it is loaded.

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
    /// [`Plan::page`], where it stays.
    pub fn page(&self, frame: u64) -> Option<&'static [u8; 4096]> {
        self.plan.page(self.image, frame)
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
        let pages = frame..frame.checked_add(PAGE)?;
        let mut page = None;
        for segment in &self.segments {
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
            let at = (frame - 0x10_0000) as usize;
            for (offset, byte) in page.into_iter().enumerate() {
                let is_own = own.contains(&offset);
                assert_eq!(byte, if is_own { image[at + offset] } else { 0 });
            }
        }
        for frame in [0, 0xf_f000, 0x10_3000, !0xfff] {
            assert_eq!(plan.page(&image, frame), None);
            assert_eq!(plan.padded_page(&image, frame), None);
        }
    }
}
