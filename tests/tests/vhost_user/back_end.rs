//! The process that serves a disk of a file, on `vhost-user-backend`. Never part of the machine's process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_bindings::{virtio_blk, virtio_config, virtio_ring};
use virtio_queue::QueueOwnedT;
use vm_memory::{Address, Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

/// The variable that names the directory of `disk` and `socket`.
pub const DIRECTORY: &str = "PARAVANE_TEST_BACK_END";
/// What it says when it listens.
pub const LISTENS: &str = "it listens";
/// What it says when it is asked for [`DEADLY`]; it never answers that.
pub const STRUCK: &str = "it is struck";
/// The sector that strikes it.
pub const DEADLY: u64 = 1777;

const SECTOR: u64 = 512;
const QUEUES: u16 = 2;

struct Disk {
    file: File,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
}

impl Disk {
    fn serve(&self, vring: &VringRwLock) -> Result<(), Box<dyn std::error::Error>> {
        let memory = self.memory.memory();
        loop {
            vring.disable_notification()?;
            let chains: Vec<_> = vring
                .get_mut()
                .get_queue_mut()
                .iter(memory.clone())?
                .collect();
            for chain in chains {
                let head = chain.head_index();
                let parts: Vec<_> = chain.collect();
                let [header, data @ .., status] = parts.as_slice() else {
                    return Err("a request has two descriptors or more".into());
                };
                let kind: u32 = memory.read_obj(header.addr())?;
                let sector: u64 = memory.read_obj(header.addr().unchecked_add(8))?;
                if sector == DEADLY && kind == virtio_blk::VIRTIO_BLK_T_IN {
                    println!("\n{STRUCK}");
                    std::thread::sleep(Duration::from_secs(3600));
                }
                let (mut at, mut written) = (sector * SECTOR, 1);
                let mut answer = virtio_blk::VIRTIO_BLK_S_OK;
                for part in data {
                    let mut bytes = vec![0; part.len() as usize];
                    match kind {
                        virtio_blk::VIRTIO_BLK_T_IN => {
                            self.file.read_exact_at(&mut bytes, at)?;
                            memory.write_slice(&bytes, part.addr())?;
                            written += part.len();
                        }
                        virtio_blk::VIRTIO_BLK_T_OUT => {
                            memory.read_slice(&mut bytes, part.addr())?;
                            self.file.write_all_at(&bytes, at)?;
                        }
                        _ => answer = virtio_blk::VIRTIO_BLK_S_UNSUPP,
                    }
                    at += u64::from(part.len());
                }
                if kind == virtio_blk::VIRTIO_BLK_T_FLUSH {
                    self.file.sync_data()?;
                }
                memory.write_obj(answer as u8, status.addr())?;
                vring.add_used(head, written)?;
            }
            if vring.needs_notification()? {
                vring.signal_used_queue()?;
            }
            if !vring.enable_notification()? {
                return Ok(());
            }
        }
    }
}

impl VhostUserBackendMut for Disk {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        QUEUES.into()
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        let bits = [
            virtio_config::VIRTIO_F_VERSION_1,
            virtio_ring::VIRTIO_RING_F_EVENT_IDX,
            virtio_ring::VIRTIO_RING_F_INDIRECT_DESC,
            virtio_blk::VIRTIO_BLK_F_FLUSH,
            virtio_blk::VIRTIO_BLK_F_MQ,
            // Rings that no front end here has: it must not be agreed on.
            virtio_config::VIRTIO_F_RING_PACKED,
        ];
        let offered = bits.iter().fold(0, |all, bit| all | 1 << bit);
        offered | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn acked_features(&mut self, features: u64) {
        assert_eq!(features & 1 << virtio_config::VIRTIO_F_RING_PACKED, 0);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
    }

    /// The queues know by themselves.
    fn set_event_idx(&mut self, _: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let sectors = self.file.metadata().map_or(0, |data| data.len()) / SECTOR;
        let mut config = sectors.to_le_bytes().to_vec();
        config.resize(60, 0);
        config[34..36].copy_from_slice(&QUEUES.to_le_bytes());
        let (offset, size) = (offset as usize, size as usize);
        config
            .get(offset..offset + size)
            .unwrap_or_default()
            .to_vec()
    }

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
        let vring = vrings
            .get(usize::from(event))
            .ok_or(io::ErrorKind::NotFound)?;
        self.serve(vring)
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// No test: what the tests run as another process.
#[test]
#[ignore = "the other process of the tests"]
fn serve_for_ever() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(directory.join("disk"));
    let file = file.expect("a disk");
    let mut listener = Listener::new(directory.join("socket"), true).expect("a socket");
    println!("\n{LISTENS}");
    loop {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let disk = Arc::new(RwLock::new(Disk {
            file: file.try_clone().expect("the disk"),
            memory: memory.clone(),
        }));
        let daemon = VhostUserDaemon::new("disk".into(), disk, memory);
        let mut daemon = daemon.expect("a daemon");
        daemon.start(&mut listener).expect("a machine");
        // A machine ends in the middle of a message, or at its end.
        let _ = daemon.wait();
    }
}
