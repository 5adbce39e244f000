//! Deadlines, one a token at most. Called by the thread; kept by who waits. Nothing ticks here.

use std::collections::{BTreeSet, HashMap};

use smoltcp::time::Instant;

/// See the module.
#[derive(Default)]
pub(super) struct Timers {
    deadlines: HashMap<u64, Instant>,
    order: BTreeSet<(Instant, u64)>,
}

impl Timers {
    /// Have a token's deadline be this one, or none.
    pub fn set(&mut self, token: u64, deadline: Option<Instant>) {
        let old = match deadline {
            Some(deadline) => self.deadlines.insert(token, deadline),
            None => self.deadlines.remove(&token),
        };
        if old == deadline {
            return;
        }
        if let Some(old) = old {
            self.order.remove(&(old, token));
        }
        if let Some(deadline) = deadline {
            self.order.insert((deadline, token));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// Take out a token whose deadline has come.
    pub fn take_due(&mut self, now: Instant) -> Option<u64> {
        let (_, token) = *self
            .order
            .first()
            .filter(|(deadline, _)| *deadline <= now)?;
        self.set(token, None);
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_due_in_order_and_once() {
        let at = Instant::from_millis;
        let mut timers = Timers::default();
        timers.set(1, Some(at(30)));
        timers.set(2, Some(at(10)));
        timers.set(3, Some(at(20)));
        timers.set(1, Some(at(5)));
        timers.set(3, None);
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.take_due(at(4)), None);
        assert_eq!(timers.take_due(at(10)), Some(1));
        assert_eq!(timers.take_due(at(10)), Some(2));
        assert_eq!(timers.take_due(at(1000)), None);
        assert_eq!(timers.next(), None);
        assert!(timers.deadlines.is_empty());
    }
}
