//! Checksums of TCP and UDP that are left to somebody: for frames that a device has not checked, and
//! for those whose checksum a device will make (RFC 1071).

use driver_api::{ETHERNET_HEADER, PartialChecksum};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet};
use smoltcp::wire::{TcpPacket, UdpPacket, checksum};

/// Where TCP's header has its checksum.
const TCP_CHECKSUM: usize = 16;

/// Whether the checksum of TCP or UDP in a frame is right. Of all else, and of what is no whole packet,
/// smoltcp decides: then this is true.
pub fn is_right(frame: &[u8]) -> bool {
    let Some(packet) = ipv4(frame) else {
        return true;
    };
    // A checksum covers all fragments; smoltcp takes none.
    if packet.more_frags() || packet.frag_offset() != 0 {
        return true;
    }
    let source = IpAddress::Ipv4(packet.src_addr());
    let destination = IpAddress::Ipv4(packet.dst_addr());
    match packet.next_header() {
        IpProtocol::Tcp => TcpPacket::new_checked(packet.payload())
            .is_ok_and(|tcp| tcp.verify_checksum(&source, &destination)),
        IpProtocol::Udp => UdpPacket::new_checked(packet.payload())
            .is_ok_and(|udp| udp.verify_checksum(&source, &destination)),
        _ => true,
    }
}

/// Put the pseudo header's sum where TCP's checksum will be, and say what the device must do. `None`
/// for frames of anything else. Returns also how many bytes of headers there are.
pub fn leave_to_device(frame: &mut [u8]) -> Option<(PartialChecksum, usize)> {
    let packet = ipv4(frame)?;
    if packet.next_header() != IpProtocol::Tcp {
        return None;
    }
    let start = ETHERNET_HEADER + usize::from(packet.header_len());
    let tcp = TcpPacket::new_checked(packet.payload()).ok()?;
    let headers = start + usize::from(tcp.header_len());
    // A packet has 65535 bytes at most, by `ipv4`.
    let len = packet.payload().len() as u32;
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let sum = checksum::pseudo_header_v4(&source, &destination, IpProtocol::Tcp, len);
    let place = frame.get_mut(start + TCP_CHECKSUM..start + TCP_CHECKSUM + 2)?;
    place.copy_from_slice(&sum.to_be_bytes());
    let checksum = PartialChecksum {
        start: u16::try_from(start).ok()?,
        offset: TCP_CHECKSUM as u16,
    };
    Some((checksum, headers))
}

/// The packet in a frame of IPv4, if it is whole.
fn ipv4(frame: &[u8]) -> Option<Ipv4Packet<&[u8]>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    Ipv4Packet::new_checked(ethernet.payload()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A segment without data, from 10.0.2.15:1000 to 10.0.2.2:80, with a right checksum.
    fn segment(flags: [u8; 2]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        frame.extend([0x45, 0, 0, 44, 0, 0, flags[0], flags[1], 64, 6, 0, 0]);
        frame.extend([10, 0, 2, 15, 10, 0, 2, 2]);
        frame.extend([3, 0xe8, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 2, 4, 0]);
        frame.extend([0, 0, 0, 0, 9, 8, 7, 6]);
        let sum = checksum::combine(&[
            checksum::data(&frame[26..34]),
            checksum::data(&[0, 6, 0, 24]),
            checksum::data(&frame[34..]),
        ]);
        frame[50..52].copy_from_slice(&(!sum).to_be_bytes());
        frame
    }

    #[test]
    fn a_damaged_segment_is_found_wherever_it_is_damaged() {
        let good = segment([0, 0]);
        assert!(is_right(&good));
        for at in (26..34).chain(34..58) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(!is_right(&bad), "{at}");
        }
    }

    #[test]
    fn what_is_no_segment_is_left_to_others() {
        let mut other = segment([0, 0]);
        other[57] ^= 1;
        for (at, value) in [(12, 0x86), (23, 1), (20, 0x20)] {
            let mut frame = other.clone();
            frame[at] = value;
            assert!(is_right(&frame), "{at}");
        }
        assert!(is_right(&other[..20]) && is_right(&[]));
    }

    #[test]
    fn the_device_finds_the_sum_of_the_pseudo_header() {
        let good = segment([0, 0]);
        let mut frame = good.clone();
        frame[50..52].copy_from_slice(&[0xaa, 0xaa]);
        let (partial, headers) = leave_to_device(&mut frame).unwrap();
        assert_eq!((partial.start, partial.offset, headers), (34, 16, 54));
        // What a device does: sum all from `start` on, the place included, and store the complement.
        let sum = !checksum::data(&frame[34..]);
        frame[50..52].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(frame, good);
        frame[23] = 17;
        assert!(leave_to_device(&mut frame).is_none());
        assert!(leave_to_device(&mut frame[..40]).is_none());
    }
}
