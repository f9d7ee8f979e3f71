//! Components in the registry, with what an auditor asks first.

use serde::{Deserialize, Serialize};

use crate::{ComponentName, ComponentVersion, Digest, Limits, Timestamp, manifest::Kind, manifest::Manifest};

/// A component to be published; its bytes were put to [`super::path::BLOB`] before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Publish {
    /// The component note, exactly.
    pub note: String,
    /// `manifest.json`, exactly.
    pub manifest: String,
    /// Digest of the component's bytes.
    pub component: Digest,
}

/// Which components are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct ComponentQuery {
    /// Only versions of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub name: Option<ComponentName>,
    /// Only steps, or only node sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub kind: Option<Kind>,
    /// `next` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many entries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A component as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComponentSummary {
    /// Its name.
    pub name: ComponentName,
    /// Its version.
    pub version: ComponentVersion,
    /// Step or node source.
    pub kind: Kind,
    /// One sentence for people.
    pub description: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub length: u64,
    /// When it was published.
    pub published: Timestamp,
    /// Who published it.
    pub published_by: String,
}

/// A key that signed, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Signer {
    /// The key's name.
    pub key: String,
    /// Who holds it, by the registry's trust policy.
    pub holder: String,
}

/// One thing that a component asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Asked {
    /// The capability: `http`, `exec`, `ssh`, `files`, `reveal`.
    pub capability: String,
    /// The rule, as the author wrote it.
    pub rule: String,
    /// It names nothing literal and means nothing until a job's grant does.
    pub open: bool,
}

/// A component with its audit view. What the registry verified and what the author only claims are kept apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComponentView {
    /// Name, version, digest.
    pub summary: ComponentSummary,
    /// Verified: the SHA-256 of the note's text, by which it is revoked.
    pub note_id: Digest,
    /// Verified: who signed, by distinct holder.
    pub signers: Vec<Signer>,
    /// Verified: how many holders have to sign; 0 if the registry's policy knows no publisher of the namespace any more.
    pub threshold: u32,
    /// Why the registry's policy would not take it in any more, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Verified: what the bytes really import.
    pub imports: Vec<String>,
    /// Claimed by the author, enforced at run time: what it asks for.
    pub requests: Vec<Asked>,
    /// Claimed by the author, enforced at run time: the limits it asks for.
    pub limits: Limits,
    /// `manifest.json`, exactly: the note holds its digest.
    pub manifest_json: String,
    /// The same, read.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub manifest: Manifest,
    /// The note, exactly.
    pub note: String,
    /// What reviewers say of it, the newest first, and of the releases that their deltas begin from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<VerdictView>,
}

/// A verdict to be published beside its component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishVerdict {
    /// The `remit/verdict/v1` note, exactly.
    pub note: String,
}

/// What reviewers say of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerdictView {
    /// The SHA-256 of the note's text, by which it is revoked.
    pub note_id: Digest,
    /// The release, as the note names it.
    pub name: ComponentName,
    /// Its version.
    pub version: ComponentVersion,
    /// Digest of its wasm.
    pub component: Digest,
    /// What was looked for.
    pub criteria: String,
    /// The wasm of the release from which it looked on; absent: all of it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Digest>,
    /// It meets the criteria; false: the reviewers stand against it.
    pub pass: bool,
    /// Verified: who signed, by the registry's policy as it is now.
    pub signers: Vec<Signer>,
    /// Why the registry's policy would not take it in any more, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// When it was given.
    pub issued: Timestamp,
    /// Until when it counts.
    pub expires: Timestamp,
    /// The note, exactly.
    pub note: String,
}
