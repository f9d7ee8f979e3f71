//! Cron expressions in a time zone.
//!
//! Five fields – minute, hour, day of month, month, day of week – or six with seconds first, or seven with years last, as
//! Vixie cron and the Open Cron Pattern Specification read them; weekdays count from 0, Sunday. When clocks go forward,
//! a fixed time that does not exist is run at the first moment that does; when they go back, it is run once, the first
//! time. What runs every so often runs through both.

use std::{fmt, str::FromStr, time::Duration};

use croner::parser::{CronParser, Seconds, Year};
use remit_protocol::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest cron expression and name of a time zone, in bytes.
const MAX_TEXT: usize = 128;
/// Two times of a schedule are at least so far apart.
const CLOSEST: Duration = Duration::from_secs(10);
/// So many times are looked at to find out how close they are.
const LOOKED_AT: usize = 60;
/// From here on a cron expression has to have a time: 2026-01-01. It is a constant, since no clock is read here.
const EPOCH: u64 = 1_767_225_600_000;

/// A cron expression that has times.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    pattern: Box<croner::Cron>,
}

/// Why a text is not a cron expression that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// It does not parse.
    #[error("{0:?} is not a cron expression: {1}")]
    Syntax(String, String),
    /// It has no times.
    #[error("{0:?} never fires: no date fits it")]
    Never(String),
    /// Its times follow too closely on one another.
    #[error("{0:?} fires more often than every {limit} s", limit = CLOSEST.as_secs())]
    TooOften(String),
}

/// A time zone by its IANA name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    rules: jiff::tz::TimeZone,
}

/// A text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time zone: write a name such as Europe/Berlin or UTC")]
pub struct InvalidZone(String);

impl Cron {
    /// Reads a cron expression.
    pub fn new(text: &str) -> Result<Self, InvalidCron> {
        let shown: String = text.chars().take(80).collect();
        let syntax = |why: &str| InvalidCron::Syntax(shown.clone(), why.to_owned());
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(syntax(&format!("it has more than {MAX_TEXT} bytes")));
        }
        if !text.is_ascii() {
            return Err(syntax("it has characters that are not ASCII"));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build();
        let pattern = parser.parse(text).map_err(|error| syntax(&in_words(&error)))?;
        let cron = Self { text: text.to_owned(), pattern: Box::new(pattern) };
        let utc = Zone::default();
        let Some(mut last) = cron.next(&utc, Timestamp::from_millis(EPOCH)) else {
            return Err(InvalidCron::Never(shown));
        };
        for _ in 0..LOOKED_AT {
            let Some(next) = cron.next(&utc, last) else { break };
            if next.since(last) < CLOSEST {
                return Err(InvalidCron::TooOften(shown));
            }
            last = next;
        }
        Ok(cron)
    }

    /// The first time after `after`.
    pub fn next(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        let found = self.pattern.find_next_occurrence(&zone.at(after)?, false).ok()?;
        u64::try_from(found.timestamp().as_millisecond()).ok().map(Timestamp::from_millis)
    }

    /// The last time at or before `at`.
    pub fn previous(&self, zone: &Zone, at: Timestamp) -> Option<Timestamp> {
        let second = Timestamp::from_millis(at.as_secs() * 1000);
        let found = self.pattern.find_previous_occurrence(&zone.at(second)?, true).ok()?;
        u64::try_from(found.timestamp().as_millisecond()).ok().map(Timestamp::from_millis)
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The parser's reason without the name of its types.
fn in_words(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError as E;
    match error {
        E::EmptyPattern => "it is empty".to_owned(),
        E::InvalidDate | E::InvalidTime | E::TimeSearchLimitExceeded => "no time fits it".to_owned(),
        E::InvalidPattern(why) | E::IllegalCharacters(why) | E::ComponentError(why) => {
            why.trim_end_matches('.').to_owned()
        }
    }
}

impl Zone {
    /// The zone of this name.
    pub fn new(name: &str) -> Result<Self, InvalidZone> {
        let invalid = || InvalidZone(name.chars().take(80).collect());
        if name.len() > MAX_TEXT {
            return Err(invalid());
        }
        let rules = jiff::tz::TimeZone::get(name).map_err(|_| invalid())?;
        // Names are found in any case; one way of writing them is kept.
        let name = rules.iana_name().ok_or_else(invalid)?.to_owned();
        Ok(Self { name, rules })
    }

    /// True for UTC, which need not be written.
    pub fn is_utc(&self) -> bool {
        self.name == "UTC"
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// A time as this zone's clocks show it, with its distance from UTC: `2026-11-20T04:00:00+01:00`.
    pub fn shown(&self, at: Timestamp) -> String {
        let Some(zoned) = self.at(Timestamp::from_millis(at.as_secs() * 1000)) else { return at.to_string() };
        let seconds = zoned.offset().seconds();
        let (sign, distance) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
        format!("{}{sign}{:02}:{:02}", zoned.datetime(), distance / 3600, distance % 3600 / 60)
    }

    fn at(&self, time: Timestamp) -> Option<jiff::Zoned> {
        let millis = i64::try_from(time.as_millis()).ok()?;
        Some(jiff::Timestamp::from_millisecond(millis).ok()?.to_zoned(self.rules.clone()))
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), rules: jiff::tz::TimeZone::UTC }
    }
}

/// The text forms of a parsed text.
macro_rules! text_form {
    ($name:ident, $field:ident, $error:ty) => {
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.$field == other.$field
            }
        }

        impl Eq for $name {}

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }

        impl FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.$field
            }
        }
    };
}

text_form!(Cron, text, InvalidCron);
text_form!(Zone, name, InvalidZone);
