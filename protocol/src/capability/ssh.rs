//! `ssh`: running a command on the node that a step is run for. The host speaks SSH; keys never reach the guest.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    http::InvalidRule,
    secrets::{BoundSecret, SecretUse},
};
use crate::SecretName;

/// Which machines an SSH rule speaks of. Only the node being run: a step cannot choose another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SshTarget {
    /// The node that the step is being run for.
    Node,
}

/// How a secret logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSshSecret", into = "RawSshSecret")]
pub struct SshSecret {
    /// The name that the job binds to a path.
    pub name: SecretName,
    /// `ssh-key` or `ssh-password`.
    pub usage: SecretUse,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSshSecret {
    name: SecretName,
    #[serde(rename = "use")]
    usage: SecretUse,
}

impl TryFrom<RawSshSecret> for SshSecret {
    type Error = InvalidRule;
    fn try_from(raw: RawSshSecret) -> Result<Self, InvalidRule> {
        match raw.usage {
            SecretUse::SshKey | SecretUse::SshPassword => Ok(Self { name: raw.name, usage: raw.usage }),
            other => Err(InvalidRule(format!(
                "an ssh rule uses a secret as ssh-key or ssh-password, not as {}",
                other.as_str()
            ))),
        }
    }
}

impl From<SshSecret> for RawSshSecret {
    fn from(secret: SshSecret) -> Self {
        Self { name: secret.name, usage: secret.usage }
    }
}

/// A component's wish, and equally a job's grant, to run commands on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshRequest {
    /// Which machine.
    pub target: SshTarget,
    /// The secret that logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SshSecret>,
}

/// A grant has the same form as a request: the target is all that can be said.
pub type SshGrant = SshRequest;

impl SshRequest {
    /// True if what this asks for includes all of `grant`.
    pub fn covers(&self, grant: &SshGrant) -> bool {
        self.target == grant.target && (grant.secret.is_none() || self.secret == grant.secret)
    }
}

fn port_22() -> u16 {
    22
}

/// Where and as whom the owner lets steps log in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshCeiling {
    /// Addresses after resolution.
    pub addresses: Vec<IpNet>,
    /// The port.
    #[serde(default = "port_22")]
    pub port: u16,
    /// User names.
    pub users: Vec<String>,
    /// OpenSSH known-hosts file: a host key that is not in it is refused.
    pub known_hosts: PathBuf,
}

/// What a remit lets a step do over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshPermit {
    /// The places of the ceiling; the node's address, port and user have to fit one of them.
    pub places: Vec<SshPlace>,
    /// Whether the secret is a key or a password.
    pub usage: Option<SecretUse>,
    /// The secrets that may log in: by the job's binding, and the users that the owner named for each.
    pub secrets: Vec<SshLogin>,
}

/// One place of [`SshPermit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshPlace {
    /// Addresses after resolution.
    pub addresses: Vec<IpNet>,
    /// The port.
    pub port: u16,
    /// User names.
    pub users: Vec<String>,
    /// Known-hosts file.
    pub known_hosts: PathBuf,
}

/// A secret and the users that it may log in as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshLogin {
    /// The secret.
    pub secret: BoundSecret,
    /// The users of its ceiling entries.
    pub users: Vec<String>,
}
