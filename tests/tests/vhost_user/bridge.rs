//! The process that serves a network card, on `vhost-user-backend`: it hands frames on to a socket, where the
//! other end of the wire is, and back. Never part of the machine's process.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_bindings::{virtio_config, virtio_ring};
use virtio_queue::QueueOwnedT;
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use crate::back_end::{DIRECTORY, LISTENS};

/// Queues: what the driver receives into, and what it sends.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const QUEUES: usize = 2;
/// The event of the wire, behind those of the queues and of the end.
const WIRE: u16 = QUEUES as u16 + 1;
/// Where a frame's header says how many buffers it has (virtio 1.2, 5.1.6).
const BUFFERS: usize = 10;
const LONGEST: usize = 2048;

struct Card {
    wire: OwnedFd,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
}

type Failed = Box<dyn std::error::Error>;

impl Card {
    fn send(&self, vring: &VringRwLock) -> Result<(), Failed> {
        let memory = self.memory.memory();
        loop {
            vring.disable_notification()?;
            let chains: Vec<_> = vring
                .get_mut()
                .get_queue_mut()
                .iter(memory.clone())?
                .collect();
            for chain in chains {
                let (head, mut frame) = (chain.head_index(), Vec::new());
                for part in chain {
                    let at = frame.len();
                    frame.resize(at + part.len() as usize, 0);
                    memory.read_slice(&mut frame[at..], part.addr())?;
                }
                rustix::net::send(&self.wire, &frame, SendFlags::NOSIGNAL)?;
                vring.add_used(head, 0)?;
            }
            if vring.needs_notification()? {
                vring.signal_used_queue()?;
            }
            if !vring.enable_notification()? {
                return Ok(());
            }
        }
    }

    /// Take frames off the wire, as long as there is room for them.
    fn receive(&self, vring: &VringRwLock) -> Result<(), Failed> {
        let memory = self.memory.memory();
        let mut frame = [0; LONGEST];
        loop {
            let next = vring.get_mut().get_queue_mut().iter(memory.clone())?.next();
            let Some(chain) = next else { break };
            let head = chain.head_index();
            let len = match rustix::net::recv(&self.wire, &mut frame, RecvFlags::empty()) {
                Ok((len, _)) if len > 0 => len,
                _ => {
                    // Nothing is there: the buffer stays the driver's.
                    vring.get_mut().get_queue_mut().go_to_previous_position();
                    break;
                }
            };
            frame[BUFFERS..BUFFERS + 2].copy_from_slice(&1_u16.to_le_bytes());
            let mut rest = &frame[..len];
            for part in chain {
                let (piece, behind) = rest.split_at(rest.len().min(part.len() as usize));
                memory.write_slice(piece, part.addr())?;
                rest = behind;
            }
            assert!(rest.is_empty(), "a buffer has room for a frame");
            vring.add_used(head, len as u32)?;
            if vring.needs_notification()? {
                vring.signal_used_queue()?;
            }
        }
        Ok(())
    }
}

impl VhostUserBackendMut for Card {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        let bits = [
            virtio_config::VIRTIO_F_VERSION_1,
            virtio_ring::VIRTIO_RING_F_EVENT_IDX,
            virtio_ring::VIRTIO_RING_F_INDIRECT_DESC,
        ];
        let offered = bits.iter().fold(0, |all, bit| all | 1 << bit);
        offered | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
    }

    /// The queues know by themselves.
    fn set_event_idx(&mut self, _: bool) {}

    fn update_memory(&mut self, _: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        Ok(())
    }

    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::empty()).ok()
    }

    fn handle_event(
        &mut self,
        event: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> io::Result<()> {
        let [receive, transmit] = [RECEIVE, TRANSMIT].map(|index| &vrings[index]);
        let done = match usize::from(event) {
            TRANSMIT => self.send(transmit),
            _ => self.receive(receive),
        };
        done.map_err(|error| io::Error::other(error.to_string()))
    }
}

/// No test: what a test runs as another process.
#[test]
#[ignore = "the other process of the tests"]
fn bridge_for_ever() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    let wire = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).expect("a socket");
    let peer = SocketAddrUnix::new(directory.join("net")).expect("a short path");
    rustix::net::connect(&wire, &peer).expect("the other end of the wire");
    let fd = wire.as_raw_fd();
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let card = Card {
        wire,
        memory: memory.clone(),
    };
    let card = Arc::new(RwLock::new(card));
    let daemon = VhostUserDaemon::new("card".into(), card, memory);
    let mut daemon = daemon.expect("a daemon");
    let mut listener = Listener::new(directory.join("socket"), true).expect("a socket");
    println!("\n{LISTENS}");
    daemon.start(&mut listener).expect("a machine");
    for handler in daemon.get_epoll_handlers() {
        let added =
            handler.register_listener(fd, EventSet::IN | EventSet::EDGE_TRIGGERED, WIRE.into());
        added.expect("an epoll");
    }
    let _ = daemon.wait();
}
