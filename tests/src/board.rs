//! A board without KVM: a driver's environment, whose ports lead to a model or to nonsense.
//!
//! The line of what is at the ports goes to one vector. Its top half runs at once when the line rises, or,
//! where the pin is triggered by level, while it is raised; the bottom half when the test says so.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use driver_api::{Dma, Env, EnvError, Halves, Lock, Mmio, PortEnv, Ports, Waiters};

/// The vector of the one interrupt.
pub const VECTOR: u8 = 0x21;

/// What is at the ports.
pub trait Bus: Send {
    /// Read from a port.
    fn read(&mut self, port: u16, into: &mut [u8]);
    /// Write to a port.
    fn write(&mut self, port: u16, from: &[u8]);
    /// Whether the line is raised.
    fn interrupt(&mut self) -> bool;
}

/// Use what is behind a mutex.
///
/// # Panics
/// When it is taken already: there is one thread, so it would stay taken.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock().expect("a lock was taken twice")
}

/// A board.
struct Machine<B> {
    bus: Mutex<B>,
    halves: Mutex<Option<Arc<dyn Halves>>>,
    was_raised: Mutex<bool>,
    needs_bottom: Mutex<bool>,
    accesses: AtomicU64,
    is_level: bool,
}

/// The environment; clones are of the same board.
pub struct Board<B>(Arc<Machine<B>>);

impl<B> Clone for Board<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Bus + 'static> Board<B> {
    /// A board with something at its ports, whose pin is triggered by edge or by level.
    pub fn new(bus: B, is_level: bool) -> Self {
        Self(Arc::new(Machine {
            bus: Mutex::new(bus),
            halves: Mutex::default(),
            was_raised: Mutex::default(),
            needs_bottom: Mutex::default(),
            accesses: AtomicU64::new(0),
            is_level,
        }))
    }

    /// How many accesses to ports there were.
    pub fn accesses(&self) -> u64 {
        self.0.accesses.load(Ordering::Relaxed)
    }

    /// Do something with what is at the ports; the top half runs where the line asks for it.
    pub fn access<R>(&self, work: impl FnOnce(&mut B) -> R) -> R {
        let (result, is_raised) = {
            let mut bus = lock(&self.0.bus);
            let result = work(&mut bus);
            (result, bus.interrupt())
        };
        let was_raised = std::mem::replace(&mut *lock(&self.0.was_raised), is_raised);
        if is_raised && (self.0.is_level || !was_raised) {
            self.top();
        }
        result
    }

    /// Run the top half, if somebody has attached one. It must not interrupt itself.
    pub fn top(&self) {
        let halves = lock(&self.0.halves).take();
        if let Some(halves) = halves {
            *lock(&self.0.needs_bottom) |= halves.top();
            *lock(&self.0.halves) = Some(halves);
        }
    }

    /// Run the bottom half as long as it is asked for; false when it was not.
    pub fn bottom(&self) -> bool {
        let mut has_run = false;
        while std::mem::take(&mut *lock(&self.0.needs_bottom)) {
            let halves = lock(&self.0.halves).clone();
            halves.expect("somebody asked for it").bottom();
            has_run = true;
        }
        has_run
    }

    fn port_access<R>(&self, work: impl FnOnce(&mut B) -> R) -> R {
        self.0.accesses.fetch_add(1, Ordering::Relaxed);
        self.access(work)
    }
}

impl<B: Bus + 'static> Env for Board<B> {
    type Dma = Bytes;
    type Mmio = Never;
    type Lock<T: Send + 'static> = OneThread<T>;
    type Waiters = Never;

    fn dma(&self, bytes: usize) -> Result<Bytes, EnvError> {
        Ok(Bytes::new(vec![0; bytes]))
    }
    fn mmio(&self, _: u64, _: u64) -> Result<Never, EnvError> {
        Err(EnvError::NoRoom)
    }
    fn irq(&self, vector: u8, halves: Arc<dyn Halves>) -> Result<(), EnvError> {
        assert_eq!(vector, VECTOR);
        *lock(&self.0.halves) = Some(halves);
        Ok(())
    }
    fn log(&self, text: fmt::Arguments<'_>) {
        println!("{text}");
    }
}

impl<B: Bus + 'static> PortEnv for Board<B> {
    type Ports = BoardPorts<B>;

    fn ports(&self, first: u16, count: u16) -> Result<BoardPorts<B>, EnvError> {
        let board = self.clone();
        Ok(BoardPorts {
            board,
            first,
            count,
        })
    }
}

/// Ports of a board.
pub struct BoardPorts<B> {
    board: Board<B>,
    first: u16,
    count: u16,
}

impl<B: Bus + 'static> BoardPorts<B> {
    fn port(&self, at: u16) -> u16 {
        assert!(at < self.count, "port {at} of {}", self.count);
        self.first + at
    }

    fn get(&self, at: u16, into: &mut [u8]) {
        let port = self.port(at);
        self.board.port_access(|bus| bus.read(port, into));
    }

    fn put(&self, at: u16, from: &[u8]) {
        let port = self.port(at);
        self.board.port_access(|bus| bus.write(port, from));
    }
}

impl<B: Bus + 'static> Ports for BoardPorts<B> {
    fn read(&self, at: u16) -> u8 {
        let mut byte = [0];
        self.get(at, &mut byte);
        byte[0]
    }
    fn write(&self, at: u16, value: u8) {
        self.put(at, &[value]);
    }
    // In pieces, as KVM does it.
    fn read_words(&self, at: u16, into: &mut [u16]) {
        for piece in into.chunks_mut(300) {
            let mut bytes = vec![0; piece.len() * 2];
            self.get(at, &mut bytes);
            for (word, pair) in piece.iter_mut().zip(bytes.chunks_exact(2)) {
                *word = u16::from_le_bytes([pair[0], pair[1]]);
            }
        }
    }
    fn write_words(&self, at: u16, from: &[u16]) {
        for word in from {
            self.put(at, &word.to_le_bytes());
        }
    }
}

/// Memory for a device that reaches none.
pub struct Bytes(Mutex<Vec<u8>>);

impl Bytes {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(bytes))
    }

    /// What is there.
    pub fn content(&self) -> Vec<u8> {
        lock(&self.0).clone()
    }
}

impl Dma for Bytes {
    fn phys(&self) -> u64 {
        0
    }
    fn len(&self) -> usize {
        lock(&self.0).len()
    }
    fn load_u16(&self, at: usize) -> u16 {
        let bytes = lock(&self.0);
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.write(at, &value.to_le_bytes());
    }
    fn read(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&lock(&self.0)[at..at + into.len()]);
    }
    fn write(&self, at: usize, from: &[u8]) {
        lock(&self.0)[at..at + from.len()].copy_from_slice(from);
    }
}

/// A lock that one thread takes, once at a time.
pub struct OneThread<T>(Mutex<T>);

impl<T: Send + 'static> Lock<T> for OneThread<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut lock(&self.0))
    }
}

/// What drivers of such devices do not ask for.
pub enum Never {}

impl Mmio for Never {
    fn len(&self) -> u64 {
        match *self {}
    }
    fn read(&self, _: u64) -> u32 {
        match *self {}
    }
    fn write(&self, _: u64, _: u32) {
        match *self {}
    }
}

impl Waiters for Never {
    fn new() -> Self {
        panic!("this driver has nobody wait")
    }
    fn wait_until<T>(&self, _: impl FnMut() -> Option<T>) -> T {
        match *self {}
    }
    fn wake_all(&self) {
        match *self {}
    }
}
