//! Schedules: when a job is due by the clock, and what becomes of times that nobody was there for.
//!
//! [`cron`] says at which times; [`Schedule::due`] which of them are run now. Both are pure: the clock is an argument and
//! the rules of time zones come with this version, so that a runner that checks a signed job comes to the same times as
//! the orchestrator that fired it.

pub mod cron;

use std::{collections::BTreeMap, time::Duration};

use remit_protocol::{OptionName, ScheduleName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use cron::{Cron, InvalidCron, InvalidZone, Zone};

/// Most schedules of a job.
pub const MAX_SCHEDULES: usize = 20;
/// A time that was due at most so long ago is run as if it were now: rounds and restarts take a moment.
pub const ON_TIME: Duration = Duration::from_secs(60);
/// Most missed times of one schedule that are made up for.
pub const MOST_MISSED: u32 = 100;

/// A schedule of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its name, unique in the job.
    pub name: ScheduleName,
    /// At which times.
    pub cron: Cron,
    /// By which clock.
    #[serde(default, skip_serializing_if = "Zone::is_utc")]
    pub zone: Zone,
    /// What becomes of times at which the orchestrator was not there.
    #[serde(default)]
    pub missed: Missed,
    /// Option values; what is left out has its default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<OptionName, Value>,
}

/// What becomes of times that were missed by more than [`ON_TIME`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// They are left out.
    #[default]
    Skip,
    /// The newest of them is run, once.
    Once,
    /// The newest of them are run one after the other, at most so many: 1 to [`MOST_MISSED`].
    All(u32),
}

/// What a schedule asks for at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// The times that are run, the oldest first.
    pub fires: Vec<Timestamp>,
    /// The newest time that is left out, if any is.
    pub skipped: Option<Timestamp>,
}

impl Schedule {
    /// The first time after `after`; none if there is none any more.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.cron.next(&self.zone, after)
    }

    /// True if `at` is one of its times: what a runner asks of an execution that says that this schedule began it.
    pub fn fires_at(&self, at: Timestamp) -> bool {
        let before = Timestamp::from_millis(at.as_millis().saturating_sub(1));
        self.next(before) == Some(at)
    }

    /// What is to be run at `now` of the times after `done`, up to which everything was decided before.
    pub fn due(&self, done: Timestamp, now: Timestamp) -> Due {
        let window = u64::try_from(ON_TIME.as_millis()).unwrap_or(u64::MAX);
        let late_until = Timestamp::from_millis(now.as_millis().saturating_sub(window)).max(done);
        let keep = match self.missed {
            Missed::Skip => 0,
            Missed::Once => 1,
            Missed::All(most) => most.min(MOST_MISSED),
        };
        let mut due = Due::default();
        // From the newest missed time back: a year of missed minutes costs no more than a few of them.
        let mut at = late_until;
        while let Some(late) = self.cron.previous(&self.zone, at).filter(|late| *late > done) {
            if due.fires.len() >= usize::try_from(keep).unwrap_or(usize::MAX) {
                due.skipped = Some(late);
                break;
            }
            due.fires.push(late);
            at = Timestamp::from_millis(late.as_millis().saturating_sub(1));
        }
        due.fires.reverse();
        let mut at = late_until;
        while let Some(next) = self.next(at).filter(|next| *next <= now) {
            due.fires.push(next);
            at = next;
        }
        due
    }
}

#[cfg(test)]
mod tests;
