//! How the runner holds on to its orchestrator: when to try again, how long a poll may be parked, and until when what
//! it heard last lets it begin something.

use std::time::Duration;

use remit_protocol::{Span, endpoint::HOLD};
use tokio::time::Instant;

/// The holds that are tried, from the longest: a middlebox that cuts one gets the next.
pub const HOLDS: [Span; 4] = [HOLD, Span::from_secs(12), Span::from_secs(5), Span::from_secs(0)];
/// A connection that ends before this was not cut for its length.
const SHORT: Duration = Duration::from_secs(4);
/// After so long without a cut, the next longer hold is tried again.
const TRY_LONGER: Duration = Duration::from_secs(3600);
/// Shortest and longest time between two tries.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Time between two polls that may not be parked.
const SHORT_POLL: Duration = Duration::from_secs(1);
/// Nothing begins in the last part of a lease: the orchestrator's clock may be a little ahead.
const MARGIN: Duration = Duration::from_secs(10);

/// Back-off, hold and lease.
#[derive(Debug)]
pub(super) struct Link {
    hold: usize,
    changed: Instant,
    failures: u32,
    not_before: Instant,
    contact: Option<Instant>,
    lease: Duration,
    longest: Span,
    random: u64,
}

impl Link {
    /// Nothing heard yet. `seed` spreads the tries of many runners.
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        Self {
            hold: 0,
            changed: now,
            failures: 0,
            not_before: now,
            contact: None,
            lease: Duration::ZERO,
            longest: HOLD,
            random: seed | 1,
        }
    }

    /// The session is open: these are the orchestrator's bounds.
    pub(super) fn opened(&mut self, hold: Span, lease: Span) {
        self.longest = hold;
        self.lease = lease.duration();
    }

    /// An answer came to a request that was sent at `sent`.
    pub(super) fn heard(&mut self, sent: Instant, now: Instant) {
        self.contact = self.contact.max(Some(sent));
        self.failures = 0;
        self.not_before = now;
    }

    /// A parked poll was answered: after a long while without a cut, a longer hold is worth a try.
    pub(super) fn poll_answered(&mut self, now: Instant) {
        if self.hold > 0 && now.duration_since(self.changed) >= TRY_LONGER {
            self.hold -= 1;
            self.changed = now;
        }
        if self.hold().as_millis() == 0 {
            self.not_before = now + SHORT_POLL;
        }
    }

    /// A parked poll was cut off after `parked`.
    pub(super) fn poll_cut(&mut self, parked: Duration, now: Instant) {
        if parked >= SHORT && self.hold + 1 < HOLDS.len() {
            self.hold += 1;
            self.changed = now;
            self.not_before = now;
            tracing::info!(hold = %self.hold(), "something on the way cuts long polls; holding shorter ones");
        } else {
            self.failed(now);
        }
    }

    /// A request got no answer.
    pub(super) fn failed(&mut self, now: Instant) {
        let most = FIRST_DELAY.saturating_mul(1 << self.failures.min(10)).min(LONGEST_DELAY);
        self.failures = self.failures.saturating_add(1);
        // Between half and all of it, so that a thousand runners do not come back at once.
        let part = self.next_random() % 512 + 512;
        self.not_before = now + most.mul_f64(part as f64 / 1024.0);
    }

    /// From when on the next request may be sent.
    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// How many requests in a row got no answer.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// How long the next poll may be parked.
    pub(super) fn hold(&self) -> Span {
        HOLDS[self.hold].min(self.longest)
    }

    /// Until when something may begin: the lease less a margin, counted from when the last answered request was sent.
    pub(super) fn may_begin_until(&self) -> Option<Instant> {
        self.contact.map(|contact| contact + self.lease.saturating_sub(MARGIN))
    }

    /// Marsaglia's xorshift64.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(now: Instant) -> Link {
        let mut link = Link::new(now, 7);
        link.opened(HOLD, Span::from_secs(75));
        link
    }

    #[test]
    fn a_cut_poll_is_held_shorter() {
        let now = Instant::now();
        let mut link = link(now);
        let mut holds = vec![link.hold().as_millis() / 1000];
        for _ in 0..4 {
            link.poll_cut(Duration::from_secs(20), now);
            holds.push(link.hold().as_millis() / 1000);
        }
        assert_eq!(holds, [25, 12, 5, 0, 0]);
        link.poll_answered(now + TRY_LONGER);
        assert_eq!(link.hold(), Span::from_secs(5));
        link.poll_cut(Duration::from_millis(100), now);
        assert_eq!(link.hold(), Span::from_secs(5), "an early end is a failure, not a cut");
        assert_eq!(link.failures(), 2, "and so is one of a poll that was not parked");
    }

    #[test]
    fn tries_are_spread_and_bounded() {
        let now = Instant::now();
        let mut link = link(now);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            link.failed(now);
            last = link.not_before() - now;
            assert!(last <= LONGEST_DELAY && last >= FIRST_DELAY / 2);
        }
        assert!(last >= LONGEST_DELAY / 2);
        link.heard(now, now);
        assert_eq!((link.not_before(), link.failures()), (now, 0));
    }

    #[test]
    fn a_lease_counts_from_when_the_question_was_sent() {
        let now = Instant::now();
        let mut link = link(now);
        assert_eq!(link.may_begin_until(), None);
        link.heard(now, now + Duration::from_secs(25));
        assert_eq!(link.may_begin_until(), Some(now + Duration::from_secs(65)));
        link.heard(now - Duration::from_secs(5), now);
        assert_eq!(
            link.may_begin_until(),
            Some(now + Duration::from_secs(65)),
            "an older request tells nothing new"
        );
    }
}
