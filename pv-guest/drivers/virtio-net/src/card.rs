//! The card: how it is set up, what an interrupt does, and what its client may ask.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use driver_api::{ETHERNET_HEADER, Env, Halves, Lock, Mmio, NetClient, NetCounts, NetDevice};
use driver_api::{NetError, NetInfo, NetOffloads, ReceivedFrame, SendOptions};
use virtio::wire::{F_EVENT_IDX, ID_NET, INTERRUPT_CONFIG};
use virtio::{Transport, VirtioError};

use crate::receive::{Receive, Shape, Taken};
use crate::transmit::Transmit;
use crate::wire::{self, F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_GUEST_TSO6, F_HOST_TSO4};
use crate::wire::{F_HOST_TSO6, F_MAC, F_MRG_RXBUF, F_MTU, F_STATUS};

/// What the driver can use.
const WANTED: u64 = F_CSUM
    | F_GUEST_CSUM
    | F_MTU
    | F_MAC
    | F_GUEST_TSO4
    | F_GUEST_TSO6
    | F_HOST_TSO4
    | F_HOST_TSO6
    | F_MRG_RXBUF
    | F_STATUS
    | F_EVENT_IDX;

/// The longest frame that is handed over to be cut: as long as a packet's own length says.
const CUT_MOST: usize = ETHERNET_HEADER + u16::MAX as usize;

/// A virtio network card.
pub struct Net<E: Env> {
    env: E,
    transport: Transport<E::Mmio>,
    features: u64,
    info: NetInfo,
    is_up: AtomicBool,
    receive: Arc<E::Lock<Receive<E::Dma>>>,
    transmit: Arc<E::Lock<Transmit<E::Dma>>>,
    counts: E::Lock<NetCounts>,
    client: E::Lock<Option<Arc<dyn NetClient>>>,
    /// The client waits to be notified.
    is_listening: AtomicBool,
    /// The client has taken a frame since it listens.
    has_taken: AtomicBool,
    /// An interrupt is on its way whose frame was taken before the client listened anew.
    is_late: AtomicBool,
    /// The link changed, and the client was not notified.
    has_changed: AtomicBool,
    is_broken: AtomicBool,
}

impl<E: Env> Net<E> {
    /// Take over a card, whose interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`VirtioError`]; the device is left reset or failed, and uses no memory.
    pub fn new(
        env: E,
        transport: Transport<E::Mmio>,
        vector: u8,
    ) -> Result<Arc<Self>, VirtioError> {
        let id = transport.device_id();
        if id != ID_NET {
            return Err(VirtioError::OtherDevice(id));
        }
        let features = negotiate(&transport)?;
        let made = Self::set_up(&env, &transport, features);
        let (info, receive, transmit) = made.inspect_err(|_| transport.fail())?;
        let net = Arc::new(Self {
            env,
            transport,
            features,
            info,
            is_up: AtomicBool::new(info.is_up),
            receive: Arc::new(E::Lock::new(receive)),
            transmit: Arc::new(E::Lock::new(transmit)),
            counts: E::Lock::new(NetCounts::default()),
            client: E::Lock::new(None),
            is_listening: AtomicBool::new(false),
            has_taken: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            has_changed: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        });
        if let Err(error) = net.env.irq(vector, net.clone()) {
            net.transport.fail();
            return Err(error.into());
        }
        // Only now: from here on the device may interrupt.
        net.transport.begin();
        net.hand_back(true);
        Ok(net)
    }

