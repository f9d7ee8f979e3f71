//! Arguments of a program, as rules allow them.
//!
//! An argument pattern is a literal or one typed place: `{int}`, `{text}`, `{enum a b}`, `{path under DIR}`; the last
//! pattern may be `{text}*`, any number of texts. A typed place never matches a leading `-`, a `..` segment, a control
//! character or an empty argument. `{data}` and, last, `{data}*` match any text at all: only for a place that the program
//! takes as data whatever it says, such as the script after `sh -c`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::capability::http::InvalidRule;

/// One argument, as a rule allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArgPattern {
    /// Exactly this text; the only way to allow a leading `-`.
    Literal(String),
    /// A decimal integer without sign or leading zero.
    Int,
    /// Any text.
    Text,
    /// Any number of texts; only as the last pattern.
    Texts,
    /// One of these words.
    Enum(Vec<String>),
    /// A relative path below a directory.
    PathUnder(String),
    /// Any text at all: empty, of several lines, with a leading `-`.
    Data,
    /// Any number of them; only as the last pattern.
    AllData,
}

fn plain(argument: &str) -> bool {
    !argument.is_empty()
        && argument.len() <= 32 << 10
        && !argument.starts_with('-')
        && !argument.chars().any(char::is_control)
        && !argument.split('/').any(|segment| segment == "..")
}

fn below(directory: &str, argument: &str) -> bool {
    plain(argument)
        && argument.strip_prefix(directory).is_some_and(|rest| {
            rest.strip_prefix('/').is_some_and(|path| {
                !path.is_empty() && path.split('/').all(|segment| !segment.is_empty() && segment != ".")
            })
        })
}

fn decimal(argument: &str) -> bool {
    argument.len() <= 19
        && !argument.is_empty()
        && argument.bytes().all(|b| b.is_ascii_digit())
        && (argument == "0" || !argument.starts_with('0'))
}

impl ArgPattern {
    /// True if `argument` fits.
    pub fn matches(&self, argument: &str) -> bool {
        match self {
            Self::Literal(text) => argument == text,
            Self::Int => decimal(argument),
            Self::Text | Self::Texts => plain(argument),
            Self::Enum(words) => words.iter().any(|word| word == argument),
            Self::PathUnder(directory) => below(directory, argument),
            Self::Data | Self::AllData => !argument.contains('\0'),
        }
    }

    /// True if it stands for any number of arguments.
    fn many(&self) -> bool {
        matches!(self, Self::Texts | Self::AllData)
    }

    /// True if every argument that `inner` matches, this matches too. `Texts` stands for one of its texts here.
    fn covers(&self, inner: &Self) -> bool {
        match (self, inner) {
            (_, Self::Literal(text)) => self.matches(text),
            (_, Self::Enum(words)) => words.iter().all(|word| self.matches(word)),
            (Self::Data | Self::AllData, _) => true,
            (_, Self::Data | Self::AllData) => false,
            (Self::Text | Self::Texts, _) => true,
            (Self::Int, Self::Int) => true,
            (Self::PathUnder(outer), Self::PathUnder(inner)) => outer == inner || below(outer, inner),
            _ => false,
        }
    }
}

/// True if the vector `arguments` fits `patterns`, one by one.
pub fn matches_all(patterns: &[ArgPattern], arguments: &[String]) -> bool {
    let (fixed, rest) = match patterns.split_last() {
        Some((last, fixed)) if last.many() => (fixed, Some(last)),
        _ => (patterns, None),
    };
    let enough = if rest.is_some() { arguments.len() >= fixed.len() } else { arguments.len() == fixed.len() };
    enough
        && fixed.iter().zip(arguments).all(|(pattern, argument)| pattern.matches(argument))
        && rest.is_none_or(|rest| arguments.iter().skip(fixed.len()).all(|argument| rest.matches(argument)))
}

/// True if every vector that fits `inner` fits `outer`.
pub fn covers_all(outer: &[ArgPattern], inner: &[ArgPattern]) -> bool {
    let many = |patterns: &[ArgPattern]| patterns.last().is_some_and(ArgPattern::many);
    let fixed = |patterns: &[ArgPattern]| patterns.len() - usize::from(many(patterns));
    let lengths =
        if many(outer) { fixed(inner) >= fixed(outer) } else { !many(inner) && inner.len() == outer.len() };
    // What `inner` lets follow in any number, `outer` has to let follow too.
    let rest =
        !many(inner) || outer.last().zip(inner.last()).is_some_and(|(outer, inner)| outer.covers(inner));
    lengths
        && rest
        && inner[..fixed(inner)].iter().enumerate().all(|(at, own)| {
            outer.get(at.min(outer.len().saturating_sub(1))).is_some_and(|other| other.covers(own))
        })
}

impl fmt::Display for ArgPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Int => f.write_str("{int}"),
            Self::Text => f.write_str("{text}"),
            Self::Texts => f.write_str("{text}*"),
            Self::Enum(words) => write!(f, "{{enum {}}}", words.join(" ")),
            Self::PathUnder(directory) => write!(f, "{{path under {directory}}}"),
            Self::Data => f.write_str("{data}"),
            Self::AllData => f.write_str("{data}*"),
        }
    }
}

