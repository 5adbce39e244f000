//! Memory that changes while a call reads it, as a second processor of the guest would change it:
//! what was checked is what is used.
//!
//! There is one virtual processor yet, so the door is tried by itself, over plain guest memory and
//! beside a thread that never stops writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use hypercall_abi::shared::{Entry, RING_ENTRIES};
use hypercall_abi::{CallError, GuestMemory, GuestPhys, Mode};
use hypervisor::GuestFault;
use hypervisor::doors::call::CallDoor;
use hypervisor::machine::{Console, Input, Machine};
use hypervisor::memory::Memory;
use hypervisor::stats::Stats;
use hypervisor::vendor::Vendors;
use tests::{Output, Random};
use zerocopy::{FromBytes, IntoBytes};

/// Where the ring is in these tests: in the guest's own memory, so that it can be written.
const RING: u64 = 0x10_0000;
/// Where the text of `console_write` is.
const TEXT: u64 = 0x20_0000;

hypercall_abi::hypercalls! {
    /// Calls of these tests.
    topic ours {
        /// A call that the ring may make, with an argument of one byte.
        0x8001 queued(small: u8) -> u64 tier batch in [pv];
        /// A call that it may not.
        0x8002 alone() -> () tier machine in [pv];
        /// A call of another mode.
        0x8003 native() -> () tier batch in [hvm];
    }
}

struct Door {
    door: CallDoor,
    machine: Machine,
    memory: Arc<Memory>,
    output: Output,
}

fn door() -> Door {
    let output = Output::default();
    Door {
        door: CallDoor {
            mode: Mode::Pv,
            vendors: Vendors::default(),
            stats: Stats::default(),
            timing: false,
            trace: None,
            ring: RING,
            head: 0,
        },
        machine: Machine::new(Console::new(Box::new(output.clone()), Input::default())),
        memory: Arc::new(Memory::new(16 << 20, Mode::Pv).expect("memory can be mapped")),
        output,
    }
}

impl Door {
    fn drain(&mut self, tail: u32) -> Result<u64, GuestFault> {
        self.door.drain(&mut self.machine, &self.memory, tail)
    }

    /// What was printed, as at the end of an exit.
    fn text(&mut self) -> String {
        assert!(self.machine.console.flush().is_none());
        self.output.text()
    }

    fn calls(&self, name: &str) -> u64 {
        self.door
            .stats
            .calls
            .get(name)
            .map_or(0, |count| count.count)
    }
}

