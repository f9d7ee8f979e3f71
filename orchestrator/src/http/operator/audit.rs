//! The record of who did what, for whoever audits the installation.

use axum::extract::State;
use remit_protocol::operator::{AuditLines, AuditPart, AuditView, path};

use crate::http::{
    App,
    error::Failure,
    extract::{Asked, Json},
};

/// Lines in one answer; each has at most 16 KiB.
const LINES: u32 = 500;

/// Whose record it is, the key that signs its end, and its end, signed now.
#[utoipa::path(get, path = path::AUDIT, tag = "audit", responses((status = 200, body = AuditView)))]
pub(crate) async fn show(State(app): State<App>) -> Result<Json<AuditView>, Failure> {
    let trail = &app.trail;
    let (entries, head) = trail.head(app.now()).await?;
    Ok(Json(AuditView { keeper: trail.keeper().to_owned(), key: trail.key().to_string(), entries, head }))
}

/// The record's lines, the oldest first.
#[utoipa::path(get, path = path::AUDIT_LINES, tag = "audit", params(AuditPart), responses((status = 200, body = AuditLines)))]
pub(crate) async fn lines(
    State(app): State<App>,
    Asked(asked): Asked<AuditPart>,
) -> Result<Json<AuditLines>, Failure> {
    let found = app.store.audit_lines(asked.after.unwrap_or_default(), LINES).await?;
    Ok(Json(AuditLines { lines: found.lines, last: found.last }))
}
