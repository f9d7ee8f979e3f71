//! `tcp`: connections to a host and port that the rule names. The host of the step speaks TLS; a rule says whether always,
//! from a point on that the protocol has for it, or never. A rule that is only to connect carries no byte either way.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    http::{HostPattern, InvalidRule},
    secrets::{BoundSecret, SecretUse},
};
use crate::SecretName;

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TcpTls {
    /// From its first byte.
    #[default]
    Always,
    /// From when the step says so, as after `STARTTLS`; plain before.
    Start,
    /// Never.
    Never,
}

impl TcpTls {
    /// The word in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Start => "start",
            Self::Never => "never",
        }
    }
}

/// Connections of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TcpScope {
    /// The host.
    pub host: HostPattern,
    /// The port.
    pub port: u16,
    /// How it is used.
    pub mode: TcpMode,
}

/// How a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TcpMode {
    /// It is made and closed: whether somebody listens.
    Connect,
    /// Bytes go both ways, under TLS from the first.
    Always,
    /// Bytes go both ways, under TLS from a point on.
    Start,
    /// Bytes go both ways, and nothing is encrypted.
    Never,
}

impl TcpScope {
    /// True if every connection that `inner` permits is permitted here, too. Whoever may exchange bytes may connect.
    pub fn covers(&self, inner: &Self) -> bool {
        let mode = self.mode == inner.mode || inner.mode == TcpMode::Connect;
        mode && self.port == inner.port && self.host.covers(&inner.host)
    }

    /// True if a connection to `host` and `port` is one of these.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host.matches(host)
    }
}

impl TcpScope {
    /// True if a secret may be used there: at one exact host, which has proved its name.
    pub fn takes_secret(&self) -> bool {
        matches!(self.mode, TcpMode::Always | TcpMode::Start) && self.host.exact().is_some()
    }
}

/// How the host uses a secret on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTcpSecret", into = "RawTcpSecret")]
pub struct TcpSecret {
    /// The name that the job binds to a path.
    pub name: SecretName,
    /// `scram-sha-256`.
    pub usage: SecretUse,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTcpSecret {
    name: SecretName,
    #[serde(rename = "use")]
    usage: SecretUse,
}

impl TryFrom<RawTcpSecret> for TcpSecret {
    type Error = InvalidRule;
    fn try_from(raw: RawTcpSecret) -> Result<Self, InvalidRule> {
        match raw.usage {
            SecretUse::ScramSha256 => Ok(Self { name: raw.name, usage: raw.usage }),
            other => {
                let why = format!("a tcp rule uses a secret as scram-sha-256, not as {}", other.as_str());
                Err(InvalidRule(why))
            }
        }
    }
}

impl From<TcpSecret> for RawTcpSecret {
    fn from(secret: TcpSecret) -> Self {
        Self { name: secret.name, usage: secret.usage }
    }
}

impl fmt::Display for TcpScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, mode } = self;
        match mode {
            TcpMode::Connect => write!(f, "tcp {host}:{port} (connect only)"),
            TcpMode::Always => write!(f, "tcp {host}:{port}"),
            TcpMode::Start => write!(f, "tcp {host}:{port} (tls: start)"),
            TcpMode::Never => write!(f, "tcp {host}:{port} (tls: never)"),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTcp {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<TcpTls>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    connect_only: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    private: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<TcpSecret>,
}

fn check_secret(scope: &TcpScope, secret: Option<&TcpSecret>) -> Result<(), InvalidRule> {
    match secret {
        Some(_) if !scope.takes_secret() => {
            Err(InvalidRule(format!("{scope} cannot use a secret: that needs one exact host, and TLS")))
        }
        _ => Ok(()),
    }
}

fn scope(
    host: &str,
    port: Option<u16>,
    tls: Option<TcpTls>,
    connect_only: bool,
) -> Result<TcpScope, InvalidRule> {
    let port = port.filter(|port| *port > 0);
    let port =
        port.ok_or_else(|| InvalidRule(format!("the rule for {host} names no port: write `port = 5432`")))?;
    let mode = match (connect_only, tls) {
        (true, None) => TcpMode::Connect,
        (true, Some(_)) => {
            let why = format!("the rule for {host} only connects, so nothing is encrypted: remove `tls`");
            return Err(InvalidRule(why));
        }
        (false, None | Some(TcpTls::Always)) => TcpMode::Always,
        (false, Some(TcpTls::Start)) => TcpMode::Start,
        (false, Some(TcpTls::Never)) => TcpMode::Never,
    };
    Ok(TcpScope { host: host.parse()?, port, mode })
}

impl RawTcp {
    fn of(scope: TcpScope, private: bool, secret: Option<TcpSecret>) -> Self {
        let (connect_only, tls) = match scope.mode {
            TcpMode::Connect => (true, None),
            TcpMode::Always => (false, None),
            TcpMode::Start => (false, Some(TcpTls::Start)),
            TcpMode::Never => (false, Some(TcpTls::Never)),
        };
        Self { host: scope.host.to_string(), port: Some(scope.port), tls, connect_only, private, secret }
    }
}

/// A component's wish for connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTcp", into = "RawTcp")]
pub struct TcpRequest {
    /// What is asked for.
    pub scope: TcpWish,
    /// The host may resolve to a private address, where the ceiling names its range.
    pub private: bool,
    /// A secret that the runner uses on these connections.
    pub secret: Option<TcpSecret>,
}

/// What a request asks for: literal connections, or an open place that a grant fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpWish {
    /// `host = "granted"`: whatever the job's grant lists.
    Open {
        /// Only to see whether somebody listens.
        connect_only: bool,
    },
    /// These connections.
    Literal(TcpScope),
}

