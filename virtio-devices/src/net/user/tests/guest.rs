//! The guest: a wire's end, smoltcp on it, and ways to wait for what must come.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpCidr, IpProtocol, Ipv4Packet, TcpPacket,
};

use crate::driver::PATIENCE;
use crate::net::user::carrier::{NatThread, pair};
use crate::net::user::{GATEWAY, GATEWAY_MAC, GUEST, UserNetOptions};
use crate::net::{HEADER_LEN, LONGEST};

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const ETHERNET: usize = 14;

/// The guest, and the network that it is in.
pub struct Guest {
    pub nat: NatThread,
    pub wire: Wire,
    pub net: Interface,
    pub sockets: SocketSet<'static>,
    start: std::time::Instant,
}

/// The wire's end, as smoltcp has it.
pub struct Wire {
    fd: OwnedFd,
    mtu: usize,
    frames: VecDeque<Vec<u8>>,
    /// The longest frame so far, without its header.
    pub longest: usize,
    /// How many frames left their checksum to the driver, and how many their segments.
    pub unsummed: usize,
    pub uncut: usize,
}

impl Guest {
    /// A guest with the address of DHCP's, without DHCP.
    pub fn new(options: &UserNetOptions) -> Guest {
        let mut guest = Guest::without_address(options);
        guest.net.update_ip_addrs(|addresses| {
            let address = IpCidr::new(GUEST.into(), 24);
            addresses.push(address).expect("room");
        });
        let routes = guest.net.routes_mut();
        routes.add_default_ipv4_route(GATEWAY).expect("room");
        guest
    }

    pub fn without_address(options: &UserNetOptions) -> Guest {
        let (ours, wire) = pair().expect("a pair");
        let nat = NatThread::start(options, wire).expect("a network");
        let mut wire = Wire {
            fd: ours,
            mtu: usize::from(options.mtu) + ETHERNET,
            frames: VecDeque::new(),
            longest: 0,
            unsummed: 0,
            uncut: 0,
        };
        let mut config = Config::new(EthernetAddress(MAC).into());
        config.random_seed = 7;
        Guest {
            nat,
            net: Interface::new(config, &mut wire, Instant::ZERO),
            wire,
            sockets: SocketSet::new(Vec::new()),
            start: std::time::Instant::now(),
        }
    }

    /// Have smoltcp do what it can now.
    pub fn poll(&mut self) {
        let now = Instant::from_micros(self.start.elapsed().as_micros() as i64);
        self.net.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// Go on until something is so.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Guest) -> bool) {
        let start = std::time::Instant::now();
        loop {
            self.poll();
            if is_so(self) {
                self.poll();
                return;
            }
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            self.sleep(Duration::from_millis(5));
        }
    }

    /// Go on for a while.
    pub fn go_on(&mut self, time: Duration) {
        let start = std::time::Instant::now();
        while start.elapsed() < time {
            self.poll();
            self.sleep(Duration::from_millis(2));
        }
    }

    /// Wait for a frame, a short while.
    fn sleep(&self, time: Duration) {
        if self.wire.frames.is_empty() {
            let time = Timespec::try_from(time).expect("short");
            let mut fds = [PollFd::new(&self.wire.fd, PollFlags::IN)];
            poll(&mut fds, Some(&time)).expect("a poll");
        }
    }

    pub fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Begin a connection; the guest's port is the caller's to choose.
    pub fn connect(&mut self, to: (Ipv4Addr, u16), from: u16) -> SocketHandle {
        let handle = self.tcp();
        let context = self.net.context();
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(context, to, from).expect("a free socket");
        handle
    }

    /// Send bytes, all of them.
    pub fn send(&mut self, handle: SocketHandle, bytes: &[u8]) {
        let mut sent = 0;
        self.until("all is sent", |guest| {
            let socket = guest.socket(handle);
            if socket.can_send() {
                sent += socket.send_slice(&bytes[sent..]).expect("is open");
            }
            sent == bytes.len()
        });
    }

