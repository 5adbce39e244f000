//! The class of balloons: memory that the guest gives up for the host's sake. Which memory, and how
//! much, is its client's affair.

use alloc::sync::Arc;
use core::fmt;

/// Bytes of a balloon's page, whatever the processor's are (virtio 1.3, 5.5.6).
pub const BALLOON_PAGE: u64 = 4096;

/// Adjacent pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// The first one's number: its guest-physical address divided by [`BALLOON_PAGE`].
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

/// Why a balloon did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonError {
    /// The device cannot do this.
    Unsupported,
    /// A page is where no number of 32 bits reaches, or there are more runs than a request has.
    BadRequest,
    /// The device answered what it must not, and is no longer used.
    Broken,
}

impl fmt::Display for BalloonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "the balloon cannot do this",
            Self::BadRequest => "these pages do not suit the balloon",
            Self::Broken => "the device broke the protocol, and is no longer used",
        })
    }
}

impl core::error::Error for BalloonError {}

/// Who uses a balloon.
pub trait BalloonClient: Send + Sync {
    /// The host wants another size, or the device has broken. Called in a bottom half: short, and it
    /// must not wait.
    fn notify(&self);
}

/// A balloon. Calls sleep until the device has taken note; one at a time.
pub trait BalloonDevice: Send + Sync {
    /// How many pages the host wants in the balloon.
    fn wanted(&self) -> u32;

    /// Name the client, once.
    fn set_client(&self, client: Arc<dyn BalloonClient>);

    /// Give pages up: from now on their content is of no use.
    ///
    /// # Errors
    /// [`BalloonError`]; then the pages may be the host's all the same.
    fn inflate(&self, runs: &[PageRun]) -> Result<(), BalloonError>;

    /// Tell that pages are used again; they may be before.
    ///
    /// # Errors
    /// [`BalloonError`].
    fn deflate(&self, runs: &[PageRun]) -> Result<(), BalloonError>;

    /// How many runs [`BalloonDevice::report`] takes at once; 0 when the device cannot.
    fn reports_at_once(&self) -> usize;

    /// Tell that pages are free, so that the host may have them until they are used again. Nobody may
    /// use them before this returns.
    ///
    /// # Errors
    /// [`BalloonError`].
    fn report(&self, runs: &[PageRun]) -> Result<(), BalloonError>;

    /// Say how many pages are in the balloon.
    fn say(&self, pages: u32);
}
