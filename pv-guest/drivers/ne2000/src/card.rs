//! The card: how it is set up, what an interrupt does, and what its client may ask.
//!
//! The client uses the card from one thread at a time, so the registers are its own, but for two accesses:
//! the top half masks all interrupts, which lowers the line, and the client asks for interrupts again when
//! it listens. Between the two it polls.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use driver_api::{ETHERNET_HEADER, Halves, Lock, NetClient, NetCounts, NetDevice};
use driver_api::{NetError, NetInfo, NetOffloads, PortEnv, ReceivedFrame, SendOptions};

use crate::chip::{Chip, Stuck};
use crate::error::Ne2000Error;
use crate::state::{State, Taken};
use crate::wire::{self, cause};

/// An NE2000.
///
/// [`Lock`] has to keep the top half off: the chip has two pages of registers at the same ports, and while
/// the second is chosen, under a lock, the top half would write another register than it means.
pub struct Card<E: PortEnv> {
    env: E,
    chip: Chip<E::Ports>,
    mac: [u8; 6],
    /// `None` while somebody uses it, and for good once the card is broken.
    state: E::Lock<Option<State>>,
    /// Held while the chip's second page of registers is chosen.
    alone: E::Lock<()>,
    counts: E::Lock<NetCounts>,
    client: E::Lock<Option<Arc<dyn NetClient>>>,
    /// The client waits to be notified.
    is_listening: AtomicBool,
    /// The client waits for room.
    wants_room: AtomicBool,
    is_broken: AtomicBool,
}

impl<E: PortEnv> Card<E> {
    /// Take over a card, whose interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`Ne2000Error`]; the card is stopped then.
    pub fn new(env: E, ports: E::Ports, vector: u8) -> Result<Arc<Self>, Ne2000Error> {
        let chip = Chip::new(ports);
        chip.reset().map_err(|Stuck| Ne2000Error::NoReset)?;
        let mac = chip.address().ok_or(Ne2000Error::NoCard)?;
        let card = Arc::new(Self {
            env,
            chip,
            mac,
            state: E::Lock::new(Some(State::new())),
            alone: E::Lock::new(()),
            counts: E::Lock::new(NetCounts::default()),
            client: E::Lock::new(None),
            is_listening: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        });
        card.env
            .irq(vector, card.clone())
            .map_err(Ne2000Error::Env)?;
        card.chip.start(mac);
        Ok(card)
    }

    /// Use the state; `None` while another thread does, or when the card is broken.
    fn with_state<R>(&self, work: impl FnOnce(&mut State) -> R) -> Option<R> {
        let mut state = self.state.with(Option::take)?;
        let result = work(&mut state);
        self.state.with(|place| *place = Some(state));
        Some(result)
    }

    /// The card did what it must not.
    fn break_off(&self) {
        if !self.is_broken.swap(true, Ordering::Relaxed) {
            self.chip.stop();
            self.state.with(|state| *state = None);
            self.env.log(format_args!("ne2000: the card cannot go on"));
        }
    }

    fn count(&self, add: impl FnOnce(&mut NetCounts)) {
        self.counts.with(add);
    }
}

impl<E: PortEnv> Halves for Card<E> {
    /// Lower the line: whatever the card has to say, its client finds by itself.
    fn top(&self) -> bool {
        self.chip.set_mask(0);
        true
    }

    fn bottom(&self) {
        if self.is_listening.swap(false, Ordering::Relaxed)
            && let Some(client) = self.client.with(|client| client.clone())
        {
            client.notify();
        }
    }
}

impl<E: PortEnv> NetDevice for Card<E> {
    fn info(&self) -> NetInfo {
        NetInfo {
            mac: self.mac,
            mtu: wire::MTU,
            // The card knows nothing of a link.
            is_up: !self.is_broken.load(Ordering::Relaxed),
            longest: wire::LONGEST,
            offloads: NetOffloads::default(),
        }
    }

    fn set_client(&self, client: Arc<dyn NetClient>) {
        self.client.with(|place| *place = Some(client));
    }

    fn send(&self, frame: &[u8], options: &SendOptions) -> Result<(), NetError> {
        let longest = ETHERNET_HEADER + usize::from(wire::MTU);
        let is_plain = *options == SendOptions::default();
        if frame.len() <= ETHERNET_HEADER || frame.len() > longest || !is_plain {
            return Err(NetError::BadFrame);
        }
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(NetError::Broken);
        }
        let sent = self.with_state(|state| state.send(&self.chip, frame));
        match sent.unwrap_or(Err(NetError::Busy)) {
            Ok(()) => {
                self.count(|counts| {
                    counts.sent += 1;
                    counts.sent_bytes += frame.len() as u64;
                });
                Ok(())
            }
            Err(error) => {
                match error {
                    NetError::Busy => self.wants_room.store(true, Ordering::Relaxed),
                    NetError::Broken => self.break_off(),
                    NetError::BadFrame => {}
                }
                Err(error)
            }
        }
    }

    /// The card was told at once, but for a frame that waits for another.
    fn kick(&self) {
        self.with_state(|state| {
            if state.is_queued() {
                state.reap(&self.chip);
            }
        });
    }

    fn receive(&self, into: &mut [u8]) -> Option<ReceivedFrame> {
        loop {
            let (taken, missed) = self.with_state(|state| {
                let taken = state.take(&self.chip, &self.alone, into);
                (taken, state.take_missed())
            })?;
            if missed > 0 {
                self.count(|counts| counts.dropped += missed);
            }
            match taken {
                Ok(Taken::Nothing) => return None,
                Ok(Taken::Frame(len)) => {
                    self.count(|counts| {
                        counts.received += 1;
                        counts.received_bytes += len as u64;
                    });
                    let is_checked = false;
                    return Some(ReceivedFrame { len, is_checked });
                }
                Ok(Taken::Dropped) => self.count(|counts| counts.dropped += 1),
                Ok(Taken::Damaged) => self.count(|counts| counts.errors += 1),
                Err(Stuck) => {
                    self.break_off();
                    return None;
                }
            }
        }
    }

    /// What came since the last look interrupts as soon as it may: the line is low as long as it is masked. So
    /// does the end of a frame that another waits for.
    fn listen(&self) -> bool {
        if self.is_broken.load(Ordering::Relaxed) {
            return false;
        }
        self.is_listening.store(true, Ordering::Relaxed);
        self.kick();
        let is_queued = self.with_state(|state| state.is_queued());
        let wants_room = self.wants_room.swap(false, Ordering::Relaxed) || is_queued == Some(true);
        let room = if wants_room { cause::TRANSMITTED } else { 0 };
        self.chip
            .set_mask(cause::RECEIVED | cause::OVERWRITE | room);
        self.with_state(|state| state.has_frames()).unwrap_or(true)
    }

    fn counts(&self) -> NetCounts {
        self.counts.with(|counts| *counts)
    }
}

impl<E: PortEnv> Drop for Card<E> {
    fn drop(&mut self) {
        self.chip.stop();
    }
}
