//! A card on its wire: the model, what carries its frames, and the thread that takes frames from there.
//!
//! The processor's accesses and the thread take turns at the model. Neither waits for the wire: a frame that
//! it has no room for stays with the model, and the thread sends it as soon as there is some.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_devices::chain::Buffer;
use virtio_devices::net::{Carrier, Offloads};
use virtio_devices::raw_io::IoVecs;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::receive::LONGEST;
use super::{Ne2000, Sent};
use crate::legacy::lines::Lines;
use crate::legacy::thread::Thread;

/// Bytes before each frame at a carrier: a `virtio_net_hdr` that says that nothing is left to do.
const HEADER: usize = 12;
/// The longest message of a carrier's that is taken whole; one that is longer is no frame for this card.
const MESSAGE: usize = HEADER + LONGEST + 1;
/// Frames that the thread takes before it looks whether it is to end.
const TURN: usize = 64;

/// What the thread waits for.
const CARRIER: u64 = 0;
const STOP: u64 = 1;

/// A card on its wire.
///
/// Fields are in the order in which they must be dropped: the thread ends before what it waits for does.
#[derive(Debug)]
pub struct Card {
    /// It ends by `stop`, when this is dropped.
    _thread: Thread,
    stop: EventFd,
    shared: Arc<Shared>,
}

/// What the processor and the thread share.
struct Shared {
    state: Mutex<State>,
    carrier: Arc<dyn Carrier>,
    epoll: Epoll,
    lines: Lines,
    pin: usize,
}

struct State {
    model: Ne2000,
    out: Out,
    /// Whether the thread waits for room on the wire.
    wants_room: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("model", &state.model)
            .finish_non_exhaustive()
    }
}

impl Card {
    /// Put a card on a wire. Its line is a pin's.
    ///
    /// # Errors
    /// The host's.
    pub fn new(
        mac: [u8; 6],
        carrier: Arc<dyn Carrier>,
        lines: Lines,
        pin: usize,
    ) -> io::Result<Self> {
        // Frames come whole, with their checksums: this card leaves nothing to others.
        carrier.set_offloads(Offloads::default())?;
        let stop = EventFd::new(EFD_NONBLOCK)?;
        let epoll = Epoll::new()?;
        for (fd, what) in [(carrier.fd(), CARRIER), (stop.as_raw_fd(), STOP)] {
            epoll.ctl(
                ControlOperation::Add,
                fd,
                EpollEvent::new(EventSet::IN, what),
            )?;
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                model: Ne2000::new(mac),
                out: Out::new()?,
                wants_room: false,
            }),
            carrier,
            epoll,
            lines,
            pin,
        });
        let others = Arc::clone(&shared);
        Ok(Self {
            shared,
            stop,
            _thread: Thread::start("ne2000", move || others.work())?,
        })
    }

    /// Read a port.
    pub fn read(&self, offset: u16, into: &mut [u8]) {
        self.shared.with(|model, _| model.read(offset, into));
    }

    /// Write a port.
    pub fn write(&self, offset: u16, from: &[u8]) {
        self.shared
            .with(|model, wire| model.write(offset, from, wire));
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // An eventfd that nobody else writes has room. The thread is joined behind this.
        let _ = self.stop.write(1);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked left a card that can be reset.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Do something with the model; then its line follows, and the thread waits for room if it has to.
    fn with<R>(&self, work: impl FnOnce(&mut Ne2000, &mut super::Wire<'_>) -> R) -> R {
        let mut state = self.lock();
        let State { model, out, .. } = &mut *state;
        let result = work(model, &mut |frame| out.send(&*self.carrier, frame));
        self.lines.set(self.pin, state.model.interrupt());
        if state.model.is_sending() != state.wants_room {
            state.wants_room = !state.wants_room;
            let wants = match state.wants_room {
                true => EventSet::IN | EventSet::OUT,
                false => EventSet::IN,
            };
            // A carrier that has ended is not waited for any more, and nothing comes of this.
            let event = EpollEvent::new(wants, CARRIER);
            let _ = self
                .epoll
                .ctl(ControlOperation::Modify, self.carrier.fd(), event);
        }
        result
    }

    /// The thread: until it is stopped.
    fn work(&self) {
        let mut events = [EpollEvent::default(); 2];
        let mut message = vec![0; MESSAGE];
        loop {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Without epoll nothing comes any more, as from a wire that was cut.
                Err(_) => return,
            };
            for event in events.iter().take(count) {
                if event.data() == STOP {
                    return;
                }
                if event.event_set().contains(EventSet::OUT) {
                    self.with(|model, wire| model.go_on_sending(wire));
                }
                if !self.take_frames(&mut message) {
                    let nothing = EpollEvent::new(EventSet::empty(), CARRIER);
                    let fd = self.carrier.fd();
                    let _ = self.epoll.ctl(ControlOperation::Delete, fd, nothing);
                    // There is no room to wait for either: what waits is lost.
                    self.with(|model, wire| model.go_on_sending(wire));
                }
            }
        }
    }

    /// Take what frames there are; false when there will never be one again.
    fn take_frames(&self, message: &mut [u8]) -> bool {
        for _ in 0..TURN {
            match self.carrier.receive_here(message) {
                Ok(0) => return false,
                Ok(len) => {
                    let frame = message.get(HEADER..len).unwrap_or_default();
                    self.with(|model, _| model.receive(frame));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// A frame on its way out, where the carrier takes it from.
struct Out {
    memory: GuestMemoryMmap,
    pieces: IoVecs,
}

impl Out {
    fn new() -> io::Result<Self> {
        let range = (GuestAddress(0), HEADER + super::memory::BYTES);
        let memory = GuestMemoryMmap::from_ranges(&[range]).map_err(io::Error::other)?;
        Ok(Self {
            pieces: IoVecs::new(memory.clone()),
            memory,
        })
    }

    fn send(&mut self, carrier: &dyn Carrier, frame: &[u8]) -> Sent {
        let sent = self.try_send(carrier, frame);
        match sent.err().map(|error| error.kind()) {
            Some(io::ErrorKind::WouldBlock) => Sent::Later,
            // What a carrier refuses is lost, as on a wire.
            _ => Sent::Gone,
        }
    }

    fn try_send(&mut self, carrier: &dyn Carrier, frame: &[u8]) -> io::Result<()> {
        // The header stays zeros.
        let at = GuestAddress(HEADER as u64);
        self.memory
            .write_slice(frame, at)
            .map_err(io::Error::other)?;
        let whole = Buffer {
            at: GuestAddress(0),
            len: (HEADER + frame.len()) as u32,
        };
        self.pieces.set(&[whole]).map_err(io::Error::other)?;
        carrier.send(&self.pieces)
    }
}
