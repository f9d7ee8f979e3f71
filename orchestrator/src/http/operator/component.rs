//! Components: bytes put by digest, then published; listed; shown to auditors.

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use remit_protocol::{
    ComponentName, ComponentSelector, ComponentVersion, Digest, digest,
    limits::MAX_COMPONENT,
    manifest::Manifest,
    operator::{
        ComponentQuery, ComponentSummary, ComponentView, Page, Part, Publish, PublishVerdict, VerdictView,
        path,
    },
};
use tokio_util::io::ReaderStream;

use super::part;
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Asked, Json, Place},
        upload,
    },
    registry,
    store::Component,
};

/// Stores bytes under their digest. Nothing serves them before a component that names them is published.
#[utoipa::path(put, path = path::BLOB, tag = "components", params(("digest" = Digest, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, body = digest::Sized)))]
pub(crate) async fn upload(
    State(app): State<App>,
    Place(expected): Place<Digest>,
    request: Request,
) -> Result<Json<digest::Sized>, Failure> {
    Ok(Json(upload::store(&app, request, expected, MAX_COMPONENT).await?))
}

/// The published components, by name, the newest version first.
#[utoipa::path(get, path = path::COMPONENTS, tag = "components", params(ComponentQuery), responses((status = 200, body = Page<ComponentSummary>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Asked(asked): Asked<ComponentQuery>,
) -> Result<Json<Page<ComponentSummary>>, Failure> {
    let mut all = app.store.components().await?;
    all.retain(|component| {
        asked.name.as_ref().is_none_or(|name| *name == component.name)
            && asked.kind.is_none_or(|kind| kind == component.kind)
    });
    let wanted = Part { after: asked.after, limit: asked.limit };
    let key = |component: &Component| format!("{}@{}", component.name, component.version);
    let view = |component: &Component| {
        let manifest = Manifest::from_slice(component.manifest.as_bytes()).map_err(Failure::internal)?;
        Ok(registry::summary(component, &manifest.description))
    };
    Ok(Json(part(&all, &wanted, key, view)?))
}

/// Publishes a component whose bytes were put before. A version never moves to other bytes.
#[utoipa::path(post, path = path::COMPONENTS, tag = "components", request_body = Publish, responses((status = 201, body = ComponentView)))]
pub(crate) async fn publish(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(publish): Json<Publish>,
) -> Result<(StatusCode, Json<ComponentView>), Failure> {
    let digest = publish.component;
    let published = app.registry.publish(publish, caller.name().as_str(), app.now()).await?;
    let summary = &published.summary;
    let target = format!("{}@{} {digest}", summary.name, summary.version);
    app.audit(caller.name(), "component.publish", target).await?;
    Ok((StatusCode::CREATED, Json(published)))
}

/// Keeps moving references from selecting a version. Jobs that run it go on doing so.
#[utoipa::path(post, path = path::COMPONENT_YANK, tag = "components",
    params(("namespace" = String, Path), ("name" = String, Path), ("version" = ComponentVersion, Path)),
    responses((status = 200, body = ComponentView)))]
pub(crate) async fn yank(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(place): Place<(String, String, ComponentVersion)>,
) -> Result<Json<ComponentView>, Failure> {
    set_yanked(&app, &caller, place, true).await
}

/// Lets moving references select a version again.
#[utoipa::path(post, path = path::COMPONENT_UNYANK, tag = "components",
    params(("namespace" = String, Path), ("name" = String, Path), ("version" = ComponentVersion, Path)),
    responses((status = 200, body = ComponentView)))]
pub(crate) async fn unyank(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(place): Place<(String, String, ComponentVersion)>,
) -> Result<Json<ComponentView>, Failure> {
    set_yanked(&app, &caller, place, false).await
}

async fn set_yanked(
    app: &App,
    caller: &Caller,
    place: (String, String, ComponentVersion),
    yanked: bool,
) -> Result<Json<ComponentView>, Failure> {
    let found = find(app, place.clone()).await?;
    if found.yanked.is_some() != yanked {
        let at = yanked.then(|| app.now());
        app.store.yank_component(&found.name, &found.version, at).await?;
        let action = if yanked { "component.yank" } else { "component.unyank" };
        app.audit(caller.name(), action, format!("{}@{}", found.name, found.version)).await?;
    }
    Ok(Json(app.registry.view(&find(app, place).await?, app.now()).await?))
}

/// A component with its audit view.
#[utoipa::path(get, path = path::COMPONENT, tag = "components",
    params(("namespace" = String, Path), ("name" = String, Path), ("version" = ComponentVersion, Path)),
    responses((status = 200, body = ComponentView)))]
pub(crate) async fn show(
    State(app): State<App>,
    Place(place): Place<(String, String, ComponentVersion)>,
) -> Result<Json<ComponentView>, Failure> {
    let found = find(&app, place).await?;
    Ok(Json(app.registry.view(&found, app.now()).await?))
}

/// The component that an address names.
async fn find(
    app: &App,
    (namespace, name, version): (String, String, ComponentVersion),
) -> Result<Component, Failure> {
    let unusable = |error: remit_protocol::InvalidId| {
        Failure::invalid(format!("The address is not usable: {error}."), "")
    };
    let name = ComponentName::new(format!("{namespace}/{name}")).map_err(unusable)?;
    let selector: ComponentSelector = format!("{name}@{version}").parse().map_err(unusable)?;
    let found = app.store.select_component(&selector).await?;
    found.ok_or_else(|| Failure::not_found("component", &selector))
}

/// The bytes of a component's wasm, for whoever is to look at them.
#[utoipa::path(get, path = path::COMPONENT_WASM, tag = "components",
    params(("namespace" = String, Path), ("name" = String, Path), ("version" = ComponentVersion, Path)),
    responses((status = 200, body = Vec<u8>)))]
pub(crate) async fn wasm(
    State(app): State<App>,
    Place(place): Place<(String, String, ComponentVersion)>,
) -> Result<Response, Failure> {
    let digest = find(&app, place).await?.digest;
    let found = app.store.blobs().open_file(digest).await.map_err(Failure::blob)?;
    let (file, length) = found.ok_or_else(|| Failure::not_found("blob", digest))?;
    let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/wasm")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    Ok((headers, body).into_response())
}

/// Publishes what a reviewer says of a component.
#[utoipa::path(post, path = path::COMPONENT_VERDICTS, tag = "components",
    params(("namespace" = String, Path), ("name" = String, Path), ("version" = ComponentVersion, Path)),
    request_body = PublishVerdict, responses((status = 201, body = VerdictView)))]
pub(crate) async fn verdict(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(place): Place<(String, String, ComponentVersion)>,
    Json(publish): Json<PublishVerdict>,
) -> Result<(StatusCode, Json<VerdictView>), Failure> {
    let found = find(&app, place).await?;
    let release = (found.name, found.version);
    let published = app.registry.publish_verdict(release, publish, caller.name().as_str(), app.now()).await?;
    let opinion = if published.pass { "pass" } else { "fail" };
    let target = format!("{}@{} {} {opinion}", published.name, published.version, published.note_id);
    app.audit(caller.name(), "component.verdict", target).await?;
    Ok((StatusCode::CREATED, Json(published)))
}
