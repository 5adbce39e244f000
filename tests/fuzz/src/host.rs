//! What this process has of the host: file descriptors, threads, memory. Called between cases, when no
//! device is there, to see that nothing is left over.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// How long what ends may take to be gone: a thread that was joined is listed a moment longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much more memory may be resident than at first: what an allocator keeps, and no more.
const SLACK: u64 = 96 << 20;

/// What the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    fds: usize,
    threads: usize,
    resident: u64,
}

impl Held {
    /// What it has now.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn now() -> io::Result<Held> {
        Ok(Held {
            fds: fs::read_dir("/proc/self/fd")?.count(),
            threads: threads()?,
            resident: resident()?,
        })
    }

    /// Check that there is not more than this now.
    ///
    /// # Errors
    /// What has grown.
    pub fn check(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let now = Held::now().map_err(|error| format!("cannot read /proc/self: {error}"))?;
            let grown = [
                (now.fds > self.fds, "file descriptors have"),
                (now.threads > self.threads, "threads have"),
                (now.resident > self.resident + SLACK, "memory has"),
            ];
            let Some((_, what)) = grown.into_iter().find(|(is_grown, _)| *is_grown) else {
                return Ok(());
            };
            if start.elapsed() > PATIENCE {
                return Err(format!("{what} grown: from {self:?} to {now:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Threads, but for those of the kernel that serve an io_uring: they go when they like.
fn threads() -> io::Result<usize> {
    let mut count = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // One that ends meanwhile is no thread any more.
        let name = fs::read_to_string(task?.path().join("comm"));
        count += usize::from(name.is_ok_and(|name| !name.starts_with("iou-")));
    }
    Ok(count)
}

/// Resident memory, in bytes.
fn resident() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}
