//! `http`: which requests a step may send. Scheme, host, port, methods and path prefixes; no regex, no template.
//!
//! A rule names a host of the network, or an endpoint of the runner's own host by the name that its owner gave it: see
//! [`EndpointName`].

mod ceiling;
mod endpoint;
mod host;
mod path;
mod scope;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::scope::{Place, scope};
pub use self::{
    ceiling::{HttpCeiling, HttpPermit, Via},
    endpoint::{ENDPOINTS, Endpoint, EndpointName},
    host::{HostPattern, check_host_name},
    path::{PathPrefix, check_path},
    scope::{HttpScope, HttpTarget, Method, Scheme},
};
use super::secrets::{HttpPlacement, HttpSecret};

/// Why a text of the grammar is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRule(pub String);

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