/// Run `work` while another thread writes `write`'s bytes, over and over, wherever it says.
fn beside_a_writer(
    memory: &Arc<Memory>,
    mut write: impl FnMut(&mut Random) -> (u64, Vec<u8>) + Send + 'static,
    work: impl FnOnce(),
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let writes = Arc::new(AtomicU64::new(0));
    let (memory, seen, count) = (
        Arc::clone(memory),
        Arc::clone(&is_over),
        Arc::clone(&writes),
    );
    let writer = thread::spawn(move || {
        let mut random = Random::new(7);
        while !seen.load(Ordering::Relaxed) {
            let (at, bytes) = write(&mut random);
            memory.write(GuestPhys(at), &bytes).expect("it is memory");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    while writes.load(Ordering::Relaxed) < 1000 {
        thread::yield_now();
    }
    work();
    is_over.store(true, Ordering::Relaxed);
    writer.join().expect("the writer does not panic");
}

fn entry(number: u64, args: [u64; 6]) -> Entry {
    Entry {
        number,
        args,
        result: 0,
    }
}

#[test]
fn an_entry_that_changes_is_run_as_it_was_checked() {
    let mut it = door();
    let (alone, queued) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (a, q) = (Arc::clone(&alone), Arc::clone(&queued));
    let vendors = &mut it.door.vendors;
    let registered = vendors
        .on(ours::calls::queued, move |_, (small,)| {
            q.fetch_add(1, Ordering::Relaxed);
            Ok(u64::from(small))
        })
        .and_then(|()| {
            let a = Arc::clone(&a);
            vendors.on(ours::calls::alone, move |_, ()| {
                a.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        })
        .and_then(|()| {
            vendors.on(ours::calls::native, move |_, ()| {
                a.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        });
    registered.expect("the calls can be registered");
    // A call that may be made from the ring, and what turns it into one that may not.
    let entries = [
        entry(0x8001, [1; 6]),
        entry(0x8001, [256; 6]),
        entry(0x8001, [u64::MAX; 6]),
        entry(0x8002, [1; 6]),
        entry(0x8003, [1; 6]),
        entry(0x30, [41; 6]),
        entry(0x30, [8, 0x2a2a_2a2a_2a2a_2a2a, 0, 0, 0, 0]),
        entry(0x40, [7; 6]),
        entry(u64::MAX, [0; 6]),
    ];
    let memory = Arc::clone(&it.memory);
    let write = move |random: &mut Random| {
        let slot = random.below(u64::from(RING_ENTRIES));
        let entry = &entries[random.below(entries.len() as u64) as usize];
        (
            RING + slot * size_of::<Entry>() as u64,
            entry.as_bytes().to_vec(),
        )
    };
    const ROUNDS: u64 = 3000;
    beside_a_writer(&memory, write, || {
        for _ in 0..ROUNDS {
            let tail = it.door.head.wrapping_add(RING_ENTRIES);
            assert_eq!(it.drain(tail), Ok(u64::from(RING_ENTRIES)));
        }
    });
    // Nothing that the ring must not reach was reached, whatever it turned into on the way.
    assert_eq!(alone.load(Ordering::Relaxed), 0);
    assert_eq!(it.machine.power.status(), None);
    assert_eq!(it.calls("alone") + it.calls("power_off"), 0);
    // Each entry was one call, of one name, and a checked argument is what its handler got.
    let names = ["queued", "native", "console_put", "unknown"];
    let calls: u64 = names.iter().map(|name| it.calls(name)).sum();
    assert_eq!(calls, ROUNDS * u64::from(RING_ENTRIES));
    assert!(queued.load(Ordering::Relaxed) <= it.calls("queued"));
    let shown = it.text();
    assert!(shown.len() as u64 <= 40 * it.calls("console_put"));
    assert!(
        names.iter().all(|name| it.calls(name) > 0),
        "{:?}",
        it.door.stats
    );
}

#[test]
fn text_that_changes_is_written_as_it_was_copied_and_in_its_length() {
    let mut it = door();
    let memory = Arc::clone(&it.memory);
    let write = |random: &mut Random| (TEXT, vec![b'a' + random.below(2) as u8; 4096]);
    beside_a_writer(&memory, write, || {
        for round in 0..200u64 {
            let args = [TEXT, round, 0, 0, 0, 0];
            let answer = it.door.call(&mut it.machine, &it.memory, 0, 0x31, &args);
            assert_eq!(answer, Ok(0));
        }
    });
    let text = it.text();
    assert_eq!(text.len(), (0..200).sum::<usize>());
    assert!(
        text.bytes().all(|byte| matches!(byte, b'a' | b'b')),
        "{text}"
    );
}

#[test]
fn what_the_hypervisor_answers_is_written_beside_the_entry_alone() {
    let mut it = door();
    let good = entry(0x21, [1, 2, 3, 4, 5, 6]);
    let bytes = good.as_bytes();
    for slot in 0..u64::from(RING_ENTRIES) {
        let at = RING + slot * bytes.len() as u64;
        it.memory.write(GuestPhys(at), bytes).expect("it is memory");
    }
    assert_eq!(it.drain(3), Ok(3));
    for slot in 0..u64::from(RING_ENTRIES) {
        let mut back = [0; size_of::<Entry>()];
        let at = RING + slot * bytes.len() as u64;
        it.memory
            .read(GuestPhys(at), &mut back)
            .expect("it is memory");
        assert_eq!(Entry::read_from_bytes(&back), Ok(good));
    }
}

#[test]
fn the_ring_goes_on_where_its_indices_wrap() {
    let mut it = door();
    it.door.head = u32::MAX - 3;
    for slot in 0..u64::from(RING_ENTRIES) {
        let letter = u64::from(b'A') + slot % 26;
        let at = RING + slot * size_of::<Entry>() as u64;
        let entry = entry(0x30, [1, letter, 0, 0, 0, 0]);
        it.memory
            .write(GuestPhys(at), entry.as_bytes())
            .expect("it is memory");
    }
    // The slots 60 to 63, and then 0 to 4.
    assert_eq!(it.drain(5), Ok(9));
    assert_eq!(it.text(), "IJKLABCDE");
    assert_eq!(it.door.head, 5);
    assert_eq!(it.drain(5), Ok(0));
    // One entry too many, one too few, and half the world.
    for tail in [5 + RING_ENTRIES + 1, 4, 5u32.wrapping_add(1 << 31)] {
        assert_eq!(it.drain(tail), Err(GuestFault::Ring { tail, head: 5 }));
        assert_eq!(it.door.head, 5);
    }
    assert_eq!(it.drain(5 + RING_ENTRIES), Ok(64));
}

#[test]
fn a_corrupt_ring_makes_no_call_at_all() {
    let mut it = door();
    let answer = it
        .door
        .call(&mut it.machine, &it.memory, 65, 0x40, &[3, 0, 0, 0, 0, 0]);
    assert_eq!(answer, Err(GuestFault::Ring { tail: 65, head: 0 }));
    assert_eq!(it.machine.power.status(), None);
}

#[test]
fn a_second_power_off_is_refused_and_the_first_status_stands() {
    let mut it = door();
    let mut off = |status| {
        let args = [status, 0, 0, 0, 0, 0];
        it.door.call(&mut it.machine, &it.memory, 0, 0x40, &args)
    };
    assert_eq!(off(3), Ok(0));
    assert_eq!(off(4), Ok(CallError::NotNow.to_word()));
    assert_eq!(it.machine.power.status(), Some(3));
}