impl TcpRequest {
    /// True if what this asks for includes all of `grant`, secret and private address included.
    pub fn covers(&self, grant: &TcpGrant) -> bool {
        // The author decided how a secret is used; an open request leaves that to the job as well.
        let secret = match (&self.secret, &grant.secret) {
            (_, None) => true,
            (Some(asked), Some(given)) => asked == given,
            (None, Some(_)) => matches!(self.scope, TcpWish::Open { .. }),
        };
        let scope = match &self.scope {
            TcpWish::Open { connect_only } => !connect_only || grant.scope.mode == TcpMode::Connect,
            TcpWish::Literal(scope) => scope.covers(&grant.scope) && (self.private || !grant.private),
        };
        scope && secret
    }

    /// True if this asks for all that `inner` asks for.
    pub fn includes(&self, inner: &Self) -> bool {
        if inner.secret.is_some() && inner.secret != self.secret {
            return false;
        }
        match (&self.scope, &inner.scope) {
            (TcpWish::Open { connect_only: false }, _) => true,
            (TcpWish::Open { connect_only: true }, TcpWish::Open { connect_only }) => *connect_only,
            (TcpWish::Open { connect_only: true }, TcpWish::Literal(scope)) => scope.mode == TcpMode::Connect,
            (TcpWish::Literal(_), TcpWish::Open { .. }) => false,
            (TcpWish::Literal(outer), TcpWish::Literal(scope)) => {
                outer.covers(scope) && (self.private || !inner.private)
            }
        }
    }
}

impl TryFrom<RawTcp> for TcpRequest {
    type Error = InvalidRule;
    fn try_from(raw: RawTcp) -> Result<Self, InvalidRule> {
        let secret = raw.secret;
        if raw.host == "granted" {
            if raw.port.is_some() || raw.tls.is_some() {
                let why = "a request with `host = \"granted\"` leaves port and `tls` to the job: remove them";
                return Err(InvalidRule(why.to_owned()));
            }
            if secret.is_some() && raw.connect_only {
                return Err(InvalidRule("a connection that is only to connect uses no secret".to_owned()));
            }
            let scope = TcpWish::Open { connect_only: raw.connect_only };
            return Ok(Self { scope, private: raw.private, secret });
        }
        let scope = scope(&raw.host, raw.port, raw.tls, raw.connect_only)?;
        check_secret(&scope, secret.as_ref())?;
        Ok(Self { scope: TcpWish::Literal(scope), private: raw.private, secret })
    }
}

