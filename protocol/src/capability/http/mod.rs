//! `http`: which requests a step may send. Scheme, host, port, methods and path prefixes; no regex, no template.
//!
//! A rule names a host of the network, or an endpoint of the runner's own host by the name that its owner gave it: see
//! [`EndpointName`].

mod endpoint;
mod path;

use std::{collections::BTreeSet, fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::{
    endpoint::{ENDPOINTS, Endpoint, EndpointName},
    path::{PathPrefix, check_path},
};
use super::secrets::{HttpPlacement, HttpSecret};
use crate::{ComponentName, ProjectName};

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

/// Why a text of the grammar is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRule(pub String);

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
    fn of_endpoint(name: &EndpointName) -> Self {
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
    /// The path without query, checked by [`check_path`].
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

/// The raw form that all three sides are written in; each side takes what belongs to it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<EndpointName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<Scheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    methods: Option<BTreeSet<Method>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paths: Option<BTreeSet<PathPrefix>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    private: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<HttpSecret>,
}

/// Where requests go, as a rule writes it.
struct Place<'r> {
    endpoint: Option<&'r EndpointName>,
    scheme: Option<Scheme>,
    host: Option<&'r str>,
    port: Option<u16>,
}

impl Place<'_> {
    fn words(&self) -> String {
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

fn scope(
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

/// What a rule says beside its scope has to mean something there.
fn check_rest(scope: &HttpScope, private: bool, secret: Option<&HttpSecret>) -> Result<(), InvalidRule> {
    if let Some(name) = scope.endpoint() {
        if private {
            return Err(InvalidRule(format!(
                "the endpoint {name} has no address: `private` has no meaning there"
            )));
        }
        if secret.is_some_and(|secret| secret.placement == HttpPlacement::ClientCert) {
            return Err(InvalidRule(format!(
                "the endpoint {name} is called without TLS, where no certificate is shown"
            )));
        }
        return Ok(());
    }
    if secret.is_some() && scope.host.exact().is_none() {
        return Err(InvalidRule(format!(
            "the rule for {} is a wildcard and cannot carry a secret",
            scope.host
        )));
    }
    if secret.is_some() && scope.scheme == Scheme::Http {
        return Err(InvalidRule(format!(
            "the rule for {} is plain http and cannot carry a secret",
            scope.host
        )));
    }
    Ok(())
}

/// A component's wish to call hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawHttp", into = "RawHttp")]
pub struct HttpRequest {
    /// A short name by which a grant refers to the rule.
    pub id: Option<String>,
    /// What is asked for.
    pub scope: HttpWish,
    /// The host may resolve to a private address, where the ceiling names its range.
    pub private: bool,
    /// A secret that the runner adds to matching requests.
    pub secret: Option<HttpSecret>,
}

/// What a request asks for: literal requests, or an open place that a grant fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpWish {
    /// `host = "granted"`: whatever the job's grant lists of the network, with these methods if any are named. An endpoint of
    /// the runner's own host is asked for by its name.
    Open {
        /// The methods that will be used; absent: any.
        methods: Option<BTreeSet<Method>>,
    },
    /// These requests.
    Literal(HttpScope),
}

impl HttpRequest {
    /// True if what this asks for includes all of `grant`, secret and private address included.
    pub fn covers(&self, grant: &HttpGrant) -> bool {
        let scope = match &self.scope {
            HttpWish::Literal(scope) => scope.covers(&grant.scope),
            HttpWish::Open { methods } => {
                grant.scope.endpoint().is_none()
                    && methods.as_ref().is_none_or(|m| grant.scope.methods.is_subset(m))
            }
        };
        let open = matches!(self.scope, HttpWish::Open { .. });
        let private = self.private || open || !grant.private;
        // The author decided how a secret is used; an open request leaves that to the job as well.
        let secret = match (&self.secret, &grant.secret) {
            (_, None) => true,
            (Some(asked), Some(given)) => asked == given,
            (None, Some(_)) => open,
        };
        scope && private && secret
    }
}

impl TryFrom<RawHttp> for HttpRequest {
    type Error = InvalidRule;
    fn try_from(raw: RawHttp) -> Result<Self, InvalidRule> {
        let wish = if raw.host.as_deref() == Some("granted") {
            if raw.endpoint.is_some() || raw.paths.is_some() || raw.port.is_some() || raw.scheme.is_some() {
                return Err(InvalidRule(
                    "an open request (host = \"granted\") names no endpoint, port, path or scheme".to_owned(),
                ));
            }
            HttpWish::Open { methods: raw.methods }
        } else {
            let scope = scope(&raw.place(), raw.methods.clone(), raw.paths.clone())?;
            check_rest(&scope, raw.private, raw.secret.as_ref())?;
            HttpWish::Literal(scope)
        };
        Ok(Self { id: raw.id, scope: wish, private: raw.private, secret: raw.secret })
    }
}

impl RawHttp {
    fn place(&self) -> Place<'_> {
        Place {
            endpoint: self.endpoint.as_ref(),
            scheme: self.scheme,
            host: self.host.as_deref(),
            port: self.port,
        }
    }
}

