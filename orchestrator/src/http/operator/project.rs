//! Projects: made and listed.

use axum::{Extension, extract::State, http::StatusCode};
use remit_job::filter::NodeFilter;
use remit_protocol::{
    FilterName, ProjectName,
    endpoint::Fault,
    operator::{NewProject, Page, Part, Project, ProjectSettings, path},
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
    let settings = ProjectSettings { description: new.description.clone(), ..ProjectSettings::default() };
    let made = store::Project { name: new.name, description: new.description, created: app.now(), settings };
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

/// What the project's administrators decided.
#[utoipa::path(get, path = path::PROJECT_SETTINGS, tag = "projects", params(("project" = ProjectName, Path)), responses((status = 200, body = ProjectSettings)))]
pub(crate) async fn settings(
    State(app): State<App>,
    Place(name): Place<ProjectName>,
) -> Result<Json<ProjectSettings>, Failure> {
    Ok(Json(find(&app, &name).await?.settings))
}

/// Takes the settings of a project, whole: what is left out has its default.
#[utoipa::path(put, path = path::PROJECT_SETTINGS, tag = "projects", params(("project" = ProjectName, Path)), request_body = ProjectSettings, responses((status = 200, body = ProjectSettings)))]
pub(crate) async fn configure(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(name): Place<ProjectName>,
    Json(settings): Json<ProjectSettings>,
) -> Result<Json<ProjectSettings>, Failure> {
    let mut faults = settings.faults();
    let filters = settings.filters.iter().map(|(name, filter)| (format!("filters.{name}"), filter));
    let default = settings.default_filter.iter().map(|filter| ("default_filter".to_owned(), filter));
    for (place, filter) in filters.chain(default) {
        if let Err(invalid) = NodeFilter::parse(filter) {
            faults.push(Fault {
                line: None,
                column: Some(invalid.column),
                place,
                message: invalid.message,
                remedy: String::new(),
            });
        }
    }
    if !faults.is_empty() {
        return Err(Failure::faults("The settings were not taken: they have mistakes.", faults));
    }
    app.store.configure_project(&name, settings.clone()).await?;
    app.scheduler.project_changed(&name);
    app.audit(caller.name(), "project.configure", &name).await?;
    Ok(Json(settings))
}

/// A filter as it is asked for: itself, or with `@NAME` one that the project saved.
pub(super) async fn saved_filter(
    app: &App,
    project: &ProjectName,
    asked: Option<String>,
) -> Result<Option<String>, Failure> {
    let Some(saved) = asked.as_deref().and_then(|asked| asked.strip_prefix('@')) else { return Ok(asked) };
    let mut settings = find(app, project).await?.settings;
    let found = saved.parse().ok().and_then(|name| settings.filters.remove(&name));
    let names: Vec<&str> = settings.filters.keys().map(FilterName::as_str).collect();
    match found {
        Some(filter) => Ok(Some(filter)),
        None => {
            let shown: String = saved.chars().take(64).collect();
            let remedy = match names.is_empty() {
                true => "It has none: `remit project configure`.".to_owned(),
                false => format!("It has @{}.", names.join(", @")),
            };
            Err(Failure::invalid(format!("The project {project} has no saved filter @{shown}."), remedy))
        }
    }
}
