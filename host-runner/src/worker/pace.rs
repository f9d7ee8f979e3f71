//! How fast a run's words are taken: a run that floods its log waits, so that others do not.

use std::time::Duration;

use tokio::time::Instant;

/// Lines that a run may say at once; a long one counts for as many as it has KiB.
const BURST: u64 = 1000;
/// Lines that are taken in a millisecond after that.
const RATE: u64 = 25;
/// Lines that are taken between two rests: what others wait for is this long.
const TURN: u64 = 32;

/// The pace of one run: as a bucket that leaks at [`RATE`].
pub(super) struct Pace {
    /// What it holds, and since when.
    held: u64,
    since: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { held: 0, since: now }
    }

    /// Takes a line of so many bytes. Until when the run has to rest, if it has to.
    pub(super) fn rest(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let passed = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        if passed > 0 {
            self.held = self.held.saturating_sub(passed.saturating_mul(RATE));
            self.since += Duration::from_millis(passed);
        }
        self.held += 1 + (bytes as u64) / 1024;
        let over = self.held.checked_sub(BURST)?;
        Some(now + Duration::from_millis((over + TURN).div_ceil(RATE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many lines of so many bytes are taken in a second, by whoever always has one more.
    fn taken(bytes: usize) -> u64 {
        let begun = Instant::now();
        let (mut now, mut pace, mut lines) = (begun, Pace::new(begun), 0);
        while now < begun + Duration::from_secs(1) {
            lines += 1;
            now = pace.rest(bytes, now).unwrap_or(now + Duration::from_micros(3));
        }
        lines
    }

    #[test]
    fn a_burst_is_free_and_a_flood_is_not() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        assert!((1..BURST).all(|_| pace.rest(100, begun).is_none()));
        let rest = pace.rest(100, begun).unwrap();
        assert_eq!(rest - begun, Duration::from_millis(2));
        // After the rest there is room for a turn, and after a while for a burst.
        assert!((1..TURN).all(|_| pace.rest(100, rest).is_none()));
        let later = rest + Duration::from_secs(1);
        assert!((1..BURST).all(|_| pace.rest(100, later).is_none()));
    }

    #[test]
    fn however_it_floods_it_has_its_rate_and_no_more() {
        for bytes in [0, 60, 1023] {
            assert!((20_000..=27_000).contains(&taken(bytes)), "{bytes}: {}", taken(bytes));
        }
        let mebibytes = taken(16 << 10) * 16 / 1024;
        assert!((20..=27).contains(&mebibytes), "{mebibytes}");
    }
}
