//! A part of the nodes: a number of them, or a percentage.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of nodes, or a percentage of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(Percent),
}

/// 1 to 100 of a hundred; text: `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u32);

/// A text that is neither a number of nodes nor a percentage of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number of nodes, or a percentage from 1% to 100%")]
pub struct InvalidShare(String);

impl Share {
    /// How many that are of `total`: a percentage is rounded up, and never more than there are.
    pub fn of(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count.min(total),
            Self::Percent(Percent(percent)) => {
                let part = (u64::from(total) * u64::from(percent)).div_ceil(100);
                u32::try_from(part).unwrap_or(u32::MAX).min(total)
            }
        }
    }

    /// How many may be bad of `total`: a percentage is rounded down, so that 10 % of 5 is none.
    pub fn allowed(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count.min(total),
            Self::Percent(Percent(percent)) => {
                u32::try_from(u64::from(total) * u64::from(percent) / 100).unwrap_or(u32::MAX)
            }
        }
    }
}

impl FromStr for Percent {
    type Err = InvalidShare;
    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let number = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
        let number = number.filter(|percent| (1..=100).contains(percent));
        number.map(Self).ok_or_else(|| InvalidShare(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Percent {
    type Error = InvalidShare;
    fn try_from(text: String) -> Result<Self, InvalidShare> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(Percent(percent): Percent) -> Self {
        format!("{percent}%")
    }
}

impl FromStr for Share {
    type Err = InvalidShare;
    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        match text.parse() {
            Ok(count) => Ok(Self::Count(count)),
            Err(_) => text.parse().map(Self::Percent),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(Percent(percent)) => write!(f, "{percent} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_of_what_there_is() {
        fn check(text: &str, total: u32, of: u32, allowed: u32) {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.of(total), share.allowed(total)), (of, allowed), "{text} of {total}");
        }
        check("3", 10, 3, 3);
        check("3", 2, 2, 2);
        check("10%", 5, 1, 0);
        check("10%", 25, 3, 2);
        check("100%", 7, 7, 7);
        check("1%", 0, 0, 0);
        check("100%", u32::MAX, u32::MAX, u32::MAX);
        for bad in ["", "%", "0%", "101%", "-1", "1.5", "ten", "10 %"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
