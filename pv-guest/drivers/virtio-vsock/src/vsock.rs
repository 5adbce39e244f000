//! The device: how it is set up, what an interrupt does, and what its client may ask.

use alloc::sync::Arc;

use driver_api::SocketId;
use driver_api::{Dma, Env, Halves, Lock, SocketAddress, SocketClient, SocketDevice, SocketError};
use virtio::wire::{F_EVENT_IDX, ID_VSOCK, INTERRUPT_CONFIG};
use virtio::{Transport, VirtioError};

use crate::queues::{DATA_MOST, Queues};
use crate::table::Table;
use crate::wire::F_STREAM;

/// The names of features, for people.
pub const FEATURES: &[(u64, &str)] = &[(F_STREAM, "stream")];

/// Offset in the configuration: this machine's number, 64 bits (5.10.4).
const CONFIG_CID: u64 = 0;
/// The event that all streams are lost (5.10.6.7).
const TRANSPORT_RESET: u32 = 0;
/// The most packets of one interrupt's work at once, so that others have their turn at the lock.
const STEP: usize = 32;

/// Queues and streams, which change together.
struct Core<D> {
    queues: Queues<D>,
    table: Table,
    is_broken: bool,
}

/// What one look at the queues came to.
struct Served {
    has_served: bool,
    has_more: bool,
    /// All streams are lost, and the machine may have another number.
    is_lost: bool,
}

impl<D: Dma> Core<D> {
    /// Work on the streams, and send what follows from it.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, SocketError>,
    ) -> Result<T, SocketError> {
        if self.is_broken {
            return Err(SocketError::Broken);
        }
        let value = work(self)?;
        self.send_due()?;
        Ok(value)
    }

    /// Send packets without data, as far as there is room.
    fn send_due(&mut self) -> Result<(), SocketError> {
        // Room first: a packet that was taken from the table must go out.
        while self.queues.has_room()? {
            let Some(header) = self.table.next() else {
                return Ok(());
            };
            self.queues.send(&header, &[])?;
        }
        Ok(())
    }

    fn write(&mut self, id: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        let mut written = 0;
        loop {
            let rest = bytes.get(written..).unwrap_or_default();
            let most = self.table.may_send(id)? as usize;
            let count = rest.len().min(most).min(DATA_MOST);
            if count == 0 || !self.queues.has_room()? {
                return Ok(written);
            }
            let header = self.table.sends(id, count as u32)?;
            self.queues
                .send(&header, rest.get(..count).unwrap_or_default())?;
            written += count;
        }
    }

    /// Take what came, up to a bound.
    fn serve(&mut self) -> Result<Served, SocketError> {
        let (queues, table) = (&mut self.queues, &mut self.table);
        let mut count = 0;
        while count < STEP && queues.receive(|header, data| table.packet(header, data))? {
            count += 1;
        }
        let mut is_lost = false;
        while let Some(event) = queues.event()? {
            count += 1;
            is_lost |= event == TRANSPORT_RESET;
        }
        if is_lost {
            table.lose_all(SocketError::Reset);
        }
        let has_room = queues.serve_sent()?;
        Ok(Served {
            has_served: count > 0 || has_room,
            has_more: count >= STEP || queues.listen(),
            is_lost,
        })
    }
}

/// A virtio socket device.
pub struct Vsock<E: Env> {
    env: E,
    transport: Transport<E::Mmio>,
    features: u64,
    /// Shared, so that a device that does not let go can keep it for good.
    core: Arc<E::Lock<Core<E::Dma>>>,
    client: E::Lock<Option<Arc<dyn SocketClient>>>,
}

impl<E: Env> Vsock<E> {
    /// Take over a device, whose interrupts arrive at a vector.
    ///
    /// # Errors
    /// [`VirtioError`]; the device is left reset or failed, and uses no memory.
    pub fn new(
        env: E,
        transport: Transport<E::Mmio>,
        vector: u8,
    ) -> Result<Arc<Self>, VirtioError> {
        let id = transport.device_id();
        if id != ID_VSOCK {
            return Err(VirtioError::OtherDevice(id));
        }
        // A device that offers neither kind of socket has streams (5.10.3.1).
        let features = transport.negotiate(F_STREAM | F_EVENT_IDX)?;
        let made = Queues::new(&env, &transport, features);
        let queues = made.inspect_err(|_| transport.fail())?;
        let cid = read_cid(&transport).inspect_err(|_| transport.fail())?;
        let core = Core {
            queues,
            table: Table::new(cid),
            is_broken: false,
        };
        let vsock = Arc::new(Self {
            env,
            transport,
            features,
            core: Arc::new(E::Lock::new(core)),
            client: E::Lock::new(None),
        });
        if let Err(error) = vsock.env.irq(vector, vsock.clone()) {
            vsock.transport.fail();
            return Err(error.into());
        }
        vsock.transport.begin();
        vsock.kick();
        Ok(vsock)
    }

    /// The features that device and driver agreed on.
    pub fn features(&self) -> u64 {
        self.features
    }

