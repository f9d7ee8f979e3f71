//! Bytes by digest for runners, and what belongs to a component.

use axum::{
    extract::{Request, State},
    response::Response,
};
use remit_protocol::{
    ComponentSelector, ComponentVersion, Digest, RunnerId, digest,
    endpoint::{ComponentBundle, LogConsistency, LogProof},
    limits::{MAX_BODY, MAX_NODE_SET},
};

use super::signed::{Answer, Call, Counting, signed};
use crate::http::{App, error::Failure, extract::Place};

/// The bytes of a blob: of a published component, or of work that the runner was handed.
pub(in crate::http) async fn blob(
    State(app): State<App>,
    Place(digest): Place<Digest>,
    request: Request,
) -> Response {
    signed(app, request, MAX_BODY, Counting::InSession, move |app, call| {
        let runner = call.request.runner();
        give(app, runner, digest)
    })
    .await
}

async fn give(app: App, runner: RunnerId, digest: Digest) -> Result<Answer, Failure> {
    let published = app.store.component_by_digest(digest).await?.is_some();
    if !published && !app.scheduler.may_read(runner, digest) {
        return Err(Failure::not_found("blob", digest));
    }
    let found = app.store.blobs().open_file(digest).await.map_err(Failure::blob)?;
    let (file, length) = found.ok_or_else(|| Failure::not_found("blob", digest))?;
    Ok(Answer::Blob { file, length, digest })
}

/// What belongs to a published component beside its bytes.
pub(in crate::http) async fn component(
    State(app): State<App>,
    Place((namespace, name, version)): Place<(String, String, ComponentVersion)>,
    request: Request,
) -> Response {
    let wanted = format!("{namespace}/{name}@{version}");
    signed(app, request, MAX_BODY, Counting::InSession, move |app, _call| bundle(app, wanted)).await
}

async fn bundle(app: App, wanted: String) -> Result<Answer, Failure> {
    let exact = ComponentSelector::new(&wanted).map_err(|_| Failure::not_found("component", &wanted))?;
    let found = app.store.select_component(&exact).await?;
    let found = found.ok_or_else(|| Failure::not_found("component", &wanted))?;
    let log = app.registry.log();
    // A note that the log does not have is not served at all.
    let proof = log.proof(found.note.as_bytes()).await?;
    let proof =
        proof.ok_or_else(|| Failure::internal(format_args!("the note of {wanted} is not in the log")))?;
    let verdicts = app.registry.verdicts(&found).await?;
    Answer::message(&ComponentBundle {
        digest: found.digest,
        length: found.length,
        manifest: found.manifest,
        note: found.note,
        proof: Some(proof),
        verdicts,
    })
}

/// Keeps a node set that a node source found.
pub(in crate::http) async fn upload(State(app): State<App>, request: Request) -> Response {
    let limit = usize::try_from(MAX_NODE_SET).unwrap_or(usize::MAX);
    signed(app, request, limit, Counting::InSession, keep).await
}

async fn keep(app: App, call: Call) -> Result<Answer, Failure> {
    let stored: digest::Sized = app.store.blobs().put(call.bytes().to_vec()).await.map_err(Failure::blob)?;
    Answer::message(&stored)
}

/// The proof that a note is in the transparency log, by the hash of its leaf.
pub(in crate::http) async fn log_proof(
    State(app): State<App>,
    Place(leaf): Place<Digest>,
    request: Request,
) -> Response {
    signed(app, request, MAX_BODY, Counting::InSession, move |app, _call| async move {
        let proof = app.registry.log().proof_of(leaf).await?;
        let proof = proof.ok_or_else(|| Failure::not_found("leaf of the transparency log", leaf))?;
        Answer::message(&LogProof { proof })
    })
    .await
}

/// The proof that an older head of the transparency log is where a newer one begins.
pub(in crate::http) async fn log_consistency(
    State(app): State<App>,
    Place((older, newer)): Place<(u64, u64)>,
    request: Request,
) -> Response {
    signed(app, request, MAX_BODY, Counting::InSession, move |app, _call| async move {
        let hashes = app.registry.log().consistency(older, newer).await?;
        let sizes = format_args!("of the transparency log from {older} to {newer} leaves");
        let hashes = hashes.ok_or_else(|| Failure::not_found("history", sizes))?;
        Answer::message(&LogConsistency { hashes })
    })
    .await
}
