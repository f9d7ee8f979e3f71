//! A regular expression that a whole text has to fit, bounded in size.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest source of a pattern.
const MAX_SOURCE: usize = 1024;
/// Largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 256 << 10;

/// A regular expression; equal if its source is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    source: String,
    regex: regex::Regex,
}

/// Why a text is not an acceptable regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(String);

impl Pattern {
    /// Compiles a regular expression of the `regex` crate's syntax: no look-around, no back-references.
    pub fn new(source: &str) -> Result<Self, InvalidPattern> {
        if source.len() > MAX_SOURCE {
            return Err(InvalidPattern(format!("the pattern is longer than {MAX_SOURCE} bytes")));
        }
        // First alone, so that `a)(b` cannot borrow our own brackets.
        regex::RegexBuilder::new(source)
            .size_limit(MAX_COMPILED)
            .nest_limit(32)
            .build()
            .and_then(|_| {
                regex::RegexBuilder::new(&format!(r"\A(?:{source})\z"))
                    .size_limit(MAX_COMPILED)
                    .dfa_size_limit(MAX_COMPILED)
                    .nest_limit(33)
                    .build()
            })
            .map(|regex| Self { source: source.to_owned(), regex })
            .map_err(|error| InvalidPattern(explain(&error, source)))
    }

    /// True if the whole of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

fn explain(error: &regex::Error, source: &str) -> String {
    let shown: String = source.chars().take(80).collect();
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the pattern {shown:?} becomes larger than {limit} bytes when it is compiled")
        }
        other => {
            let text = other.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let hint = if source.contains("(?=") || source.contains("(?!") || source.contains("(?<") {
                "; look-around is not supported"
            } else {
                ""
            };
            format!("{shown:?} is not a regular expression: {why}{hint}")
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;
    fn try_from(source: String) -> Result<Self, InvalidPattern> {
        Self::new(&source)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.source
    }
}
