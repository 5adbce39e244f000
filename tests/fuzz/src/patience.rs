//! Time as this process has it. A process that was stopped (SIGSTOP), or that the host gave no processor,
//! has not waited meanwhile: what it waits for may be only a moment away.

use std::time::{Duration, Instant};

/// The most that one look at the clock counts.
const MOST: Duration = Duration::from_millis(100);

/// Sums up time, as long as it is looked at often.
pub struct Patience {
    last: Instant,
    waited: Duration,
}

impl Patience {
    /// From now on.
    #[must_use]
    pub fn new() -> Patience {
        Patience {
            last: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// How long it has been.
    pub fn waited(&mut self) -> Duration {
        let now = Instant::now();
        self.waited += now.saturating_duration_since(self.last).min(MOST);
        self.last = now;
        self.waited
    }
}

impl Default for Patience {
    fn default() -> Self {
        Patience::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stop_is_a_moment() {
        let mut patience = Patience::new();
        std::thread::sleep(3 * MOST);
        let first = patience.waited();
        assert_eq!(first, MOST);
        std::thread::sleep(MOST / 4);
        assert!(patience.waited() >= first + MOST / 4);
    }
}
