//! The installation itself: version, health, metrics, the description of the API.

use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use remit_protocol::{
    PROTOCOL,
    operator::{Health, TokenView, Version, path},
};

use crate::http::{App, auth::Caller, error::Failure, extract::Json};

/// Which program this is.
#[utoipa::path(get, path = path::VERSION, tag = "instance", responses((status = 200, body = Version)))]
pub(crate) async fn version() -> Json<Version> {
    Json(Version {
        program: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
    })
}

/// Whether it works; it asks its store.
#[utoipa::path(get, path = path::HEALTH, tag = "instance", responses((status = 200, body = Health)))]
pub(crate) async fn health(State(app): State<App>) -> Result<Json<Health>, Failure> {
    if app.stop.is_cancelled() {
        return Err(Failure::stopping());
    }
    app.store.projects().await?;
    Ok(Json(Health { status: "ok".to_owned() }))
}

/// Counters in Prometheus' text form.
#[utoipa::path(get, path = path::METRICS, tag = "instance", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, app.metrics.to_text()).into_response()
}

/// The OpenAPI document of this API.
#[utoipa::path(get, path = path::OPENAPI, tag = "instance", responses((status = 200, body = Object)))]
pub(crate) async fn openapi(State(app): State<App>) -> Result<Response, Failure> {
    let document = app.openapi.get().ok_or_else(|| Failure::internal("the API is not described yet"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document.clone()).into_response())
}

/// The token that asks.
#[utoipa::path(get, path = path::WHOAMI, tag = "instance", responses((status = 200, body = TokenView)))]
pub(crate) async fn whoami(Extension(caller): Extension<Caller>) -> Json<TokenView> {
    Json(caller.view())
}
