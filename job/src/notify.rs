//! Notifications: what of an execution is made known, and to whom.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use remit_protocol::{ChannelName, JobName, Span, notice::Occasion};
use serde::{Deserialize, Serialize};

/// Most notifications of a job.
pub const MAX_NOTIFY: usize = 20;
/// What counts as over the average where the job says nothing.
pub const OVER: Over = Over::Percent(150);
/// Largest share of the average.
const MOST_PERCENT: u32 = 10_000;

/// Something that is made known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// On which occasions.
    pub when: BTreeSet<Occasion>,
    /// From when on it is [`Occasion::Slow`]; absent: [`OVER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// To whom.
    pub to: Target,
}

/// Whom to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A channel of the project: a webhook or mail addresses.
    Channel(ChannelName),
    /// Another job of the project is run, and with it any component on any runner. It is given those of the options
    /// `occasion`, `project`, `job`, `execution` and `outcome` that it has.
    Job(JobName),
}

/// How long is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Over {
    /// A share of the average, in percent: `150%`.
    Percent(u32),
    /// So much more than the average: `+30s`.
    More(Span),
    /// Whatever the average is: `10m`.
    Fixed(Span),
}

/// A text that is no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a share of the average (\"150%\"), a time more than it (\"+30s\") or a time (\"10m\")")]
pub struct InvalidOver(String);

impl Over {
    /// The longest time that is not too long, if the newest executions took `average`. None: without an average nobody
    /// can tell.
    pub fn limit(self, average: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Percent(percent) => Some(average?.saturating_mul(percent) / 100),
            Self::More(span) => Some(average?.saturating_add(span.duration())),
            Self::Fixed(span) => Some(span.duration()),
        }
    }
}

impl FromStr for Over {
    type Err = InvalidOver;
    fn from_str(text: &str) -> Result<Self, InvalidOver> {
        let invalid = || InvalidOver(text.chars().take(40).collect());
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse().ok().filter(|percent| (100..=MOST_PERCENT).contains(percent));
            return percent.map(Self::Percent).ok_or_else(invalid);
        }
        match text.strip_prefix('+') {
            Some(more) => more.parse().map(Self::More).map_err(|_| invalid()),
            None => text.parse().map(Self::Fixed).map_err(|_| invalid()),
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::More(span) => write!(f, "+{span}"),
            Self::Fixed(span) => span.fmt(f),
        }
    }
}

impl TryFrom<String> for Over {
    type Error = InvalidOver;
    fn try_from(text: String) -> Result<Self, InvalidOver> {
        text.parse()
    }
}

impl From<Over> for String {
    fn from(over: Over) -> Self {
        over.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_average_is_a_share_more_or_a_time() {
        fn check(text: &str, average: Option<u64>, expect: Option<u64>) {
            let over: Over = text.parse().unwrap();
            assert_eq!(over.to_string(), text);
            let limit = over.limit(average.map(Duration::from_secs));
            assert_eq!(limit.map(|limit| limit.as_secs()), expect, "{text} {average:?}");
        }
        check("150%", Some(60), Some(90));
        check("150%", None, None);
        check("+30s", Some(60), Some(90));
        check("+30s", None, None);
        check("10m", Some(60), Some(600));
        check("10m", None, Some(600));
        for bad in ["", "%", "99%", "10001%", "-5s", "+", "soon", "150 %"] {
            assert!(bad.parse::<Over>().is_err(), "{bad}");
        }
    }
}
