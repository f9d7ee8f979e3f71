//! Paths of requests: which ones are judged at all, and the prefixes that rules name.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidRule;

/// The segment of a rule that stands for any one segment.
const ANY: &str = "*";

/// A prefix of whole path segments: `/v1` covers `/v1` and `/v1/x`, not `/v1x`. A segment `*` stands for one segment, whatever
/// it is: `/containers/*/logs` covers `/containers/web/logs`, not `/containers/logs`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

/// Refuses paths that two readers could take for two different ones: `//`, `.`, `..`, `\`, encoded slashes and dots.
pub fn check_path(path: &str) -> Result<(), InvalidRule> {
    let invalid = |why: &str| Err(InvalidRule(format!("the path {path:?} {why}")));
    if !path.starts_with('/') {
        return invalid("does not start with '/'");
    }
    if path.len() > 8192 {
        return Err(InvalidRule("the path is longer than 8192 bytes".to_owned()));
    }
    // RFC 3986 §3.3. Of other characters some readers make others: `{` is sent as it is by one and as `%7B` by the next.
    let held = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:@".contains(&b);
    if !path.bytes().all(held) {
        return invalid(
            "holds a character that a path cannot hold; write it as '%' and two hexadecimal digits",
        );
    }
    let lower = path.to_ascii_lowercase();
    if ["%2e", "%2f", "%5c", "%00"].iter().any(|encoded| lower.contains(encoded)) {
        return invalid("holds an encoded dot, slash, backslash or zero byte");
    }
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return invalid("holds a '%' without two hexadecimal digits");
        }
        rest = &rest[at + 3..];
    }
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        // `;` starts parameters that some servers drop before they compare.
        let bare = segment.split(';').next().unwrap_or_default();
        if bare == "." || bare == ".." {
            return invalid("holds a '.' or '..' segment");
        }
        if segment.is_empty() && segments.peek().is_some() {
            return invalid("holds an empty segment");
        }
    }
    Ok(())
}

impl PathPrefix {
    /// True if `self` matches every path that `inner` matches.
    pub fn covers(&self, inner: &Self) -> bool {
        self.matches(&inner.0)
    }

    /// True if `path` is this prefix or lies below it. The caller has checked `path` with [`check_path`].
    pub fn matches(&self, path: &str) -> bool {
        self.0 == "/"
            || path.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || (self.has_wildcard() && self.matches_by_segment(path))
    }

    fn matches_by_segment(&self, path: &str) -> bool {
        let mut given = path.split('/');
        self.0.split('/').all(|own| match (own, given.next()) {
            (ANY, Some(segment)) => !segment.is_empty(),
            (own, segment) => segment == Some(own),
        })
    }

    /// True if a segment of it stands for any other.
    pub fn has_wildcard(&self) -> bool {
        self.0.split('/').any(|segment| segment == ANY)
    }

    /// The prefix, without a trailing slash unless it is the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidRule;
    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        check_path(text)?;
        if text.split('/').any(|segment| segment.contains(ANY) && segment != ANY) {
            return Err(InvalidRule(format!(
                "the path {text:?} has a `*` beside other characters: it stands for one whole segment; the character itself is `%2A`"
            )));
        }
        let trimmed = text.trim_end_matches('/');
        Ok(Self(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }))
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = InvalidRule;
    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<PathPrefix> for String {
    fn from(path: PathPrefix) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_by_whole_segment() {
        fn check(prefix: &str, path: &str, expect: bool) {
            assert_eq!(prefix.parse::<PathPrefix>().unwrap().matches(path), expect, "{prefix} {path}");
        }
        check("/v1", "/v1", true);
        check("/v1", "/v1/x", true);
        check("/v1/", "/v1/x", true);
        check("/v1", "/v1x", false);
        check("/", "/anything", true);
        check("/c/*/logs", "/c/web/logs", true);
        check("/c/*/logs", "/c/web/logs/x", true);
        check("/c/*/logs", "/c/web/log", false);
        check("/c/*/logs", "/c/logs", false);
        check("/c/*/logs", "/c/a/b/logs", false);
        check("/c/*", "/c/web", true);
        check("/c/*", "/c/*", true);
        check("/c/*", "/c", false);
        check("/c/*", "/c/", false);
        check("/*", "/", false);
        check("/*", "/c", true);
        for bad in [
            "v1", "/v1/../x", "/a//b", "/%2e%2e/", "/a%2Fb", "/a\\b", "/a b", "/..;/x", "/a%zz", "/a?b",
            "/é", "/{a}", "/a|b", "/a^b", "/[a]", "/a`b",
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
        for bad in ["/a*", "/*a/b", "/**", "/a/**/b"] {
            assert!(bad.parse::<PathPrefix>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_segment_for_any_is_covered_by_such_a_segment_only() {
        fn check(outer: &str, inner: &str, expect: bool) {
            let [outer, inner] = [outer, inner].map(|text| text.parse::<PathPrefix>().unwrap());
            assert_eq!(outer.covers(&inner), expect, "{} {}", outer.as_str(), inner.as_str());
        }
        check("/c/*/logs", "/c/*/logs", true);
        check("/c/*/logs", "/c/web/logs", true);
        check("/c/*", "/c/*/logs", true);
        check("/c", "/c/*", true);
        check("/c/web/logs", "/c/*/logs", false);
        check("/c/web", "/c/*", false);
        check("/c/*/logs", "/c/*", false);
        check("/c/*", "/c", false);
    }
}
