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
    /// A parameter of the query. Discouraged: addresses stand in logs on the way, and in the service's own.
    Query {
        /// The parameter.
        name: String,
    },
    /// A client's certificate and its private key, in PEM, shown in the TLS handshake.
    ClientCert,
    /// `sha256=<hex>` of HMAC-SHA256 over the body, or over `<seconds since 1970>.<body>` where a header carries the time.
    Hmac {
        /// The header that carries the signature.
        header: String,
        /// The header that carries the time, in seconds since 1970.
        timestamp: Option<String>,
    },
    /// AWS Signature Version 4. The value is `<access key id>:<secret access key>`, with `:<session token>` if there is one.
    #[serde(rename = "aws-sigv4")]
    AwsSigv4 {
        /// Such as `eu-central-1`.
        region: String,
        /// Such as `s3`.
        service: String,
    },
}

impl HttpPlacement {
    /// The use that a ceiling entry has to name.
    pub fn kind(&self) -> SecretUse {
        match self {
            Self::Bearer => SecretUse::Bearer,
            Self::Basic { .. } => SecretUse::Basic,
            Self::Header { .. } => SecretUse::Header,
            Self::Query { .. } => SecretUse::Query,
            Self::ClientCert => SecretUse::ClientCert,
            Self::Hmac { .. } => SecretUse::Hmac,
            Self::AwsSigv4 { .. } => SecretUse::AwsSigv4,
        }
    }

    /// The headers that carry it; a component never sets these itself.
    pub fn headers(&self) -> Vec<&str> {
        match self {
            Self::Bearer | Self::Basic { .. } => vec!["authorization"],
            Self::Header { name } => vec![name],
            Self::Query { .. } | Self::ClientCert => Vec::new(),
            Self::Hmac { header, timestamp } => {
                std::iter::once(header).chain(timestamp).map(String::as_str).collect()
            }
            Self::AwsSigv4 { .. } => {
                vec!["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"]
            }
        }
    }

    /// True if the host reads the whole body before it sends anything: it signs it.
    pub fn signs_body(&self) -> bool {
        matches!(self, Self::Hmac { .. } | Self::AwsSigv4 { .. })
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
}

fn check_header(name: String) -> Result<String, InvalidRule> {
    let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let hop = ["host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "expect"];
    if name.is_empty() || name.len() > 64 || !name.bytes().all(token) || hop.contains(&name.as_str()) {
        return Err(InvalidRule(format!("{name:?} is not a header that can carry a secret")));
    }
    Ok(name)
}

fn check_word(name: String, what: &str, more: &[u8]) -> Result<String, InvalidRule> {
    let good = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err(InvalidRule(format!("{name:?} is not {what}")));
    }
    Ok(name)
}

impl TryFrom<RawHttpSecret> for HttpSecret {
    type Error = InvalidRule;
    fn try_from(raw: RawHttpSecret) -> Result<Self, InvalidRule> {
        let (written, usage) = (serde_json::to_value(&raw).unwrap_or_default(), raw.usage);
        let mut place = raw;
        let wants = |found: Option<String>, field: &str| {
            found.ok_or_else(|| InvalidRule(format!("use = {:?} wants `{field}`", usage.as_str())))
        };
        let placement = match usage {
            SecretUse::Bearer => HttpPlacement::Bearer,
            SecretUse::Basic => HttpPlacement::Basic { user: place.user.take() },
            SecretUse::Header => {
                HttpPlacement::Header { name: check_header(wants(place.header.take(), "header")?)? }
            }
            SecretUse::Query => HttpPlacement::Query {
                name: check_word(wants(place.query.take(), "query")?, "a parameter of a query", b"-._")?,
            },
            SecretUse::ClientCert => HttpPlacement::ClientCert,
            SecretUse::Hmac => HttpPlacement::Hmac {
                header: check_header(wants(place.header.take(), "header")?)?,
                timestamp: place.timestamp.take().map(check_header).transpose()?,
            },
            SecretUse::AwsSigv4 => HttpPlacement::AwsSigv4 {
                region: check_word(wants(place.region.take(), "region")?, "a region of AWS", b"-")?,
                service: check_word(wants(place.service.take(), "service")?, "a service of AWS", b"-")?,
            },
            SecretUse::ScramSha256
            | SecretUse::SshKey
            | SecretUse::SshPassword
            | SecretUse::Env
            | SecretUse::File
            | SecretUse::Reveal => {
                return Err(InvalidRule(format!(
                    "an http rule uses a secret as bearer, basic, header, query, client-cert, hmac or aws-sigv4, not as {}",
                    usage.as_str()
                )));
            }
        };
        let RawHttpSecret { name, usage: _, header, user, query, timestamp, region, service } = place;
        if [header, user, query, timestamp, region, service].iter().any(Option::is_some) {
            return Err(InvalidRule(format!("use = {:?} does not take all of {written}", usage.as_str())));
        }
        Ok(Self { name, placement })
    }
}

impl From<HttpSecret> for RawHttpSecret {
    fn from(secret: HttpSecret) -> Self {
        let raw = Self {
            name: secret.name,
            usage: secret.placement.kind(),
            header: None,
            user: None,
            query: None,
            timestamp: None,
            region: None,
            service: None,
        };
        match secret.placement {
            HttpPlacement::Bearer | HttpPlacement::ClientCert => raw,
            HttpPlacement::Basic { user } => Self { user, ..raw },
            HttpPlacement::Header { name } => Self { header: Some(name), ..raw },
            HttpPlacement::Query { name } => Self { query: Some(name), ..raw },
            HttpPlacement::Hmac { header, timestamp } => Self { header: Some(header), timestamp, ..raw },
            HttpPlacement::AwsSigv4 { region, service } => {
                Self { region: Some(region), service: Some(service), ..raw }
            }
        }
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
    /// A parameter of an HTTP request's query. Discouraged.
    Query,
    /// A client's certificate and key for TLS.
    ClientCert,
    /// Key that signs an HTTP request's body.
    Hmac,
    /// Keys of AWS that sign an HTTP request.
    #[serde(rename = "aws-sigv4")]
    AwsSigv4,
    /// Password that is proved to the other side of a connection by SCRAM-SHA-256, and not shown to it.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SSH private key.
    SshKey,
    /// SSH password.
    SshPassword,
    /// Environment variable of a program.
    Env,
    /// File of a program.
    File,
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
            Self::Query => "query",
            Self::ClientCert => "client-cert",
            Self::Hmac => "hmac",
            Self::AwsSigv4 => "aws-sigv4",
            Self::ScramSha256 => "scram-sha-256",
            Self::SshKey => "ssh-key",
            Self::SshPassword => "ssh-password",
            Self::Env => "env",
            Self::File => "file",
            Self::Reveal => "reveal",
        }
    }

