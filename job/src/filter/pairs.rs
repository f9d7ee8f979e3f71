//! From text to tokens to pairs of key and value.

use super::{InvalidFilter, MAX_FILTER};
use crate::template::closing;

/// One key with its value; the key keeps its `!`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    /// Where it begins, in characters from 1.
    pub(super) column: u32,
}

struct Token {
    text: String,
    column: u32,
    /// It began with a quote: an empty one is a value, too.
    quoted: bool,
}

fn invalid(at: usize, message: impl Into<String>) -> InvalidFilter {
    InvalidFilter { column: u32::try_from(at + 1).unwrap_or(u32::MAX), message: message.into() }
}

/// Takes a filter apart.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair>, InvalidFilter> {
    if text.len() > MAX_FILTER {
        return Err(invalid(
            0,
            format!("the filter has {} bytes, at most {MAX_FILTER} are allowed", text.len()),
        ));
    }
    let mut pairs = Vec::new();
    let mut pending: Option<(String, u32)> = None;
    for token in tokens(text)? {
        let (key, value, column) = match pending.take() {
            Some((key, column)) => (key, token.text, column),
            None => match token.text.split_once(':') {
                _ if !token.quoted && token.text.len() > 1 && token.text.ends_with(':') => {
                    let key = token.text[..token.text.len() - 1].to_owned();
                    pending = Some((key, token.column));
                    continue;
                }
                Some((key, value)) if !key.is_empty() => (key.to_owned(), value.to_owned(), token.column),
                _ => ("name".to_owned(), token.text, token.column),
            },
        };
        if key.trim_start_matches('!').trim().is_empty() {
            return Err(InvalidFilter { column, message: "there is no key before the colon".to_owned() });
        }
        if key.contains("${") {
            return Err(InvalidFilter {
                column,
                message: "`${…}` can only stand in a value, not in a key".to_owned(),
            });
        }
        pairs.push(Pair { key, value, column });
    }
    match pending {
        Some((key, column)) => Err(InvalidFilter {
            column,
            message: format!("the key `{key}:` has no value; write `{key}: …`, or remove it"),
        }),
        None => Ok(pairs),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, InvalidFilter> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        if characters[at] <= ' ' {
            at += 1;
            continue;
        }
        let start = at;
        let quoted = matches!(characters[at], '"' | '\'');
        let mut token = String::new();
        // The quote that this token may open: its first character, or the one right behind its first colon.
        let mut quote = quoted.then_some(characters[at]);
        while at < characters.len() && characters[at] > ' ' {
            let opens =
                Some(characters[at]) == quote || (quote.is_none() && is_value_quote(&characters, at, &token));
            if opens {
                quote = Some(characters[at]);
                at = quoted_part(&characters, at, &mut token)?;
            } else {
                at = plain_part(&characters, at, &mut token);
            }
        }
        tokens.push(Token { text: token, column: u32::try_from(start + 1).unwrap_or(u32::MAX), quoted });
    }
    Ok(tokens)
}

/// `key:"a b"`: a quote right behind the first colon.
fn is_value_quote(characters: &[char], at: usize, token: &str) -> bool {
    matches!(characters[at], '"' | '\'') && token.find(':') == Some(token.len().wrapping_sub(1))
}

/// Copies from an opening quote to its closing one; the quote doubled stands for itself.
fn quoted_part(characters: &[char], start: usize, token: &mut String) -> Result<usize, InvalidFilter> {
    let quote = characters[start];
    let mut at = start + 1;
    while at < characters.len() {
        if characters[at] != quote {
            token.push(characters[at]);
            at += 1;
        } else if characters.get(at + 1) == Some(&quote) {
            token.push(quote);
            at += 2;
        } else {
            return Ok(at + 1);
        }
    }
    Err(invalid(start, format!("the quote {quote} is not closed")))
}

/// Copies one character, or a whole `${…}`, which may hold spaces.
fn plain_part(characters: &[char], at: usize, token: &mut String) -> usize {
    if characters[at..].starts_with(&['$', '{']) && !token.ends_with('$') {
        let rest: String = characters[at + 2..].iter().collect();
        if let Some(end) = closing(&rest) {
            let inside = &rest[..end];
            token.push_str("${");
            token.push_str(inside);
            token.push('}');
            return at + 2 + inside.chars().count() + 1;
        }
    }
    token.push(characters[at]);
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_the_quoting_rules() {
        fn check(text: &str, expect: &[&str]) {
            let found =
                tokens(text).map(|tokens| tokens.into_iter().map(|token| token.text).collect::<Vec<_>>());
            assert_eq!(
                found.as_deref(),
                Ok(expect.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>().as_slice()),
                "{text:?}"
            );
        }
        check(r#"name: "a b""#, &["name:", "a b"]);
        check(r#""name:a b""#, &["name:a b"]);
        check(r#"name:"a b""#, &["name:a b"]);
        check("'it''s' x", &["it's", "x"]);
        check("tags:   a   !name:\t\"b c\"", &["tags:", "a", "!name:", "b c"]);
        check(r#""""#, &[""]);
        check(r#""a"b"c d""#, &["abc d"]);
        check(r#"it's"#, &["it's"]);
        check("name: ${options.a + ' x'}y z", &["name:", "${options.a + ' x'}y", "z"]);
    }

    #[test]
    fn pairs_follow_the_colon_rules() {
        fn check(text: &str, expect: &[(&str, &str)]) {
            let found =
                pairs(text).map(|pairs| pairs.into_iter().map(|p| (p.key, p.value)).collect::<Vec<_>>());
            let expect: Vec<_> = expect.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(found, Ok(expect), "{text:?}");
        }
        check("", &[]);
        check("web1", &[("name", "web1")]);
        check("as:test: x", &[("as:test", "x")]);
        check("a:b:c", &[("a", "b:c")]);
        check("a: b:c", &[("a", "b:c")]);
        check("!foo", &[("name", "!foo")]);
        check("!tags: web", &[("!tags", "web")]);
        check("name: \"\"", &[("name", "")]);
    }

    #[test]
    fn mistakes_have_a_place() {
        fn check(text: &str, column: u32) {
            assert_eq!(pairs(text).map_err(|invalid| invalid.column), Err(column), "{text:?}");
        }
        check("tags: web name:", 11);
        check("tags: 'web", 7);
        check("!: x", 1);
        check("${options.key}: x", 1);
        check(&"x".repeat(MAX_FILTER + 1), 1);
    }
}
