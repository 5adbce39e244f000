//! An interface: a device, the stack on it, and a thread that polls.
//!
//! The thread sleeps until the device notifies, or until the stack's next moment. It then polls as long
//! as there is something to do, and for a moment longer (`BUSY_POLL_NS`), letting those run between whom
//! the news are for; only then does it ask the device to notify again. So an idle guest sleeps, and under
//! load there are no interrupts at all. Callers poll as well, after what they did: a write leaves, and a
//! read opens the window, without a change of threads.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use driver_api::{NetClient, NetDevice};
use netstack::{Address, NetFail, Polled, PortCounts, Stack};

use crate::sched::{self, NEVER};
use crate::sync::{Mutex, TimedQueue};
use crate::time::now_ns;
use crate::{dev, hooks};

/// How long an interface is polled after the last news, at first. An answer that comes meanwhile wakes no
/// virtual processor and interrupts nobody. KVM waits as long at a HLT (its `halt_poll_ns`), where the
/// guest would be waiting otherwise.
const BUSY_POLL_NS: u64 = 200_000;

/// A moment by which something must have happened, by [`now_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub u64);

impl Deadline {
    /// In so many nanoseconds.
    pub fn after(ns: u64) -> Self {
        Self(now_ns().saturating_add(ns))
    }

    /// However long it takes.
    pub const fn never() -> Self {
        Self(NEVER)
    }

    /// Whether it has come.
    pub fn is_over(self) -> bool {
        self.0 != NEVER && now_ns() >= self.0
    }
}

/// A network interface.
pub struct Link {
    /// Its name.
    pub name: String,
    /// The vector of its device's interrupts.
    pub vector: u8,
    device: Arc<dyn NetDevice>,
    /// `None` until the interface is configured.
    stack: Mutex<Option<Stack>>,
    bell: Arc<Bell>,
    /// Counts the polls that changed something.
    turn: AtomicU64,
    /// Those who wait for such a poll.
    waiters: TimedQueue,
    /// When the thread polls by itself.
    due: AtomicU64,
    /// When a poll last changed something, by [`now_ns`].
    news: AtomicU64,
    /// How long it is polled after that, in nanoseconds.
    busy_poll_ns: AtomicU64,
}

/// What wakes the thread.
struct Bell {
    has_rung: AtomicBool,
    queue: TimedQueue,
}

impl Bell {
    fn ring(&self) {
        self.has_rung.store(true, Ordering::Relaxed);
        self.queue.wake_all();
    }

    fn wait(&self, deadline_ns: u64) {
        let rung = || self.has_rung.swap(false, Ordering::Relaxed).then_some(());
        // Without news, time has come.
        let _ = self.queue.wait_until(deadline_ns, rung);
    }
}

impl NetClient for Bell {
    fn notify(&self) {
        self.ring();
    }
}

impl Link {
    /// The interface of a device.
    pub(super) fn new(name: String, device: Arc<dyn NetDevice>, vector: u8) -> Self {
        Self {
            name,
            vector,
            device,
            stack: Mutex::new(None),
            bell: Arc::new(Bell {
                has_rung: AtomicBool::new(false),
                queue: TimedQueue::new(),
            }),
            turn: AtomicU64::new(0),
            waiters: TimedQueue::new(),
            due: AtomicU64::new(NEVER),
            news: AtomicU64::new(0),
            busy_poll_ns: AtomicU64::new(BUSY_POLL_NS),
        }
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn NetDevice> {
        &self.device
    }

    /// The address; `None` while there is none.
    pub fn address(&self) -> Option<Address> {
        self.stack.lock().as_ref().and_then(Stack::address)
    }

    /// Whether DHCP is asked for an address, or has given one.
    pub fn has_dhcp(&self) -> bool {
        self.stack.lock().as_ref().is_some_and(Stack::has_dhcp)
    }

    /// What did not pass between device and stack.
    pub fn port_counts(&self) -> PortCounts {
        let stack = self.stack.lock();
        stack.as_ref().map_or(PortCounts::default(), Stack::counts)
    }

    /// How long the interface is polled after the last news, in nanoseconds.
    pub fn busy_poll_ns(&self) -> u64 {
        self.busy_poll_ns.load(Ordering::Relaxed)
    }

    /// Poll the interface for so many nanoseconds after the last news: 0 to have each announced by an
    /// interrupt.
    pub fn set_busy_poll_ns(&self, ns: u64) {
        self.busy_poll_ns.store(ns, Ordering::Relaxed);
    }

    /// Change the interface's configuration. The first time makes its stack, and its thread.
    ///
    /// # Errors
    /// [`NetFail`] of `work`, [`NetFail::NoMemory`].
    pub fn configure(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Stack) -> Result<(), NetFail>,
    ) -> Result<(), NetFail> {
        let mut place = self.stack.lock();
        if place.is_none() {
            let stack = Stack::new(self.device.clone(), seed(&self.device), now_ns())?;
            self.device.set_client(self.bell.clone());
            let link = self.clone();
            let thread = sched::spawn("net", move || link.work());
            drop(thread.map_err(|_| NetFail::NoMemory)?);
            *place = Some(stack);
        }
        let result = place.as_mut().map_or(Err(NetFail::NoAddress), work);
        drop(place);
        self.bell.ring();
        result
    }