impl FromStr for ArgPattern {
    type Err = InvalidRule;
    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = || {
            InvalidRule(format!(
                "{text:?} is not an argument pattern: a literal, or {{int}}, {{text}}, {{text}}*, {{enum a b}}, {{path under DIR}}, {{data}}, {{data}}*"
            ))
        };
        if text.len() > 4096 || text.chars().any(char::is_control) {
            return Err(invalid());
        }
        if text == "{text}*" {
            return Ok(Self::Texts);
        }
        if text == "{data}*" {
            return Ok(Self::AllData);
        }
        let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return if text.contains(['{', '}']) {
                Err(invalid())
            } else {
                Ok(Self::Literal(text.to_owned()))
            };
        };
        match inside.split_once(' ') {
            None if inside == "int" => Ok(Self::Int),
            None if inside == "text" => Ok(Self::Text),
            None if inside == "data" => Ok(Self::Data),
            Some(("enum", words)) => {
                let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
                if words.is_empty() { Err(invalid()) } else { Ok(Self::Enum(words)) }
            }
            Some(("path", rest)) => {
                let directory = rest.strip_prefix("under ").map(str::trim).ok_or_else(invalid)?;
                let directory = directory.trim_end_matches('/');
                let absolute = directory.strip_prefix('/').unwrap_or(directory);
                let clean = absolute.split('/').all(|s| !s.is_empty() && s != "." && s != "..");
                if clean && plain(directory) {
                    Ok(Self::PathUnder(directory.to_owned()))
                } else {
                    Err(invalid())
                }
            }
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for ArgPattern {
    type Error = InvalidRule;
    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<ArgPattern> for String {
    fn from(pattern: ArgPattern) -> Self {
        pattern.to_string()
    }
}

pub(super) fn check_args(args: Option<&[ArgPattern]>) -> Result<(), InvalidRule> {
    let args = args.unwrap_or_default();
    match args.iter().rev().skip(1).find(|pattern| pattern.many()) {
        Some(early) => Err(InvalidRule(format!("{early} can only be the last argument pattern"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<ArgPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn argument_vectors_fit_their_patterns() {
        fn check(allowed: &[&str], arguments: &[&str], expect: bool) {
            let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
            assert_eq!(matches_all(&patterns(allowed), &arguments), expect, "{allowed:?} {arguments:?}");
        }
        check(&[], &[], true);
        check(&[], &["-a"], false);
        check(&["-i", "{enum prod staging}"], &["-i", "prod"], true);
        check(&["-i", "{enum prod staging}"], &["-i", "test"], false);
        check(&["-i", "{enum prod staging}"], &["-i"], false);
        check(&["{text}"], &["--exec=sh"], false);
        check(&["{text}"], &["a\nb"], false);
        check(&["{text}"], &[""], false);
        check(&["{text}"], &["a/../b"], false);
        check(&["{int}"], &["12"], true);
        check(&["{int}"], &["-12"], false);
        check(&["{int}"], &["012"], false);
        check(&["{path under playbooks}"], &["playbooks/site.yml"], true);
        check(&["{path under playbooks}"], &["playbooks/../x"], false);
        check(&["{path under playbooks}"], &["playbooks"], false);
        check(&["{path under playbooks}"], &["playbooksx/a"], false);
        check(&["a", "{text}*"], &["a"], true);
        check(&["a", "{text}*"], &["a", "b", "c"], true);
        check(&["a", "{text}*"], &["a", "b", "-c"], false);
        check(&["-c", "{data}"], &["-c", "rm -rf \"$1\"\n../x\t"], true);
        check(&["-c", "{data}"], &["-c", ""], true);
        check(&["-c", "{data}"], &["-c", "a\0b"], false);
        check(&["-c", "{data}", "{data}*"], &["-c", "x", "-y", "", "a\nb"], true);
        check(&["-c", "{data}"], &["-c", "x", "y"], false);
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in [
            "{",
            "{any}",
            "{data",
            "{data x}",
            "{data}**",
            "{enum}",
            "{enum }",
            "{path under }",
            "{path under ../x}",
            "a{text}",
            "{text}**",
        ] {
            assert!(bad.parse::<ArgPattern>().is_err(), "{bad:?}");
        }
    }

    fn pattern() -> impl Strategy<Value = ArgPattern> {
        prop_oneof![
            Just("a"),
            Just("1"),
            Just("-x"),
            Just("d/e"),
            Just("{int}"),
            Just("{text}"),
            Just("{enum a b}"),
            Just("{enum 1 2}"),
            Just("{path under d}"),
            Just("{path under d/e}"),
            Just("{data}")
        ]
        .prop_map(|text| text.parse().unwrap())
    }

    fn list() -> impl Strategy<Value = Vec<ArgPattern>> {
        let last = prop_oneof![Just(None), Just(Some(ArgPattern::Texts)), Just(Some(ArgPattern::AllData))];
        (prop::collection::vec(pattern(), 0..4), last).prop_map(|(mut list, many)| {
            list.extend(many);
            list
        })
    }

    proptest! {
        #[test]
        fn what_covers_matches_no_less(
            outer in list(),
            inner in list(),
            arguments in prop::collection::vec(
                prop_oneof![Just("a"), Just("b"), Just("1"), Just("-x"), Just("d/e"), Just("d/e/f"), Just("z")], 0..5),
        ) {
            let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
            if covers_all(&outer, &inner) && matches_all(&inner, &arguments) {
                prop_assert!(matches_all(&outer, &arguments));
            }
        }
    }
}
