//! What a component says of itself: `step.toml` as the author writes it, and the manifest that is signed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ComponentName, ComponentVersion, Limits,
    capability::{
        Effect, Requests, exec::ExecRequest, files::FilesRequest, http::HttpRequest, imports::Profile,
        secrets::Reveal, ssh::SshRequest, tcp::TcpRequest,
    },
    json::{self, InvalidJson},
    limits::{LimitsPart, MAX_MANIFEST, USUAL_ARTIFACTS},
};

/// What a component is for; each kind exports a world of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Kind {
    /// Exports `run` of the world `remit:step/step`.
    Step,
    /// Exports `discover` of the world `remit:step/node-source`.
    NodeSource,
}

/// `manifest.json`, strict JSON beside the wasm; the component note binds its digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this file: 1.
    pub v: u32,
    /// The component's name.
    pub name: ComponentName,
    /// The component's version.
    pub version: ComponentVersion,
    /// Step or node source.
    pub kind: Kind,
    /// One sentence for people.
    pub description: String,
    /// What the author declares about repeating it.
    pub effect: Effect,
    /// The language whose toolchain's own imports are inert; absent: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The compiler that built it, as it names itself; absent: it was built by other means than `remit step build`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolchain: Option<String>,
    /// The interfaces that the component imports, sorted; must equal what the wasm imports.
    pub imports: Vec<String>,
    /// What it asks for.
    pub requests: Requests,
    /// The limits it asks for.
    pub limits: Limits,
    /// JSON Schema of its input.
    pub input: Value,
    /// JSON Schema of its output; `null` for a node source.
    pub output: Value,
}

impl Manifest {
    /// Parses manifest bytes under the strict rules.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidJson> {
        let manifest: Self = json::from_slice(bytes, MAX_MANIFEST)?;
        let malformed = |message: &str| InvalidJson::Malformed { message: message.to_owned() };
        if manifest.v != 1 {
            return Err(malformed("the manifest's form `v` is not 1"));
        }
        if !manifest.imports.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(malformed("the manifest's imports are not sorted, or stand twice"));
        }
        if manifest.limits != manifest.limits.least(Limits::MOST) {
            return Err(malformed("the manifest asks for more than any step may have"));
        }
        Ok(manifest)
    }

    /// The bytes that are stored and signed.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// `step.toml`: the author's file. A request, not a grant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepFile {
    /// `namespace/name`.
    pub name: ComponentName,
    /// SemVer.
    pub version: ComponentVersion,
    /// `step` or `node-source`.
    pub kind: Kind,
    /// One sentence for people.
    pub description: String,
    /// `pure`, `read`, `idempotent` or `effect`.
    pub effect: Effect,
    /// `python` or `js`, for a component of that toolchain; absent for all others.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// Limits; what is left out has its default.
    #[serde(default)]
    pub limits: LimitsPart,
    /// `[[http]]`.
    #[serde(default)]
    pub http: Vec<HttpRequest>,
    /// `[[exec]]`.
    #[serde(default)]
    pub exec: Vec<ExecRequest>,
    /// `[[ssh]]`.
    #[serde(default)]
    pub ssh: Vec<SshRequest>,
    /// `[[tcp]]`.
    #[serde(default)]
    pub tcp: Vec<TcpRequest>,
    /// `[[files]]`.
    #[serde(default)]
    pub files: Vec<FilesRequest>,
    /// `[[reveal]]`.
    #[serde(default)]
    pub reveal: Vec<Reveal>,
}

impl StepFile {
    /// The manifest of this file and of what the built component says and imports.
    pub fn into_manifest(mut self, mut imports: Vec<String>, input: Value, output: Value) -> Manifest {
        if self.files.contains(&FilesRequest::Artifacts) {
            self.limits.artifacts.get_or_insert(USUAL_ARTIFACTS);
        }
        imports.sort();
        imports.dedup();
        Manifest {
            v: 1,
            name: self.name,
            version: self.version,
            kind: self.kind,
            description: self.description,
            effect: self.effect,
            profile: self.profile,
            toolchain: None,
            imports,
            requests: Requests {
                http: self.http,
                exec: self.exec,
                ssh: self.ssh,
                tcp: self.tcp,
                files: self.files,
                reveal: self.reveal,
            },
            limits: self.limits.or_default(),
            input,
            output,
        }
    }
}
