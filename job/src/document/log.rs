//! What becomes of the lines that a step writes: values that are read from them, and what of them is hidden.

use std::{borrow::Cow, fmt};

use remit_protocol::limits::MAX_LOG_LINE;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a hidden part of a line looks like.
const HIDDEN: &str = "***";
/// Longest source of a pattern.
const MAX_SOURCE: usize = 1024;
/// Largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 256 << 10;

/// What becomes of the lines of a step, one by one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLog {
    /// Values that are read from lines: the step's output has them as `log`, by name. Of several the last counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Reading>,
    /// What is hidden before anything else is done: each match, or its groups if it has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<LinePattern>,
    /// Only so many lines of each run are kept; the rest is counted and thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// A value that is read from lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// With one group, which is the value, or with two: name and value.
    pub pattern: LinePattern,
    /// The name, where there is one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A regular expression that is looked for in a line; equal if its source is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinePattern {
    source: String,
    regex: regex::Regex,
}

/// Why a text is not an acceptable regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLinePattern(String);

impl StepLog {
    /// Most patterns of each kind.
    pub const MOST: usize = 20;
    /// Most values that are read from the lines of a run.
    pub const MOST_VALUES: usize = 100;
    /// Longest name of a value, in bytes.
    pub const LONGEST_NAME: usize = 128;

    /// True if it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A line as it may leave.
    pub fn masked<'a>(&self, line: &'a str) -> Cow<'a, str> {
        self.mask.iter().fold(Cow::Borrowed(line), |line, pattern| match pattern.hide(&line) {
            Some(hidden) => Cow::Owned(hidden),
            None => line,
        })
    }

    /// A text of several lines as it may leave.
    pub fn masked_text(&self, text: &str) -> String {
        text.split('\n').map(|line| self.masked(line)).collect::<Vec<_>>().join("\n")
    }

    /// A step's output as it may leave: every text in it.
    pub fn masked_value(&self, value: Value) -> Value {
        match value {
            _ if self.mask.is_empty() => value,
            Value::String(text) => Value::String(self.masked_text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.masked_value(item)).collect(),
            Value::Object(members) => {
                let masked = members.into_iter().map(|(name, value)| (name, self.masked_value(value)));
                Value::Object(masked.collect())
            }
            other => other,
        }
    }

    /// Reads values from a line that was masked.
    pub fn read(&self, line: &str, values: &mut Map<String, Value>) {
        for reading in &self.outputs {
            let Some(found) = reading.pattern.regex.captures(line) else { continue };
            let (name, value) = match &reading.name {
                Some(name) => (name.clone(), found.get(1)),
                None => (named(found.get(1).map_or("", |group| group.as_str())), found.get(2)),
            };
            let Some(value) = value.filter(|_| !name.is_empty()) else { continue };
            if values.len() < Self::MOST_VALUES || values.contains_key(&name) {
                let value = value.as_str();
                values.insert(name, value[..value.floor_char_boundary(MAX_LOG_LINE)].into());
            }
        }
    }
}

/// A name as expressions can use it.
fn named(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    text.chars().take(StepLog::LONGEST_NAME).map(plain).collect()
}

