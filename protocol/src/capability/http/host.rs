//! Hosts of the network, as rules name them: one name, or a wildcard over its labels. An address is no host name, and what
//! stands for a named endpoint is no host of the network.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    InvalidRule,
    endpoint::{self, EndpointName},
};

/// A host name or a wildcard over one.
///
/// `api.example.com` is that name; `*.example.com` is exactly one more label; `**.example.com` one or more. A wildcard's
/// suffix has at least two labels. IP literals are not host names: they are named by CIDR in a ceiling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    depth: Depth,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Depth {
    Exact,
    OneLabel,
    AnyLabels,
}

/// Checks a lower-case DNS name: A-labels, no trailing dot, not an IP literal.
pub fn check_host_name(name: &str) -> Result<(), InvalidRule> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if name.is_empty() || name.len() > 253 || !name.split('.').all(label) {
        return Err(InvalidRule(format!(
            "{name:?} is not a host name in lower case, without a trailing dot"
        )));
    }
    // A last label of digits (or 0x…) is read as an IPv4 address by some resolvers.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err(InvalidRule(format!("{name:?} is an address, not a host name")));
    }
    Ok(())
}

impl HostPattern {
    /// True if `self` matches every host that `inner` matches.
    pub fn covers(&self, inner: &Self) -> bool {
        match (self.depth, inner.depth) {
            (Depth::Exact, Depth::Exact) => self.name == inner.name,
            (Depth::OneLabel, Depth::OneLabel) => self.name == inner.name,
            (Depth::OneLabel | Depth::AnyLabels, Depth::Exact) => self.matches(&inner.name),
            (Depth::AnyLabels, _) => inner.name == self.name || self.matches(&inner.name),
            (Depth::Exact, _) | (Depth::OneLabel, Depth::AnyLabels) => false,
        }
    }

    /// True if this pattern is or covers `host`, a lower-case name.
    pub fn matches(&self, host: &str) -> bool {
        let before = || host.strip_suffix(&self.name).and_then(|rest| rest.strip_suffix('.'));
        match self.depth {
            Depth::Exact => host == self.name,
            Depth::OneLabel => before().is_some_and(|label| !label.is_empty() && !label.contains('.')),
            Depth::AnyLabels => before().is_some_and(|labels| !labels.is_empty()),
        }
    }

    /// The authority of a named endpoint. No text is read as such a pattern.
    pub(super) fn of_endpoint(name: &EndpointName) -> Self {
        Self { depth: Depth::Exact, name: name.host() }
    }

    /// The name, if this is not a wildcard.
    pub fn exact(&self) -> Option<&str> {
        (self.depth == Depth::Exact).then_some(self.name.as_str())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.depth {
            Depth::Exact => "",
            Depth::OneLabel => "*.",
            Depth::AnyLabels => "**.",
        };
        write!(f, "{prefix}{}", self.name)
    }
}

impl FromStr for HostPattern {
    type Err = InvalidRule;
    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (depth, name) = match (text.strip_prefix("**."), text.strip_prefix("*.")) {
            (Some(name), _) => (Depth::AnyLabels, name),
            (None, Some(name)) => (Depth::OneLabel, name),
            (None, None) => (Depth::Exact, text),
        };
        check_host_name(name)?;
        if endpoint::holds(name) {
            return Err(InvalidRule(format!(
                "{text:?} is no host of the network: a named endpoint is written endpoint = \"NAME\""
            )));
        }
        if depth != Depth::Exact && !name.contains('.') {
            return Err(InvalidRule(format!(
                "{text:?} is too wide: a wildcard's suffix has at least two labels"
            )));
        }
        Ok(Self { depth, name: name.to_owned() })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidRule;
    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(host: HostPattern) -> Self {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_by_label() {
        fn check(pattern: &str, host: &str, expect: bool) {
            assert_eq!(pattern.parse::<HostPattern>().unwrap().matches(host), expect, "{pattern} {host}");
        }
        check("a.example.com", "a.example.com", true);
        check("*.example.com", "a.example.com", true);
        check("*.example.com", "example.com", false);
        check("*.example.com", "a.b.example.com", false);
        check("*.example.com", "evil-example.com", false);
        check("*.example.com", ".example.com", false);
        check("**.example.com", "a.b.example.com", true);
        check("**.example.com", "notexample.com", false);
        check("a.example.com", "a.example.com.evil", false);
    }

    #[test]
    fn bad_hosts_are_refused() {
        for bad in [
            "",
            "*",
            "*.com",
            "**.com",
            "A.example",
            "a..b",
            "a.",
            "10.0.0.1",
            "192.168.1.*",
            "a.0x7f",
            "x/y",
            "é.fr",
            "[::1]",
            "docker.endpoint.alt",
            "endpoint.alt",
            "*.endpoint.alt",
            "**.endpoint.alt",
            "**.docker.endpoint.alt",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
    }
}
