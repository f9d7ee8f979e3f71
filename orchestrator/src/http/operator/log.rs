//! The transparency log: its files as `c2sp.org/tlog-tiles` has them, its key, and proofs for notes.

use axum::{
    extract::State,
    http::{HeaderName, header},
};
use remit_protocol::{
    Digest,
    endpoint::LogProof,
    operator::{LogView, path},
};
use remit_signing::log::tile::TileId;

use crate::http::{
    App,
    error::Failure,
    extract::{Json, Place},
};

/// A file of the log with its type and how long it may be kept.
type File = ([(HeaderName, &'static str); 2], Vec<u8>);

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// A path names its width, so what it stands for never changes.
const FOREVER: &str = "private, max-age=31536000, immutable";

/// The log: its key and its newest head.
#[utoipa::path(get, path = path::LOG, tag = "log", responses((status = 200, body = LogView)))]
pub(crate) async fn show(State(app): State<App>) -> Result<Json<LogView>, Failure> {
    let log = app.registry.log();
    let key = log.key();
    let checkpoint = log.checkpoint().await?;
    Ok(Json(LogView { origin: key.name().to_string(), key: key.to_string(), checkpoint }))
}

/// The proof that a note is in the log, by the hash of its leaf.
#[utoipa::path(get, path = path::LOG_PROOF, tag = "log", params(("leaf" = Digest, Path)), responses((status = 200, body = LogProof)))]
pub(crate) async fn proof(
    State(app): State<App>,
    Place(leaf): Place<Digest>,
) -> Result<Json<LogProof>, Failure> {
    let proof = app.registry.log().proof_of(leaf).await?;
    let proof = proof.ok_or_else(|| Failure::not_found("leaf of the transparency log", leaf))?;
    Ok(Json(LogProof { proof }))
}

/// The newest signed head, as a file.
#[utoipa::path(get, path = path::LOG_CHECKPOINT, tag = "log", responses((status = 200, body = String)))]
pub(crate) async fn checkpoint(State(app): State<App>) -> Result<File, Failure> {
    let checkpoint = app.registry.log().checkpoint().await?;
    Ok((
        [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "private, no-cache")],
        checkpoint.into_bytes(),
    ))
}

/// A tile of hashes or a bundle of leaves, as a file: complete ones, and partial ones of a width that the log has had.
#[utoipa::path(get, path = path::LOG_TILE, tag = "log", params(("tile" = String, Path)), responses((status = 200, body = Vec<u8>)))]
pub(crate) async fn tile(State(app): State<App>, Place(tile): Place<String>) -> Result<File, Failure> {
    let absent = || Failure::not_found("file of the transparency log", format_args!("tile/{tile}"));
    let id: TileId = format!("tile/{tile}").parse().map_err(|_| absent())?;
    let bytes = app.registry.log().file(id).await?.ok_or_else(absent)?;
    Ok(([(header::CONTENT_TYPE, BYTES), (header::CACHE_CONTROL, FOREVER)], bytes))
}
