//! A number for every limit. There is no "unlimited": each limit has a default and a ceiling.
//!
//! A step's [`Limits`] are asked for by its manifest; grant and ceiling only lower them. The constants bound what
//! people and machines may send; each says why it has its size.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Span, json::MAX_INTEGER};

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
/// Fewest bytes of a secret: shorter values could not be redacted without harming ordinary text.
pub const MIN_SECRET: usize = 8;
/// Most bytes of a secret: a bundle of keys and certificates fits.
pub const MAX_SECRET: usize = 64 << 10;
/// Largest expression source.
pub const MAX_EXPRESSION: usize = 1 << 10;
/// Longest line of a log; longer ones are split.
pub const MAX_LOG_LINE: usize = 16 << 10;
/// Largest file of an option: the runner holds it in memory while its digest is computed.
pub const MAX_OPTION_FILE: Size = Size::from_mib(64);
/// A file of an option that says no size.
pub const USUAL_OPTION_FILE: Size = Size::from_mib(16);
/// Artifacts of a step that asks for them and says no limit.
pub const USUAL_ARTIFACTS: Size = Size::from_mib(16);
/// Most artifacts of one step on one node: their names and digests stand in one event.
pub const MAX_ARTIFACTS: usize = 64;
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

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_zero(&self) -> bool {
        self.0 == 0
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

/// A number of the engine's units of computation, about one an instruction; or that nobody counts them.
///
/// The same component uses the same fuel for the same answers of its host, on every machine, which no clock gives. Counting
/// makes a component that computes slower, so it is done only where a manifest, a job or a ceiling names a number; processor
/// time is bounded in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = u64))]
pub struct Fuel(u64);

/// A number that is too large for fuel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fuel is a whole number of at most {MAX_INTEGER}; leave it out where nothing is to be counted")]
pub struct InvalidFuel;

impl Fuel {
    /// Not counted: more than any number.
    pub const UNCOUNTED: Self = Self(u64::MAX);

    /// So much.
    pub const fn new(units: u64) -> Self {
        Self(units)
    }

    /// True if somebody wants it counted.
    pub const fn is_counted(self) -> bool {
        self.0 != u64::MAX
    }

    /// How much; the largest number of all where it is not counted.
    pub const fn units(self) -> u64 {
        self.0
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "called by serde")]
    fn is_uncounted(&self) -> bool {
        !self.is_counted()
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_counted() { self.0.fmt(f) } else { f.write_str("uncounted") }
    }
}

impl TryFrom<u64> for Fuel {
    type Error = InvalidFuel;
    fn try_from(units: u64) -> Result<Self, InvalidFuel> {
        if units <= MAX_INTEGER { Ok(Self(units)) } else { Err(InvalidFuel) }
    }
}

impl From<Fuel> for u64 {
    fn from(fuel: Fuel) -> Self {
        fuel.0
    }
}

/// How much of a limit: a number to compare, and a text for people.
trait Amount {
    const NOTHING: Self;
    fn number(self) -> u64;
    fn words(self) -> String;
}

impl Amount for Size {
    const NOTHING: Self = Self(0);

    fn number(self) -> u64 {
        self.0
    }

    /// In the largest unit of which there is one, with one digit after the point.
    fn words(self) -> String {
        let (unit, size) = SIZE_UNITS.into_iter().find(|(_, size)| self.0 >= *size).unwrap_or(("B", 1));
        let tenths = u128::from(self.0) * 10 / u128::from(size);
        match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole}{unit}"),
            (whole, tenth) => format!("{whole}.{tenth}{unit}"),
        }
    }
}

impl Amount for Span {
    const NOTHING: Self = Self::from_millis(0);

    fn number(self) -> u64 {
        self.as_millis()
    }

    fn words(self) -> String {
        self.to_string()
    }
}

impl Amount for Fuel {
    const NOTHING: Self = Self::UNCOUNTED;

    fn number(self) -> u64 {
        self.0
    }