    /// Receive bytes until the other side ends.
    pub fn receive_all(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the other side ends", |guest| {
            let socket = guest.socket(handle);
            while socket.can_recv() {
                let take = |part: &mut [u8]| (part.len(), bytes.extend_from_slice(part));
                socket.recv(take).expect("is open");
            }
            !socket.may_recv()
        });
        bytes
    }

    /// Receive so many bytes.
    pub fn receive(&mut self, handle: SocketHandle, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("so many bytes come", |guest| {
            let socket = guest.socket(handle);
            while socket.can_recv() && bytes.len() < len {
                let rest = len - bytes.len();
                let take = |part: &mut [u8]| {
                    let count = part.len().min(rest);
                    (count, bytes.extend_from_slice(&part[..count]))
                };
                socket.recv(take).expect("is open");
            }
            bytes.len() == len
        });
        bytes
    }

    /// Wait until the network has no flows, which it may be slow to say.
    pub fn until_no_flows(&mut self) {
        self.until("no flow is left", |guest| guest.nat.flows() == 0);
    }

    /// Send a packet past smoltcp.
    pub fn send_packet(&mut self, packet: &[u8]) {
        let mut frame = vec![0; ETHERNET + packet.len()];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_src_addr(EthernetAddress(MAC));
        ethernet.set_dst_addr(GATEWAY_MAC);
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        ethernet.payload_mut().copy_from_slice(packet);
        self.wire.send(&frame);
    }

    /// The next packet, past smoltcp.
    pub fn receive_packet(&mut self) -> Vec<u8> {
        let start = std::time::Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "no packet comes");
            match self.wire.take() {
                Some(frame) if frame[12..14] == [8, 0] => return frame[ETHERNET..].to_vec(),
                Some(_) => {}
                None => self.sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Wire {
    /// Put a frame out, behind a header of nothing.
    pub fn send(&mut self, frame: &[u8]) {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend_from_slice(frame);
        self.send_raw(&bytes);
    }

    /// Put header and frame out, when there is room.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Ok(_) => return,
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
                    poll(&mut fds, None).expect("a poll");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Take a frame off, without its header, with the checksum made if it was left to the driver.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; LONGEST];
        let len = match rustix::io::read(self.fd.as_fd(), &mut bytes) {
            Ok(len) => len,
            Err(rustix::io::Errno::AGAIN) => return None,
            Err(error) => panic!("{error}"),
        };
        let mut frame = bytes[HEADER_LEN..len].to_vec();
        self.longest = self.longest.max(frame.len());
        self.finish(&bytes[..HEADER_LEN], &mut frame);
        Some(frame)
    }

    /// Do what the network left to the driver, as virtio 1.2, 5.1.6.4 has it.
    fn finish(&mut self, header: &[u8], frame: &mut [u8]) {
        let word = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (flags, kind) = (header[0], header[1]);
        let (headers, segment, start, offset) = (word(2), word(4), word(6), word(8));
        if kind != 0 {
            assert_eq!((kind, flags), (1, 1), "segments of TCP over IPv4");
            assert!(segment > 0 && frame.len() > headers + segment);
            self.uncut += 1;
        }
        if flags & 1 != 0 {
            self.unsummed += 1;
            let part = &frame[start..];
            // What is in the field belongs to the sum.
            let sum = !smoltcp::wire::checksum::data(part);
            frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
            let packet = Ipv4Packet::new_checked(&frame[ETHERNET..]).expect("a packet");
            assert_eq!(packet.next_header(), IpProtocol::Tcp);
            let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
            let segment = TcpPacket::new_checked(packet.payload()).expect("a segment");
            assert!(
                segment.verify_checksum(&from, &to),
                "the sum comes out right"
            );
            assert_eq!(headers, ETHERNET + 20 + usize::from(segment.header_len()));
        }
    }
}

pub struct Came(Vec<u8>);
pub struct Goes<'a>(&'a mut Wire);

impl Device for Wire {
    type RxToken<'a> = Came;
    type TxToken<'a> = Goes<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Came, Goes<'_>)> {
        let frame = self.frames.pop_front().or_else(|| self.take())?;
        Some((Came(frame), Goes(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Goes<'_>> {
        Some(Goes(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Goes<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.send(&frame);
        result
    }
}