fn raw(scope: HttpScope) -> RawHttp {
    if let Some(endpoint) = scope.endpoint() {
        return RawHttp {
            endpoint: Some(endpoint),
            methods: Some(scope.methods),
            paths: Some(scope.paths),
            ..RawHttp::default()
        };
    }
    RawHttp {
        scheme: (scope.scheme != Scheme::Https).then_some(scope.scheme),
        host: Some(scope.host.to_string()),
        port: Some(scope.port),
        methods: Some(scope.methods),
        paths: Some(scope.paths),
        ..RawHttp::default()
    }
}

impl From<HttpRequest> for RawHttp {
    fn from(request: HttpRequest) -> Self {
        let base = match request.scope {
            HttpWish::Open { methods } => {
                Self { host: Some("granted".to_owned()), methods, ..Self::default() }
            }
            HttpWish::Literal(scope) => raw(scope),
        };
        Self { id: request.id, private: request.private, secret: request.secret, ..base }
    }
}

/// What a job allows one step to call. Always literal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawHttp", into = "RawHttp")]
pub struct HttpGrant {
    /// The requests that are given.
    pub scope: HttpScope,
    /// The host may resolve to a private address, where the ceiling names its range.
    pub private: bool,
    /// A secret that the runner adds to matching requests.
    pub secret: Option<HttpSecret>,
}

impl HttpGrant {
    /// True if a granted method may change something.
    pub fn changes(&self) -> bool {
        self.scope.methods.iter().any(|method| method.changes())
    }
}

impl TryFrom<RawHttp> for HttpGrant {
    type Error = InvalidRule;
    fn try_from(raw: RawHttp) -> Result<Self, InvalidRule> {
        if raw.id.is_some() {
            return Err(InvalidRule("a compiled grant names no rule by `id`".to_owned()));
        }
        if raw.host.as_deref() == Some("granted") {
            return Err(InvalidRule("a grant names its host".to_owned()));
        }
        let scope = scope(&raw.place(), raw.methods.clone(), raw.paths.clone())?;
        check_rest(&scope, raw.private, raw.secret.as_ref())?;
        Ok(Self { scope, private: raw.private, secret: raw.secret })
    }
}

impl From<HttpGrant> for RawHttp {
    fn from(grant: HttpGrant) -> Self {
        Self { private: grant.private, secret: grant.secret, ..raw(grant.scope) }
    }
}

/// How a permitted request leaves the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Resolved and dialled by the runner.
    #[default]
    Direct,
    /// Through the runner's proxy, which resolves the name.
    Proxy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCeiling {
    endpoint: Option<EndpointName>,
    unix: Option<std::path::PathBuf>,
    components: Option<Vec<ComponentName>>,
    projects: Option<Vec<ProjectName>>,
    scheme: Option<Scheme>,
    host: Option<String>,
    port: Option<u16>,
    methods: Option<BTreeSet<Method>>,
    paths: Option<BTreeSet<PathPrefix>>,
    #[serde(default)]
    private: Vec<IpNet>,
    #[serde(default)]
    via: Via,
    tls: Option<String>,
    ca_file: Option<std::path::PathBuf>,
}

