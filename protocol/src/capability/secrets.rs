//! `secrets`: names, the ways in which a secret is used, and where the owner lets each one go.
//!
//! A value never appears in these types. By default a secret is used by the host; `reveal` hands the value to the
//! component and is a request, a grant and a ceiling entry of its own.

use serde::{Deserialize, Serialize};

use super::http::{InvalidRule, check_host_name};
use crate::{ComponentName, ProjectName, SecretName, SecretPath};

/// How the host adds a secret to an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawHttpSecret", into = "RawHttpSecret")]
pub struct HttpSecret {
    /// The name that the job binds to a path.
    pub name: SecretName,
    /// Where in the request it goes.
    pub placement: HttpPlacement,
}

/// Where in a request a secret goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpPlacement {
    /// `Authorization: Bearer <value>`.
    Bearer,
    /// `Authorization: Basic …` of `<user>:<value>`, or of the value itself if it holds the colon.
    Basic {
        /// The user name; absent: the secret is `user:password`.
        user: Option<String>,
    },
    /// A header of this name, with the value and nothing else.
    Header {
        /// Lower-case header name.
        name: String,
    },
}

impl HttpPlacement {
    /// The use that a ceiling entry has to name.
    pub fn kind(&self) -> SecretUse {
        match self {
            Self::Bearer => SecretUse::Bearer,
            Self::Basic { .. } => SecretUse::Basic,
            Self::Header { .. } => SecretUse::Header,
        }
    }

    /// The header that carries it; a component never sets this one itself.
    pub fn header(&self) -> &str {
        match self {
            Self::Bearer | Self::Basic { .. } => "authorization",
            Self::Header { name } => name,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttpSecret {
    name: SecretName,
    #[serde(rename = "use")]
    usage: SecretUse,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

impl TryFrom<RawHttpSecret> for HttpSecret {
    type Error = InvalidRule;
    fn try_from(raw: RawHttpSecret) -> Result<Self, InvalidRule> {
        let placement = match (raw.usage, raw.header, raw.user) {
            (SecretUse::Bearer, None, None) => HttpPlacement::Bearer,
            (SecretUse::Basic, None, user) => HttpPlacement::Basic { user },
            (SecretUse::Header, Some(name), None) => {
                let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                let hop =
                    ["host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "expect"];
                if name.is_empty()
                    || name.len() > 64
                    || !name.bytes().all(token)
                    || hop.contains(&name.as_str())
                {
                    return Err(InvalidRule(format!("{name:?} is not a header that can carry a secret")));
                }
                HttpPlacement::Header { name }
            }
            (SecretUse::Header, None, _) => {
                return Err(InvalidRule(
                    "use = \"header\" wants `header`, the header's name in lower case".to_owned(),
                ));
            }
            (usage, _, _) => {
                return Err(InvalidRule(format!(
                    "an http rule uses a secret as bearer, basic or header (with `header`), not as {}",
                    usage.as_str()
                )));
            }
        };
        Ok(Self { name: raw.name, placement })
    }
}

impl From<HttpSecret> for RawHttpSecret {
    fn from(secret: HttpSecret) -> Self {
        let usage = secret.placement.kind();
        let (header, user) = match secret.placement {
            HttpPlacement::Bearer => (None, None),
            HttpPlacement::Basic { user } => (None, user),
            HttpPlacement::Header { name } => (Some(name), None),
        };
        Self { name: secret.name, usage, header, user }
    }
}

/// A use of a secret, as requests and ceilings name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretUse {
    /// Bearer token of an HTTP request.
    Bearer,
    /// Basic authentication of an HTTP request.
    Basic,
    /// A header of an HTTP request.
    Header,
    /// SSH private key.
    SshKey,
    /// SSH password.
    SshPassword,
    /// Environment variable of a program.
    Env,
    /// The value, handed to the component.
    Reveal,
}

impl SecretUse {
    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::Header => "header",
            Self::SshKey => "ssh-key",
            Self::SshPassword => "ssh-password",
            Self::Env => "env",
            Self::Reveal => "reveal",
        }
    }
}

/// A secret whose value a component wants to see, or may see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The name that the job binds to a path.
    pub name: SecretName,
}

/// `[[ceiling.secrets]]`: the only places that one secret may go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSecretCeiling")]
pub struct SecretCeiling {
    /// Which secret.
    pub path: SecretPath,
    /// As what.
    pub usage: SecretUse,
    /// For bearer, basic and header: the exact hosts, each with its port.
    pub hosts: Vec<HostPort>,
    /// For ssh-key and ssh-password: the users that are logged in as.
    pub users: Vec<String>,
    /// For env: the programs.
    pub programs: Vec<String>,
    /// Which components may cause it; absent: any that the runner trusts.
    pub components: Option<Vec<ComponentName>>,
    /// For which projects; absent: any.
    pub projects: Option<Vec<ProjectName>>,
}

impl std::fmt::Display for SecretCeiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts = self.hosts.iter().map(|place| format!("{}:{}", place.host, place.port));
        let users = self.users.iter().map(|user| format!("user {user}"));
        let programs = self.programs.iter().map(|program| format!("program {program}"));
        let places: Vec<_> = hosts.chain(users).chain(programs).collect();
        f.write_str(self.usage.as_str())?;
        if !places.is_empty() {
            write!(f, " at {}", places.join(", "))?;
        }
        let named = |names: Vec<&str>| names.join(", ");
        if let Some(components) = &self.components {
            write!(f, ", by {}", named(components.iter().map(ComponentName::as_str).collect()))?;
        }
        match &self.projects {
            Some(projects) => {
                write!(f, ", for {}", named(projects.iter().map(ProjectName::as_str).collect()))
            }
            None => Ok(()),
        }
    }
}

