//! A stream of what happened, one line an event, named by the table.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::time::Instant;

/// Writes events as lines: nanoseconds since the start, then the event.
pub struct Trace {
    out: BufWriter<Box<dyn Write + Send>>,
    start: Instant,
    failed: Option<io::Error>,
}

impl Trace {
    /// A trace that goes to `out`.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out: BufWriter::new(out),
            start: Instant::now(),
            failed: None,
        }
    }

    /// Write an event.
    pub fn event(&mut self, event: fmt::Arguments<'_>) {
        if self.failed.is_none()
            && let Err(error) =
                writeln!(self.out, "{:>12} {event}", self.start.elapsed().as_nanos())
        {
            self.failed = Some(error);
        }
    }

    /// Write what is buffered.
    ///
    /// # Errors
    /// The first error of any write.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