/// What the owner permits to be called from this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawCeiling")]
pub struct HttpCeiling {
    /// The requests that are permitted.
    pub scope: HttpScope,
    /// What stands behind the scope's endpoint, and for whom; none for a host of the network.
    pub endpoint: Option<Endpoint>,
    /// The private ranges that the host's name may resolve to.
    pub private: Vec<IpNet>,
    /// How requests leave.
    pub via: Via,
    /// The trust profile of the owner's file that says which certificates are trusted; its file becomes `ca_file`.
    pub tls: Option<String>,
    /// Certificates that are trusted for this rule, in PEM; absent: the runner's.
    pub ca_file: Option<std::path::PathBuf>,
}

impl HttpCeiling {
    /// True if this permits what is granted to a component, in a project.
    pub fn permits(&self, scope: &HttpScope, component: &ComponentName, project: &ProjectName) -> bool {
        let serves = |endpoint: &Endpoint| endpoint.serves(component, project);
        self.scope.covers(scope) && self.endpoint.as_ref().is_none_or(serves)
    }
}

impl TryFrom<RawCeiling> for HttpCeiling {
    type Error = InvalidRule;
    fn try_from(raw: RawCeiling) -> Result<Self, InvalidRule> {
        let place = Place {
            endpoint: raw.endpoint.as_ref(),
            scheme: raw.scheme,
            host: raw.host.as_deref(),
            port: raw.port,
        };
        let words = place.words();
        let scope = scope(&place, raw.methods, raw.paths)?;
        let networked =
            !raw.private.is_empty() || raw.via == Via::Proxy || raw.tls.is_some() || raw.ca_file.is_some();
        if let Some(name) = raw.endpoint {
            if networked {
                return Err(InvalidRule(format!(
                    "the endpoint {name} is a socket of this host: `private`, `via`, `tls` and `ca_file` have no meaning there"
                )));
            }
            let endpoint = Endpoint::new(&name, raw.unix, raw.components, raw.projects)?;
            return Ok(Self {
                scope,
                endpoint: Some(endpoint),
                private: Vec::new(),
                via: Via::Direct,
                tls: None,
                ca_file: None,
            });
        }
        if raw.unix.is_some() || raw.components.is_some() || raw.projects.is_some() {
            return Err(InvalidRule(format!(
                "the rule for {words} names a host: `unix`, `components` and `projects` belong to an endpoint"
            )));
        }
        if raw.via == Via::Proxy && !raw.private.is_empty() {
            return Err(InvalidRule(format!(
                "the rule for {words} goes through the proxy, which resolves the name: `private` has no meaning there"
            )));
        }
        if raw.tls.is_some() && raw.ca_file.is_some() {
            return Err(InvalidRule(format!(
                "the rule for {words} names certificates twice: `tls` or `ca_file`, not both"
            )));
        }
        if scope.scheme == Scheme::Http && (raw.tls.is_some() || raw.ca_file.is_some()) {
            return Err(InvalidRule(format!(
                "the rule for {words} is plain http, where no certificate is shown: remove `tls` and `ca_file`"
            )));
        }
        Ok(Self {
            scope,
            endpoint: None,
            private: raw.private,
            via: raw.via,
            tls: raw.tls,
            ca_file: raw.ca_file,
        })
    }
}