    /// True if it goes to hosts that the owner names, over HTTP or a connection.
    pub fn goes_to_hosts(self) -> bool {
        match self {
            Self::Bearer
            | Self::Basic
            | Self::Header
            | Self::Query
            | Self::ClientCert
            | Self::Hmac
            | Self::AwsSigv4
            | Self::ScramSha256 => true,
            Self::SshKey | Self::SshPassword | Self::Env | Self::File | Self::Reveal => false,
        }
    }

    /// Why this use is discouraged, and what to do instead; none if it is not.
    pub fn discouraged(self) -> Option<&'static str> {
        match self {
            Self::Query => Some(
                "a secret in a query stands in the logs of everything on the way and of the service itself: if the service takes a header as well, use = \"header\"",
            ),
            Self::Reveal => Some(
                "the component sees the value, and redaction does not know what it makes of it: if it only calls a service with it, bind it to an http rule",
            ),
            _ => None,
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
    /// For the uses of HTTP and connections: the exact hosts, each with its port.
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
            usage if usage.goes_to_hosts() => Some("hosts"),
            SecretUse::SshKey | SecretUse::SshPassword => Some("users"),
            SecretUse::Env | SecretUse::File => Some("programs"),
            _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_says_where_it_goes() {
        fn check(json: &str, expect: Result<&[&str], &str>) {
            match (serde_json::from_str::<HttpSecret>(json), expect) {
                (Ok(secret), Ok(headers)) => {
                    assert_eq!(secret.placement.headers(), headers, "{json}");
                    let written = serde_json::to_string(&secret).unwrap();
                    assert_eq!(written, json);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{json}: {error}"),
                (found, _) => panic!("{json}: {found:?}, expected {expect:?}"),
            }
        }
        check(r#"{"name":"t","use":"bearer"}"#, Ok(&["authorization"]));
        check(r#"{"name":"t","use":"basic","user":"me"}"#, Ok(&["authorization"]));
        check(r#"{"name":"t","use":"header","header":"x-token"}"#, Ok(&["x-token"]));
        check(r#"{"name":"t","use":"query","query":"api_key"}"#, Ok(&[]));
        check(r#"{"name":"t","use":"client-cert"}"#, Ok(&[]));
        check(r#"{"name":"t","use":"hmac","header":"x-signature"}"#, Ok(&["x-signature"]));
        check(
            r#"{"name":"t","use":"hmac","header":"x-signature","timestamp":"x-time"}"#,
            Ok(&["x-signature", "x-time"]),
        );
        check(
            r#"{"name":"t","use":"aws-sigv4","region":"eu-central-1","service":"s3"}"#,
            Ok(&["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"]),
        );
        check(r#"{"name":"t","use":"header"}"#, Err("wants `header`"));
        check(r#"{"name":"t","use":"header","header":"host"}"#, Err("not a header that can carry a secret"));
        check(r#"{"name":"t","use":"query","query":"a b"}"#, Err("is not a parameter of a query"));
        check(r#"{"name":"t","use":"aws-sigv4","region":"eu"}"#, Err("wants `service`"));
        check(r#"{"name":"t","use":"bearer","header":"x"}"#, Err("does not take all of"));
        check(r#"{"name":"t","use":"hmac","header":"x","user":"me"}"#, Err("does not take all of"));
        check(r#"{"name":"t","use":"env"}"#, Err("not as env"));
        check(r#"{"name":"t","use":"bearer","realm":"x"}"#, Err("unknown field"));
    }

    #[test]
    fn a_ceiling_names_places_of_the_right_kind() {
        fn check(usage: &str, places: &str, expect: bool) {
            let json = format!(r#"{{"path":"keys/t","use":"{usage}"{places}}}"#);
            assert_eq!(serde_json::from_str::<SecretCeiling>(&json).is_ok(), expect, "{json}");
        }
        for usage in
            ["bearer", "basic", "header", "query", "client-cert", "hmac", "aws-sigv4", "scram-sha-256"]
        {
            check(usage, r#","hosts":["a.example"]"#, true);
            check(usage, "", false);
            check(usage, r#","hosts":["*.a.example"]"#, false);
            check(usage, r#","hosts":["a.example"],"users":["root"]"#, false);
        }
        check("ssh-password", r#","users":["root"]"#, true);
        check("env", r#","programs":["ls"]"#, true);
        check("file", r#","programs":["ls"]"#, true);
        check("file", r#","hosts":["a.example"]"#, false);
        check("file", "", false);
        check("reveal", "", true);
        check("reveal", r#","hosts":["a.example"]"#, false);
    }
}
