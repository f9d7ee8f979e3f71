//! The owner's side: what may be called from this host, how requests leave it and whose certificates are trusted there; and
//! the rule of a remit that comes of it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Endpoint, EndpointName, HttpScope, InvalidRule, Method, PathPrefix, Scheme,
    scope::{Place, scope},
};
use crate::{ComponentName, ProjectName, capability::secrets::BoundSecret};

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
    pub secret: Option<BoundSecret>,
}

#[cfg(test)]
mod tests {
    use super::{super::HttpGrant, *};

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
}
