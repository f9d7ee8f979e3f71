//! Requests as the rules of all three sides name them, and one request as it is judged by them: scheme, host, port, method
//! and path.
//!
//! *Invariant:* what covers a scope matches each request that it matches (property test).

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{EndpointName, HostPattern, InvalidRule, PathPrefix};

/// The methods that can be granted. `CONNECT` and `TRACE` cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the methods of RFC 9110")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// The method's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// The method of this name, if it can be granted.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options]
            .into_iter()
            .find(|method| method.as_str() == name)
    }

    /// True if the method may change something.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Get | Self::Head)
    }
}

/// `https`, or `http` where a rule says so. A credential is never sent over `http`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the two schemes")]
pub enum Scheme {
    #[default]
    Https,
    Http,
}

impl Scheme {
    /// The port that a rule without one means.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }

    /// `https` or `http`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// A set of requests: the part of a rule that all three sides share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpScope {
    /// `https` unless said otherwise.
    pub scheme: Scheme,
    /// Which hosts.
    pub host: HostPattern,
    /// Which port.
    pub port: u16,
    /// Which methods; never empty.
    pub methods: BTreeSet<Method>,
    /// Which paths; never empty.
    pub paths: BTreeSet<PathPrefix>,
}

/// One request as it is judged: parsed once, before any name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// The scheme.
    pub scheme: Scheme,
    /// Lower-case host name.
    pub host: String,
    /// The port, said or implied.
    pub port: u16,
    /// The method.
    pub method: Method,
    /// The path without query, checked by [`check_path`](super::check_path).
    pub path: String,
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}://{}:{}{}",
            self.method.as_str(),
            self.scheme.as_str(),
            self.host,
            self.port,
            self.path
        )
    }
}

impl HttpScope {
    /// True if `self` matches every request that `inner` matches.
    pub fn covers(&self, inner: &Self) -> bool {
        self.scheme == inner.scheme
            && self.port == inner.port
            && self.host.covers(&inner.host)
            && inner.methods.is_subset(&self.methods)
            && inner.paths.iter().all(|path| self.paths.iter().any(|own| own.covers(path)))
    }

    /// The endpoint of the runner's own host to which these requests go; none if they go to the network.
    pub fn endpoint(&self) -> Option<EndpointName> {
        EndpointName::of_host(self.host.exact()?)
    }

    /// True if a secret may be used there: at one exact host, which has proved its name, or at a socket that the owner named.
    pub fn takes_secret(&self) -> bool {
        self.host.exact().is_some() && (self.scheme == Scheme::Https || self.endpoint().is_some())
    }

    /// True if `target` is one of the requests of this scope.
    pub fn matches(&self, target: &HttpTarget) -> bool {
        self.scheme == target.scheme
            && self.port == target.port
            && self.methods.contains(&target.method)
            && self.host.matches(&target.host)
            && self.paths.iter().any(|path| path.matches(&target.path))
    }
}

impl fmt::Display for HttpScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<_> = self.methods.iter().map(|method| method.as_str()).collect();
        let paths: Vec<_> = self.paths.iter().map(PathPrefix::as_str).collect();
        write!(
            f,
            "http {} {}://{}:{}{}",
            methods.join(","),
            self.scheme.as_str(),
            self.host,
            self.port,
            paths.join(",")
        )
    }
}

/// Where requests go, as a rule writes it.
pub(super) struct Place<'r> {
    pub(super) endpoint: Option<&'r EndpointName>,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<&'r str>,
    pub(super) port: Option<u16>,
}

impl Place<'_> {
    pub(super) fn words(&self) -> String {
        match (self.endpoint, self.host) {
            (Some(name), _) => format!("the endpoint {name}"),
            (None, host) => host.unwrap_or_default().to_owned(),
        }
    }

    fn read(&self) -> Result<(Scheme, HostPattern, u16), InvalidRule> {
        if let Some(name) = self.endpoint {
            if self.scheme.is_some() || self.host.is_some() || self.port.is_some() {
                return Err(InvalidRule(format!(
                    "the rule for the endpoint {name} names no scheme, host or port: the owner's file says where it is"
                )));
            }
            return Ok((Scheme::Http, HostPattern::of_endpoint(name), Scheme::Http.default_port()));
        }
        let host = self.host.ok_or_else(|| {
            InvalidRule("the rule names no place: write host = \"…\" or endpoint = \"…\"".to_owned())
        })?;
        let scheme = self.scheme.unwrap_or_default();
        let port = self.port.unwrap_or(scheme.default_port());
        if port == 0 {
            return Err(InvalidRule("port 0 cannot be called".to_owned()));
        }
        Ok((scheme, host.parse()?, port))
    }
}

pub(super) fn scope(
    place: &Place<'_>,
    methods: Option<BTreeSet<Method>>,
    paths: Option<BTreeSet<PathPrefix>>,
) -> Result<HttpScope, InvalidRule> {
    let (scheme, host, port) = place.read()?;
    let missing = |what: &str, example: &str| {
        let place = place.words();
        InvalidRule(format!("the rule for {place} has no {what}, so it would allow nothing: write {example}"))
    };
    let methods =
        methods.filter(|m| !m.is_empty()).ok_or_else(|| missing("methods", "methods = [\"GET\"]"))?;
    let paths =
        paths.filter(|p| !p.is_empty()).ok_or_else(|| missing("paths", "paths = [\"/\"] for all paths"))?;
    Ok(HttpScope { scheme, host, port, methods, paths })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host() -> impl Strategy<Value = HostPattern> {
        let named = (prop_oneof![Just(""), Just("*."), Just("**.")], prop::collection::vec("[ab]", 2..4))
            .prop_map(|(prefix, labels)| format!("{prefix}{}", labels.join(".")).parse().unwrap());
        let own = "[ab]".prop_map(|name| HostPattern::of_endpoint(&name.parse().unwrap()));
        prop_oneof![4 => named, 1 => own]
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("[xy*]|[xy]{2}", 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    fn scope() -> impl Strategy<Value = HttpScope> {
        let methods = prop::collection::btree_set(prop_oneof![Just(Method::Get), Just(Method::Post)], 1..3);
        let paths = prop::collection::btree_set(path().prop_map(|p| p.parse().unwrap()), 1..3);
        (host(), 1..3u16, methods, paths).prop_map(|(host, port, methods, paths)| HttpScope {
            scheme: Scheme::Https,
            host,
            port,
            methods,
            paths,
        })
    }

    proptest! {
        #[test]
        fn what_covers_matches_no_less(
            outer in scope(),
            inner in scope(),
            host in prop_oneof![
                4 => prop::collection::vec("[ab]", 1..5).prop_map(|labels| labels.join(".")),
                1 => "[ab]\\.endpoint\\.alt",
            ],
            port in 1..3u16,
            method in prop_oneof![Just(Method::Get), Just(Method::Post)],
            path in path(),
        ) {
            let target = HttpTarget { scheme: Scheme::Https, host, port, method, path };
            if outer.covers(&inner) && inner.matches(&target) {
                prop_assert!(outer.matches(&target));
            }
            prop_assert!(outer.covers(&outer));
        }
    }
}
