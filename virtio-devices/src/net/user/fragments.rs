//! Packets of the guest's that come in fragments, put together again (RFC 791, 3.2). Called by the
//! thread. A few at a time; whoever never sends the rest loses them to others.

use smoltcp::storage::Assembler;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpProtocol, Ipv4Packet};
use std::net::Ipv4Addr;

use super::packet::Packet;

/// How many packets are in the making.
const MAX_PACKETS: usize = 8;
/// How long fragments are kept (RFC 791 has 15 seconds).
const LIFETIME: Duration = Duration::from_secs(15);
/// The longest packet, and a header without options.
const LONGEST: usize = 65_535;
const HEADER: usize = 20;

/// See the module.
#[derive(Default)]
pub(super) struct Fragments {
    packets: Vec<Partial>,
}

type Key = (Ipv4Addr, Ipv4Addr, IpProtocol, u16);

/// A packet in the making.
struct Partial {
    key: Key,
    since: Instant,
    /// A header, and what has come of the rest.
    bytes: Vec<u8>,
    have: Assembler,
    /// How long the rest is, once the last fragment has come.
    len: Option<usize>,
}

impl Fragments {
    /// Take a fragment in; returns the packet if it is whole now.
    pub fn add(&mut self, now: Instant, packet: &Packet) -> Option<Vec<u8>> {
        self.packets
            .retain(|partial| now < partial.since + LIFETIME);
        let view = Ipv4Packet::new_checked(packet.bytes).ok()?;
        let key = (
            view.src_addr(),
            view.dst_addr(),
            view.next_header(),
            view.ident(),
        );
        let index = self.find(key, now);
        let partial = self.packets.get_mut(index)?;
        let offset = usize::from(view.frag_offset());
        match partial.add(offset, packet, view.more_frags()) {
            Added::Part => None,
            Added::Last => self.packets.swap_remove(index).finish(),
            Added::Wrong => {
                self.packets.swap_remove(index);
                None
            }
        }
    }

    /// Where the packet is; a new one takes the oldest's place if there are many.
    fn find(&mut self, key: Key, now: Instant) -> usize {
        if let Some(index) = self.packets.iter().position(|partial| partial.key == key) {
            return index;
        }
        if self.packets.len() >= MAX_PACKETS {
            let ages = self.packets.iter().enumerate();
            if let Some((oldest, _)) = ages.min_by_key(|(_, partial)| partial.since) {
                self.packets.swap_remove(oldest);
            }
        }
        self.packets.push(Partial {
            key,
            since: now,
            bytes: vec![0; HEADER],
            have: Assembler::new(),
            len: None,
        });
        self.packets.len() - 1
    }
}

/// What a fragment made of a packet.
enum Added {
    Part,
    Last,
    Wrong,
}

impl Partial {
    fn add(&mut self, offset: usize, packet: &Packet, has_more: bool) -> Added {
        let end = offset + packet.payload.len();
        let is_whole_words = packet.payload.len().is_multiple_of(8);
        if HEADER + end > LONGEST
            || (has_more && (packet.payload.is_empty() || !is_whole_words))
            || self.len.is_some_and(|len| end > len)
        {
            return Added::Wrong;
        }
        if !has_more {
            let so_far = self.bytes.len() - HEADER;
            if end < so_far || self.len.is_some_and(|len| len != end) {
                return Added::Wrong;
            }
            self.len = Some(end);
        }
        if offset == 0
            && let Some(header) = packet.bytes.get(..HEADER)
            && let Some(place) = self.bytes.get_mut(..HEADER)
        {
            place.copy_from_slice(header);
        }
        if self.bytes.len() < HEADER + end {
            self.bytes.resize(HEADER + end, 0);
        }
        if let Some(place) = self.bytes.get_mut(HEADER + offset..HEADER + end) {
            place.copy_from_slice(packet.payload);
        }
        // Too many holes: then the guest sends all of it again.
        if !packet.payload.is_empty() && self.have.add(offset, packet.payload.len()).is_err() {
            return Added::Wrong;
        }
        match self.len {
            Some(len) if self.have.peek_front() >= len => Added::Last,
            _ => Added::Part,
        }
    }

