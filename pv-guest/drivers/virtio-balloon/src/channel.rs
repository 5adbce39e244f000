//! A queue of the balloon's: one request at a time, about pages. Never waits.

use driver_api::{BALLOON_PAGE, BalloonError, Dma, Env, Mmio, PageRun};
use virtio::{MAX_SEGMENTS, Queue, Segment, Transport, VirtioError};

/// One request at a time needs no more.
const QUEUE_MOST: u16 = MAX_SEGMENTS as u16;
/// Bytes of a request's list: a page number has four.
const LIST: usize = 4096;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Asked,
    Done,
    Broken,
}

/// A queue.
pub struct Channel<D> {
    queue: Queue<D>,
    list: D,
    state: State,
}

impl<D: Dma> Channel<D> {
    /// Set a queue up.
    pub fn new<E: Env<Dma = D>, M: Mmio>(
        env: &E,
        transport: &Transport<M>,
        index: u16,
        features: u64,
    ) -> Result<Self, VirtioError> {
        let mut queue = Queue::new(env, transport, index, QUEUE_MOST, features)?;
        // Nothing was asked, so nothing can be there.
        let _ = queue.allow_interrupts();
        Ok(Self {
            list: env.dma(LIST)?,
            queue,
            state: State::Idle,
        })
    }

    /// Hand the numbers of pages to the device, as many as fit; returns how many. `None` while another
    /// request is under way.
    pub fn ask_list(
        &mut self,
        pages: impl Iterator<Item = u64>,
    ) -> Option<Result<usize, BalloonError>> {
        match self.state {
            State::Idle => {}
            State::Broken => return Some(Err(BalloonError::Broken)),
            State::Asked | State::Done => return None,
        }
        let mut count = 0;
        for page in pages.take(LIST / 4) {
            let Ok(page) = u32::try_from(page) else {
                return Some(Err(BalloonError::BadRequest));
            };
            self.list.write(4 * count, &page.to_le_bytes());
            count += 1;
        }
        let segment = Segment {
            phys: self.list.phys(),
            len: 4 * count as u32,
            is_writable: false,
        };
        let asked = self.ask(&[segment])?;
        Some(asked.map(|()| count))
    }

    /// Hand pages themselves to the device (5.5.6.7), as many runs as a request has.
    pub fn ask_pages(&mut self, runs: &[PageRun]) -> Option<Result<(), BalloonError>> {
        // No memory is taken for this: it may be short.
        let mut segments = [Segment {
            phys: 0,
            len: 0,
            is_writable: true,
        }; MAX_SEGMENTS];
        let Some(places) = segments.get_mut(..runs.len()) else {
            return Some(Err(BalloonError::BadRequest));
        };
        for (place, run) in places.iter_mut().zip(runs) {
            let phys = run.first.checked_mul(BALLOON_PAGE);
            let len = run.count.checked_mul(BALLOON_PAGE);
            let len = len.and_then(|len| u32::try_from(len).ok());
            let Some((phys, len)) = phys.zip(len) else {
                return Some(Err(BalloonError::BadRequest));
            };
            (place.phys, place.len) = (phys, len);
        }
        let segments = &*places;
        self.ask(segments)
    }

    fn ask(&mut self, segments: &[Segment]) -> Option<Result<(), BalloonError>> {
        match self.state {
            State::Broken => Some(Err(BalloonError::Broken)),
            State::Asked | State::Done => None,
            State::Idle => {
                let added = self.queue.add(segments);
                if added.is_ok() {
                    self.state = State::Asked;
                }
                let added = added.map(drop);
                Some(added.map_err(|_| BalloonError::BadRequest))
            }
        }
    }

    /// Whether the device is done with the request; `None` until it is.
    pub fn take(&mut self) -> Option<Result<(), BalloonError>> {
        match self.state {
            State::Idle | State::Asked => None,
            State::Broken => Some(Err(BalloonError::Broken)),
            State::Done => {
                self.state = State::Idle;
                Some(Ok(()))
            }
        }
    }

    /// Whether the device is to be notified.
    pub fn needs_kick(&mut self) -> bool {
        self.state != State::Broken && self.queue.needs_kick()
    }

    /// Look at the queue. Returns whether there was anything.
    ///
    /// # Errors
    /// [`BalloonError::Broken`] when the device breaks the protocol: it must be reset.
    pub fn serve(&mut self) -> Result<bool, BalloonError> {
        let mut has_served = false;
        while self.state != State::Broken {
            let used = self.queue.pop().map_err(|_| BalloonError::Broken)?;
            if used.is_some() {
                self.state = State::Done;
                has_served = true;
            } else if !self.queue.allow_interrupts() {
                break;
            }
        }
        Ok(has_served)
    }

    /// Ask for nothing any longer.
    pub fn break_off(&mut self) {
        self.state = State::Broken;
    }
}
