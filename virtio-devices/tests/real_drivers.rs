//! Drivers that others wrote (the crate virtio-drivers) against these devices, over plain memory: what
//! both sides of the unit tests might have misread alike, shows here.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use virtio_devices::blk::{Block, DiskOptions, EngineKind, FileDisk};
use virtio_devices::console::Console;
use virtio_devices::net::user::{UserNet, UserNetOptions};
use virtio_devices::net::{Net, NetOptions};
use virtio_devices::rng::Rng;
use virtio_devices::vsock::Vsock;
use virtio_devices::{Device, Interrupt, MmioTransport};
use virtio_drivers::device::blk::VirtIOBlk;
use virtio_drivers::device::console::VirtIOConsole;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::device::socket::{
    DisconnectReason, VirtIOSocket, VsockAddr, VsockConnectionManager, VsockEvent, VsockEventType,
};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr, Result};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const MEMORY: u64 = 64 << 20;

/// The guest's memory, one for all tests, as a `Hal` has no state of its own.
static GUEST: LazyLock<GuestMemoryMmap> = LazyLock::new(|| {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).expect("memory")
});
/// The first page that was never handed out.
static NEXT: AtomicU64 = AtomicU64::new(PAGE_SIZE as u64);

/// Pages of guest memory, each handed out once.
fn take(pages: usize) -> u64 {
    let len = (pages * PAGE_SIZE) as u64;
    let at = NEXT.fetch_add(len, Ordering::SeqCst);
    assert!(at + len <= MEMORY, "the tests use up their memory");
    at
}

struct Guest;

// SAFETY: `take` hands each page out once, zeroed as the mapping was; the mapping is a static, so the
// pointers stay valid, and tests touch its pages through these pointers and through copies alone.
unsafe impl Hal for Guest {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let at = take(pages);
        let host = GUEST.get_host_address(GuestAddress(at)).expect("inside");
        (
            at,
            NonNull::new(host).expect("a mapping is nowhere near zero"),
        )
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("for PCI alone")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let at = take(buffer.len().div_ceil(PAGE_SIZE));
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller promises a valid buffer that nobody else accesses now.
            let bytes = unsafe { buffer.as_ref() };
            GUEST.write_slice(bytes, GuestAddress(at)).expect("inside");
        }
        at
    }

    unsafe fn unshare(at: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: as in `share`.
            let bytes = unsafe { buffer.as_mut() };
            GUEST.read_slice(bytes, GuestAddress(at)).expect("inside");
        }
    }
}

/// These drivers poll.
struct Unheard;

impl Interrupt for Unheard {
    fn signal(&self) {}
}

/// The registers, as a driver's transport.
struct Registers(MmioTransport);

impl Registers {
    fn of(device: impl Device + 'static) -> Registers {
        let transport = MmioTransport::new(Box::new(device), GUEST.clone(), Arc::new(Unheard));
        Registers(transport.expect("doorbells"))
    }

    fn get(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.0.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn set(&mut self, offset: u64, value: u32) {
        self.0.write(offset, &value.to_le_bytes());
    }
}

impl Transport for Registers {
    fn device_type(&self) -> DeviceType {
        DeviceType::try_from(self.get(0x08)).expect("a known type")
    }

    fn read_device_features(&mut self) -> u64 {
        self.set(0x14, 0);
        let low = self.get(0x10);
        self.set(0x14, 1);
        u64::from(low) | u64::from(self.get(0x10)) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        for (select, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.set(0x24, select);
            self.set(0x20, value);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.set(0x30, queue.into());
        self.get(0x34)
    }

    fn notify(&mut self, queue: u16) {
        self.set(0x50, queue.into());
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.get(0x70))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.set(0x70, status.bits());
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        table: PhysAddr,
        driver: PhysAddr,
        device: PhysAddr,
    ) {
        self.set(0x30, queue.into());
        self.set(0x38, size);
        for (register, address) in [(0x80, table), (0x90, driver), (0xa0, device)] {
            self.set(register, address as u32);
            self.set(register + 4, (address >> 32) as u32);
        }
        self.set(0x44, 1);
        assert_eq!(self.get(0x44), 1, "queue {queue} is taken");
    }

