//! A number for every limit. There is no "unlimited": each limit has a default and a ceiling.
//!
//! A step's [`Limits`] are asked for by its manifest; grant and ceiling only lower them. The constants bound what
//! people and machines may send; each says why it has its size.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Span;

/// Largest body of one request or answer of the runner API: middleboxes cut at 1 MiB.
pub const MAX_BODY: usize = 512 << 10;
/// Largest component that is stored, served or compiled: Python components take about 40 MiB.
pub const MAX_COMPONENT: u64 = 128 << 20;
/// Largest manifest: schemas included.
pub const MAX_MANIFEST: usize = 256 << 10;
/// Largest note: one must fit a transparency log's entry.
pub const MAX_NOTE: usize = 65_535;
/// Largest job file and largest job document.
pub const MAX_JOB: usize = 1 << 20;
/// Largest node set of one execution: 100,000 nodes of about 1 KiB.
pub const MAX_NODE_SET: u64 = 128 << 20;
/// Most nodes in one set.
pub const MAX_NODES: usize = 100_000;
/// Most attributes of a node.
pub const MAX_NODE_ATTRIBUTES: usize = 200;
/// Largest attribute value of a node.
pub const MAX_ATTRIBUTE: usize = 16 << 10;
/// Most steps in a job.
pub const MAX_STEPS: usize = 500;
/// Largest value that an expression or an option holds.
pub const MAX_VALUE: usize = 1 << 20;
/// Largest expression source.
pub const MAX_EXPRESSION: usize = 1 << 10;
/// Longest line of a log; longer ones are split.
pub const MAX_LOG_LINE: usize = 16 << 10;
/// Most nodes that a section runs at once.
pub const MAX_THREADS: u32 = 1000;

/// A number of bytes as people write it: `64MiB`, `16KiB`, `1GiB`, `500B`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct Size(u64);

/// A text that is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a size: write a number and B, KiB, MiB or GiB, such as 64MiB")]
pub struct InvalidSize;

const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// From bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in SIZE_UNITS {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        f.write_str("0B")
    }
}

impl FromStr for Size {
    type Err = InvalidSize;
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let (unit, size) = SIZE_UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or(InvalidSize)?;
        let digits = text.strip_suffix(unit).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidSize);
        }
        digits.parse::<u64>().ok().and_then(|n| n.checked_mul(*size)).map(Self).ok_or(InvalidSize)
    }
}

impl TryFrom<String> for Size {
    type Error = InvalidSize;
    fn try_from(text: String) -> Result<Self, InvalidSize> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr, at most $most:expr;)*) => {
        /// What one run of one step may use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct Limits {
            $($(#[$doc])* pub $field: $type,)*
        }

        /// Limits as a person writes them: what is left out has its default, or stays as the other sides have it.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct LimitsPart {
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Limits {
            /// The most that any manifest may ask for and any ceiling may permit.
            pub const MOST: Self = Self { $($field: $most,)* };

            /// The lesser of both, field by field.
            #[must_use]
            pub fn least(self, other: Self) -> Self {
                Self { $($field: self.$field.min(other.$field),)* }
            }

            /// Lowered to what `part` names; it never raises.
            #[must_use]
            pub fn lowered(self, part: &LimitsPart) -> Self {
                Self { $($field: part.$field.map_or(self.$field, |wanted| self.$field.min(wanted)),)* }
            }
        }

        impl LimitsPart {
            /// What is named, and the defaults for the rest; never above [`Limits::MOST`].
            pub fn or_default(&self) -> Limits {
                let default = Limits::default();
                Limits { $($field: self.$field.unwrap_or(default.$field),)* }.least(Limits::MOST)
            }

            /// What is named, and the most for the rest: how a ceiling reads.
            pub fn or_most(&self) -> Limits {
                Limits::MOST.lowered(self)
            }

            /// The first field that is above the most, with both values in words.
            pub fn above_most(&self) -> Option<(&'static str, String, String)> {
                $(if let Some(wanted) = self.$field && wanted > Limits::MOST.$field {
                    return Some((stringify!($field), wanted.to_string(), Limits::MOST.$field.to_string()));
                })*
                None
            }
        }
    };
}

limits! {
    /// Linear memory and tables, summed over the whole component.
    memory: Size = Size::from_mib(64), at most Size::from_mib(512);
    /// From the start of the call to its end, waiting included.
    wall: Span = Span::from_secs(60), at most Span::from_secs(24 * 3600);
    /// Time spent executing guest code.
    cpu: Span = Span::from_secs(30), at most Span::from_secs(3600);
    /// Log bytes, fields included; beyond it the log is cut with a mark and the step ends `over-limit`.
    log: Size = Size::from_mib(1), at most Size::from_mib(1024);
    /// Bytes of the output document.
    output: Size = Size::from_bytes(256 << 10), at most Size::from_mib(16);
    /// HTTP requests begun.
    requests: u32 = 100, at most 100_000;
    /// Bytes sent over HTTP, SSH and to programs.
    egress: Size = Size::from_mib(16), at most Size::from_mib(4096);
    /// Bytes received over HTTP, SSH and from programs.
    ingress: Size = Size::from_mib(64), at most Size::from_mib(4096);
    /// Programs started and SSH commands run.
    processes: u32 = 16, at most 1000;
    /// Bytes in the scratch directory.
    scratch: Size = Size::from_mib(64), at most Size::from_mib(4096);
    /// Host resources (requests, streams, pollables …) open at once.
    handles: u32 = 1024, at most 4096;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        fn check(text: &str, bytes: Option<u64>) {
            assert_eq!(text.parse::<Size>().ok().map(Size::bytes), bytes, "{text:?}");
        }
        check("64MiB", Some(64 << 20));
        check("500B", Some(500));
        check("0B", Some(0));
        check("64MB", None);
        check("64", None);
        check("1.5GiB", None);
        check("-1B", None);
        check("99999999999GiB", None);
    }

    #[test]
    fn limits_only_fall() {
        let asked = LimitsPart { memory: Some(Size::from_mib(32)), ..LimitsPart::default() }.or_default();
        let raised =
            asked.lowered(&LimitsPart { memory: Some(Size::from_mib(400)), ..LimitsPart::default() });
        assert_eq!(raised.memory, Size::from_mib(32));
        let ceiling = LimitsPart { wall: Some(Span::from_secs(5)), ..LimitsPart::default() }.or_most();
        assert_eq!(asked.least(ceiling).wall, Span::from_secs(5));
        assert_eq!(asked.least(ceiling).memory, Size::from_mib(32));
    }
}