    fn words(self) -> String {
        self.to_string()
    }
}

impl Amount for u32 {
    const NOTHING: Self = 0;

    fn number(self) -> u64 {
        self.into()
    }

    fn words(self) -> String {
        self.to_string()
    }
}

/// One limit of a run: how much of it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The limit's name in files.
    pub limit: &'static str,
    /// What was used, for people to read.
    pub used: String,
    /// What was allowed.
    pub allowed: String,
    /// How much of it that is, in hundredths; a little more than a hundred where what was measured ended the run.
    pub percent: u64,
    nothing: bool,
}

impl Spent {
    /// True if nothing of it was used.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    fn new<A: Amount + Copy>(limit: &'static str, used: A, allowed: A) -> Self {
        let percent = match (used.number(), allowed.number()) {
            (0, _) => 0,
            (_, 0) => 100,
            (used, allowed) => {
                u64::try_from(u128::from(used) * 100 / u128::from(allowed)).unwrap_or(u64::MAX)
            }
        };
        Self { limit, used: used.words(), allowed: allowed.words(), percent, nothing: used.number() == 0 }
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr, at most $most:expr $(, unsaid if $unsaid:literal)?;)*) => {
        /// What one run of one step may use. A document that was written before there was a limit has its default.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct Limits {
            $($(#[$doc])* $(#[serde(skip_serializing_if = $unsaid)])? pub $field: $type,)*
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

            /// Every limit's name in files.
            pub const NAMES: &[&str] = &[$(stringify!($field)),*];

            /// Each limit with how much of it `used` is. What is not counted is left out.
            pub fn spent(&self, used: &Self) -> Vec<Spent> {
                let all = [$(Spent::new(stringify!($field), used.$field, self.$field)),*];
                all.into_iter().filter(|spent| spent.limit != "fuel" || self.fuel.is_counted()).collect()
            }

            /// All of them, for people to read: `memory 64MiB, wall 1m, cpu 30s`.
            pub fn words(&self) -> String {
                let each = self.spent(self).into_iter().map(|spent| format!("{} {}", spent.limit, spent.allowed));
                each.collect::<Vec<_>>().join(", ")
            }

            /// What a run that has not begun has used; its fuel is not counted.
            pub fn nothing() -> Self {
                Self { $($field: Amount::NOTHING,)* }
            }

            /// What is above `other`: the limit's name, its value here and its value there.
            pub fn above(&self, other: &Self) -> Vec<(&'static str, String, String)> {
                let mut above = Vec::new();
                $(if self.$field > other.$field {
                    above.push((stringify!($field), self.$field.to_string(), other.$field.to_string()));
                })*
                above
            }

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
    /// Units of computation, where somebody names a number; else they are not counted.
    fuel: Fuel = Fuel::UNCOUNTED, at most Fuel::UNCOUNTED, unsaid if "Fuel::is_uncounted";
    /// Log bytes, fields included; beyond it the log is cut with a mark and the step ends `over-limit`.
    log: Size = Size::from_mib(1), at most Size::from_mib(1024);
    /// Log lines; a message of several lines is several.
    lines: u32 = 100_000, at most 10_000_000;
    /// Bytes of the output document.
    output: Size = Size::from_bytes(256 << 10), at most Size::from_mib(16);
    /// Bytes that the host takes into its own memory for one call of the component.
    call: Size = Size::from_mib(8), at most Size::from_mib(32);
    /// HTTP requests begun, and TCP connections.
    requests: u32 = 100, at most 100_000;
    /// Bytes sent over HTTP, SSH, TCP and to programs.
    egress: Size = Size::from_mib(16), at most Size::from_mib(4096);
    /// Bytes received over HTTP, SSH, TCP and from programs.
    ingress: Size = Size::from_mib(64), at most Size::from_mib(4096);
    /// Programs started and SSH commands run.
    processes: u32 = 16, at most 1000;
    /// Bytes in the scratch directory.
    scratch: Size = Size::from_mib(64), at most Size::from_mib(4096);
    /// Host resources (requests, streams, pollables …) open at once.
    handles: u32 = 1024, at most 4096;
    /// Bytes of artifacts that the execution keeps: nothing, unless the manifest asks for artifacts.
    artifacts: Size = Size::from_bytes(0), at most Size::from_mib(1024), unsaid if "Size::is_zero";
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

    #[test]
    fn fuel_is_counted_where_one_side_names_it() {
        let none = LimitsPart::default().or_default();
        assert!(!none.fuel.is_counted() && !none.least(LimitsPart::default().or_most()).fuel.is_counted());
        let named = LimitsPart { fuel: Some(Fuel::new(7)), ..LimitsPart::default() };
        assert_eq!(none.lowered(&named).fuel, Fuel::new(7));
        assert_eq!(none.least(named.or_most()).fuel, Fuel::new(7));
        assert_eq!(
            named.or_default().lowered(&LimitsPart { fuel: Some(Fuel::new(9)), ..named }).fuel,
            Fuel::new(7)
        );
        let written = serde_json::to_value(none).unwrap();
        assert!(written.get("fuel").is_none(), "{written}");
        assert_eq!(serde_json::from_value::<Limits>(written).unwrap(), none);
        assert_eq!(serde_json::to_value(named.or_default()).unwrap()["fuel"], 7);
        assert!(serde_json::from_str::<LimitsPart>(r#"{"fuel":9007199254740991}"#).is_ok());
        for bad in ["9007199254740992", "-1", "1.5", r#""7""#] {
            assert!(serde_json::from_str::<LimitsPart>(&format!(r#"{{"fuel":{bad}}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_above_is_told_with_both_values() {
        let counted = LimitsPart { fuel: Some(Fuel::new(7)), ..LimitsPart::default() }.or_default();
        let other = Limits { handles: 8, ..counted };
        let text = |name, here: &str, there: &str| (name, here.to_owned(), there.to_owned());
        assert_eq!(counted.above(&other), [text("handles", "1024", "8")]);
        assert_eq!(Limits::default().above(&counted), [text("fuel", "uncounted", "7")]);
        assert!(counted.above(&Limits::default()).is_empty());
    }

    #[test]
    fn what_was_used_is_told_for_every_limit() {
        let used = Limits { memory: Size::from_bytes(3 << 19), requests: 0, ..Limits::default() };
        let spent = Limits::default().spent(&used);
        let counted = Limits::NAMES.iter().filter(|name| **name != "fuel");
        assert!(spent.iter().map(|spent| spent.limit).eq(counted.copied()));
        let memory = &spent[0];
        assert_eq!((memory.used.as_str(), memory.allowed.as_str(), memory.percent), ("1.5MiB", "64MiB", 2));
        let one = |name: &str| spent.iter().find(|spent| spent.limit == name).unwrap();
        assert_eq!((one("requests").percent, one("wall").percent), (0, 100));
        let counted = Limits { fuel: Fuel::new(10), ..Limits::default() };
        let spent = counted.spent(&Limits { fuel: Fuel::new(5), ..used });
        assert!(spent.iter().any(|spent| spent.limit == "fuel" && spent.percent == 50));
    }

    /// The table for people says what holds here.
    #[test]
    fn the_document_names_every_limit_with_its_numbers() {
        let text = include_str!("../../docs/limits.md");
        let cells = |values: &Limits| {
            let spent = values.spent(values);
            spent.into_iter().map(|spent| (spent.limit, spent.allowed)).collect::<Vec<_>>()
        };
        for ((name, default), (_, most)) in cells(&Limits::default()).into_iter().zip(cells(&Limits::MOST)) {
            let row =
                text.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_default();
            let has = |value: &str| row.split('|').any(|cell| cell.trim() == value);
            assert!(has(&default) && has(&most), "`{name}`: {default}, at most {most}, and not {row:?}");
        }
        assert!(text.contains("| `fuel` |"));
    }
}
