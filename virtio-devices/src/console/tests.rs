use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Console;
use crate::driver::{Driver, WRITE};

const DATA: u64 = 0x10_0000;
const SHORT: Duration = Duration::from_millis(100);

/// A console between two pipes: what a test writes, what it reads.
fn piped() -> (Driver, std::io::PipeWriter, std::io::PipeReader) {
    let (input, keyboard) = std::io::pipe().expect("a pipe");
    let (screen, output) = std::io::pipe().expect("a pipe");
    (
        started(Console::new(input.into(), output.into())),
        keyboard,
        screen,
    )
}

fn started(console: Console) -> Driver {
    let mut driver = Driver::new(Box::new(console));
    let features = driver.offered();
    driver.start(features);
    driver
}

#[test]
fn output_goes_out_in_order() {
    let (mut driver, _keyboard, mut screen) = piped();
    driver.put(DATA, b"hello, world");
    driver.submit(1, &[(DATA, 7, 0), (DATA + 7, 0, 0), (DATA + 7, 5, 0)]);
    driver.wait_used(1, 1);
    assert_eq!(driver.rings[1].used(&driver.memory, 0), (0, 0));
    let mut text = [0; 12];
    screen.read_exact(&mut text).expect("all of it");
    assert_eq!(&text, b"hello, world");
}

#[test]
fn input_waits_for_buffers_and_buffers_for_input() {
    let (mut driver, mut keyboard, _screen) = piped();
    keyboard.write_all(b"early").expect("room");
    driver.submit(0, &[(DATA, 2, WRITE), (DATA + 100, 1, WRITE)]);
    driver.wait_used(0, 1);
    assert_eq!(driver.rings[0].used(&driver.memory, 0), (0, 3));
    assert_eq!(
        (driver.get(DATA, 2), driver.get(DATA + 100, 1)),
        (b"ea".to_vec(), b"r".to_vec())
    );
    driver.submit(0, &[(DATA, 64, WRITE)]);
    driver.wait_used(0, 2);
    assert_eq!(driver.get(DATA, 3), b"ly\0");
    driver.submit(0, &[(DATA, 64, WRITE)]);
    std::thread::sleep(SHORT);
    assert_eq!(driver.rings[0].used_index(&driver.memory), 2);
    keyboard.write_all(b"late").expect("room");
    driver.wait_used(0, 3);
    assert_eq!(driver.get(DATA, 4), b"late");
}

#[test]
fn a_screen_that_nobody_reads_stops_neither_input_nor_a_reset() {
    let (mut driver, mut keyboard, mut screen) = piped();
    let text: Vec<u8> = (0..0x4_0000u32).map(|i| (i % 253) as u8).collect();
    driver.put(DATA, &text);
    driver.submit(1, &[(DATA, text.len() as u32, 0)]);
    std::thread::sleep(SHORT);
    assert_eq!(
        driver.rings[1].used_index(&driver.memory),
        0,
        "a pipe has no such room"
    );
    keyboard.write_all(b"key").expect("room");
    driver.submit(0, &[(0x20_0000, 3, WRITE)]);
    driver.wait_used(0, 1);
    // Once it is read, the rest follows.
    let reader = std::thread::spawn(move || {
        let mut found = vec![0; 0x4_0000];
        screen.read_exact(&mut found).expect("all of it");
        (found, screen)
    });
    driver.wait_used(1, 1);
    let (found, _screen) = reader.join().expect("no panic");
    assert!(found == text);
    driver.submit(1, &[(DATA, text.len() as u32, 0)]);
    std::thread::sleep(SHORT);
    driver.set_status(0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn a_gone_screen_swallows_and_a_gone_keyboard_is_silent() {
    let (mut driver, keyboard, screen) = piped();
    drop((keyboard, screen));
    driver.submit(0, &[(DATA, 3, WRITE)]);
    driver.put(DATA, b"into the void");
    driver.submit(1, &[(DATA, 13, 0)]);
    driver.wait_used(1, 1);
    driver.submit(1, &[(DATA, 13, 0)]);
    driver.wait_used(1, 2);
    assert_eq!(driver.rings[0].used_index(&driver.memory), 0);
}

#[test]
fn files_will_do() {
    let (mut input, output) = (
        tempfile::tempfile().expect("one"),
        tempfile::tempfile().expect("two"),
    );
    input.write_all(b"script").expect("room");
    std::io::Seek::rewind(&mut input).expect("a file");
    let result = output.try_clone().expect("a clone");
    let mut driver = started(Console::new(OwnedFd::from(input), OwnedFd::from(output)));
    driver.submit(0, &[(DATA, 64, WRITE)]);
    driver.wait_used(0, 1);
    assert_eq!(driver.get(DATA, 7), b"script\0");
    driver.submit(1, &[(DATA, 6, 0)]);
    driver.wait_used(1, 1);
    let mut text = [0; 6];
    std::os::unix::fs::FileExt::read_exact_at(&result, &mut text, 0).expect("six");
    assert_eq!(&text, b"script");
}

#[test]
fn a_buffer_without_room_comes_back_empty() {
    let (mut driver, mut keyboard, _screen) = piped();
    driver.submit(0, &[(DATA, 0, WRITE)]);
    driver.wait_used(0, 1);
    driver.submit(0, &[(DATA, 8, WRITE)]);
    keyboard.write_all(b"x").expect("room");
    driver.wait_used(0, 2);
    assert_eq!(driver.rings[0].used(&driver.memory, 1), (0, 1));
}

#[test]
fn a_new_size_reaches_the_driver_once() {
    let (input, _keyboard) = std::io::pipe().expect("a pipe");
    let (_screen, output) = std::io::pipe().expect("a pipe");
    let console = Console::new(input.into(), output.into());
    let resizer = console.resizer();
    resizer.resize(80, 24);
    let mut driver = started(console);
    let mut bytes = [0xff; 12];
    driver.transport.read(0x100, &mut bytes);
    assert_eq!(bytes, [80, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    resizer.resize(132, 50);
    assert_eq!(driver.interrupted(), 2);
    driver.transport.read(0x100, &mut bytes);
    assert_eq!(bytes[..4], [132, 0, 50, 0]);
    resizer.resize(132, 50);
    assert!(!driver.is_interrupted_within(SHORT));
}
