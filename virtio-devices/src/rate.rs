//! How much a device may do in a time. Asked and charged by [`crate::VirtQueue`], for any device: a
//! request counts one operation, the bytes that the driver gives, and those that it gets. The worker
//! sleeps on a timer while a driver has to wait; without limits, and below them, there is no timer.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// How much of the allowance may be saved up while nothing is done.
const SAVED: Duration = Duration::from_millis(100);

/// Limits of a device; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of payload in a second, all queues and both directions together.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Requests in a second, or frames.
    pub operations_per_second: Option<NonZeroU64>,
}

impl Limits {
    /// Whether there is any.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.bytes_per_second.is_some() || self.operations_per_second.is_some()
    }
}

/// An allowance that fills with time (a token bucket, kept as the moment at which it is full enough).
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: NonZeroU64,
    /// What was used up to now is paid for at this moment.
    paid_at: Instant,
}

impl Bucket {
    fn new(rate: NonZeroU64, now: Instant) -> Self {
        let paid_at = now.checked_sub(SAVED).unwrap_or(now);
        Bucket { rate, paid_at }
    }

    fn charge(&mut self, count: u64, now: Instant) {
        let earliest = now.checked_sub(SAVED).unwrap_or(now);
        let ns = u128::from(count) * 1_000_000_000 / u128::from(self.rate.get());
        let price = Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX));
        let from = self.paid_at.max(earliest);
        // Centuries are as good as for ever.
        self.paid_at = from.checked_add(price).unwrap_or(from);
    }

    fn wait(&self, now: Instant) -> Duration {
        self.paid_at.saturating_duration_since(now)
    }
}

/// What is left of a device's limits.
#[derive(Debug)]
pub(crate) struct Limiter {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl Limiter {
    pub fn new(limits: Limits, now: Instant) -> Self {
        let bucket = |rate: Option<NonZeroU64>| rate.map(|rate| Bucket::new(rate, now));
        Limiter {
            bytes: bucket(limits.bytes_per_second),
            operations: bucket(limits.operations_per_second),
        }
    }

    /// How long the next request has to wait; zero when it need not. A request may overdraw, so that
    /// one of any size can be done.
    pub fn wait(&self, now: Instant) -> Duration {
        let buckets = [&self.bytes, &self.operations].into_iter().flatten();
        let waits = buckets.map(|bucket| bucket.wait(now));
        waits.max().unwrap_or_default()
    }

    pub fn operation(&mut self, now: Instant) {
        if let Some(bucket) = &mut self.operations {
            bucket.charge(1, now);
        }
    }

    pub fn bytes(&mut self, count: u64, now: Instant) {
        if let Some(bucket) = &mut self.bytes {
            bucket.charge(count, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes: u64, operations: u64) -> Limits {
        Limits {
            bytes_per_second: NonZeroU64::new(bytes),
            operations_per_second: NonZeroU64::new(operations),
        }
    }

    #[test]
    fn what_is_used_is_paid_for_by_time() {
        let start = Instant::now();
        let mut limiter = Limiter::new(limits(1000, 0), start);
        assert_eq!(limiter.wait(start), Duration::ZERO);
        // A tenth of a second may be saved up.
        limiter.bytes(100, start);
        assert_eq!(limiter.wait(start), Duration::ZERO);
        limiter.bytes(500, start);
        assert_eq!(limiter.wait(start), Duration::from_millis(500));
        let later = start + Duration::from_millis(500);
        assert_eq!(limiter.wait(later), Duration::ZERO);
        // No more is saved up, however long nothing is done.
        let later = later + Duration::from_secs(1000);
        limiter.bytes(1100, later);
        assert_eq!(limiter.wait(later), Duration::from_secs(1));
    }

    #[test]
    fn the_scarcer_one_counts() {
        let start = Instant::now();
        let mut limiter = Limiter::new(limits(1 << 40, 10), start);
        for _ in 0..3 {
            limiter.operation(start);
            limiter.bytes(4096, start);
        }
        assert_eq!(limiter.wait(start), Duration::from_millis(200));
        assert!(!limits(0, 0).is_some() && limits(0, 1).is_some() && limits(1, 0).is_some());
    }

    #[test]
    fn a_request_of_any_size_is_done_and_nothing_overflows() {
        let start = Instant::now();
        let mut limiter = Limiter::new(limits(1, 1), start);
        for _ in 0..3 {
            limiter.bytes(u64::MAX, start);
            limiter.operation(start);
        }
        assert!(limiter.wait(start) > Duration::from_secs(1));
    }
}
