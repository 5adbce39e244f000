//! The way to the guest: frames are made, wait for the wire, and go out. Called by all who answer, and
//! by smoltcp as its device. Never reads the wire.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::phy::{PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr,
    checksum,
};

use super::packet::NEEDS_CHECKSUM;
use super::{GATEWAY_MAC, MAX_WAITING};
use crate::net::{HEADER_LEN, Offloads};

/// The lengths of headers, in bytes.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// Where a segment's checksum is in it (RFC 9293, 3.1).
const TCP_CHECKSUM: usize = 16;
/// VIRTIO_NET_HDR_GSO_TCPV4 (virtio 1.2, 5.1.6).
const SEGMENTS_OF_TCP: u8 = 1;
/// The longest packet of IPv4 in its frame.
const LONGEST_FRAME: usize = ETHERNET + 65_535;
/// How many addresses of guests are remembered; there is one guest, but it may have several.
const MAX_STATIONS: usize = 32;

/// See the module.
pub(super) struct Link {
    wire: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    /// The wire took no more; it will say when it does.
    is_blocked: bool,
    /// Who has which address.
    stations: HashMap<Ipv4Addr, EthernetAddress>,
    /// Where everything else goes.
    device: EthernetAddress,
    mtu: u16,
    offloads: Offloads,
    /// Identifies the fragments of one packet.
    ident: u16,
    /// How many frames were made.
    made: u64,
}

impl Link {
    /// Frames go to a wire that does not wait.
    pub fn new(wire: OwnedFd, device: EthernetAddress, mtu: u16) -> Link {
        Link {
            wire,
            waiting: VecDeque::new(),
            is_blocked: false,
            stations: HashMap::new(),
            device,
            mtu,
            offloads: Offloads::default(),
            ident: 0,
            made: 0,
        }
    }

    pub fn wire(&self) -> &OwnedFd {
        &self.wire
    }

    /// What the guest's driver accepts from now on.
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.offloads = offloads;
    }

    /// How many frames were made so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Remember who has an address.
    pub fn learn(&mut self, address: Ipv4Addr, station: EthernetAddress) {
        if self.stations.len() >= MAX_STATIONS && !self.stations.contains_key(&address) {
            self.stations.clear();
        }
        self.stations.insert(address, station);
    }

    /// The wire has room again.
    pub fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Whether frames wait for the wire.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether there is room for frames that can also be made later.
    pub fn has_room(&mut self) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            self.flush();
        }
        self.waiting.len() < MAX_WAITING
    }

    /// Give the wire what waits.
    pub fn flush(&mut self) {
        while !self.is_blocked
            && let Some(frame) = self.waiting.front()
        {
            match rustix::io::write(&self.wire, frame) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return;
                }
                Err(rustix::io::Errno::INTR) => continue,
                // By any other error the frame is lost, as on a wire.
                Ok(_) | Err(_) => {}
            }
            self.waiting.pop_front();
        }
    }

    /// Answer a question about an address.
    pub fn send_arp(&mut self, to: EthernetAddress, answer: &ArpRepr) {
        let mut frame = blank(answer.buffer_len());
        let Some(mut ethernet) = ethernet(&mut frame) else {
            return;
        };
        ethernet.set_dst_addr(to);
        ethernet.set_src_addr(GATEWAY_MAC);
        ethernet.set_ethertype(EthernetProtocol::Arp);
        answer.emit(&mut smoltcp::wire::ArpPacket::new_unchecked(
            ethernet.payload_mut(),
        ));
        self.push(frame);
    }

    /// Send a packet, in fragments if need be. `to` overrides who has its address.
    pub fn send(&mut self, header: &Ipv4Repr, payload: &[u8], to: Option<EthernetAddress>) {
        self.ident = self.ident.wrapping_add(1);
        let room = usize::from(self.mtu).saturating_sub(IPV4);
        // RFC 791, 3.1: a fragment's offset counts eight bytes each.
        let step = if payload.len() <= room {
            payload.len()
        } else {
            room & !7
        };
        let mut offset = 0;
        loop {
            let rest = payload.get(offset..).unwrap_or_default();
            let part = rest.get(..step).unwrap_or(rest);
            let is_last = part.len() == rest.len();
            self.send_fragment(header, part, offset, is_last, to);
            if is_last {
                return;
            }
            offset += part.len();
        }
    }

    fn send_fragment(
        &mut self,
        header: &Ipv4Repr,
        part: &[u8],
        offset: usize,
        is_last: bool,
        to: Option<EthernetAddress>,
    ) {
        let header = Ipv4Repr {
            payload_len: part.len(),
            ..*header
        };
        let ident = self.ident;
        let fill = |bytes: &mut [u8]| {
            let mut packet = Ipv4Packet::new_unchecked(bytes);
            header.emit(&mut packet, &ChecksumCapabilities::ignored());
            if !is_last || offset > 0 {
                packet.clear_flags();
                packet.set_ident(ident);
                packet.set_more_frags(!is_last);
                // Offsets are below 2^16: so is a packet's length.
                packet.set_frag_offset(offset as u16);
            }
            packet.fill_checksum();
            packet.payload_mut().copy_from_slice(part);
        };
        self.send_with(IPV4 + part.len(), None, to, fill);
    }

    /// Send a packet of `len` bytes that somebody fills in.
    fn send_with<R>(
        &mut self,
        len: usize,
        segment_len: Option<u16>,
        to: Option<EthernetAddress>,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let mut frame = blank(len);
        let result = match ethernet(&mut frame) {
            Some(mut ethernet) => {
                let result = fill(ethernet.payload_mut());
                let address = Ipv4Packet::new_unchecked(&*ethernet.payload_mut()).dst_addr();
                let known = self.stations.get(&address).copied();
                ethernet.set_dst_addr(to.or(known).unwrap_or(self.device));
                ethernet.set_src_addr(GATEWAY_MAC);
                ethernet.set_ethertype(EthernetProtocol::Ipv4);
                result
            }
            // Never: the frame was made for it. What is filled in goes nowhere.
            None => return fill(&mut vec![0; len]),
        };
        if self.offloads.checksum {
            leave_checksum(&mut frame, segment_len);
        }
        self.push(frame);
        result
    }

    /// A frame waits for the wire; too many of those that nobody holds back are lost.
    fn push(&mut self, frame: Vec<u8>) {
        self.made = self.made.wrapping_add(1);
        if self.waiting.len() < 2 * MAX_WAITING {
            self.waiting.push_back(frame);
        }
    }
}