    #[expect(
        clippy::type_complexity,
        reason = "the parts of a card, named where they go"
    )]
    fn set_up(
        env: &E,
        transport: &Transport<E::Mmio>,
        features: u64,
    ) -> Result<(NetInfo, Receive<E::Dma>, Transmit<E::Dma>), VirtioError> {
        let config = transport.read_config(|t| Config::read(t, features))?;
        let shape = Shape::of(features, config.mtu);
        let info = config
            .info(features, shape)
            .ok_or(VirtioError::Configuration)?;
        let mut receive = Receive::new(env, transport, features, shape)?;
        let mut transmit = Transmit::new(env, transport, features)?;
        receive.hold_interrupts();
        transmit.hold_interrupts();
        Ok((info, receive, transmit))
    }

    /// The features that device and driver agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Tell the device of buffers that were handed back.
    fn hand_back(&self, is_last: bool) {
        if self.receive.with(|receive| receive.needs_kick(is_last)) {
            self.transport.notify(wire::QUEUE_RECEIVE);
        }
    }

    /// The device broke the protocol. Reset it, so that it uses no memory any longer.
    fn break_off(&self) {
        if self.is_broken.swap(true, Ordering::Relaxed) {
            return;
        }
        self.receive.with(Receive::break_off);
        self.transmit.with(Transmit::break_off);
        self.is_up.store(false, Ordering::Relaxed);
        self.has_changed.store(true, Ordering::Relaxed);
        self.env
            .log(format_args!("virtio-net: the device cannot go on"));
        // What it does not let go of stays its own until the driver ends: see `drop`.
        let _ = self.transport.reset();
    }

    /// Nothing is in the queues: find out why there was an interrupt.
    fn look_at_configuration(&self) {
        if self.transport.take_interrupt() & INTERRUPT_CONFIG == 0 {
            return;
        }
        if self.transport.needs_reset() {
            return self.break_off();
        }
        let read = |t: &_| Config::read(t, self.features).is_up;
        if let Ok(is_up) = self.transport.read_config(read)
            && is_up != self.is_up.swap(is_up, Ordering::Relaxed)
        {
            self.has_changed.store(true, Ordering::Relaxed);
        }
    }

    fn count(&self, add: impl FnOnce(&mut NetCounts)) {
        self.counts.with(add);
    }
}

/// Agree on features of which none lacks what it needs (5.1.3.1).
fn negotiate<M: Mmio>(transport: &Transport<M>) -> Result<u64, VirtioError> {
    let agreed = transport.negotiate(WANTED)?;
    let kept = without_loose_ends(agreed);
    match kept == agreed {
        true => Ok(agreed),
        false => transport.negotiate(kept),
    }
}

fn without_loose_ends(features: u64) -> u64 {
    let mut kept = features;
    // Joined segments fill more than one buffer, or waste most of each.
    if kept & F_GUEST_CSUM == 0 || kept & F_MRG_RXBUF == 0 {
        kept &= !(F_GUEST_TSO4 | F_GUEST_TSO6);
    }
    if kept & F_CSUM == 0 {
        kept &= !(F_HOST_TSO4 | F_HOST_TSO6);
    }
    kept
}

/// What the configuration says.
struct Config {
    mac: [u8; 6],
    mtu: u16,
    is_up: bool,
}

impl Config {
    fn read<M: Mmio>(transport: &Transport<M>, features: u64) -> Self {
        let [a, b, c, d] = transport.config_u32(wire::CONFIG_MAC).to_le_bytes();
        let [e, f, low, high] = transport.config_u32(wire::CONFIG_MAC + 4).to_le_bytes();
        let mtu = match features & F_MTU {
            0 => wire::MTU_PLAIN,
            _ => (transport.config_u32(wire::CONFIG_MTU) >> 16) as u16,
        };
        let status = u16::from_le_bytes([low, high]);
        Self {
            mac: [a, b, c, d, e, f],
            mtu,
            // Without the feature the link is up (5.1.4.2).
            is_up: features & F_STATUS == 0 || status & wire::S_LINK_UP != 0,
        }
    }

    /// `None` when it makes no sense. A card without an address is refused: the driver has no source
    /// of randomness to choose one from, and two machines must not choose alike.
    fn info(&self, features: u64, shape: Shape) -> Option<NetInfo> {
        // IEEE 802.3, 3.2.3: the first bit says that an address is a group's.
        let is_own = features & F_MAC != 0 && self.mac[0] & 1 == 0 && self.mac != [0; 6];
        if !is_own || self.mtu < wire::MTU_LEAST {
            return None;
        }
        let cut = |feature| match features & feature {
            0 => 0,
            _ => CUT_MOST,
        };
        Some(NetInfo {
            mac: self.mac,
            mtu: self.mtu,
            is_up: self.is_up,
            longest: shape.longest,
            offloads: NetOffloads {
                checksum: features & F_CSUM != 0,
                tcp4_most: cut(F_HOST_TSO4),
                tcp6_most: cut(F_HOST_TSO6),
            },
        })
    }
}