    /// The packet, as if it had come at once, without options.
    fn finish(mut self) -> Option<Vec<u8>> {
        let len = u16::try_from(self.bytes.len()).ok()?;
        let mut packet = Ipv4Packet::new_unchecked(&mut self.bytes);
        packet.set_header_len(HEADER as u8);
        packet.set_total_len(len);
        packet.clear_flags();
        packet.set_frag_offset(0);
        packet.fill_checksum();
        Some(self.bytes)
    }
}

/// Whether a packet is a fragment.
pub(super) fn is_fragment(packet: &Packet) -> bool {
    Ipv4Packet::new_checked(packet.bytes)
        .is_ok_and(|view| view.more_frags() || view.frag_offset() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::Ipv4Repr;

    /// A fragment's packet.
    fn fragment(ident: u16, offset: u16, part: &[u8], has_more: bool) -> Vec<u8> {
        let header = Ipv4Repr {
            src_addr: Ipv4Addr::new(10, 0, 2, 15),
            dst_addr: Ipv4Addr::new(10, 0, 2, 2),
            next_header: IpProtocol::Udp,
            payload_len: part.len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; HEADER + part.len()];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
        header.emit(&mut packet, &ChecksumCapabilities::ignored());
        packet.clear_flags();
        packet.set_ident(ident);
        packet.set_frag_offset(offset);
        packet.set_more_frags(has_more);
        packet.fill_checksum();
        packet.payload_mut().copy_from_slice(part);
        bytes
    }

    fn add(fragments: &mut Fragments, now: i64, bytes: &[u8]) -> Option<Vec<u8>> {
        let packet = Packet::parse(bytes, false).expect("a packet");
        assert!(is_fragment(&packet));
        fragments.add(Instant::from_secs(now), &packet)
    }

    #[test]
    fn fragments_in_any_order_make_the_packet() {
        let data: Vec<u8> = (0..100).collect();
        let parts = [
            fragment(7, 0, &data[..40], true),
            fragment(7, 40, &data[40..80], true),
            fragment(7, 80, &data[80..], false),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut fragments = Fragments::default();
            let other = fragment(8, 0, &data[..8], true);
            assert_eq!(add(&mut fragments, 0, &other), None);
            assert_eq!(add(&mut fragments, 0, &parts[order[0]]), None);
            assert_eq!(add(&mut fragments, 0, &parts[order[0]]), None, "twice");
            assert_eq!(add(&mut fragments, 0, &parts[order[1]]), None);
            let whole = add(&mut fragments, 0, &parts[order[2]]).expect("a packet");
            let packet = Packet::parse(&whole, false).expect("a right packet");
            assert!(!is_fragment(&packet));
            assert_eq!(packet.payload, data);
            assert_eq!(fragments.packets.len(), 1);
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_late_is_forgotten() {
        let data = [1; 80];
        let mut fragments = Fragments::default();
        assert_eq!(
            add(&mut fragments, 0, &fragment(1, 40, &data[..8], false)),
            None
        );
        // Beyond the end that was said.
        assert_eq!(add(&mut fragments, 0, &fragment(1, 0, &data, true)), None);
        assert!(fragments.packets.is_empty());
        // Beyond the longest packet.
        assert_eq!(
            add(&mut fragments, 0, &fragment(2, 65_528, &data, false)),
            None
        );
        assert!(fragments.packets.is_empty());
        assert_eq!(
            add(&mut fragments, 0, &fragment(3, 0, &data[..8], true)),
            None
        );
        assert_eq!(
            add(&mut fragments, 15, &fragment(3, 8, &data[..8], false)),
            None
        );
        assert_eq!(fragments.packets.len(), 1, "the first is gone");
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut fragments = Fragments::default();
        for ident in 0..1000 {
            add(&mut fragments, 0, &fragment(ident, 65_504, &[1; 8], true));
        }
        assert_eq!(fragments.packets.len(), MAX_PACKETS);
        let bytes: usize = fragments
            .packets
            .iter()
            .map(|partial| partial.bytes.len())
            .sum();
        assert!(bytes <= MAX_PACKETS * LONGEST);
    }
}
