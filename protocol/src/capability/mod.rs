//! What a step may do: requests, grants, ceilings, and the remit that comes of them.
//!
//! A component's manifest *requests*, a job *grants*, a runner's owner sets the *ceiling*. [`Remit::compute`] is the only
//! way to a [`Remit`], and it refuses whatever one of the three sides does not cover: nothing is narrowed in silence.
//! One file a capability; the same names stand in `wit/`, `host-runner/src/capability/` and `guest-sdk/src/`.
//!
//! *Invariant:* `covers(outer, inner)` and `matches(inner, x)` imply `matches(outer, x)` (property tests).

pub mod exec;
pub mod files;
pub mod http;
pub mod imports;
pub mod offer;
pub mod secrets;
pub mod ssh;
pub mod tcp;

mod remit;

use serde::{Deserialize, Serialize};

pub use remit::{Remit, Subject, covered_by_request};

use crate::limits::LimitsPart;

/// The capabilities of this version, by the name that they have in every room.
pub const CAPABILITIES: [&str; 6] = ["exec", "files", "http", "secrets", "ssh", "tcp"];

/// What a component asks for: the author's side, signed with the component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// HTTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<http::HttpRequest>,
    /// Programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<exec::ExecRequest>,
    /// SSH commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<ssh::SshRequest>,
    /// TCP connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<tcp::TcpRequest>,
    /// Scratch directory and named paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<files::FilesRequest>,
    /// Secrets whose value the component itself wants to see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reveal: Vec<secrets::Reveal>,
}

/// What a job gives one of its steps. The compiled document always holds it in full.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// HTTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<http::HttpGrant>,
    /// Programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<exec::ExecGrant>,
    /// SSH commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<ssh::SshGrant>,
    /// TCP connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<tcp::TcpGrant>,
    /// Scratch directory and named paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<files::FilesGrant>,
    /// Secrets whose value the component itself may see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reveal: Vec<secrets::Reveal>,
    /// Limits below those of the manifest.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: LimitsPart,
}

/// What the runner's owner ever permits on this host: `[ceiling]` of `runner.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// HTTP requests.
    pub http: Vec<http::HttpCeiling>,
    /// Programs.
    pub exec: Vec<exec::ExecCeiling>,
    /// SSH commands.
    pub ssh: Vec<ssh::SshCeiling>,
    /// TCP connections.
    pub tcp: Vec<tcp::TcpCeiling>,
    /// Named paths.
    pub files: Vec<files::FilesCeiling>,
    /// Where each secret may go.
    pub secrets: Vec<secrets::SecretCeiling>,
    /// Limits that no step exceeds here.
    pub limits: LimitsPart,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which side does not allow something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Side {
    /// The component's manifest does not ask for it.
    Request,
    /// The job does not give it.
    Grant,
    /// The runner's owner does not permit it.
    Ceiling,
}

impl Side {
    /// Where a person finds this side.
    pub fn place(self) -> &'static str {
        match self {
            Self::Request => "the component's step.toml",
            Self::Grant => "the step's `grant` in the job",
            Self::Ceiling => "[ceiling] in the runner's runner.toml",
        }
    }
}

/// Something that was not allowed: what, which side lacks it, and the lines that would allow it; where no line would, a
/// comment that says what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{permission} is not allowed by {}{}:\n{remedy}", side.place(), if remedy.starts_with('#') { "" } else { "; to allow it, add" })]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Denial {
    /// The permission in words, such as `http GET https://example.com:443/v1`.
    pub permission: String,
    /// The side that lacks it.
    pub side: Side,
    /// Lines to paste at that side's place, or a comment that begins with `#`.
    pub remedy: String,
}

/// What a step may do to the world, from least to most: it decides what may be tried again without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Effect {
    /// Nothing outside.
    Pure,
    /// Only looks: GET and HEAD, files read.
    Read,
    /// Changes the world, and doing it twice with the same idempotency key is doing it once.
    Idempotent,
    /// Changes the world.
    Effect,
}

impl Grant {
    /// The retry class of a step that runs with this grant: what its author declared, raised by what the grant allows.
    pub fn effect(&self, declared: Effect) -> Effect {
        let changes = !self.exec.is_empty()
            || !self.ssh.is_empty()
            || self.http.iter().any(http::HttpGrant::changes)
            || self.tcp.iter().any(tcp::TcpGrant::changes);
        let reads = !self.http.is_empty()
            || !self.tcp.is_empty()
            || self.files.iter().any(files::FilesGrant::reads)
            || !self.reveal.is_empty();
        match (changes, declared) {
            (true, Effect::Idempotent) => Effect::Idempotent,
            (true, _) => Effect::Effect,
            (false, _) if reads => declared.max(Effect::Read),
            (false, _) => declared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retry_class_is_raised_by_the_grant() {
        fn check(grant: &str, declared: Effect, expect: Effect) {
            let grant: Grant = serde_json::from_str(grant).unwrap();
            assert_eq!(grant.effect(declared), expect);
        }
        check("{}", Effect::Pure, Effect::Pure);
        let get = r#"{"http":[{"host":"a.example","methods":["GET"],"paths":["/"]}]}"#;
        check(get, Effect::Pure, Effect::Read);
        check(get, Effect::Effect, Effect::Effect);
        let post = r#"{"http":[{"host":"a.example","methods":["POST"],"paths":["/"]}]}"#;
        check(post, Effect::Pure, Effect::Effect);
        check(post, Effect::Idempotent, Effect::Idempotent);
        check(r#"{"exec":[{"program":"uname"}]}"#, Effect::Read, Effect::Effect);
        check(r#"{"tcp":[{"host":"a.example","port":25}]}"#, Effect::Pure, Effect::Effect);
        check(r#"{"tcp":[{"host":"a.example","port":25,"connect_only":true}]}"#, Effect::Pure, Effect::Read);
        check(r#"{"files":[{"name":"nodes"}]}"#, Effect::Pure, Effect::Read);
    }
}
