//! Whether the tables of a qcow2 image agree with each other (QEMU, docs/interop/qcow2.rst), looked at
//! before an image is written to: each cluster in use is used once, and counted as used. Called by
//! [`super::image`].
//!
//! The crate imago trusts the tables. In an image where a disk's cluster is also one of the tables, what
//! a guest writes becomes a table, and imago 0.2.6 then recurses without end; so it does where the
//! refcount table has no room for the image itself. Such an image is refused.
//!
//! A process that was killed leaves clusters that are counted and not used, which is no harm, and with
//! imago 0.2.6 new tables that are used and not counted, which the next writer would take for free. The
//! latter are counted here: nothing else is ever mended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// The offset in an entry of the L1 table or an L2 table.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// An entry of an L2 table is of compressed clusters.
const COMPRESSED: u64 = 1 << 62;
/// How large tables may be, in bytes, as in QEMU.
const MOST_REFCOUNTS: u64 = 8 << 20;
const MOST_L1: u64 = 32 << 20;
/// How many clusters there may be at most: 128 TiB of the usual ones.
const MOST_CLUSTERS: u64 = 1 << 31;
/// How many clusters behind the file's end may be in use: such that were not written yet.
const BEHIND: u64 = 1 << 16;

/// Check it, and count what is not counted.
///
/// # Errors
/// `InvalidData`, which says what does not agree, or the file's.
pub(super) fn check(file: &File) -> io::Result<()> {
    let header = Header::read(file)?;
    let mut used = Used::of(file, &header)?;
    used.take(0)?;
    let counts = header.table(header.refcounts_at, header.refcounts_len, MOST_REFCOUNTS)?;
    used.take_all(header.clusters(&counts))?;
    let counts = read_table(file, &counts)?;
    for block in counts.iter().filter(|block| **block != 0) {
        used.take(header.cluster(*block)?)?;
    }
    let l1 = header.table(header.l1_at, header.l1_len, MOST_L1)?;
    used.take_all(header.clusters(&l1))?;
    let l1 = read_table(file, &l1)?;
    let l2s = || {
        l1.iter()
            .map(|entry| entry & OFFSET)
            .filter(|table| *table != 0)
    };
    // First all tables: then there are no more of them to read than the file has room for.
    for table in l2s() {
        used.take(header.cluster(table)?)?;
    }
    for table in l2s() {
        for entry in read_table(file, &(table..table + header.cluster_len()))? {
            used.take_entry(&header, entry)?;
        }
    }
    used.count(file, &header, &counts)
}

fn invalid(what: impl std::fmt::Display) -> io::Error {
    let mend = "`qemu-img check -r all` may mend it";
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the image is damaged: {what}; {mend}"),
    )
}

/// What is needed of the header.
struct Header {
    cluster_bits: u32,
    l1_at: u64,
    l1_len: u64,
    refcounts_at: u64,
    refcounts_len: u64,
    /// The width of a refcount, as a power of two of bits.
    refcount_order: u32,
}

impl Header {
    fn read(file: &File) -> io::Result<Header> {
        let mut bytes = [0; 104];
        // Version 2 ends after 72 bytes.
        file.read_exact_at(&mut bytes[..72], 0)?;
        let number = |at: usize, len: usize| {
            let bytes = bytes.get(at..at + len).unwrap_or_default();
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let cluster_bits = match number(20, 4) {
            bits @ 9..=21 => bits as u32,
            bits => return Err(invalid(format_args!("its clusters have 2^{bits} bytes"))),
        };
        let refcount_order = match number(4, 4) {
            2 => 4,
            _ => {
                let mut order = [0; 4];
                file.read_exact_at(&mut order, 96)?;
                u32::from_be_bytes(order)
            }
        };
        if refcount_order > 6 {
            return Err(invalid(format_args!(
                "its refcounts have 2^{refcount_order} bits"
            )));
        }
        Ok(Header {
            cluster_bits,
            l1_at: number(40, 8),
            l1_len: 8 * number(36, 4),
            refcounts_at: number(48, 8),
            refcounts_len: number(56, 4) << cluster_bits,
            refcount_order,
        })
    }

    fn cluster_len(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The cluster that starts at an offset.
    fn cluster(&self, at: u64) -> io::Result<u64> {
        match at.is_multiple_of(self.cluster_len()) {
            true => Ok(at >> self.cluster_bits),
            false => Err(invalid(format_args!("a cluster starts at {at:#x}"))),
        }
    }

    /// Where a table is.
    fn table(&self, at: u64, len: u64, most: u64) -> io::Result<Range<u64>> {
        self.cluster(at)?;
        let end = at.checked_add(len).filter(|_| len <= most);
        let end = end.ok_or_else(|| invalid(format_args!("a table has {len} bytes at {at:#x}")))?;
        Ok(at..end)
    }

    /// The clusters of a table.
    fn clusters(&self, table: &Range<u64>) -> Range<u64> {
        table.start >> self.cluster_bits..table.end.div_ceil(self.cluster_len())
    }
}

/// The entries of a table.
fn read_table(file: &File, table: &Range<u64>) -> io::Result<Vec<u64>> {
    let bytes = read(file, table)?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|word| u64::from_be_bytes(*word)).collect())
}

fn read(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)
        .map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => invalid("it was cut"),
            _ => error,
        })?;
    Ok(bytes)
}

/// Which clusters of the file are in use, and for what.
struct Used {
    /// A bit a cluster, of those that are used once and by nobody else.
    bits: Vec<u64>,
    /// How often the others are used: by compressed clusters, of which several may share one.
    compressed: BTreeMap<u64, u64>,
    /// How many clusters there are.
    count: u64,
}

