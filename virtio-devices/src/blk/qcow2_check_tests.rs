//! Images that are well pass, whatever was done to them; each table that disagrees is found.

use std::path::PathBuf;

use imago::qcow2::Qcow2;
use imago::storage::Storage;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder,
    StorageCreateOptions, StorageOpenOptions,
};
use tempfile::TempDir;
use vm_memory::GuestAddress;

use super::*;
use crate::blk::backend::{BlockBackend, Command, Engine, Span};
use crate::blk::{DiskOptions, ImageDisk};
use crate::chain::Buffer;

type Image = Qcow2<imago::file::File>;

/// The size of the disks.
const SIZE: u64 = 1 << 20;
/// Of clusters and refcounts.
const SHAPES: [(usize, usize); 6] = [
    (512, 16),
    (4096, 1),
    (4096, 4),
    (0x1_0000, 16),
    (0x1_0000, 64),
    (512, 64),
];

/// An image in a folder of its own.
struct Made {
    _folder: TempDir,
    path: PathBuf,
}

impl Made {
    /// With some data, zeros, and what was discarded.
    fn new(cluster: usize, bits: usize) -> Made {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.qcow2");
        let file = imago::file::File::create_open(StorageCreateOptions::new().filename(&path))
            .expect("a file");
        let builder = Image::create_builder(file).size(SIZE).cluster_size(cluster);
        builder.refcount_width(bits).create().expect("an image");
        let made = Made {
            _folder: folder,
            path,
        };
        let mut access = made.open();
        for at in [0u64, 0x3_0000, 0x8_0000] {
            access
                .writev(vec![3u8; 0x1_0000].as_slice().into(), at)
                .expect("writes");
        }
        access.write_zeroes(0x3_8000, 0x4000).expect("writes");
        access.discard_to_any(0x8_0000, 0x8000).expect("discards");
        access
            .writev([4u8; 512].as_slice().into(), 0xf_0000)
            .expect("writes");
        access.flush().expect("writes");
        drop(access);
        made
    }

    fn open(&self) -> FormatAccess<imago::file::File> {
        let file =
            imago::file::File::open(StorageOpenOptions::new().filename(&self.path).write(true));
        let image = Image::builder(file.expect("it is there")).write(true);
        FormatAccess::new(
            image
                .open(DenyImplicitOpenGate::default())
                .expect("an image"),
        )
    }

    fn check(&self) -> Result<(), String> {
        check(&self.file()).map_err(|error| error.to_string())
    }

    fn file(&self) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(&self.path)
            .expect("it is there")
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file()
            .read_exact_at(&mut bytes, at)
            .expect("in the file");
        u64::from_be_bytes(bytes)
    }

    fn set(&self, at: u64, word: u64) {
        self.file()
            .write_all_at(&word.to_be_bytes(), at)
            .expect("room");
    }

    /// Where the first L2 table is.
    fn l2(&self) -> u64 {
        self.word(self.word(40)) & OFFSET
    }

    /// What is found once a word is another.
    fn damaged(at: impl FnOnce(&Made) -> (u64, u64)) -> String {
        let made = Made::new(0x1_0000, 16);
        let (at, word) = at(&made);
        made.set(at, word);
        made.check().expect_err("it is damaged")
    }
}

#[test]
fn images_that_are_well_pass() {
    for (cluster, bits) in SHAPES {
        let made = Made::new(cluster, bits);
        assert_eq!(
            made.check(),
            Ok(()),
            "clusters of {cluster}, refcounts of {bits} bits"
        );
    }
}

/// Run a command to its end.
fn run(engine: &mut dyn Engine, command: Command) {
    let at = GuestAddress(0);
    let buffers = match command {
        Command::Write { .. } => vec![Buffer { at, len: 4096 }],
        _ => Vec::new(),
    };
    engine.start(0, command, &buffers);
    let finished = loop {
        engine.wait().expect("threads");
        if let Some(finished) = engine.finished().expect("threads") {
            break finished;
        }
    };
    finished.result.expect("it is done");
}

/// What is on the disk at any moment is what a process that is killed leaves.
#[test]
fn an_image_that_was_not_closed_is_well_once_it_is_counted() {
    let made = Made::new(512, 16);
    let disk = ImageDisk::open(&made.path, &[], DiskOptions::default()).expect("an image");
    let mut engine = disk.engine(1, &crate::driver::memory()).expect("an engine");
    let copy = made.path.with_extension("copy");
    let (mut mended, is_durable) = (0, false);
    for round in 0..160u64 {
        // Places in an order that is none.
        let at = round * 0x7_3000 % SIZE;
        let span = |len| Span { at, len };
        let zeroes = |may_unmap| Command::WriteZeroes {
            spans: vec![(span(0x1000), may_unmap)],
            is_durable,
        };
        let command = match round % 5 {
            0 => Command::Discard {
                spans: vec![span(0x3000)],
                is_durable,
            },
            1 => zeroes(false),
            2 => zeroes(true),
            _ => Command::Write { at, is_durable },
        };
        run(engine.as_mut(), command);
        std::fs::copy(&made.path, &copy).expect("room");
        let left = std::fs::read(&copy).expect("a file");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&copy)
            .expect("it is there");
        check(&file).expect("nothing is used twice");
        let counted = std::fs::read(&copy).expect("a file");
        mended += usize::from(left != counted);
        check(&file).expect("it is well");
        assert!(
            std::fs::read(&copy).expect("a file") == counted,
            "once is enough"
        );
    }
    // Of imago 0.2.6. Once there are none, the mending may go.
    assert!(mended > 0);
}