    fn queue_unset(&mut self, queue: u16) {
        self.set(0x30, queue.into());
        self.set(0x44, 0);
        assert_eq!(self.get(0x44), 0);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.set(0x30, queue.into());
        self.get(0x44) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let causes = self.get(0x60);
        self.set(0x64, causes);
        InterruptStatus::from_bits_truncate(causes)
    }

    fn read_config_generation(&self) -> u32 {
        self.get(0xfc)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let mut value = T::new_zeroed();
        self.0.read(0x100 + offset as u64, value.as_mut_bytes());
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        self.0.write(0x100 + offset as u64, value.as_bytes());
        Ok(())
    }
}

#[test]
fn a_disk_is_read_written_and_flushed() {
    for engine in [EngineKind::Sync, EngineKind::IoUring] {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let image: Vec<u8> = (0..64 * 512u32).map(|index| (index / 3) as u8).collect();
        file.write_all(&image).expect("room");
        let options = DiskOptions {
            engine,
            ..DiskOptions::default()
        };
        let disk = FileDisk::open(file.path(), options).expect("opens");
        let registers = Registers::of(Block::new(Box::new(disk), "serial", 1));
        let mut driver = VirtIOBlk::<Guest, _>::new(registers).expect("a driver");
        assert_eq!((driver.capacity(), driver.readonly()), (64, false));
        let mut id = [0; 20];
        let len = driver.device_id(&mut id).expect("a name");
        assert_eq!(id[..len], *b"serial");
        let mut sectors = vec![0; 5 * 512];
        driver.read_blocks(7, &mut sectors).expect("reads");
        assert_eq!(sectors, image[7 * 512..12 * 512]);
        for round in 0..100usize {
            let bytes = [round as u8; 1024];
            driver.write_blocks(round % 62, &bytes).expect("writes");
            driver
                .read_blocks(round % 62, &mut sectors[..1024])
                .expect("reads");
            assert_eq!(sectors[..1024], bytes);
        }
        driver.flush().expect("flushes");
        let end = driver.read_blocks(64, &mut sectors[..512]);
        assert_eq!(end, Err(Error::IoError));
    }
}

#[test]
fn entropy_differs_each_time() {
    let mut driver = VirtIORng::<Guest, _>::new(Registers::of(Rng)).expect("a driver");
    let (mut first, mut second) = ([0; 64], [0; 64]);
    assert_eq!(driver.request_entropy(&mut first), Ok(64));
    assert_eq!(driver.request_entropy(&mut second), Ok(64));
    assert_ne!(first, second);
}

#[test]
fn a_console_speaks_and_listens() {
    let (input, mut keyboard) = std::io::pipe().expect("a pipe");
    let (mut screen, output) = std::io::pipe().expect("a pipe");
    let console = Console::new(input.into(), output.into());
    console.resizer().resize(80, 25);
    let mut driver = VirtIOConsole::<Guest, _>::new(Registers::of(console)).expect("a driver");
    let size = driver.size().expect("reads").expect("has one");
    assert_eq!((size.columns, size.rows), (80, 25));
    driver.send_bytes(b"hello").expect("sends");
    let mut text = [0; 5];
    screen.read_exact(&mut text).expect("five");
    assert_eq!(&text, b"hello");
    keyboard.write_all(b"world").expect("room");
    let start = std::time::Instant::now();
    let mut heard = Vec::new();
    while heard.len() < 5 {
        assert!(start.elapsed().as_secs() < 20, "only {heard:?}");
        heard.extend(driver.recv(true).expect("receives"));
    }
    assert_eq!(heard, b"world");
}

#[test]
fn a_network_without_privileges_says_who_has_the_gateway() {
    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
    let network = UserNet::start(&UserNetOptions::new(MAC)).expect("a network");
    let device = Net::new(Arc::new(network), NetOptions::new(MAC));
    let mut driver = VirtIONetRaw::<Guest, _, 16>::new(Registers::of(device)).expect("a driver");
    assert_eq!(driver.mac_address(), MAC);
    let mut question = vec![0xff; 6];
    question.extend(MAC);
    // ARP (RFC 826): for Ethernet and IPv4, a request, from 10.0.2.15, for 10.0.2.2.
    question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(MAC);
    question.extend([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    driver.send(&question).expect("sends");
    let mut frame = [0; 2048];
    let (header, len) = driver.receive_wait(&mut frame).expect("receives");
    let answer = &frame[header..header + len];
    assert_eq!(answer[..6], MAC);
    assert_eq!(answer[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    assert_eq!(answer[28..32], [10, 0, 2, 2]);
}

type Sockets = VsockConnectionManager<Guest, Registers>;

/// The next event that a driver has.
fn event(sockets: &mut Sockets) -> VsockEvent {
    let start = std::time::Instant::now();
    loop {
        if let Some(event) = sockets.poll().expect("packets that make sense") {
            return event;
        }
        assert!(start.elapsed().as_secs() < 20, "nothing comes");
    }
}

/// Receive as much as `expected`, which is to be it.
fn receive(sockets: &mut Sockets, peer: VsockAddr, port: u32, expected: &[u8]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let event = event(sockets);
        assert!(
            matches!(event.event_type, VsockEventType::Received { .. }),
            "{event:?}"
        );
        let mut part = [0; 8192];
        let len = sockets.recv(peer, port, &mut part).expect("is open");
        got.extend_from_slice(&part[..len]);
        sockets.update_credit(peer, port).expect("is open");
    }
    assert_eq!(got, expected);
}

#[test]
fn sockets_connect_both_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.sock");
    let device = Vsock::new(42, &path).expect("a socket");
    let driver = VirtIOSocket::<Guest, _>::new(Registers::of(device)).expect("a driver");
    let mut sockets = VsockConnectionManager::new(driver);
    assert_eq!(sockets.guest_cid(), 42);
    let bytes: Vec<u8> = (0..100_000u32).map(|index| (index / 7) as u8).collect();

    // Out: to the socket that stands for port 5000.
    let listener = UnixListener::bind(folder.path().join("v.sock_5000")).expect("a socket");
    let host = VsockAddr { cid: 2, port: 5000 };
    sockets.connect(host, 40).expect("sends");
    assert_eq!(event(&mut sockets).event_type, VsockEventType::Connected);
    let (mut program, _) = listener.accept().expect("a connection");
    sockets.send(host, 40, b"hello").expect("has credit");
    let mut text = [0; 5];
    program.read_exact(&mut text).expect("five");
    assert_eq!(&text, b"hello");
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || program.write_all(&sent).map(|()| program));
    receive(&mut sockets, host, 40, &bytes);
    let mut program = writer.join().expect("no panic").expect("all went");
    sockets.shutdown(host, 40).expect("sends");
    assert_eq!(program.read(&mut text).expect("an end"), 0);
    let closed = event(&mut sockets).event_type;
    let reason = DisconnectReason::Reset;
    assert_eq!(closed, VsockEventType::Disconnected { reason });

    // Nobody there.
    let nobody = VsockAddr { cid: 2, port: 5001 };
    sockets.connect(nobody, 41).expect("sends");
    let closed = event(&mut sockets).event_type;
    assert_eq!(closed, VsockEventType::Disconnected { reason });

    // In.
    sockets.listen(1234);
    let mut program = UnixStream::connect(&path).expect("it listens");
    program.write_all(b"CONNECT 1234\n").expect("room");
    let request = event(&mut sockets);
    assert_eq!(request.event_type, VsockEventType::ConnectionRequest);
    let peer = request.source;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        program.read_exact(&mut byte).expect("a line");
        line.extend(byte);
    }
    assert_eq!(line, format!("OK {}\n", peer.port).into_bytes());
    program.write_all(b"to the guest").expect("room");
    receive(&mut sockets, peer, 1234, b"to the guest");
    drop(program);
    let closed = event(&mut sockets).event_type;
    let reason = DisconnectReason::Shutdown;
    assert_eq!(closed, VsockEventType::Disconnected { reason });
}
