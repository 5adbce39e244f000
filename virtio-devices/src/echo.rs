//! A device for tests: it copies what a driver wrote back to the driver, and does wrong on demand.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::chain::{Chain, copy_from, copy_to, total};
use crate::device::{ConfigChanged, feature};
use crate::{Activation, DataPath, Device, DeviceError, Served, VirtQueue};

/// What the test can see and do from outside.
#[derive(Default)]
pub struct Seen {
    /// Calls of the data path, whatever they were for.
    pub steps: AtomicUsize,
    /// Data paths made and dropped.
    pub made: AtomicUsize,
    pub dropped: AtomicUsize,
}

pub struct Echo {
    pub seen: Arc<Seen>,
    pub config: [u8; 6],
    pub event: Arc<EventFd>,
    pub keep: Option<Box<dyn FnOnce(ConfigChanged) + Send>>,
    pub refuses: bool,
}

impl Echo {
    pub fn new() -> (Box<Echo>, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let echo = Echo {
            seen: Arc::clone(&seen),
            config: [1, 2, 3, 4, 5, 6],
            event: Arc::new(EventFd::new(EFD_NONBLOCK).expect("an eventfd")),
            keep: None,
            refuses: false,
        };
        (Box::new(echo), seen)
    }
}

impl Device for Echo {
    fn device_type(&self) -> u32 {
        42
    }
    fn features(&self) -> u64 {
        feature::QUEUE | 0b101
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 8]
    }
    fn read_config(&self, offset: u64, into: &mut [u8]) {
        crate::memory::read_config(&self.config, offset, into);
    }
    fn write_config(&mut self, offset: u64, from: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, value) in self.config.iter_mut().skip(start).zip(from) {
            *byte = *value;
        }
    }
    fn on_config_change(&mut self, tell: ConfigChanged) {
        if let Some(keep) = self.keep.take() {
            keep(tell);
        }
    }
    fn activate(&mut self, activation: Activation) -> Result<Box<dyn DataPath>, DeviceError> {
        if self.refuses {
            return Err(DeviceError::Host {
                what: "a test's wish",
                source: std::io::Error::from_raw_os_error(libc::ENOMEM),
            });
        }
        self.seen.made.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(EchoPath {
            seen: Arc::clone(&self.seen),
            event: Arc::clone(&self.event),
            memory: activation.memory,
            queues: activation.queues,
            chain: Chain::default(),
        }))
    }
}

struct EchoPath {
    seen: Arc<Seen>,
    event: Arc<EventFd>,
    memory: GuestMemoryMmap,
    queues: Vec<VirtQueue>,
    chain: Chain,
}

impl DataPath for EchoPath {
    fn notify(&mut self, queue: usize) -> Result<Served, DeviceError> {
        self.seen.steps.fetch_add(1, Ordering::SeqCst);
        let Some(ring) = self.queues.get_mut(queue) else {
            return Ok(Served::default());
        };
        let memory = &self.memory;
        ring.serve(&mut self.chain, |ring, chain| {
            let mut bytes = vec![0; total(&chain.readable) as usize];
            copy_from(memory, &chain.readable, &mut bytes);
            match bytes.as_slice() {
                b"panic" => panic!("as the test wishes"),
                b"error" => Err(DeviceError::Request {
                    queue,
                    what: "as the test wishes",
                }),
                _ => {
                    let written = copy_to(memory, &chain.writable, &bytes);
                    ring.push_used(chain.head, written as u32)?;
                    Ok(true)
                }
            }
        })
    }

    fn queues(&mut self) -> &mut [VirtQueue] {
        &mut self.queues
    }

    fn fds(&self) -> Vec<RawFd> {
        vec![self.event.as_raw_fd()]
    }

    fn interest(&self, _: usize) -> EventSet {
        EventSet::IN
    }

    fn ready(&mut self, _: usize) -> Result<Served, DeviceError> {
        self.seen.steps.fetch_add(1, Ordering::SeqCst);
        let _ = self.event.read();
        Ok(Served {
            interrupt: true,
            ..Served::default()
        })
    }
}

impl Drop for EchoPath {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, Ordering::SeqCst);
    }
}
