//! Lengths of time as people write them in a job: `250ms`, `30s`, `5m`, `1h30m`, `1d`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time, longer than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

/// A text that is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSpan(String);

impl fmt::Display for InvalidSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a time: write one such as 30s, 5m, 1h30m or 250ms", self.0)
    }
}

impl std::error::Error for InvalidSpan {}

/// The units, in the order in which they may stand.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Span {
    /// From seconds; none is one.
    pub const fn seconds(seconds: u32) -> Self {
        Self(if seconds == 0 { 1000 } else { seconds as u64 * 1000 })
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;
    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let invalid = || InvalidSpan(text.chars().take(80).collect());
        let mut rest = text;
        let mut total = 0_u64;
        let mut units = UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let (number, after) = rest.split_at(digits);
            let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            // Units fall from left to right and none stands twice: taking them from one iterator sees to it.
            let (_, size) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
            let number: u64 = number.parse().map_err(|_| invalid())?;
            total = number.checked_mul(*size).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            rest = after;
        }
        if total == 0 { Err(invalid()) } else { Ok(Self(total)) }
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

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        fn check(text: &str, expect: Option<u64>) {
            let found = text.parse::<Span>().ok();
            assert_eq!(found.map(Span::as_millis), expect, "{text:?}");
            if let Some(found) = found {
                assert_eq!(found.to_string().parse(), Ok(found), "{text:?}");
            }
        }
        check("250ms", Some(250));
        check("30s", Some(30_000));
        check("1h30m", Some(5_400_000));
        check("1d1s5ms", Some(86_401_005));
        check("90", None);
        check("", None);
        check("0s", None);
        check("1m1h", None);
        check("1s1s", None);
        check("1.5s", None);
        check("-1s", None);
        check("99999999999999999999s", None);
        check("999999999999999d", None);
    }
}