    fn kick(&self) {
        let due = self.core.with(|core| match core.is_broken {
            true => [(0, false); 3],
            false => core.queues.needs_kick(),
        });
        for (queue, is_due) in due {
            if is_due {
                self.transport.notify(queue);
            }
        }
    }

    /// Work on queues and streams, and tell the device.
    fn run<T>(
        &self,
        work: impl FnOnce(&mut Core<E::Dma>) -> Result<T, SocketError>,
    ) -> Result<T, SocketError> {
        let result = self.core.with(|core| core.with(work));
        match result {
            Err(SocketError::Broken) => self.break_off(),
            _ => self.kick(),
        }
        result
    }

    /// The device broke the protocol. Reset it, so that it uses no memory any longer.
    fn break_off(&self) {
        let is_new = self.core.with(|core| {
            core.table.lose_all(SocketError::Broken);
            !core::mem::replace(&mut core.is_broken, true)
        });
        if is_new {
            self.env
                .log(format_args!("virtio-vsock: the device cannot go on"));
            let _ = self.transport.reset();
        }
    }

    /// The machine may have been moved: it may have another number.
    fn read_cid_again(&self) {
        if let Ok(cid) = read_cid(&self.transport) {
            self.core.with(|core| core.table.set_cid(cid));
        }
    }

    fn look_at_configuration(&self) {
        let reasons = self.transport.take_interrupt();
        if reasons & INTERRUPT_CONFIG != 0 && self.transport.needs_reset() {
            self.break_off();
        }
    }
}

/// This machine's number; the upper half is zero (5.10.4), and the host's numbers are nobody else's.
fn read_cid<M: driver_api::Mmio>(transport: &Transport<M>) -> Result<u64, VirtioError> {
    let cid = transport.read_config(|transport| transport.config_u64(CONFIG_CID))?;
    let is_ours = cid > driver_api::HOST_CID && cid < u64::from(u32::MAX);
    is_ours.then_some(cid).ok_or(VirtioError::Configuration)
}

impl<E: Env> Halves for Vsock<E> {
    /// The bottom half: look at the used rings, and at the device only if they have nothing new, as
    /// `virtio-blk` does, and for the same reasons.
    fn bottom(&self) {
        let mut has_served = false;
        loop {
            match self.run(Core::serve) {
                Ok(served) => {
                    has_served |= served.has_served;
                    if served.is_lost {
                        self.read_cid_again();
                    }
                    if !served.has_more {
                        break;
                    }
                }
                Err(_) => {
                    has_served = true;
                    break;
                }
            }
        }
        if !has_served {
            self.look_at_configuration();
        }
        if let Some(client) = self.client.with(|client| client.clone()) {
            client.notify();
        }
    }
}

impl<E: Env> SocketDevice for Vsock<E> {
    fn cid(&self) -> u64 {
        self.core.with(|core| core.table.cid())
    }

    fn set_client(&self, client: Arc<dyn SocketClient>) {
        self.client.with(|place| *place = Some(client));
    }

    fn connect(&self, to: SocketAddress) -> Result<SocketId, SocketError> {
        self.run(|core| core.table.connect(to))
    }

    fn listen(&self, port: u32) -> Result<(), SocketError> {
        self.run(|core| core.table.listen(port))
    }

    fn stop_listening(&self, port: u32) {
        let stop = |core: &mut Core<E::Dma>| {
            core.table.stop_listening(port);
            Ok(())
        };
        // A broken device has no streams.
        let _ = self.run(stop);
    }

    fn accept(&self, port: u32) -> Option<(SocketId, SocketAddress)> {
        self.core.with(|core| core.table.accept(port))
    }

    fn established(&self, id: SocketId) -> Option<Result<(), SocketError>> {
        self.core.with(|core| core.table.established(id))
    }

    fn finished(&self, id: SocketId) -> Option<Result<(), SocketError>> {
        self.core.with(|core| core.table.finished(id))
    }

    fn write(&self, id: SocketId, bytes: &[u8]) -> Result<usize, SocketError> {
        self.run(|core| core.write(id, bytes))
    }

    fn read(&self, id: SocketId, into: &mut [u8]) -> Result<usize, SocketError> {
        // What came before the device broke can still be read.
        match self.core.with(|core| core.table.read(id, into)) {
            Ok(count) if count > 0 => self.run(|_| Ok(count)).or(Ok(count)),
            other => other,
        }
    }

    fn shut_down(&self, id: SocketId) {
        let shut = |core: &mut Core<E::Dma>| {
            core.table.shut_down(id);
            Ok(())
        };
        let _ = self.run(shut);
    }

    fn discard(&self, id: SocketId) {
        let discard = |core: &mut Core<E::Dma>| {
            core.table.discard(id);
            Ok(())
        };
        if self.run(discard).is_err() {
            self.core.with(|core| core.table.discard(id));
        }
    }
}

impl<E: Env> Drop for Vsock<E> {
    /// The device must let go of the queues and buffers before they are freed.
    fn drop(&mut self) {
        if self.transport.reset().is_err() {
            core::mem::forget(self.core.clone());
        }
    }
}
