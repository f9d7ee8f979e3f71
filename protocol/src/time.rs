//! Points in time and spans, with one text form each. No clock is read here: `now` is always an argument.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in time in milliseconds since 1970-01-01T00:00:00Z; as text RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = DateTime))]
pub struct Timestamp(u64);

/// A text that is not a point in time in UTC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time: expected RFC 3339 in UTC such as 2026-11-20T09:30:00Z")]
pub struct InvalidTimestamp;

/// The last instant that every reader of RFC 3339 here takes; later ones are clamped to it.
const LAST_MILLIS: u64 = 253_402_207_199_999;

impl Timestamp {
    /// From milliseconds since 1970, clamped to the end of the year 9999.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(LAST_MILLIS))
    }

    /// From the operating system's clock, as the shell read it; before 1970 counts as 1970.
    pub fn from_system(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self::from_millis(u64::try_from(since.as_millis()).unwrap_or(LAST_MILLIS))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This time and `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// `2026-11-20T09:30:00Z`: to the second, as notes write it.
    pub fn to_seconds_text(self) -> String {
        let mut text = self.to_string();
        text.truncate(19);
        text.push('Z');
        text
    }

    fn civil(self) -> jiff::civil::DateTime {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .datetime()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.millisecond()
        )
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        if text.len() > 40 || !text.ends_with('Z') {
            return Err(InvalidTimestamp);
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp)?;
        u64::try_from(time.as_millisecond()).map(Self::from_millis).map_err(|_| InvalidTimestamp)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;
    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

/// A span of time as people write it: `250ms`, `30s`, `5m`, `1h30m`, `2d`. At most 10 years.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Span(u64);

/// A text that is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write a number and a unit, such as 250ms, 30s, 5m, 1h30m or 2d")]
pub struct InvalidSpan;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const LONGEST: u64 = 3650 * 86_400_000;

impl Span {
    /// From milliseconds, clamped to ten years.
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis > LONGEST { LONGEST } else { millis })
    }

    /// From seconds, clamped to ten years.
    pub const fn from_secs(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// For the standard library.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, size) in UNITS {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;
    /// Units from large to small, each at most once, nothing else.
    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let mut rest = text;
        let mut total: u64 = 0;
        let mut units = UNITS.iter();
        if text.is_empty() || text.len() > 40 {
            return Err(InvalidSpan);
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidSpan)?;
            let number: u64 = rest[..digits].parse().map_err(|_| InvalidSpan)?;
            rest = &rest[digits..];
            let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (_, size) = units.find(|(unit, _)| *unit == &rest[..end]).ok_or(InvalidSpan)?;
            rest = &rest[end..];
            total = number.checked_mul(*size).and_then(|n| total.checked_add(n)).ok_or(InvalidSpan)?;
        }
        if total > LONGEST { Err(InvalidSpan) } else { Ok(Self(total)) }
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;
    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        fn check(text: &str, millis: Option<u64>) {
            assert_eq!(text.parse::<Span>().ok().map(Span::as_millis), millis, "{text:?}");
        }
        check("250ms", Some(250));
        check("1h30m", Some(5_400_000));
        check("2d", Some(172_800_000));
        check("0s", Some(0));
        check("30m1h", None);
        check("1s1s", None);
        check("5", None);
        check("-5s", None);
        check("1.5s", None);
        check("", None);
        check("99999999999999999999s", None);
        check("9999d", None);
    }

    #[test]
    fn spans_print_what_they_parse() {
        for millis in [0, 1, 999, 1000, 61_000, 5_400_000, 172_800_001] {
            let span = Span::from_millis(millis);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }

    #[test]
    fn times_are_utc_with_one_text() {
        let time: Timestamp = "2026-11-20T09:30:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-20T09:30:00.000Z");
        assert_eq!(time.to_seconds_text(), "2026-11-20T09:30:00Z");
        assert!("2026-11-20T09:30:00+01:00".parse::<Timestamp>().is_err());
        assert!("2026-11-20".parse::<Timestamp>().is_err());
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-30T21:59:59.999Z");
    }
}
