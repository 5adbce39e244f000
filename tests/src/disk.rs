//! What a disk of the guest's has to do, whichever device it is.

use std::fs;

use netstack::hash::Fnv;
use tempfile::NamedTempFile;

use crate::Ran;

/// Sectors of an [`image`].
pub const SECTORS: u64 = 2048;
/// Bytes of a sector.
const SECTOR: usize = 512;

/// An image of a disk, full of zeros.
pub fn image() -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    let bytes = SECTORS * SECTOR as u64;
    file.as_file().set_len(bytes).expect("room");
    file
}

/// The hash of bytes that the kernel's `disk read` and `get` print.
pub fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::new();
    hash.add(bytes);
    hash.0
}

/// Of a disk's bytes, `count` sectors from `first` on were written by `disk write`, which makes each differ from
/// the others; the rest is zeros.
#[track_caller]
pub fn assert_written(bytes: &[u8], first: usize, count: usize) {
    let (before, rest) = bytes.split_at(first * SECTOR);
    let (written, after) = rest.split_at(count * SECTOR);
    assert!(before.iter().chain(after).all(|byte| *byte == 0));
    let mut sectors: Vec<&[u8]> = written.chunks(SECTOR).collect();
    sectors.sort_unstable();
    sectors.dedup();
    assert_eq!(sectors.len(), count);
}

/// What a guest writes to a disk of this name is in the file, and another one reads it back. `ran`: a guest with
/// the file as its disk, and its script.
#[track_caller]
pub fn assert_keeps_what_is_written(
    disk: &str,
    count: usize,
    ran: impl Fn(&NamedTempFile, &str) -> Ran,
) {
    let file = image();
    let first = ran(
        &file,
        &format!("disk {disk} write 3 {count} 7; disk {disk} flush"),
    );
    assert_eq!(first.status(), 0, "{}", first.output);
    let bytes = fs::read(file.path()).expect("the image");
    assert_written(&bytes, 3, count);
    let more = count + 20;
    let script = format!("disk {disk} verify 3 {count} 7; disk {disk} read 0 {more}");
    let again = ran(&file, &script);
    let lines = again.lines();
    let right = format!("{count} sectors, 0 wrong");
    let hash = fnv(&bytes[..more * SECTOR]);
    let hash = format!("{more} sectors, fnv1a {hash:016x}");
    assert!(lines.contains(&right.as_str()), "{lines:?}");
    assert!(lines.contains(&hash.as_str()), "{hash}: {lines:?}");
    assert_eq!(fs::read(file.path()).expect("the image"), bytes);
}

/// A sector that is not what it should be is found, and ends the script with its status. `ran` as above.
#[track_caller]
pub fn assert_finds_a_wrong_sector(disk: &str, ran: impl Fn(&NamedTempFile, &str) -> Ran) {
    let script = format!("disk {disk} write 0 16 1; disk {disk} verify 0 17 1");
    let ran = ran(&image(), &script);
    assert_eq!(ran.status(), 1, "{}", ran.output);
    let end = "17 sectors, 1 wrong\ninput/output error\n";
    assert!(ran.output.contains(end), "{}", ran.output);
}
