//! Who does not answer on the wire. smoltcp asks for a neighbour once a second and tells nobody when no
//! answer comes, so the requests of ARP (RFC 826) are counted as they pass.

use core::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol};

/// How many neighbours are followed at once.
const PLACES: usize = 8;

/// Neighbours that were asked for, and how often since they were last heard of.
#[derive(Debug, Default)]
pub struct Neighbours {
    asked: [Option<(Ipv4Addr, u32)>; PLACES],
    /// Where the next one goes when all places are taken.
    turn: usize,
}

impl Neighbours {
    /// A frame goes out.
    pub fn sent(&mut self, frame: &[u8]) {
        if let Some((ArpOperation::Request, _, target)) = arp(frame) {
            self.ask(target);
        }
    }

    fn ask(&mut self, address: Ipv4Addr) {
        let mut known = self.asked.iter_mut().flatten();
        if let Some((_, count)) = known.find(|(asked, _)| *asked == address) {
            *count = count.saturating_add(1);
            return;
        }
        let free = self.asked.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.turn = (self.turn + 1) % PLACES;
            self.turn
        });
        if let Some(place) = self.asked.get_mut(place) {
            *place = Some((address, 1));
        }
    }

    /// A frame came.
    pub fn received(&mut self, frame: &[u8]) {
        let Some((_, source, _)) = arp(frame) else {
            return;
        };
        for place in &mut self.asked {
            if place.is_some_and(|(asked, _)| asked == source) {
                *place = None;
            }
        }
    }

    /// How often a neighbour was asked for since it last answered.
    pub fn unanswered(&self, address: Ipv4Addr) -> u32 {
        let mut known = self.asked.iter().flatten();
        let found = known.find(|(asked, _)| *asked == address);
        found.map_or(0, |(_, count)| *count)
    }

    /// Forget all: the next question begins a new count.
    pub fn forget(&mut self, address: Ipv4Addr) {
        for place in &mut self.asked {
            if place.is_some_and(|(asked, _)| asked == address) {
                *place = None;
            }
        }
    }
}

/// What ARP says in a frame: the operation, who speaks, and whom it is about.
fn arp(frame: &[u8]) -> Option<(ArpOperation, Ipv4Addr, Ipv4Addr)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
    match ArpRepr::parse(&packet).ok()? {
        ArpRepr::EthernetIpv4 {
            operation,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } => Some((operation, source_protocol_addr, target_protocol_addr)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::EthernetAddress;

    fn frame(operation: ArpOperation, source: u8, target: u8) -> [u8; 42] {
        let mut bytes = [0; 42];
        let mut ethernet = EthernetFrame::new_unchecked(&mut bytes);
        ethernet.set_ethertype(EthernetProtocol::Arp);
        let hardware = EthernetAddress([2, 0, 0, 0, 0, source]);
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: hardware,
            source_protocol_addr: address(source),
            target_hardware_addr: EthernetAddress::BROADCAST,
            target_protocol_addr: address(target),
        };
        repr.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
        bytes
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 2, last)
    }

    #[test]
    fn questions_are_counted_until_the_answer() {
        let mut neighbours = Neighbours::default();
        for count in 1..4 {
            neighbours.sent(&frame(ArpOperation::Request, 15, 9));
            neighbours.sent(&frame(ArpOperation::Request, 15, 8));
            assert_eq!(neighbours.unanswered(address(9)), count);
        }
        neighbours.received(&frame(ArpOperation::Reply, 7, 15));
        assert_eq!(neighbours.unanswered(address(9)), 3);
        neighbours.received(&frame(ArpOperation::Reply, 9, 15));
        assert_eq!(neighbours.unanswered(address(9)), 0);
        assert_eq!(neighbours.unanswered(address(8)), 3);
        neighbours.forget(address(8));
        assert_eq!(neighbours.unanswered(address(8)), 0);
    }

    #[test]
    fn many_questions_take_bounded_room() {
        let mut neighbours = Neighbours::default();
        for last in 0..100 {
            neighbours.sent(&frame(ArpOperation::Request, 15, last));
        }
        assert_eq!(neighbours.unanswered(address(99)), 1);
        let known = (0..100).filter(|last| neighbours.unanswered(address(*last)) > 0);
        assert_eq!(known.count(), PLACES);
    }
}
