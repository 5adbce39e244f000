//! When the one-shot timer must fire next.
//!
//! The timer serves two: the tick that slices time among several threads, and the first sleeper.
//! With one thread running and nobody sleeping it is not armed at all. An armed timer that nobody
//! needs any longer is left alone: it costs one interrupt at most, and disarming costs a call.

use crate::time::MILLISECOND;

/// How long a thread may run while others wait, in nanoseconds.
pub const TICK: u64 = 10 * MILLISECOND;
/// The shortest span that is worth arming for, in nanoseconds.
const SHORTEST: u64 = 1_000;

/// What the one-shot timer was armed for.
#[derive(Debug, Default)]
pub struct Alarm {
    /// When it fires.
    armed_for: Option<u64>,
    /// Whether it fires at the next tick's time or before.
    is_ticking: bool,
}

impl Alarm {
    /// A timer that is not armed.
    pub const fn new() -> Self {
        Self {
            armed_for: None,
            is_ticking: false,
        }
    }

    /// The timer fired.
    pub fn fired(&mut self) {
        *self = Self::new();
    }

    /// For how many nanoseconds to arm the timer; `None` when it is right as it is. The clock is
    /// read only when needed.
    pub fn plan(
        &mut self,
        wants_tick: bool,
        earliest: Option<u64>,
        now: impl FnOnce() -> u64,
    ) -> Option<u32> {
        let is_before = |at: u64| self.armed_for.is_none_or(|armed| at < armed);
        let lacks_tick = wants_tick && !self.is_ticking;
        if !lacks_tick && !earliest.is_some_and(is_before) {
            return None;
        }
        let now = now();
        let tick = match (wants_tick, self.is_ticking) {
            (true, true) => self.armed_for,
            (true, false) => Some(now.saturating_add(TICK)),
            (false, _) => None,
        };
        let wanted = [tick, earliest].into_iter().flatten().min()?;
        let is_kept = self.armed_for.is_some_and(|armed| armed <= wanted);
        self.is_ticking = wants_tick;
        if is_kept {
            return None;
        }
        let longest = u64::from(u32::MAX);
        let delta = wanted.saturating_sub(now).clamp(SHORTEST, longest);
        self.armed_for = Some(now.saturating_add(delta));
        u32::try_from(delta).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread() -> u64 {
        panic!("the clock need not be read")
    }

    #[test]
    fn with_one_thread_and_no_sleeper_nothing_is_armed() {
        assert_eq!(Alarm::new().plan(false, None, unread), None);
    }

    #[test]
    fn several_threads_get_one_tick_however_often_they_switch() {
        let mut alarm = Alarm::new();
        assert_eq!(alarm.plan(true, None, || 5), Some(TICK as u32));
        assert_eq!(alarm.plan(true, None, unread), None);
        assert_eq!(alarm.plan(false, None, unread), None);
        assert_eq!(alarm.plan(true, None, unread), None);
        alarm.fired();
        assert_eq!(alarm.plan(false, None, unread), None);
        assert_eq!(alarm.plan(true, None, || 7), Some(TICK as u32));
    }

    #[test]
    fn the_earliest_need_wins() {
        let mut alarm = Alarm::new();
        let second = 100 * TICK;
        assert_eq!(alarm.plan(false, Some(second), || 0), Some(second as u32));
        assert_eq!(alarm.plan(false, Some(second), unread), None);
        assert_eq!(alarm.plan(true, Some(second), || 9), Some(TICK as u32));
        let sooner = 9 + TICK / 2;
        assert_eq!(alarm.plan(true, Some(sooner), || 9), Some(TICK as u32 / 2));
        assert_eq!(alarm.plan(true, Some(second), unread), None);
    }

    #[test]
    fn a_tick_beyond_an_armed_sleeper_is_not_armed_again() {
        let mut alarm = Alarm::new();
        assert_eq!(alarm.plan(false, Some(5000), || 0), Some(5000));
        assert_eq!(alarm.plan(true, Some(5000), || 100), None);
        assert_eq!(alarm.plan(true, Some(5000), unread), None);
    }

    #[test]
    fn spans_are_neither_too_short_nor_too_long_for_the_timer() {
        assert_eq!(Alarm::new().plan(false, Some(3), || 10), Some(1_000));
        let mut alarm = Alarm::new();
        assert_eq!(alarm.plan(false, Some(u64::MAX), || 0), Some(u32::MAX));
        alarm.fired();
        assert!(alarm.plan(false, Some(u64::MAX), || 1 << 40).is_some());
    }
}