/// An exact host and its port, written `control.corp.example` (port 443) or `control.corp.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Lower-case host name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::str::FromStr for HostPort {
    type Err = InvalidRule;
    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (host, port) = match text.split_once(':') {
            None => (text, Some(443)),
            Some((host, port)) => {
                (host, port.parse().ok().filter(|number: &u16| *number > 0 && port == number.to_string()))
            }
        };
        match (check_host_name(host), port) {
            (Ok(()), Some(port)) => Ok(Self { host: host.to_owned(), port }),
            _ => Err(InvalidRule(format!(
                "{text:?} is not an exact host name, with or without a port; a secret never goes to a wildcard"
            ))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecretCeiling {
    path: SecretPath,
    #[serde(rename = "use")]
    usage: SecretUse,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    programs: Vec<String>,
    components: Option<Vec<ComponentName>>,
    projects: Option<Vec<ProjectName>>,
}

impl TryFrom<RawSecretCeiling> for SecretCeiling {
    type Error = InvalidRule;
    fn try_from(raw: RawSecretCeiling) -> Result<Self, InvalidRule> {
        let lists = [("hosts", &raw.hosts), ("users", &raw.users), ("programs", &raw.programs)];
        let wanted = match raw.usage {
            SecretUse::Bearer | SecretUse::Basic | SecretUse::Header => Some("hosts"),
            SecretUse::SshKey | SecretUse::SshPassword => Some("users"),
            SecretUse::Env => Some("programs"),
            SecretUse::Reveal => None,
        };
        for (name, list) in lists {
            if (wanted == Some(name)) == list.is_empty() {
                let verb = if list.is_empty() { "needs" } else { "takes no" };
                let usage = raw.usage.as_str();
                return Err(InvalidRule(format!("{}: use = {usage:?} {verb} `{name}`", raw.path)));
            }
        }
        let hosts: Result<Vec<HostPort>, InvalidRule> = raw.hosts.iter().map(|host| host.parse()).collect();
        let hosts = hosts.map_err(|error| InvalidRule(format!("{}: {error}", raw.path)))?;
        Ok(Self {
            path: raw.path,
            usage: raw.usage,
            hosts,
            users: raw.users,
            programs: raw.programs,
            components: raw.components,
            projects: raw.projects,
        })
    }
}

/// A secret of a remit's rule: which one, under which name, as what. Not its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoundSecret {
    /// The step's name for it.
    pub name: SecretName,
    /// Where the runner finds it.
    pub path: SecretPath,
    /// How an HTTP rule adds it; other capabilities have one way only.
    pub placement: Option<HttpPlacement>,
}