impl<E: Env> Halves for Net<E> {
    /// The bottom half: look at the used rings, and at the device only if they have nothing new that
    /// was asked for. That look costs exits; an interrupt of a queue leaves its mark in the ring, and
    /// is an edge, so it needs no acknowledgement. A frame may be taken before its interrupt comes:
    /// then that explains it. The price: a change of the configuration that coincides with a frame is
    /// noticed at the next interrupt without one.
    fn bottom(&self) {
        let was_listening = self.is_listening.swap(false, Ordering::Relaxed);
        let has_frame = self.receive.with(|receive| {
            receive.hold_interrupts();
            receive.has_news()
        });
        let has_room = self.transmit.with(|transmit| {
            transmit.hold_interrupts();
            transmit.has_news()
        });
        let is_late = self.is_late.swap(false, Ordering::Relaxed);
        let was_taken = is_late || self.has_taken.load(Ordering::Relaxed);
        let has_news = has_frame || has_room || was_taken;
        if !was_listening || !has_news {
            self.look_at_configuration();
        }
        if was_listening && let Some(client) = self.client.with(|client| client.clone()) {
            client.notify();
        }
    }
}

impl<E: Env> NetDevice for Net<E> {
    fn info(&self) -> NetInfo {
        let is_up = self.is_up.load(Ordering::Relaxed);
        NetInfo { is_up, ..self.info }
    }

    fn set_client(&self, client: Arc<dyn NetClient>) {
        self.client.with(|place| *place = Some(client));
    }

    fn send(&self, frame: &[u8], options: &SendOptions) -> Result<(), NetError> {
        let longest = ETHERNET_HEADER + usize::from(self.info.mtu);
        let is_short = frame.len() <= ETHERNET_HEADER;
        if is_short || frame.len() > longest && options.segments.is_none() {
            return Err(NetError::BadFrame);
        }
        let offered = &self.info.offloads;
        let sent = self
            .transmit
            .with(|transmit| transmit.send(frame, options, offered));
        match sent {
            Ok(()) => self.count(|counts| {
                counts.sent += 1;
                counts.sent_bytes += frame.len() as u64;
            }),
            Err(NetError::Broken) => self.break_off(),
            Err(_) => {}
        }
        sent
    }

    fn kick(&self) {
        if self.transmit.with(Transmit::needs_kick) {
            self.transport.notify(wire::QUEUE_TRANSMIT);
        }
    }

    fn receive(&self, into: &mut [u8]) -> Option<ReceivedFrame> {
        loop {
            match self.receive.with(|receive| receive.take(into)) {
                Ok(Taken::Nothing) => return None,
                Ok(Taken::Frame(frame)) => {
                    self.has_taken.store(true, Ordering::Relaxed);
                    self.hand_back(false);
                    self.count(|counts| {
                        counts.received += 1;
                        counts.received_bytes += frame.len as u64;
                    });
                    return Some(frame);
                }
                Ok(Taken::Dropped) => self.count(|counts| counts.dropped += 1),
                Ok(Taken::Damaged) => self.count(|counts| counts.errors += 1),
                Err(_) => {
                    self.break_off();
                    return None;
                }
            }
        }
    }

    fn listen(&self) -> bool {
        self.hand_back(true);
        // Nobody was notified since the last time, so the interrupt of what was taken is still to come.
        let was_listening = self.is_listening.swap(true, Ordering::Relaxed);
        if self.has_taken.swap(false, Ordering::Relaxed) && was_listening {
            self.is_late.store(true, Ordering::Relaxed);
        }
        let has_frame = self.receive.with(Receive::listen);
        let has_room = self.transmit.with(Transmit::listen);
        has_frame | has_room | self.has_changed.swap(false, Ordering::Relaxed)
    }

    fn counts(&self) -> NetCounts {
        self.counts.with(|counts| *counts)
    }
}

impl<E: Env> Drop for Net<E> {
    /// The device must let go of the queues and buffers before they are freed.
    fn drop(&mut self) {
        if self.transport.reset().is_err() {
            // It does not: then its memory is its own for good.
            core::mem::forget(self.receive.clone());
            core::mem::forget(self.transmit.clone());
        }
    }
}