impl From<TcpRequest> for RawTcp {
    fn from(request: TcpRequest) -> Self {
        match request.scope {
            TcpWish::Literal(scope) => Self::of(scope, request.private, request.secret),
            TcpWish::Open { connect_only } => Self {
                host: "granted".to_owned(),
                connect_only,
                private: request.private,
                secret: request.secret,
                ..Self::default()
            },
        }
    }
}

/// What a job gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTcp", into = "RawTcp")]
pub struct TcpGrant {
    /// The connections.
    pub scope: TcpScope,
    /// The host may resolve to a private address, where the ceiling names its range.
    pub private: bool,
    /// A secret that the runner uses on these connections.
    pub secret: Option<TcpSecret>,
}

impl TcpGrant {
    /// True if something may be changed: bytes are sent.
    pub fn changes(&self) -> bool {
        self.scope.mode != TcpMode::Connect
    }

    /// True if this gives all that `inner` gives.
    pub fn covers(&self, inner: &Self) -> bool {
        let secret = inner.secret.is_none() || self.secret == inner.secret;
        self.scope.covers(&inner.scope) && (self.private || !inner.private) && secret
    }
}

impl TryFrom<RawTcp> for TcpGrant {
    type Error = InvalidRule;
    fn try_from(raw: RawTcp) -> Result<Self, InvalidRule> {
        if raw.host == "granted" {
            return Err(InvalidRule("a grant names its hosts".to_owned()));
        }
        let scope = scope(&raw.host, raw.port, raw.tls, raw.connect_only)?;
        check_secret(&scope, raw.secret.as_ref())?;
        Ok(Self { scope, private: raw.private, secret: raw.secret })
    }
}