impl LinePattern {
    /// Compiles a regular expression of the `regex` crate's syntax: no look-around, no back-references.
    pub fn new(source: &str) -> Result<Self, InvalidLinePattern> {
        if source.len() > MAX_SOURCE {
            return Err(InvalidLinePattern(format!("the pattern is longer than {MAX_SOURCE} bytes")));
        }
        let mut builder = regex::RegexBuilder::new(source);
        builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).nest_limit(32);
        builder.build().map(|regex| Self { source: source.to_owned(), regex }).map_err(|error| {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let shown: String = source.chars().take(80).collect();
            InvalidLinePattern(format!("{shown:?} is not a regular expression: {why}"))
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// How many groups it has.
    pub fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// The line with what matches hidden; none if nothing does.
    fn hide(&self, line: &str) -> Option<String> {
        let mut hidden = String::new();
        let mut done = 0;
        for found in self.regex.captures_iter(line) {
            let groups: Vec<_> = match self.groups() {
                0 => found.get(0).into_iter().collect(),
                _ => found.iter().skip(1).flatten().collect(),
            };
            for part in groups {
                if part.is_empty() || part.start() < done {
                    continue;
                }
                hidden.push_str(&line[done..part.start()]);
                hidden.push_str(HIDDEN);
                done = part.end();
            }
        }
        (done > 0).then(|| hidden + &line[done..])
    }
}

impl PartialEq for LinePattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for LinePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl TryFrom<String> for LinePattern {
    type Error = InvalidLinePattern;
    fn try_from(source: String) -> Result<Self, InvalidLinePattern> {
        Self::new(&source)
    }
}

impl From<LinePattern> for String {
    fn from(pattern: LinePattern) -> Self {
        pattern.source
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn log(value: Value) -> StepLog {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn values_are_read_from_lines() {
        let log = log(json!({"outputs": [
            {"pattern": "^version (\\S+)", "name": "version"},
            {"pattern": "^RUNDECK:DATA:\\s*([^\\s]+?)\\s*=\\s*(.+)$"},
        ]}));
        let mut values = Map::new();
        for line in [
            "version 1.2 of it",
            "a version 3",
            "RUNDECK:DATA: a b = c",
            "RUNDECK:DATA:url = http://x?a=b",
            "version 1.3",
            "RUNDECK:DATA:k/y=1",
        ] {
            log.read(line, &mut values);
        }
        assert_eq!(Value::Object(values), json!({"version": "1.3", "url": "http://x?a=b", "k_y": "1"}));
    }

    #[test]
    fn what_is_masked_is_gone_and_is_not_read() {
        fn check(mask: &str, line: &str, expect: &str) {
            assert_eq!(log(json!({"mask": [mask]})).masked(line), expect, "{mask} {line}");
        }
        check("password=(\\S+)", "x password=a1 password=b2 y", "x password=*** password=*** y");
        check("[0-9]{4}-[0-9]{4}", "card 1234-5678, 1111-2222", "card ***, ***");
        check("(a)(b)?", "ac ab", "***c ******");
        check("x*", "nothing", "nothing");
        check("é", "café", "caf***");
        let output = log(json!({"mask": ["p=(\\S+)"]}));
        assert_eq!(
            output.masked_value(json!({"stdout": "a p=1 b\n\np=2\n", "code": 0, "list": ["p=3", null]})),
            json!({"stdout": "a p=*** b\n\np=***\n", "code": 0, "list": ["p=***", null]})
        );
        let both =
            log(json!({"mask": ["key (\\S+)"], "outputs": [{"pattern": "key (\\S+)", "name": "key"}]}));
        let mut values = Map::new();
        both.read(&both.masked("key s3cret"), &mut values);
        assert_eq!(Value::Object(values), json!({"key": "***"}));
    }

    #[test]
    fn there_is_an_end_to_values() {
        let log = log(json!({"outputs": [{"pattern": "^(\\S+)=(.*)$"}]}));
        let mut values = Map::new();
        for number in 0..1000 {
            log.read(&format!("k{number}=v"), &mut values);
        }
        log.read("k0=w", &mut values);
        assert_eq!((values.len(), &values["k0"]), (StepLog::MOST_VALUES, &json!("w")));
    }

    proptest! {
        /// Whatever the line: what a mask finds in it is not in what is left, and what it does not find is as it was.
        #[test]
        fn nothing_masked_stays(line in "[a-c=0-9 é]{0,40}") {
            let masked = log(json!({"mask": ["[0-9]+"]})).masked(&line).into_owned();
            prop_assert!(!masked.contains(|c: char| c.is_ascii_digit()), "{masked}");
            let plain = |text: &str| text.replace(HIDDEN, "").replace(|c: char| c.is_ascii_digit(), "");
            prop_assert_eq!(plain(&masked), plain(&line));
        }
    }
}
