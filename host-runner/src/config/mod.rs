//! `runner.toml`: what the runner's owner decides. What is not in it cannot happen on this host.
//!
//! [`Config::parse`] is the one way to a [`Config`], and finds every mistake at once, each with its line and what to write
//! instead. Relative paths are relative to the file. *Never here:* the environment, the network; whether a file that is
//! named exists is a question for `check`.

mod read;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use remit_protocol::{Size, capability::Ceiling, endpoint::Fault};
use serde::Deserialize;

use crate::{confine::Confinement, dial::proxy::Proxy, secrets::ProviderConfig};

pub use read::fault_at;

/// Largest `runner.toml`: far above any that a person reviews.
pub const MAX_CONFIG: u64 = 1 << 20;
/// Sandboxes at once, where the file does not say.
const DEFAULT_SLOTS: u32 = 64;
/// Most sandboxes at once: the engine's pool reserves address space for each.
pub const MAX_SLOTS: u32 = 1000;
/// Processors that are reserved, where the file does not say.
pub(crate) const DEFAULT_RESERVED: u16 = 1;
/// Native code that is kept on disk, where the file does not say.
const DEFAULT_CACHE: Size = Size::from_mib(1024);

/// A parsed `runner.toml`.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[orchestrator]`.
    pub orchestrator: Orchestrator,
    /// `[runner]`.
    pub runner: Runner,
    /// `[ceiling]`.
    pub ceiling: Ceiling,
    /// `[[provider]]`.
    pub providers: Vec<ProviderConfig>,
}

/// Where the orchestrator is, and the way there.
#[derive(Debug, Clone)]
pub struct Orchestrator {
    /// Its address.
    pub url: OrchestratorUrl,
    /// The HTTP proxy on the way, as `http://host:port` or `http://user:password@host:port`.
    pub proxy: Option<ProxyUrl>,
    /// Certificates that are trusted beside the operating system's and the one of the ticket, in PEM.
    pub ca_file: Option<PathBuf>,
}

/// What this runner is.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Its identity, journal, cache and stored secrets.
    pub state: PathBuf,
    /// Sandboxes at once.
    pub slots: u32,
    /// The trust policy.
    pub trust: PathBuf,
    /// The notes without which nothing starts.
    pub require_signed: BTreeSet<SignedKind>,
    /// Bytes of native code that are kept on disk.
    pub cache: Size,
    /// Whether it begins on a kernel that cannot confine it.
    pub confinement: Confinement,
    /// Processors that steps leave to others once they have computed for long.
    pub reserved_processors: u16,
}

/// What an owner may want to see signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignedKind {
    /// Job documents, by an author of the trust policy.
    Job,
    /// Runs, by an initiator of the trust policy; then what came before a section counts only as runners signed it.
    Run,
    /// Approvals at gates, by approvers of the trust policy.
    Approve,
}

/// `https://host[:port]`, without a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OrchestratorUrl {
    host: String,
    port: u16,
}

/// A text that is no orchestrator's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an orchestrator's address: write https://host or https://host:port, without a path")]
pub struct InvalidUrl(String);

impl OrchestratorUrl {
    /// The host name, or an address (without the brackets of IPv6).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl std::fmt::Display for OrchestratorUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            443 => write!(f, "https://{host}"),
            port => write!(f, "https://{host}:{port}"),
        }
    }
}

impl std::str::FromStr for OrchestratorUrl {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl(text.chars().take(80).collect());
        let rest = text.strip_prefix("https://").ok_or_else(invalid)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority = rest.parse().map_err(|_| invalid())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty()
            || rest.contains('@')
            || (authority.as_str() != authority.host()) != authority.port_u16().is_some()
        {
            return Err(invalid());
        }
        Ok(Self { host, port: authority.port_u16().unwrap_or(443) })
    }
}

impl TryFrom<String> for OrchestratorUrl {
    type Error = InvalidUrl;
    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

/// An HTTP proxy's address. It may hold a password and is not printed whole.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ProxyUrl(String);

/// A text that is no proxy's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a proxy's address: write http://host:port or http://user:password@host:port")]
pub struct InvalidProxy;

impl ProxyUrl {
    /// The address, with the password if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        let rest = self.0.strip_prefix("http://").unwrap_or(&self.0);
        rest.rsplit_once('@').map_or(rest, |(_, authority)| authority).trim_end_matches('/')
    }
}

impl std::fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = InvalidProxy;
    fn try_from(text: String) -> Result<Self, InvalidProxy> {
        Proxy::parse(&text).map_err(|_| InvalidProxy)?;
        Ok(Self(text))
    }
}

impl Config {
    /// Parses the text of a `runner.toml` that lies in `directory`.
    ///
    /// # Errors
    /// Every mistake in it, in the order of the file.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<Fault>> {
        read::config(text, directory)
    }
}
