//! A command's way through system calls: which comes next, and what its result means. Both engines
//! walk it, so that a short read, a full disk and a filesystem without holes mean the same in both.

use std::io;

use super::backend::{Command, Span};
use crate::raw_io::{IoVecs, Operation};

/// A command under way.
pub(super) struct Job {
    command: Command,
    /// Which of the command's ranges is worked on.
    range: usize,
    /// The range's zeros are written out, because the file cannot have holes.
    is_writing_out: bool,
    is_synced: bool,
}

impl Job {
    pub fn new(command: Command) -> Job {
        Job {
            command,
            range: 0,
            is_writing_out: false,
            is_synced: false,
        }
    }

    /// The next system call; none when the command is done.
    pub fn next(&mut self, io: &mut IoVecs) -> Option<Operation> {
        let is_durable = match &mut self.command {
            Command::Read { at } => {
                return (!io.is_done()).then_some(Operation::Read { at: *at });
            }
            Command::Write { at, is_durable } => {
                let (at, is_durable) = (*at, *is_durable);
                return (!io.is_done()).then_some(Operation::Write { at, is_durable });
            }
            Command::Flush => true,
            Command::Discard { spans, is_durable } => {
                if let Some(span) = spans.get(self.range) {
                    return Some(punch(*span));
                }
                *is_durable
            }
            Command::WriteZeroes { spans, is_durable } => {
                match spans.get(self.range) {
                    Some((span, _)) if self.is_writing_out => {
                        io.set_zeros(span.len);
                        let (at, is_durable) = (span.at, false);
                        return Some(Operation::Write { at, is_durable });
                    }
                    Some((span, true)) => return Some(punch(*span)),
                    Some((span, false)) => return Some(zero(*span)),
                    None => {}
                }
                *is_durable
            }
        };
        (is_durable && !self.is_synced).then_some(Operation::Sync)
    }

    /// Take a system call's result in.
    ///
    /// # Errors
    /// What ends the command.
    pub fn took(
        &mut self,
        what: Operation,
        result: io::Result<usize>,
        io: &mut IoVecs,
    ) -> io::Result<()> {
        let count = match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result,
        };
        match what {
            Operation::Read { .. } => self.moved(count?, io, io::ErrorKind::UnexpectedEof),
            Operation::Write { .. } => self.moved(count?, io, io::ErrorKind::WriteZero),
            Operation::Sync => {
                count?;
                self.is_synced = true;
                Ok(())
            }
            Operation::Allocate { .. } => self.allocated(count),
        }
    }

    /// Data was moved; none at all means that the file is shorter than it was, or the like.
    fn moved(&mut self, count: usize, io: &mut IoVecs, none: io::ErrorKind) -> io::Result<()> {
        if count == 0 {
            return Err(none.into());
        }
        io.advance(count);
        // No more than the span's length, which is inside the file's capacity.
        let bytes = count as u64;
        match &mut self.command {
            Command::Read { at } | Command::Write { at, .. } => *at += bytes,
            Command::WriteZeroes { spans, .. } => {
                if let Some((span, _)) = spans.get_mut(self.range) {
                    span.at += bytes;
                    span.len = span.len.saturating_sub(bytes);
                    if span.len == 0 {
                        self.range += 1;
                        self.is_writing_out = false;
                    }
                }
            }
            Command::Flush | Command::Discard { .. } => {}
        }
        Ok(())
    }

    /// A range was discarded or zeroed, or the filesystem cannot do that.
    fn allocated(&mut self, result: io::Result<usize>) -> io::Result<()> {
        let is_unsupported = match result {
            Ok(_) => false,
            Err(error) => match error.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => true,
                _ => return Err(error),
            },
        };
        // A discard is a hint (5.2.6.2); zeros are a promise.
        if is_unsupported && matches!(self.command, Command::WriteZeroes { .. }) {
            self.is_writing_out = true;
        } else {
            self.range += 1;
        }
        Ok(())
    }
}

/// Give a range's space back; it reads as zeros.
fn punch(span: Span) -> Operation {
    allocate(span, libc::FALLOC_FL_PUNCH_HOLE)
}

/// Have zeros in a range, and keep its space.
fn zero(span: Span) -> Operation {
    allocate(span, libc::FALLOC_FL_ZERO_RANGE)
}

fn allocate(span: Span, how: i32) -> Operation {
    Operation::Allocate {
        mode: how | libc::FALLOC_FL_KEEP_SIZE,
        at: span.at,
        len: span.len,
    }
}
