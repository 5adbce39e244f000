use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::*;
use crate::driver::{Driver, MEMORY, WRITE};

const LIST: u64 = 0x10_0000;

/// What was done: whether pages were given up, where, how much.
type Event = (bool, u64, u64);

struct Seen(Mutex<Sender<Event>>);

impl Seen {
    fn say(&self, event: Event) -> std::io::Result<()> {
        self.0
            .lock()
            .expect("whole")
            .send(event)
            .expect("somebody listens");
        // The host may refuse; the driver does not mind.
        Err(std::io::ErrorKind::OutOfMemory.into())
    }
}

impl Pages for Seen {
    fn give_up(&self, at: GuestAddress, len: u64) -> std::io::Result<()> {
        self.say((true, at.0, len))
    }
    fn take_again(&self, at: GuestAddress, len: u64) -> std::io::Result<()> {
        self.say((false, at.0, len))
    }
}

fn started() -> (Driver, Handle, Receiver<Event>) {
    let (sender, seen) = channel();
    let balloon = Balloon::new(Arc::new(Seen(Mutex::new(sender))));
    let handle = balloon.handle();
    let mut driver = Driver::new(Box::new(balloon));
    let features = driver.offered();
    driver.start(features);
    (driver, handle, seen)
}

fn list(driver: &mut Driver, queue: usize, pages: &[u32]) {
    let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    driver.put(LIST, &bytes);
    // In two pieces, cut within a number.
    let cut = bytes.len() as u32 - 3;
    driver.submit(queue, &[(LIST, cut, 0), (LIST + u64::from(cut), 3, 0)]);
}

#[test]
fn pages_next_to_each_other_are_given_up_together() {
    let (mut driver, _, seen) = started();
    list(&mut driver, 0, &[0x200, 0x201, 0x202, 0x300, 0x2ff, 0x210]);
    driver.wait_used(0, 1);
    let given = [
        (true, 0x20_0000, 0x3000),
        (true, 0x2f_f000, 0x2000),
        (true, 0x21_0000, 0x1000),
    ];
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), given);
    list(&mut driver, 1, &[0x201]);
    driver.wait_used(1, 1);
    assert_eq!(
        seen.try_iter().collect::<Vec<_>>(),
        [(false, 0x20_1000, 0x1000)]
    );
}

#[test]
fn a_long_list_is_taken_whole() {
    let (mut driver, _, seen) = started();
    let pages: Vec<u32> = (0..2000)
        .map(|index| index % 2 * 0x100 + index / 2 % 0x80)
        .collect();
    list(&mut driver, 0, &pages);
    driver.wait_used(0, 1);
    let given: u64 = seen.try_iter().map(|(_, _, len)| len / PAGE).sum();
    assert_eq!(given, 2000);
}

#[test]
fn reported_memory_is_given_up_in_whole_pages() {
    let (mut driver, _, seen) = started();
    let chain = [
        (0x20_0000, 0x4000, WRITE),
        (0x30_0001, 0x2fff, WRITE),
        (0x31_0001, 0x1ffe, WRITE),
        (0x32_0000, 0xfff, WRITE),
    ];
    driver.submit(2, &chain);
    driver.wait_used(2, 1);
    let given = [(true, 0x20_0000, 0x4000), (true, 0x30_1000, 0x2000)];
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), given);
}

#[test]
fn what_a_driver_must_not_send_needs_a_reset() {
    let end = (MEMORY as u64 / PAGE) as u32;
    for (pages, why) in [
        (vec![0x200, end], "not in memory"),
        (vec![u32::MAX], "not in memory"),
    ] {
        let (mut driver, _, _seen) = started();
        list(&mut driver, 0, &pages);
        assert!(driver.wait_fault().contains(why));
    }
    for (queue, chain, why) in [
        (0, (LIST, 6, 0), "within a number"),
        (1, (LIST, 4 * 4097, 0), "more than 4096"),
        (2, (LIST, 0x1000, 0), "readable"),
    ] {
        let (mut driver, _, seen) = started();
        driver.submit(queue, &[chain]);
        assert!(driver.wait_fault().contains(why));
        assert_eq!(seen.try_iter().count(), 0);
    }
    let (mut driver, _, seen) = started();
    driver.start(0);
    driver.submit(2, &[(0x20_0000, 0x1000, WRITE)]);
    assert!(driver.wait_fault().contains("not negotiated"));
    assert_eq!(seen.try_iter().count(), 0);
}

#[test]
fn the_target_goes_to_the_driver_and_its_answer_comes_back() {
    let (mut driver, handle, _seen) = started();
    handle.set_target(0x0102_0304);
    assert_eq!(driver.interrupted(), 2);
    let mut bytes = [0; 16];
    driver.transport.read(0x100, &mut bytes);
    assert_eq!(bytes[..8], [4, 3, 2, 1, 0, 0, 0, 0]);
    // The target is not the driver's to write, in no width.
    driver.transport.write(0x100, &[9, 9, 9, 9, 7, 0, 0, 0]);
    driver.transport.write(0x105, &[1]);
    driver.transport.write(0x108, &[5; 8]);
    assert_eq!(handle.actual(), 0x107);
    driver.transport.read(0x100, &mut bytes);
    assert_eq!(bytes, [4, 3, 2, 1, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    driver.set_status(0);
    assert_eq!(handle.actual(), 0);
}
