//! A case, as a list of what is done. Made by [`super::maker`], played by [`super::play`], judged by
//! [`super::ledger`]. It depends on nothing that a device does.

use std::fmt::{self, Display, Formatter};

/// How a case's driver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it must: then all that it asks for is done.
    Legal,
    /// Wrong in a place or two.
    Bent,
    /// Wrong in many, with a second thread that changes what the device looks at.
    Wild,
}

/// A store to guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Eight bytes at once, aligned: half a descriptor or a header.
    Word {
        /// Where.
        at: u64,
        /// What.
        value: u64,
    },
    /// Two bytes at once, aligned: a word of a ring.
    Half {
        /// Where.
        at: u64,
        /// What.
        value: u16,
    },
    /// Bytes of a buffer.
    Bytes {
        /// Where.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

impl Store {
    /// Where, and which bytes.
    #[must_use]
    pub fn parts(&self) -> (u64, Vec<u8>) {
        match self {
            Store::Word { at, value } => (*at, value.to_le_bytes().to_vec()),
            Store::Half { at, value } => (*at, value.to_le_bytes().to_vec()),
            Store::Bytes { at, bytes } => (*at, bytes.clone()),
        }
    }
}

/// A byte that tells what became of a request.
#[derive(Clone, Copy)]
pub struct Mark {
    /// Where the byte is.
    pub at: u64,
    /// What a value of it means.
    pub means: fn(u8) -> Option<&'static str>,
    /// How many bytes were moved, if it means something.
    pub bytes: u64,
}

/// A queue that is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// Its number.
    pub queue: usize,
    /// Where its used ring is.
    pub used: u64,
    /// Which used index means that all has come back.
    pub index: u16,
    /// Whether that is up to the device alone, so that a legal driver may count on it.
    pub is_certain: bool,
}

/// One thing that is done.
#[derive(Clone)]
pub enum Op {
    /// A store to guest memory.
    Store(Store),
    /// A write to the device's window.
    Write {
        /// Where in the window.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A read of the device's window.
    Read {
        /// Where in the window.
        offset: u64,
        /// How many bytes.
        width: usize,
    },
    /// A request was made available.
    Offered,
    /// Look at this byte at the next [`Op::Count`].
    Mark(Mark),
    /// Wait a while for the device.
    Settle(Vec<Awaited>),
    /// Count what came back, from the used rings.
    Count(Vec<Awaited>),
    /// Let the other end of the device do something.
    Outside(u64),
}

/// A case.
#[derive(Clone)]
pub struct Plan {
    /// How its driver behaves.
    pub mood: Mood,
    /// What is done, in order.
    pub ops: Vec<Op>,
    /// What a second thread stores meanwhile, over and over.
    pub scribbles: Vec<Store>,
    /// Whether registers of queues are written at any time, and several of one setup are wrong: then
    /// any of them may be any other's.
    pub is_messy: bool,
}

impl Display for Store {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Store::Word { at, value } => write!(f, "store {at:#x} <- {value:#018x}"),
            Store::Half { at, value } => write!(f, "store {at:#x} <- {value:#06x}"),
            Store::Bytes { at, bytes } => write!(f, "store {at:#x} <- {} bytes", bytes.len()),
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Op::Store(store) => store.fmt(f),
            Op::Write { offset, bytes } => write!(f, "register {offset:#x} <- {bytes:02x?}"),
            Op::Read { offset, width } => write!(f, "register {offset:#x}, {width} bytes, is read"),
            Op::Offered => f.write_str("that is a request"),
            Op::Mark(mark) => write!(f, "{:#x} will tell what became of it", mark.at),
            Op::Settle(queues) => write!(f, "wait for {queues:?}"),
            Op::Count(_) => f.write_str("count what came back"),
            Op::Outside(what) => write!(f, "the other end does {what:#x}"),
        }
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "a {:?} driver", self.mood)?;
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        for store in &self.scribbles {
            writeln!(f, "meanwhile: {store}")?;
        }
        Ok(())
    }
}