    /// The thread.
    fn work(&self) -> ! {
        loop {
            let (is_idle, due) = self.poll_once();
            if is_idle {
                self.bell.wait(due);
                self.due.store(0, Ordering::Relaxed);
            } else {
                // Those who wait take what came; then there may be more.
                sched::yield_now();
            }
        }
    }

    /// Poll. Returns whether there is nothing more to do, and when there will be.
    fn poll_once(&self) -> (bool, u64) {
        let mut place = self.stack.lock();
        let Some(stack) = place.as_mut() else {
            return (true, NEVER);
        };
        let now = now_ns();
        let polled = stack.poll(now);
        let due = polled.due_ns.unwrap_or(NEVER);
        // From here on others see whether they must ring.
        self.due.store(due, Ordering::Relaxed);
        let has_news = polled.has_changed || polled.has_more;
        let is_soon = now.saturating_sub(self.news.load(Ordering::Relaxed)) < self.busy_poll_ns();
        let has_more = has_news || is_soon || stack.listen();
        drop(place);
        if polled.has_changed {
            self.tell();
        }
        (!has_more, due)
    }

    /// A poll has changed something: let all who wait look.
    fn tell(&self) {
        self.news.store(now_ns(), Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.waiters.wake_all();
    }

    /// Work on the stack until that yields a value, sleeping between. After each try the stack is
    /// polled, so that what was done takes effect.
    ///
    /// # Errors
    /// [`NetFail::TimedOut`], [`NetFail::NoAddress`] before the interface is configured.
    pub fn until<T>(
        &self,
        deadline: Deadline,
        mut work: impl FnMut(&mut Stack) -> Option<T>,
    ) -> Result<T, NetFail> {
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            let (value, has_news) = self.try_once(&mut work)?;
            if let Some(value) = value {
                return Ok(value);
            }
            if deadline.is_over() {
                return Err(NetFail::TimedOut);
            }
            if has_news {
                continue;
            }
            let news = || (self.turn.load(Ordering::Relaxed) != turn).then_some(());
            // A deadline that has come is seen above, after a last try.
            let _ = self.waiters.wait_until(deadline.0, news);
        }
    }

    /// Work on the stack, once.
    ///
    /// # Errors
    /// [`NetFail::NoAddress`] before the interface is configured.
    pub fn with<T>(&self, work: impl FnOnce(&mut Stack) -> T) -> Result<T, NetFail> {
        self.try_once(work).map(|(value, _)| value)
    }

    /// Work on the stack, and poll it. Returns also whether that may have brought news.
    fn try_once<T>(&self, work: impl FnOnce(&mut Stack) -> T) -> Result<(T, bool), NetFail> {
        let mut place = self.stack.lock();
        let stack = place.as_mut().ok_or(NetFail::NoAddress)?;
        let value = work(stack);
        let polled = stack.poll(now_ns());
        drop(place);
        Ok((value, self.follow(polled)))
    }

    /// Do what follows from a poll of a caller's. Returns whether it may have brought news.
    fn follow(&self, polled: Polled) -> bool {
        if polled.has_changed {
            self.tell();
        }
        let due = polled.due_ns.unwrap_or(NEVER);
        let is_sooner = due < self.due.load(Ordering::Relaxed);
        if is_sooner || polled.is_short || polled.has_more {
            self.bell.ring();
        }
        polled.has_changed || polled.has_more
    }
}

/// A number that nobody can guess, if there is a source of randomness; else the clock's and the
/// device's.
fn seed(device: &Arc<dyn NetDevice>) -> u64 {
    let mut bytes = [0; 8];
    if let Some(source) = dev::random()
        && source.fill(&mut bytes).is_ok()
    {
        return u64::from_le_bytes(bytes);
    }
    let [a, b, c, d, e, f] = device.info().mac;
    let mac = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    // Spreads what differs in few bits (SplitMix64).
    let mixed = (hooks::ticks() ^ mac.rotate_left(24)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}
