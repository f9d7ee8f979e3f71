//! Bytes that stream into a blob, never whole in memory.

use std::time::Duration;

use axum::{body::Bytes, extract::Request};
use http_body_util::BodyExt as _;
use remit_protocol::{Digest, digest};

use super::{App, error::Failure, extract::content_length};

/// How long the next piece of an upload may take to come.
const PIECE_TIME: Duration = Duration::from_secs(30);

/// Streams the body of `request` into a blob that has to have the digest `expected` and at most `limit` bytes.
pub(crate) async fn store(
    app: &App,
    request: Request,
    expected: Digest,
    limit: u64,
) -> Result<digest::Sized, Failure> {
    let (parts, mut body) = request.into_parts();
    if content_length(&parts.headers).is_some_and(|length| length > limit) {
        return Err(Failure::too_large(limit));
    }
    let blobs = app.store.blobs().clone();
    // Few pieces wait: the disk sets the pace of the network.
    let (pieces, mut queue) = tokio::sync::mpsc::channel::<Bytes>(8);
    let writer = tokio::task::spawn_blocking(move || {
        let mut upload = blobs.upload(limit)?;
        while let Some(piece) = queue.blocking_recv() {
            upload.write(&piece)?;
        }
        Ok(upload)
    });
    loop {
        match tokio::time::timeout(PIECE_TIME, body.frame()).await {
            Err(_) => return Err(Failure::too_slow()),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Failure::invalid("The body broke off.", "Send it again.")),
            Ok(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else { continue };
                if pieces.send(piece).await.is_err() {
                    // The writer has given up, and says why below.
                    break;
                }
            }
        }
    }
    drop(pieces);
    let upload = writer.await.map_err(Failure::internal)?.map_err(Failure::blob)?;
    let finished = tokio::task::spawn_blocking(move || upload.finish(Some(expected)));
    finished.await.map_err(Failure::internal)?.map_err(Failure::blob)
}
