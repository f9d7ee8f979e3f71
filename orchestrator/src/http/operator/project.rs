//! Projects: made and listed.

use axum::{Extension, extract::State, http::StatusCode};
use remit_protocol::{
    ProjectName,
    operator::{NewProject, Page, Part, Project, path},
};

use super::part;
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Asked, Json, Place},
    },
    store,
};

fn view(project: store::Project) -> Project {
    Project { name: project.name, description: project.description, created: project.created }
}

/// The projects that the caller may see, by name.
#[utoipa::path(get, path = path::PROJECTS, tag = "projects", params(Part), responses((status = 200, body = Page<Project>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Part>,
) -> Result<Json<Page<Project>>, Failure> {
    let only = caller.visible()?;
    let mut all = app.store.projects().await?;
    all.retain(|project| only.is_none_or(|only| *only == project.name));
    Ok(Json(part(&all, &asked, |project| project.name.to_string(), |project| Ok(view(project.clone())))?))
}

/// Makes a project.
#[utoipa::path(post, path = path::PROJECTS, tag = "projects", request_body = NewProject, responses((status = 201, body = Project)))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<NewProject>,
) -> Result<(StatusCode, Json<Project>), Failure> {
    let made = store::Project { name: new.name, description: new.description, created: app.now() };
    app.store.create_project(made.clone()).await?;
    app.audit(caller.name(), "project.create", &made.name).await?;
    Ok((StatusCode::CREATED, Json(view(made))))
}

/// A project.
#[utoipa::path(get, path = path::PROJECT, tag = "projects", params(("project" = ProjectName, Path)), responses((status = 200, body = Project)))]
pub(crate) async fn show(
    State(app): State<App>,
    Place(name): Place<ProjectName>,
) -> Result<Json<Project>, Failure> {
    Ok(Json(view(find(&app, &name).await?)))
}

/// The project, or the answer that there is none.
pub(super) async fn find(app: &App, name: &ProjectName) -> Result<store::Project, Failure> {
    app.store.project(name).await?.ok_or_else(|| Failure::not_found("project", name))
}