/// Room for a virtio header, an Ethernet header, and `len` bytes.
fn blank(len: usize) -> Vec<u8> {
    vec![0; HEADER_LEN + ETHERNET + len]
}

fn ethernet(frame: &mut [u8]) -> Option<EthernetFrame<&mut [u8]>> {
    let (_, frame) = frame.split_at_mut_checked(HEADER_LEN)?;
    EthernetFrame::new_checked(frame).ok()
}

/// Leave a segment's checksum to the driver (virtio 1.2, 5.1.6.4): the field has the sum of the
/// pseudo header, the virtio header says where it is, and how long segments may be.
fn leave_checksum(frame: &mut [u8], segment_len: Option<u16>) {
    let Some((header, rest)) = frame.split_at_mut_checked(HEADER_LEN) else {
        return;
    };
    let Some(bytes) = rest.get_mut(ETHERNET..) else {
        return;
    };
    let packet = Ipv4Packet::new_unchecked(&*bytes);
    if packet.next_header() != IpProtocol::Tcp {
        return;
    }
    let start = usize::from(packet.header_len());
    let len = (bytes.len() - start) as u32;
    let sum =
        checksum::pseudo_header_v4(&packet.src_addr(), &packet.dst_addr(), IpProtocol::Tcp, len);
    let offset = bytes.get(start + 12).map_or(0, |byte| byte >> 4);
    let headers = ETHERNET + start + 4 * usize::from(offset);
    let Some(field) = bytes.get_mut(start + TCP_CHECKSUM..start + TCP_CHECKSUM + 2) else {
        return;
    };
    field.copy_from_slice(&sum.to_be_bytes());
    // All of these are far below 2^16.
    let words = [
        headers as u16,
        segment_len.unwrap_or(0),
        (ETHERNET + start) as u16,
        TCP_CHECKSUM as u16,
    ];
    let mut fields = [0; 10];
    let kind = segment_len.map_or(0, |_| SEGMENTS_OF_TCP);
    let (flags, places) = fields.split_at_mut(2);
    flags.copy_from_slice(&[NEEDS_CHECKSUM, kind]);
    for (place, word) in places.chunks_exact_mut(2).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    if let Some(place) = header.get_mut(..fields.len()) {
        place.copy_from_slice(&fields);
    }
}

/// The link as smoltcp has it: at most one packet comes, and packets go.
pub(super) struct Port<'a> {
    pub link: &'a mut Link,
    pub packet: Option<&'a [u8]>,
}

/// The packet that came.
pub(super) struct Incoming<'a>(&'a [u8]);

/// Room for a packet.
pub(super) struct Outgoing<'a> {
    link: &'a mut Link,
    segment_len: Option<u16>,
}

impl Device for Port<'_> {
    type RxToken<'a>
        = Incoming<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        Self: 'a;

    /// The answer to a packet is made even if it is lost then: smoltcp takes none without room for one.
    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = Incoming(self.packet.take()?);
        let link = &mut *self.link;
        let segment_len = None;
        Some((packet, Outgoing { link, segment_len }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        let link = &mut *self.link;
        let segment_len = None;
        link.has_room().then_some(Outgoing { link, segment_len })
    }

    /// Checksums of what comes have been looked at (`packet.rs`).
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.link.mtu.into();
        capabilities.checksum.tcp = match self.link.offloads.checksum {
            true => Checksum::None,
            false => Checksum::Tx,
        };
        if self.link.offloads.checksum && self.link.offloads.tso4 {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(LONGEST_FRAME - ETHERNET);
        }
        capabilities
    }
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.link.send_with(len, self.segment_len, None, f)
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment_len = meta.segmentation_offload_size.map(u16::from);
    }
}
