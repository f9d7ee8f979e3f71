//! What an auditor asks first of a component: who signed it, what it imports, what it asks for.

use remit_protocol::{
    Digest, Timestamp,
    capability::{files::FilesRequest, http::HttpWish, tcp::TcpWish},
    manifest::Manifest,
    operator::{Asked, ComponentSummary, ComponentView, Signer},
};
use remit_signing::{
    TrustPolicy,
    note::UnverifiedNote,
    verify::{self, Published},
};
use serde::Serialize;

use super::verdict;
use crate::store::Component;

/// A component as it is listed. `description` is the manifest's.
pub fn summary(component: &Component, description: &str) -> ComponentSummary {
    ComponentSummary {
        name: component.name.clone(),
        version: component.version.clone(),
        kind: component.kind,
        description: description.to_owned(),
        digest: component.digest,
        length: component.length,
        published: component.published,
        published_by: component.publisher.clone(),
    }
}

/// The audit view by what `policy` says at `now`, and these verdict notes.
pub(super) fn view(
    component: &Component,
    manifest: &Manifest,
    verdicts: &[String],
    policy: &TrustPolicy,
    now: Timestamp,
) -> ComponentView {
    let published = Published { note: component.note.as_bytes(), proof: None, verdicts };
    let release = verify::release(published, policy, now);
    let signers = release.as_ref().map(|release| release.signers().iter().map(signer).collect());
    let identity = UnverifiedNote::parse(component.note.as_bytes()).map(|note| note.identity());
    ComponentView {
        summary: summary(component, &manifest.description),
        note_id: identity.unwrap_or_else(|_| Digest::of(component.note.as_bytes())),
        signers: signers.unwrap_or_default(),
        threshold: policy.publisher(component.name.namespace()).map_or(0, |quorum| quorum.threshold.get()),
        refused: release.err().map(|refusal| refusal.to_string()),
        imports: manifest.imports.clone(),
        requests: requests(manifest),
        limits: manifest.limits,
        manifest_json: component.manifest.clone(),
        manifest: manifest.clone(),
        note: component.note.clone(),
        // What is kept was readable when it was taken in.
        verdicts: verdicts.iter().filter_map(|note| verdict::view(note, policy, now).ok()).collect(),
    }
}

pub(super) fn signer(signer: &verify::Signer) -> Signer {
    Signer { key: signer.key.to_string(), holder: signer.holder.to_string() }
}

/// Everything that a manifest asks for, rule by rule.
fn requests(manifest: &Manifest) -> Vec<Asked> {
    let requests = &manifest.requests;
    let mut asked = Vec::new();
    let mut add = |capability: &str, rule: &dyn ErasedRule, open: bool| {
        asked.push(Asked { capability: capability.to_owned(), rule: rule.text(), open });
    };
    for rule in &requests.http {
        add("http", rule, matches!(rule.scope, HttpWish::Open { .. }));
    }
    for rule in &requests.exec {
        add("exec", rule, rule.program.is_none());
    }
    for rule in &requests.ssh {
        add("ssh", rule, true);
    }
    for rule in &requests.tcp {
        add("tcp", rule, matches!(rule.scope, TcpWish::Open { .. }));
    }
    for rule in &requests.files {
        add("files", rule, matches!(rule, FilesRequest::Open));
    }
    for rule in &requests.reveal {
        add("reveal", rule, false);
    }
    asked
}

/// A rule of any capability, in the form in which the manifest has it.
trait ErasedRule {
    fn text(&self) -> String;
}

impl<T: Serialize> ErasedRule for T {
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
