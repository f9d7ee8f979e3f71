//! Files that people give for options of jobs.

use axum::{
    Extension,
    extract::{Request, State},
};
use remit_protocol::{Digest, ProjectName, digest, limits::MAX_OPTION_FILE, operator::path};

use crate::http::{
    App,
    auth::Caller,
    error::Failure,
    extract::{Json, Place},
    upload,
};

/// Keeps a file, so that options of the project's jobs may name its digest.
#[utoipa::path(put, path = path::FILE, tag = "files",
    params(("project" = ProjectName, Path), ("digest" = Digest, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, body = digest::Sized)))]
pub(crate) async fn keep(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, digest)): Place<(ProjectName, Digest)>,
    request: Request,
) -> Result<Json<digest::Sized>, Failure> {
    let known = app.store.project(&project).await?.ok_or_else(|| Failure::not_found("project", &project))?;
    let quota = known.settings.quotas.artifacts;
    let stored = upload::store(&app, request, digest, MAX_OPTION_FILE.bytes()).await?;
    if !app.store.keep_file(&project, stored, app.now(), quota).await? {
        return Err(Failure::quota(&format!("{quota} of artifacts and files")));
    }
    app.audit(caller.name(), "file.keep", format!("{project} {digest}")).await?;
    Ok(Json(stored))
}
