//! Which memory the kernel may use: all of it, less what the hypervisor put something into.

use hypercall_abi::boot::{BootInfo, MAX_RANGES, Range};
use hypercall_abi::layout::LOW_END;
use hypercall_abi::types::PAGE_SIZE;

use super::direct::MEMORY_END;

/// Low memory, the kernel and the initial ramdisk.
const RESERVED: usize = 3;

/// Each reserved range can split one range of memory in two.
pub const MAX_SPANS: usize = MAX_RANGES + RESERVED;

/// A short list of ranges; it drops what does not fit.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    ranges: [Range; MAX_SPANS],
    count: usize,
}

impl Spans {
    /// Add a range, if it is not empty.
    pub fn push(&mut self, start: u64, end: u64) {
        if let (true, Some(place)) = (start < end, self.ranges.get_mut(self.count)) {
            let len = end - start;
            *place = Range { start, len };
            self.count += 1;
        }
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.ranges.iter().take(self.count)
    }

    /// The ranges, to be shortened.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Range> {
        self.ranges.iter_mut().take(self.count)
    }

    /// The ranges without what lies in `hole`.
    fn without(&self, hole: &Range) -> Self {
        let mut rest = Self::default();
        for range in self.iter() {
            rest.push(range.start, range.end().min(hole.start));
            rest.push(range.start.max(hole.end()), range.end());
        }
        rest
    }
}

/// The usable memory that the boot information describes, in whole pages.
pub fn usable(info: &BootInfo) -> Spans {
    let count = usize::try_from(info.memory_ranges).unwrap_or(MAX_RANGES);
    let mut all = Spans::default();
    for range in info.memory.iter().take(count) {
        let pages = pages_inside(range);
        all.push(pages.start, pages.end());
    }
    let low = Range {
        start: 0,
        len: LOW_END,
    };
    [low, whole_pages(&info.kernel), whole_pages(&info.initrd)]
        .iter()
        .filter(|hole| hole.len > 0)
        .fold(all, |rest, hole| rest.without(hole))
}

/// The whole pages inside a range of memory that the direct map has room for.
pub fn pages_inside(range: &Range) -> Range {
    let start = range.start.checked_next_multiple_of(PAGE_SIZE);
    let start = start.map_or(MEMORY_END, |start| start.min(MEMORY_END));
    let end = range.end().min(MEMORY_END);
    let len = (end - end % PAGE_SIZE).saturating_sub(start);
    Range { start, len }
}

/// The smallest range of pages around a range; an empty one stays empty.
fn whole_pages(range: &Range) -> Range {
    let start = range.start - range.start % PAGE_SIZE;
    let end = range
        .end()
        .checked_next_multiple_of(PAGE_SIZE)
        .unwrap_or(u64::MAX);
    let len = if range.len == 0 { 0 } else { end - start };
    Range { start, len }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::vec::Vec;

    /// Boot information of nothing.
    pub fn empty_info() -> BootInfo {
        let none = Range::default();
        BootInfo {
            magic: hypercall_abi::boot::MAGIC,
            abi_version: hypercall_abi::boot::ABI_VERSION,
            memory_ranges: 0,
            features: 0,
            memory: [none; MAX_RANGES],
            kernel: none,
            initrd: none,
            command_line: none,
            root: 0,
            shared: 0,
            kernel_view: 0,
            user_view: 0,
            apic_timer_hz: 0,
            tsc_khz: 0,
            interactive: 0,
        }
    }

    fn range(start: u64, end: u64) -> Range {
        Range {
            start,
            len: end - start,
        }
    }

    fn bounds(spans: &Spans) -> Vec<(u64, u64)> {
        spans.iter().map(|r| (r.start, r.end())).collect()
    }

    #[test]
    fn reserved_memory_is_cut_out_in_whole_pages() {
        let mut info = empty_info();
        info.memory_ranges = 2;
        info.memory[0] = range(0, 16 << 20);
        info.memory[1] = range(1 << 32, (1 << 32) + 0x10_0800);
        info.kernel = range(0x20_0000, 0x26_0800);
        info.initrd = range(0xf0_0001, 0xf0_0002);
        let expected = [
            (LOW_END, 0x20_0000),
            (0x26_1000, 0xf0_0000),
            (0xf0_1000, 0x100_0000),
            (1 << 32, (1 << 32) + 0x10_0000),
        ];
        assert_eq!(bounds(&usable(&info)), expected);
    }

    #[test]
    fn a_senseless_map_yields_nothing_rather_than_a_panic() {
        let mut info = empty_info();
        assert_eq!(bounds(&usable(&info)), []);
        info.memory_ranges = u32::MAX;
        info.memory = [range(u64::MAX - 5, u64::MAX); MAX_RANGES];
        info.kernel = range(7, u64::MAX);
        info.initrd = range(u64::MAX - 1, u64::MAX);
        assert_eq!(bounds(&usable(&info)), []);
    }
}