impl Used {
    fn of(file: &File, header: &Header) -> io::Result<Used> {
        let count = file.metadata()?.len().div_ceil(header.cluster_len()) + BEHIND;
        if count > MOST_CLUSTERS {
            return Err(invalid(format_args!("it has {count} clusters")));
        }
        Ok(Used {
            // Below MOST_CLUSTERS. What is never touched takes no memory.
            bits: vec![0; count.div_ceil(64) as usize],
            compressed: BTreeMap::new(),
            count,
        })
    }

    fn is_taken(&self, cluster: u64) -> bool {
        let word = self.bits.get((cluster / 64) as usize).copied().unwrap_or(0);
        word & 1 << (cluster % 64) != 0
    }

    /// A cluster is used, and must not be again.
    fn take(&mut self, cluster: u64) -> io::Result<()> {
        self.check(cluster)?;
        if self.compressed.contains_key(&cluster) {
            return Err(invalid(format_args!("cluster {cluster} is used twice")));
        }
        if let Some(word) = self.bits.get_mut((cluster / 64) as usize) {
            *word |= 1 << (cluster % 64);
        }
        Ok(())
    }

    fn take_all(&mut self, clusters: Range<u64>) -> io::Result<()> {
        clusters
            .into_iter()
            .try_for_each(|cluster| self.take(cluster))
    }

    fn check(&self, cluster: u64) -> io::Result<()> {
        if cluster >= self.count {
            return Err(invalid(format_args!(
                "cluster {cluster} is not in the file"
            )));
        }
        match self.is_taken(cluster) {
            true => Err(invalid(format_args!("cluster {cluster} is used twice"))),
            false => Ok(()),
        }
    }

    /// An entry of an L2 table.
    fn take_entry(&mut self, header: &Header, entry: u64) -> io::Result<()> {
        if entry & COMPRESSED == 0 {
            return match entry & OFFSET {
                0 => Ok(()),
                at => self.take(header.cluster(at)?),
            };
        }
        // Of an offset, in bytes, and a count of further sectors of 512 bytes.
        let offset_bits = 62 - (header.cluster_bits - 8);
        let at = entry & ((1 << offset_bits) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
        let last = (at / 512 + sectors) * 512;
        for cluster in at >> header.cluster_bits..=last >> header.cluster_bits {
            self.check(cluster)?;
            *self.compressed.entry(cluster).or_default() += 1;
        }
        Ok(())
    }

    /// Have each cluster that is used counted as often: one that is not would be given away.
    fn count(&self, file: &File, header: &Header, blocks: &[u64]) -> io::Result<()> {
        // A multiple of 64.
        let per_block = (header.cluster_len() * 8) >> header.refcount_order;
        for (index, words) in (0..).zip(self.bits.chunks((per_block / 64) as usize)) {
            let first = index * per_block;
            let compressed = self.compressed.range(first..first + per_block);
            let compressed = compressed.map(|(cluster, uses)| (*cluster, *uses));
            let uses: Vec<_> = once(words, first).chain(compressed).collect();
            if uses.is_empty() {
                continue;
            }
            // Behind the table's end there are no blocks.
            let at = blocks.get(index as usize).copied().unwrap_or(0);
            let mut block = match at {
                0 => Vec::new(),
                at => read(file, &(at..at + header.cluster_len()))?,
            };
            let mut is_mended = false;
            for (cluster, uses) in uses {
                let place = Place::of(cluster - first, header.refcount_order);
                if uses > place.get(&block) {
                    let missing = || {
                        invalid(format_args!(
                            "cluster {cluster} is used and cannot be counted"
                        ))
                    };
                    place.set(&mut block, uses).ok_or_else(missing)?;
                    is_mended = true;
                }
            }
            if is_mended {
                file.write_all_at(&block, at)?;
                file.sync_data()?;
            }
        }
        Ok(())
    }
}

/// The clusters whose bits are set, the first bit being that of `first`: each is used once.
fn once(words: &[u64], first: u64) -> impl Iterator<Item = (u64, u64)> {
    let places = (first..)
        .step_by(64)
        .zip(words)
        .filter(|(_, word)| **word != 0);
    places.flat_map(|(first, word)| {
        let bits = (0..64).filter(move |bit| word & 1 << bit != 0);
        bits.map(move |bit| (first + bit, 1))
    })
}

/// Where a refcount is in its block.
struct Place {
    bytes: Range<usize>,
    /// Of the bits that are it, in a number of these bytes.
    shift: u32,
    most: u64,
}

impl Place {
    fn of(index: u64, order: u32) -> Place {
        let bit = index << order;
        // A block has 2 MiB at most.
        let at = (bit / 8) as usize;
        // Several in a byte, the first in its low bits; or several bytes for one.
        let (len, shift) = match order {
            0..3 => (1, (bit % 8) as u32),
            _ => (1 << (order - 3), 0),
        };
        let most = u64::MAX >> (64 - (1 << order));
        Place {
            bytes: at..at + len,
            shift,
            most,
        }
    }

    /// The refcount; 0 where there is no block.
    fn get(&self, block: &[u8]) -> u64 {
        self.number(block) >> self.shift & self.most
    }

    fn number(&self, block: &[u8]) -> u64 {
        let bytes = block.get(self.bytes.clone()).unwrap_or_default();
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// Set it; none where there is no block, or the number is too large.
    fn set(&self, block: &mut [u8], to: u64) -> Option<()> {
        let others = self.number(block) & !(self.most << self.shift);
        let number = (to <= self.most).then_some(others | to << self.shift)?;
        let bytes = block.get_mut(self.bytes.clone())?;
        let skip = 8 - bytes.len();
        for (byte, value) in bytes
            .iter_mut()
            .zip(number.to_be_bytes().into_iter().skip(skip))
        {
            *byte = value;
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "qcow2_check_tests.rs"]
mod tests;