#[test]
fn a_refcount_table_without_room_is_found() {
    let found = Made::damaged(|made| (56, made.word(56) & 0xffff_ffff));
    assert!(
        found.contains("cluster 0 is used and cannot be counted"),
        "{found}"
    );
    let found = Made::damaged(|made| (made.word(48), 0));
    assert!(
        found.contains("cluster 0 is used and cannot be counted"),
        "{found}"
    );
}

#[test]
fn a_disk_whose_data_are_tables_is_found() {
    const COPIED: u64 = 1 << 63;
    for table in [0, 48, 40] {
        let found = Made::damaged(|made| {
            (
                made.l2(),
                COPIED
                    | if table == 0 {
                        0x1_0000
                    } else {
                        made.word(table)
                    },
            )
        });
        assert!(found.contains("is used twice"), "{found}");
    }
    // Two parts of the disk that are the same, and a table that is its own.
    let found = Made::damaged(|made| (made.l2() + 8, made.word(made.l2())));
    assert!(found.contains("is used twice"), "{found}");
    let found = Made::damaged(|made| (made.word(40), made.word(40) | COPIED));
    assert!(found.contains("is used twice"), "{found}");
}

#[test]
fn what_is_not_where_it_may_be_is_found() {
    let found = Made::damaged(|made| (made.l2(), 1 << 55));
    assert!(found.contains("is not in the file"), "{found}");
    let found = Made::damaged(|made| (made.l2(), made.word(made.l2()) + 512));
    assert!(found.contains("a cluster starts at"), "{found}");
    let found = Made::damaged(|_| (40, u64::MAX << 16));
    assert!(found.contains("a table has"), "{found}");
    let found = Made::damaged(|made| (32, made.word(32) | 0xffff_ffff));
    assert!(found.contains("a table has"), "{found}");
    let found = Made::damaged(|made| (20, 63 << 32 | made.word(20) & 0xffff_ffff));
    assert!(found.contains("clusters have 2^63"), "{found}");
    let found = Made::damaged(|made| (96, 7 << 32 | made.word(96) & 0xffff_ffff));
    assert!(found.contains("refcounts have 2^7"), "{found}");
}

#[test]
fn what_is_not_counted_is_counted_again() {
    for (cluster, bits) in SHAPES {
        let made = Made::new(cluster, bits);
        let block = made.word(made.word(48));
        let before = std::fs::read(&made.path).expect("a file");
        // All that is counted here is used: some more may be counted than is used elsewhere.
        made.set(block, 0);
        assert_eq!(made.check(), Ok(()));
        assert!(
            std::fs::read(&made.path).expect("a file") == before,
            "clusters of {cluster}, {bits} bits"
        );
    }
}

#[test]
fn compressed_clusters_may_share_one_that_is_counted_as_often() {
    let made = Made::new(0x1_0000, 16);
    let (l2, block) = (made.l2(), made.word(made.word(48)));
    let host = made.word(l2) & OFFSET;
    let counted = || made.word(block + 2 * (host >> 16)) >> 48;
    made.set(l2, COMPRESSED | host);
    assert_eq!((made.check(), counted()), (Ok(()), 1));
    // Nothing was here before: the second one is in the same cluster.
    assert_eq!(made.word(l2 + 8), 0);
    made.set(l2 + 8, COMPRESSED | (host + 0x200));
    assert_eq!((made.check(), counted()), (Ok(()), 2));
    made.set(l2 + 8, COMPRESSED | made.word(48));
    assert!(
        made.check()
            .is_err_and(|found| found.contains("is used twice"))
    );
    // A refcount of one bit counts no two.
    let made = Made::new(0x1_0000, 1);
    let l2 = made.l2();
    made.set(l2, COMPRESSED | host);
    made.set(l2 + 8, COMPRESSED | host);
    assert!(
        made.check()
            .is_err_and(|found| found.contains("cannot be counted"))
    );
}

#[test]
fn a_cut_image_is_found() {
    let made = Made::new(0x1_0000, 16);
    let l2 = made.l2();
    made.file().set_len(l2 + 8).expect("shorter");
    let found = made.check().expect_err("it was cut");
    assert!(
        found.contains("it was cut") || found.contains("not in the file"),
        "{found}"
    );
}
