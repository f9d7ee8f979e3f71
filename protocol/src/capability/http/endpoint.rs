//! Named endpoints: sockets of the runner's own host behind which a daemon answers HTTP.
//!
//! The owner's file gives the socket a name, and manifests and jobs know that name alone. A component calls
//! `http://NAME.endpoint.alt/…`: names under `alt` are never looked up in the DNS ([RFC
//! 9476](https://www.rfc-editor.org/rfc/rfc9476)), so that such an address leads to the owner's socket or nowhere.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::InvalidRule;
use crate::{ComponentName, ProjectName};

/// Below this stand the names of endpoints, in the addresses that components call.
pub const ENDPOINTS: &str = "endpoint.alt";
/// Longest name.
const MAX_NAME: usize = 40;

/// True for the names of endpoints and whatever else stands there: no rule for the network names any of it.
pub(super) fn holds(name: &str) -> bool {
    name == ENDPOINTS || name.strip_suffix(ENDPOINTS).is_some_and(|rest| rest.ends_with('.'))
}

/// The name that a runner's owner gave to a socket, such as `docker`: letters in lower case, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointName(String);

impl EndpointName {
    /// The host in the addresses that components call.
    pub fn host(&self) -> String {
        format!("{}.{ENDPOINTS}", self.0)
    }

    /// The endpoint that this host of an address stands for.
    pub fn of_host(host: &str) -> Option<Self> {
        host.strip_suffix(ENDPOINTS)?.strip_suffix('.')?.parse().ok()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EndpointName {
    type Err = InvalidRule;
    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.len() > MAX_NAME
            || !text.bytes().all(plain)
            || !text.starts_with(|c: char| c.is_ascii_lowercase())
            || text.ends_with('-')
        {
            let shown: String = text.chars().take(80).collect();
            return Err(InvalidRule(format!(
                "{shown:?} is no name of an endpoint: letters in lower case, digits and `-`, {MAX_NAME} at most"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for EndpointName {
    type Error = InvalidRule;
    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<EndpointName> for String {
    fn from(name: EndpointName) -> Self {
        name.0
    }
}

/// What the owner's file says of an endpoint, beside the requests that it permits there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The socket: a path from the root, without links.
    pub unix: PathBuf,
    /// The components that may call it, and no others: what a daemon does is decided by bodies that no rule judges, so the
    /// owner trusts those who make them.
    pub components: Vec<ComponentName>,
    /// For which projects; absent: any.
    pub projects: Option<Vec<ProjectName>>,
}

impl Endpoint {
    pub(super) fn new(
        name: &EndpointName,
        unix: Option<PathBuf>,
        components: Option<Vec<ComponentName>>,
        projects: Option<Vec<ProjectName>>,
    ) -> Result<Self, InvalidRule> {
        let unix = unix.ok_or_else(|| {
            InvalidRule(format!("the endpoint {name} names no socket: write unix = \"/run/{name}.sock\""))
        })?;
        let components = components.filter(|components| !components.is_empty()).ok_or_else(|| {
            InvalidRule(format!(
                "the endpoint {name} names no component that may call it: write components = [\"remit/docker-nodes\"]"
            ))
        })?;
        check_socket(&unix)?;
        Ok(Self { unix, components, projects })
    }

    /// True if a component may call it, in a project.
    pub fn serves(&self, component: &ComponentName, project: &ProjectName) -> bool {
        self.components.contains(component)
            && self.projects.as_ref().is_none_or(|named| named.contains(project))
    }
}

/// A path from the root that is written in the one way there is. That no link is on it is seen when it is opened.
fn check_socket(path: &Path) -> Result<(), InvalidRule> {
    let text = path.to_string_lossy();
    if !text.starts_with('/') {
        return Err(InvalidRule(format!("the socket {text:?} is not named by a path that begins with '/'")));
    }
    let plain = |segment: &str| !matches!(segment, "" | "." | "..");
    if !text.split('/').skip(1).all(plain) || text.contains('\0') {
        return Err(InvalidRule(format!(
            "the socket {text:?} is not written without '.', '..' and empty segments"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_label_and_leads_to_one_address() {
        fn check(name: &str, expect: bool) {
            assert_eq!(name.parse::<EndpointName>().is_ok(), expect, "{name:?}");
        }
        check("docker", true);
        check("podman-2", true);
        for bad in ["", "Docker", "2podman", "-a", "a-", "a.b", "a_b", "é", "a/b", &"a".repeat(41)] {
            check(bad, false);
        }
        let name: EndpointName = "docker".parse().unwrap();
        assert_eq!(name.host(), "docker.endpoint.alt");
        assert_eq!(EndpointName::of_host("docker.endpoint.alt"), Some(name));
        for host in
            ["docker.endpoint.alt.evil.example", "endpoint.alt", "dockerendpoint.alt", "a.b.endpoint.alt"]
        {
            assert_eq!(EndpointName::of_host(host), None, "{host}");
        }
    }
}
