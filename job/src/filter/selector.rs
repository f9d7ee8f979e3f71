//! One key and what its value selects.

use remit_protocol::node::Node;

use crate::pattern::Pattern;

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Name,
    Tags,
    Attribute(String),
}

/// A key with all values that it was given: one of them has to match.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    key: Key,
    selectors: Vec<Selector>,
}

/// A value, made ready.
#[derive(Debug, Clone)]
enum Selector {
    /// Matches nothing: a blank value.
    Nothing,
    /// `/re/`.
    Pattern(Pattern),
    /// A text as a pattern where it is one, and as exact values.
    Texts { pattern: Option<Pattern>, whole: String, members: Vec<String> },
    /// `a+b,c`: any of the lists, all of each.
    Tags(Vec<Vec<Piece>>),
}

/// One tag or a pattern for one.
#[derive(Debug, Clone)]
struct Piece {
    text: String,
    pattern: Option<Pattern>,
}

impl Key {
    fn parse(key: &str) -> Self {
        match key {
            "name" | "nodename" => Self::Name,
            "tags" => Self::Tags,
            "os-name" => Self::Attribute("osName".to_owned()),
            "os-family" => Self::Attribute("osFamily".to_owned()),
            "os-arch" => Self::Attribute("osArch".to_owned()),
            "os-version" => Self::Attribute("osVersion".to_owned()),
            other => Self::Attribute(other.to_owned()),
        }
    }
}

/// Compiles a text as a pattern; `None` where it has no character that means more than itself.
fn pattern(text: &str) -> Result<Option<Pattern>, String> {
    let plain = |c: char| {
        !matches!(c, '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' | '\\')
    };
    if text.chars().all(plain) {
        return Ok(None);
    }
    Pattern::new(text)
        .map(Some)
        .map_err(|invalid| format!("{invalid}; to mean a character itself, write `\\` before it"))
}

/// What stands between two slashes. Nothing between them is no pattern: `//` is a text like any other.
fn slashed(text: &str) -> Option<&str> {
    text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|inside| !inside.trim().is_empty())
}

impl Selector {
    fn new(key: &Key, value: &str) -> Result<Self, String> {
        let trimmed = value.trim();
        if trimmed.is_empty() {
            return Ok(Self::Nothing);
        }
        if let Some(inside) = slashed(trimmed) {
            return Pattern::new(inside.trim()).map(Self::Pattern).map_err(|invalid| invalid.to_string());
        }
        if *key == Key::Tags {
            return tags(value).map(Self::Tags);
        }
        let members =
            if value.contains(',') { value.split(',').map(str::to_owned).collect() } else { Vec::new() };
        Ok(Self::Texts { pattern: pattern(trimmed)?, whole: trimmed.to_owned(), members })
    }

    fn matches_text(&self, text: &str) -> bool {
        match self {
            Self::Nothing | Self::Tags(_) => false,
            Self::Pattern(pattern) => pattern.matches(text),
            Self::Texts { pattern, whole, members } => {
                text == whole
                    || members.iter().any(|member| member == text)
                    || pattern.as_ref().is_some_and(|pattern| pattern.matches(text))
            }
        }
    }

    fn matches_tags(&self, node: &Node) -> bool {
        match self {
            Self::Nothing | Self::Texts { .. } => false,
            Self::Pattern(pattern) => node.tags.iter().any(|tag| pattern.matches(tag.as_str())),
            Self::Tags(any) => any.iter().any(|all| all.iter().all(|piece| piece.matches(node))),
        }
    }
}

/// Splits like Java does: empty pieces at the end do not count.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.trim_end_matches(separator).split(separator)
}

fn tags(value: &str) -> Result<Vec<Vec<Piece>>, String> {
    split(value, ',')
        .map(|all| {
            split(all, '+')
                .map(|piece| {
                    let text = piece.trim();
                    Ok(Piece { text: text.to_owned(), pattern: pattern(text)? })
                })
                .collect()
        })
        .collect()
}

impl Piece {
    fn matches(&self, node: &Node) -> bool {
        // A tag is never empty, so an empty piece matches none.
        node.tags.iter().any(|tag| {
            tag.as_str() == self.text
                || self.pattern.as_ref().is_some_and(|pattern| pattern.matches(tag.as_str()))
        })
    }
}

impl Condition {
    /// Adds a value to the condition of its key.
    pub(super) fn add(conditions: &mut Vec<Self>, key: &str, value: &str) -> Result<(), String> {
        let key = Key::parse(key.trim());
        let selector = Selector::new(&key, value)?;
        match conditions.iter_mut().find(|condition| condition.key == key) {
            Some(condition) => condition.selectors.push(selector),
            None => conditions.push(Self { key, selectors: vec![selector] }),
        }
        Ok(())
    }

    pub(super) fn matches(&self, node: &Node) -> bool {
        let text = match &self.key {
            Key::Tags => return self.selectors.iter().any(|selector| selector.matches_tags(node)),
            Key::Name => node.name.as_str(),
            Key::Attribute(name) => match node.attribute(name) {
                Some(value) if !value.trim().is_empty() => value,
                _ => return false,
            },
        };
        self.selectors.iter().any(|selector| selector.matches_text(text))
    }
}