impl From<TcpGrant> for RawTcp {
    fn from(grant: TcpGrant) -> Self {
        Self::of(grant.scope, grant.private, grant.secret)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCeiling {
    host: String,
    port: Option<u16>,
    tls: Option<TcpTls>,
    #[serde(default)]
    connect_only: bool,
    #[serde(default)]
    private: Vec<IpNet>,
    trust: Option<String>,
    ca_file: Option<std::path::PathBuf>,
}

/// What the owner permits to be connected to from this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawCeiling")]
pub struct TcpCeiling {
    /// The connections that are permitted.
    pub scope: TcpScope,
    /// The private ranges that the host's name may resolve to.
    pub private: Vec<IpNet>,
    /// The trust profile of the owner's file that says which certificates are trusted; its file becomes `ca_file`.
    pub trust: Option<String>,
    /// Certificates that are trusted for this rule, in PEM; absent: the runner's.
    pub ca_file: Option<std::path::PathBuf>,
}

impl TryFrom<RawCeiling> for TcpCeiling {
    type Error = InvalidRule;
    fn try_from(raw: RawCeiling) -> Result<Self, InvalidRule> {
        let scope = scope(&raw.host, raw.port, raw.tls, raw.connect_only)?;
        if raw.trust.is_some() && raw.ca_file.is_some() {
            let why =
                format!("the rule for {} names certificates twice: `trust` or `ca_file`, not both", raw.host);
            return Err(InvalidRule(why));
        }
        let encrypts = matches!(scope.mode, TcpMode::Always | TcpMode::Start);
        if !encrypts && (raw.trust.is_some() || raw.ca_file.is_some()) {
            let why = format!("the rule for {} encrypts nothing: remove `trust` and `ca_file`", raw.host);
            return Err(InvalidRule(why));
        }
        Ok(Self { scope, private: raw.private, trust: raw.trust, ca_file: raw.ca_file })
    }
}

/// One rule of a remit: connections that will be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TcpPermit {
    /// The connections.
    pub scope: TcpScope,
    /// Private ranges that the name may resolve to.
    pub private: Vec<IpNet>,
    /// Certificates that are trusted for this rule.
    pub ca_file: Option<std::path::PathBuf>,
    /// The secret that the host uses, by the name and the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundSecret>,
}

/// The lines of a rule, below `header`.
pub(super) fn lines(header: &str, scope: &TcpScope) -> String {
    let mode = match scope.mode {
        TcpMode::Connect => "\nconnect_only = true",
        TcpMode::Always => "",
        TcpMode::Start => "\ntls = \"start\"",
        TcpMode::Never => "\ntls = \"never\"",
    };
    format!("{header}\nhost = \"{}\"\nport = {}{mode}", scope.host, scope.port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant(text: &str) -> TcpGrant {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn rules_are_read_strictly_and_written_as_they_were() {
        fn check(text: &str, expect: Result<&str, &str>) {
            match (serde_json::from_str::<TcpGrant>(text), expect) {
                (Ok(found), Ok(shown)) => {
                    assert_eq!(found.scope.to_string(), shown);
                    let again = serde_json::to_string(&found).unwrap();
                    assert_eq!(serde_json::from_str::<TcpGrant>(&again).unwrap(), found);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
            }
        }
        check(r#"{"host":"db.a.example","port":5432}"#, Ok("tcp db.a.example:5432"));
        check(r#"{"host":"*.a.example","port":5432,"tls":"start"}"#, Ok("tcp *.a.example:5432 (tls: start)"));
        check(r#"{"host":"db.a.example","port":25,"tls":"never"}"#, Ok("tcp db.a.example:25 (tls: never)"));
        check(r#"{"host":"a.example","port":22,"connect_only":true}"#, Ok("tcp a.example:22 (connect only)"));
        check(r#"{"host":"a.example"}"#, Err("names no port"));
        check(r#"{"host":"a.example","port":0}"#, Err("names no port"));
        check(r#"{"host":"a.example","port":22,"connect_only":true,"tls":"start"}"#, Err("remove `tls`"));
        check(r#"{"host":"*","port":22}"#, Err(""));
        check(r#"{"host":"granted"}"#, Err("names its hosts"));
        check(r#"{"host":"a.example","port":22,"path":"/"}"#, Err("unknown field"));
    }

    #[test]
    fn an_open_request_that_only_connects_covers_nothing_else() {
        fn check(request: &str, given: &str, expect: bool) {
            let request: TcpRequest = serde_json::from_str(request).unwrap();
            assert_eq!(request.covers(&grant(given)), expect, "{request:?} {given}");
            let again = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<TcpRequest>(&again).unwrap(), request);
        }
        let (bytes, connect) =
            (r#"{"host":"a.example","port":22}"#, r#"{"host":"a.example","port":22,"connect_only":true}"#);
        check(r#"{"host":"granted"}"#, bytes, true);
        check(r#"{"host":"granted"}"#, connect, true);
        check(r#"{"host":"granted","connect_only":true}"#, bytes, false);
        check(r#"{"host":"granted","connect_only":true}"#, connect, true);
        check(bytes, connect, true);
        check(connect, bytes, false);
        check(bytes, r#"{"host":"a.example","port":22,"private":true}"#, false);
        check(r#"{"host":"a.example","port":22,"tls":"start"}"#, bytes, false);
    }

    #[test]
    fn a_ceiling_trusts_certificates_only_where_it_encrypts() {
        fn check(rule: &str, expect: Result<(), &str>) {
            match (serde_json::from_str::<TcpCeiling>(rule), expect) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{rule}: {found:?}"),
            }
        }
        check(r#"{"host":"a.example","port":25,"private":["10.0.0.0/8"],"trust":"corp"}"#, Ok(()));
        check(r#"{"host":"a.example","port":25,"tls":"start","ca_file":"a.pem"}"#, Ok(()));
        check(r#"{"host":"a.example","port":25,"trust":"corp","ca_file":"a.pem"}"#, Err("twice"));
        check(r#"{"host":"a.example","port":25,"tls":"never","trust":"corp"}"#, Err("encrypts nothing"));
        check(r#"{"host":"a.example","port":25,"connect_only":true,"ca_file":"a"}"#, Err("encrypts nothing"));
        check(r#"{"host":"a.example","port":25,"paths":["/"]}"#, Err("unknown field"));
    }

    #[test]
    fn a_secret_wants_one_host_that_proves_its_name() {
        fn check(rest: &str, expect: Result<(), &str>) {
            let rule = format!(r#"{{"host":"db.a.example","port":5432{rest}}}"#);
            match (serde_json::from_str::<TcpGrant>(&rule), expect) {
                (Ok(found), Ok(())) => assert_eq!(serde_json::to_string(&found).unwrap(), rule),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{rule}: {found:?}"),
            }
        }
        let secret = r#","secret":{"name":"password","use":"scram-sha-256"}"#;
        check(secret, Ok(()));
        check(&format!(r#","tls":"start"{secret}"#), Ok(()));
        check(&format!(r#","tls":"never"{secret}"#), Err("needs one exact host, and TLS"));
        check(&format!(r#","connect_only":true{secret}"#), Err("needs one exact host, and TLS"));
        check(r#","secret":{"name":"password","use":"bearer"}"#, Err("not as bearer"));
        check(r#","secret":{"name":"password"}"#, Err("missing field"));
        let wild = r#"{"host":"*.a.example","port":5432,"secret":{"name":"p","use":"scram-sha-256"}}"#;
        assert!(serde_json::from_str::<TcpGrant>(wild).is_err());
        let asked = r#"{"host":"granted","secret":{"name":"password","use":"scram-sha-256"}}"#;
        let asked: TcpRequest = serde_json::from_str(asked).unwrap();
        let given = |name: &str| {
            grant(&format!(
                r#"{{"host":"db.a.example","port":5432,"secret":{{"name":"{name}","use":"scram-sha-256"}}}}"#
            ))
        };
        assert!(asked.covers(&given("password")) && !asked.covers(&given("other")));
        let literal: TcpRequest = serde_json::from_str(r#"{"host":"db.a.example","port":5432}"#).unwrap();
        assert!(!literal.covers(&given("password")));
        assert!(given("password").covers(&grant(r#"{"host":"db.a.example","port":5432}"#)));
        assert!(!grant(r#"{"host":"db.a.example","port":5432}"#).covers(&given("password")));
    }

    fn scopes() -> impl Strategy<Value = TcpScope> {
        let host = prop::sample::select(vec!["a.b.example", "*.b.example", "**.b.example", "c.example"]);
        let mode =
            prop::sample::select(vec![TcpMode::Connect, TcpMode::Always, TcpMode::Start, TcpMode::Never]);
        (host, 1_u16..3, mode).prop_map(|(host, port, mode)| TcpScope {
            host: host.parse().unwrap(),
            port,
            mode,
        })
    }

    proptest! {
        #[test]
        fn what_covers_matches_no_less(outer in scopes(), inner in scopes(), third in scopes(),
            host in prop::sample::select(vec!["a.b.example", "x.a.b.example", "c.example"]), port in 1_u16..3) {
            prop_assert!(outer.covers(&outer));
            if outer.covers(&inner) {
                prop_assert!(!inner.matches(host, port) || outer.matches(host, port));
                prop_assert!(!inner.covers(&third) || outer.covers(&third));
                prop_assert!(inner.mode == TcpMode::Connect || inner.mode == outer.mode);
            }
        }
    }
}