/// One rule of a remit: requests that will be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpPermit {
    /// The requests.
    pub scope: HttpScope,
    /// The socket of this host to which they go, as the owner named it; none if they go to the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix: Option<std::path::PathBuf>,
    /// Private ranges that the name may resolve to.
    pub private: Vec<IpNet>,
    /// How requests leave.
    pub via: Via,
    /// Certificates that are trusted for this rule.
    pub ca_file: Option<std::path::PathBuf>,
    /// The secret that is added, by the name and the path.
    pub secret: Option<super::secrets::BoundSecret>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn an_endpoint_is_asked_for_granted_and_permitted_by_its_name() {
        fn check<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str, expect: &str) {
            match serde_json::from_str::<T>(json) {
                Ok(_) => assert_eq!(expect, "", "{json}"),
                Err(error) => {
                    assert!(!expect.is_empty() && error.to_string().contains(expect), "{json}: {error}");
                }
            }
        }
        let rule =
            |more: &str| format!(r#"{{"endpoint":"docker","methods":["GET"],"paths":["/info"]{more}}}"#);
        for (more, expect) in [
            ("", ""),
            (r#","host":"a.example""#, "names no scheme, host or port"),
            (r#","scheme":"http""#, "names no scheme, host or port"),
            (r#","port":80"#, "names no scheme, host or port"),
            (r#","private":true"#, "has no address"),
            (r#","secret":{"name":"t","use":"header","header":"x-registry-auth"}"#, ""),
            (r#","secret":{"name":"t","use":"client-cert"}"#, "without TLS"),
            (r#","unix":"/run/docker.sock""#, "unknown field"),
        ] {
            check::<HttpGrant>(&rule(more), expect);
            check::<HttpRequest>(&rule(more), expect);
        }
        check::<HttpGrant>(r#"{"methods":["GET"],"paths":["/"]}"#, "names no place");
        check::<HttpGrant>(
            r#"{"endpoint":"Docker","methods":["GET"],"paths":["/"]}"#,
            "no name of an endpoint",
        );
        check::<HttpGrant>(
            r#"{"endpoint":"docker","paths":["/"]}"#,
            "the rule for the endpoint docker has no methods",
        );
        let who = r#","components":["remit/docker-nodes"]"#;
        let unix = r#","unix":"/run/docker.sock""#;
        for (more, expect) in [
            (format!("{unix}{who}"), ""),
            (format!(r#"{unix}{who},"projects":["ops"]"#), ""),
            (who.to_owned(), "names no socket"),
            (unix.to_owned(), "names no component"),
            (format!(r#"{unix},"components":[]"#), "names no component"),
            (format!(r#","unix":"docker.sock"{who}"#), "begins with '/'"),
            (format!(r#","unix":"/run/../x.sock"{who}"#), "is not written"),
            (format!(r#","unix":"/run//x.sock"{who}"#), "is not written"),
            (format!(r#"{unix}{who},"via":"proxy""#), "socket of this host"),
            (format!(r#"{unix}{who},"private":["10.0.0.0/8"]"#), "socket of this host"),
            (format!(r#"{unix}{who},"ca_file":"ca.pem""#), "socket of this host"),
        ] {
            check::<HttpCeiling>(&rule(&more), expect);
        }
        let host = |more: &str| format!(r#"{{"host":"a.example","methods":["GET"],"paths":["/"]{more}}}"#);
        check::<HttpCeiling>(&host(unix), "belong to an endpoint");
        check::<HttpCeiling>(&host(who), "belong to an endpoint");
    }

    #[test]
    fn an_endpoint_is_written_as_it_was_read_and_is_no_host() {
        let text = r#"{"endpoint":"docker","methods":["GET"],"paths":["/info"]}"#;
        let grant: HttpGrant = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&grant).unwrap(), text);
        let request: HttpRequest = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert!(request.covers(&grant));
        assert_eq!(grant.scope.to_string(), "http GET http://docker.endpoint.alt:80/info");
        // Whoever may call whatever the job names of the network, may not call this host's own daemons.
        let open: HttpRequest = serde_json::from_str(r#"{"host":"granted"}"#).unwrap();
        assert!(!open.covers(&grant));
        let other = text.replace("docker", "podman");
        let other: HttpGrant = serde_json::from_str(&other).unwrap();
        assert!(!request.covers(&other));
    }

    #[test]
    fn an_endpoint_is_for_whom_the_owner_named() {
        let text = r#"{"endpoint":"docker","unix":"/run/docker.sock","methods":["GET"],"paths":["/"],
            "components":["acme/x"],"projects":["ops"]}"#;
        let ceiling: HttpCeiling = serde_json::from_str(text).unwrap();
        let grant = r#"{"endpoint":"docker","methods":["GET"],"paths":["/info"]}"#;
        let grant: HttpGrant = serde_json::from_str(grant).unwrap();
        let check = |component: &str, project: &str, expect: bool| {
            let component = ComponentName::new(component).unwrap();
            let found = ceiling.permits(&grant.scope, &component, &ProjectName::new(project).unwrap());
            assert_eq!(found, expect, "{component} {project}");
        };
        check("acme/x", "ops", true);
        check("acme/y", "ops", false);
        check("acme/x", "dev", false);
    }

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
