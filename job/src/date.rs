//! Days and times as options write them: a format of a few `%` letters, and how far a time is moved.
//!
//! All of it is UTC: what a job is given does not depend on where the orchestrator stands.

use std::fmt;

use jiff::{SignedDuration, civil::DateTime, fmt::strtime::BrokenDownTime, tz::TimeZone};
use remit_protocol::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// Longest format, in bytes.
const MAX_FORMAT: usize = 100;
/// The letters of a format, as in `strftime`. None takes a width, so a format never writes much more than it is long.
const LETTERS: &str = "YymdeHMSjBbAaFT";

/// How a date is written: text in which `%Y` is the year, `%m` the month, `%d` the day, `%H`, `%M` and `%S` the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DateFormat(String);

/// Why a text is not a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a format of dates: {1}")]
pub struct InvalidFormat(String, String);

impl DateFormat {
    /// Parses a format.
    pub fn new(format: &str) -> Result<Self, InvalidFormat> {
        let shown: String = format.chars().take(60).collect();
        let invalid = |why: String| InvalidFormat(shown.clone(), why);
        if format.len() > MAX_FORMAT {
            return Err(invalid(format!("it has more than {MAX_FORMAT} bytes")));
        }
        let format = Self(format.to_owned());
        if format
            .letters()
            .any(|letter| letter.is_none_or(|letter| !LETTERS.contains(letter) && letter != '%'))
        {
            return Err(invalid(format!("behind `%` stands one of {LETTERS}, or `%` for itself")));
        }
        if !format.has("YyFHT") {
            return Err(invalid("it says neither year nor hour; write it like `%Y-%m-%d`".to_owned()));
        }
        Ok(format)
    }

    /// What stands behind each `%`.
    fn letters(&self) -> impl Iterator<Item = Option<char>> {
        let mut rest = self.0.chars();
        std::iter::from_fn(move || rest.find(|c| *c == '%').map(|_| rest.next()))
    }

    fn has(&self, letters: &str) -> bool {
        self.letters().flatten().any(|letter| letters.contains(letter))
    }

    /// The format's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `time` in this form, in UTC.
    pub fn write(&self, time: Timestamp) -> String {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let zoned = jiff::Timestamp::from_millisecond(millis).unwrap_or_default().to_zoned(TimeZone::UTC);
        BrokenDownTime::from(&zoned).to_string(self.0.as_str()).unwrap_or_default()
    }

    /// The day and time that `text` says, if it has this form. A time without a day is one of 1970-01-01.
    pub fn read(&self, text: &str) -> Option<DateTime> {
        let parsed = BrokenDownTime::parse(&self.0, text).ok()?;
        let day = match (parsed.to_date(), self.has("FYy")) {
            (Ok(day), _) => day,
            // A year and a month are a form, too: they stand for its first day.
            (Err(_), true) if !self.has("dejF") => {
                jiff::civil::Date::new(parsed.year()?, parsed.month().unwrap_or(1), 1).ok()?
            }
            (Err(_), true) => return None,
            (Err(_), false) => jiff::civil::Date::constant(1970, 1, 1),
        };
        let time = parsed.to_time().unwrap_or(jiff::civil::Time::midnight());
        Some(day.to_datetime(time))
    }
}

impl fmt::Display for DateFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for DateFormat {
    /// `%Y-%m-%d`.
    fn default() -> Self {
        Self("%Y-%m-%d".to_owned())
    }
}

impl TryFrom<String> for DateFormat {
    type Error = InvalidFormat;
    fn try_from(text: String) -> Result<Self, InvalidFormat> {
        Self::new(&text)
    }
}

impl From<DateFormat> for String {
    fn from(format: DateFormat) -> Self {
        format.0
    }
}

/// `time` moved by a text such as `2d`, `-1h30m` or `+30s`; `None` if the text says no span.
pub fn shifted(time: Timestamp, by: &str) -> Option<Timestamp> {
    let (back, span) = match by.strip_prefix('-') {
        Some(span) => (true, span),
        None => (false, by.strip_prefix('+').unwrap_or(by)),
    };
    let span: Span = span.parse().ok()?;
    if back {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let span = SignedDuration::from_millis(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let moved = jiff::Timestamp::from_millisecond(millis).ok()?.checked_sub(span).ok()?;
        return Some(Timestamp::from_millis(u64::try_from(moved.as_millisecond()).unwrap_or_default()));
    }
    Some(time.plus(span.duration()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn dates_are_written_and_read() {
        fn check(format: &str, text: &str) {
            let format = DateFormat::new(format).unwrap();
            assert_eq!(format.write(at("2026-03-04T05:06:07Z")), text, "{format}");
            assert!(format.read(text).is_some(), "{format}: {text}");
        }
        check("%Y-%m-%d", "2026-03-04");
        check("%d.%m.%Y %H:%M:%S", "04.03.2026 05:06:07");
        check("%F %T", "2026-03-04 05:06:07");
        check("%Y%m%d", "20260304");
        check("%Y-%m", "2026-03");
        check("%H:%M", "05:06");
        check("%d %b %Y", "04 Mar 2026");
        check("100%% on %Y-%j", "100% on 2026-063");
    }

    #[test]
    fn what_is_no_date_is_not_read() {
        fn check(format: &str, text: &str) {
            assert_eq!(DateFormat::new(format).unwrap().read(text), None, "{format}: {text}");
        }
        check("%Y-%m-%d", "2026-02-30");
        check("%Y-%m-%d", "2026-03-04T00");
        check("%Y-%m-%d", "");
        check("%Y-%m-%d", "tomorrow");
        check("%H:%M", "25:00");
    }

    #[test]
    fn formats_have_few_letters() {
        for format in ["", "date", "%d.%m.", "%Y-%Q", "%999999Y", "%Y-%", "%-Y %H", &"%Y".repeat(100)] {
            assert!(DateFormat::new(format).is_err(), "{format:?}");
        }
        assert!(DateFormat::new("%%Y").is_err(), "the sign itself, then a letter");
    }

    #[test]
    fn times_are_moved() {
        fn check(by: &str, expect: Option<&str>) {
            assert_eq!(shifted(at("2026-03-01T00:00:00Z"), by), expect.map(at), "{by:?}");
        }
        check("0s", Some("2026-03-01T00:00:00Z"));
        check("-1d", Some("2026-02-28T00:00:00Z"));
        check("+1h30m", Some("2026-03-01T01:30:00Z"));
        check("2d", Some("2026-03-03T00:00:00Z"));
        check("two days", None);
        check("--1d", None);
        check("-3650d", Some("2016-03-03T00:00:00Z"));
    }
}
