//! Artifacts on their way in: pieces in order, each attempt's own, with a name only when all of them are on disk.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    response::Response,
};
use remit_protocol::{
    AttemptId, Digest, Limits, RunnerId, Timestamp, digest,
    endpoint::{ArtifactUpload, MAX_PIECE},
};

use super::signed::{Answer, Call, Counting, signed};
use crate::{
    http::{App, error::Failure, extract::Place},
    store::{BlobError, Upload, blobs},
};

/// Artifacts that are on their way at once: each is an open file.
const MOST: usize = 256;
/// An artifact of which nothing came for so long makes room for others; its runner begins again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Whose bytes, and which.
type Key = (RunnerId, AttemptId, Digest);

/// Artifacts that are not here as a whole.
#[derive(Debug, Default)]
pub(crate) struct Incoming(Mutex<HashMap<Key, Partial>>);

#[derive(Debug)]
struct Partial {
    /// Absent while a piece is being written.
    upload: Option<blobs::Upload>,
    touched: Timestamp,
}

/// What there is to write into.
enum Turn {
    Upload(blobs::Upload),
    /// Another piece of the same bytes is being written.
    Busy,
    /// Too many are on their way.
    Full,
    /// Nothing of it is here.
    Absent,
}

impl Incoming {
    fn take(&self, key: Key, fresh: bool, now: Timestamp) -> Turn {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match all.get_mut(&key) {
            Some(Partial { upload: None, .. }) => return Turn::Busy,
            Some(partial) => partial.upload.take(),
            None => None,
        };
        if let Some(upload) = held.filter(|_| !fresh) {
            return Turn::Upload(upload);
        }
        if !fresh {
            all.remove(&key);
            return Turn::Absent;
        }
        if all.len() >= MOST {
            all.retain(|_, partial| partial.upload.is_none() || now.since(partial.touched) < PATIENCE);
        }
        if all.len() >= MOST && !all.contains_key(&key) {
            return Turn::Full;
        }
        all.insert(key, Partial { upload: None, touched: now });
        Turn::Absent
    }

    /// Puts back what is not whole yet, or forgets it.
    fn put(&self, key: Key, upload: Option<blobs::Upload>, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match upload {
            Some(upload) => {
                all.insert(key, Partial { upload: Some(upload), touched: now });
            }
            None => {
                all.remove(&key);
            }
        }
    }
}

/// A piece of an artifact.
pub(in crate::http) async fn artifact(
    State(app): State<App>,
    Place((attempt, digest, length, offset)): Place<(AttemptId, Digest, u64, u64)>,
    request: Request,
) -> Response {
    signed(app, request, MAX_PIECE, Counting::InSession, move |app, call| async move {
        let bytes = digest::Sized { digest, length };
        Answer::message(&take(&app, &call, attempt, bytes, offset).await?)
    })
    .await
}

async fn take(
    app: &App,
    call: &Call,
    attempt: AttemptId,
    bytes: digest::Sized,
    offset: u64,
) -> Result<ArtifactUpload, Failure> {
    let runner = call.request.runner();
    let over = || {
        Failure::runner(
            "attempt-superseded",
            "This attempt does not count any more; nothing more is kept for it.",
            "Drop it.",
        )
    };
    let project = app.scheduler.keeps_for(runner, attempt).ok_or_else(over)?;
    if bytes.length > Limits::MOST.artifacts.bytes() {
        return Err(Failure::too_large(Limits::MOST.artifacts.bytes()));
    }
    if app.store.has_upload(attempt, bytes.digest).await? {
        return Ok(ArtifactUpload { have: bytes.length, kept: true });
    }
    let settings = app.store.project(&project).await?.map(|found| found.settings).unwrap_or_default();
    let quota = settings.quotas.artifacts;
    let full = || Failure::quota(&format!("{quota} of artifacts"));
    // Asked again when they are here: this spares sending what will not be kept.
    if offset == 0 && app.store.artifact_bytes(&project).await?.saturating_add(bytes.length) > quota.bytes() {
        return Err(full());
    }
    let key = (runner, attempt, bytes.digest);
    let written = match app.incoming.take(key, offset == 0, app.now()) {
        Turn::Upload(upload) => write(app, Some(upload), call.bytes(), bytes, offset).await,
        Turn::Absent if offset == 0 => write(app, None, call.bytes(), bytes, 0).await,
        Turn::Absent => return Ok(ArtifactUpload { have: 0, kept: false }),
        Turn::Busy | Turn::Full => return Err(Failure::overloaded()),
    };
    match written {
        Ok(Written::Part(upload, have)) => {
            app.incoming.put(key, Some(upload), app.now());
            Ok(ArtifactUpload { have, kept: false })
        }
        Ok(Written::Whole) => {
            app.incoming.put(key, None, app.now());
            // Nothing may name the bytes before this, and the runner is told after it.
            let upload = Upload { attempt, project, bytes, at: app.now() };
            if !app.store.keep_upload(upload, quota).await? {
                return Err(full());
            }
            Ok(ArtifactUpload { have: bytes.length, kept: true })
        }
        Err(error) => {
            app.incoming.put(key, None, app.now());
            Err(Failure::blob(error))
        }
    }
}

enum Written {
    Part(blobs::Upload, u64),
    Whole,
}

/// Writes a piece where it belongs; one that belongs elsewhere is not taken.
async fn write(
    app: &App,
    upload: Option<blobs::Upload>,
    piece: &[u8],
    bytes: digest::Sized,
    offset: u64,
) -> Result<Written, BlobError> {
    let (blobs, piece) = (app.store.blobs().clone(), piece.to_vec());
    let work = tokio::task::spawn_blocking(move || {
        let mut upload = match upload {
            Some(upload) => upload,
            None => blobs.upload(bytes.length)?,
        };
        if upload.length() == offset {
            upload.write(&piece)?;
        }
        match upload.length() {
            have if have < bytes.length => Ok(Written::Part(upload, have)),
            _ => upload.finish(Some(bytes.digest)).map(|_| Written::Whole),
        }
    });
    work.await.unwrap_or_else(|_| Err(BlobError::Io(std::io::Error::other("the work was broken off"))))
}
