//! Nodes of a project and the sources that they come from.

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
};
use remit_job::{
    compile::discovery,
    document::{Action, Document},
};
use remit_protocol::{
    JobName, Origin, ProjectName, SourceName, Span,
    capability::{Grant, offer},
    limits::MAX_NODE_SET,
    manifest::Kind,
    node::NodeSet,
    operator::{NewSource, NodePage, NodeQuery, Page, Part, SourceStatus, SourceView, path},
};

use super::part;
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{self, Asked, Json, Place, content_length},
    },
    nodes,
    scheduler::TriggerError,
    store::{self, Source, SourceKind},
};

/// The nodes of a project, by name.
#[utoipa::path(get, path = path::NODES, tag = "nodes", params(("project" = ProjectName, Path), NodeQuery), responses((status = 200, body = NodePage)))]
pub(crate) async fn list(
    State(app): State<App>,
    Place(project): Place<ProjectName>,
    Asked(asked): Asked<NodeQuery>,
) -> Result<Json<NodePage>, Failure> {
    let settings = super::project::find(&app, &project).await?.settings;
    let filter = super::project::saved_filter(&app, &project, asked.filter.clone()).await?;
    let filter = filter.or(settings.default_filter);
    let all = app.scheduler.project_nodes(&project).await?;
    let limit = usize::try_from(asked.entries()).unwrap_or(usize::MAX);
    // A filter over 100,000 nodes takes a while.
    let page = tokio::task::spawn_blocking(move || {
        nodes::page(&all, filter.as_deref(), asked.after.as_deref(), limit)
    });
    let (items, total, more) =
        page.await.map_err(Failure::internal)?.map_err(|error| Failure::filter(&error))?;
    let next = items.last().filter(|_| more).map(|node| node.name.to_string());
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    Ok(Json(NodePage { items, total, next }))
}

/// Takes a whole set as the nodes that people loaded, in place of those before.
#[utoipa::path(put, path = path::NODES, tag = "nodes", params(("project" = ProjectName, Path)), request_body(content = Object, description = "A node set."), responses((status = 200, body = SourceView)))]
pub(crate) async fn load(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(project): Place<ProjectName>,
    request: Request,
) -> Result<Json<SourceView>, Failure> {
    super::project::find(&app, &project).await?;
    let limit = usize::try_from(MAX_NODE_SET).unwrap_or(usize::MAX);
    let Ok(_place) = app.uploads.try_acquire() else {
        app.metrics.shed.add(1);
        return Err(Failure::overloaded());
    };
    let (parts, body) = request.into_parts();
    let bytes = extract::read(body, content_length(&parts.headers), limit).await?;
    let parse = tokio::task::spawn_blocking(move || extract::parse::<NodeSet>(&bytes, limit));
    let set = parse.await.map_err(Failure::internal)??;
    let count = app.nodes.load(&project, set, app.now()).await?;
    app.audit(caller.name(), "nodes.load", format!("{project} {count}")).await?;
    let loaded = SourceName::new(nodes::LOADED).map_err(Failure::internal)?;
    Ok(Json(view(&app, &find(&app, &project, &loaded).await?).await?))
}

/// The sources of a project, in the order in which they are merged.
#[utoipa::path(get, path = path::SOURCES, tag = "nodes", params(("project" = ProjectName, Path), Part), responses((status = 200, body = Page<SourceView>)))]
pub(crate) async fn sources(
    State(app): State<App>,
    Place(project): Place<ProjectName>,
    Asked(asked): Asked<Part>,
) -> Result<Json<Page<SourceView>>, Failure> {
    super::project::find(&app, &project).await?;
    let all = app.store.sources(&project).await?;
    let Page { items, next } = part(&all, &asked, |source| source.name.to_string(), Ok)?;
    let mut views = Vec::with_capacity(items.len());
    for source in items {
        views.push(view(&app, source).await?);
    }
    Ok(Json(Page { items: views, next }))
}

/// Makes or changes a source that a component feeds, and asks it for the first time.
#[utoipa::path(post, path = path::SOURCES, tag = "nodes", params(("project" = ProjectName, Path)), request_body = NewSource, responses((status = 201, body = SourceView)))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(project): Place<ProjectName>,
    Json(new): Json<NewSource>,
) -> Result<(StatusCode, Json<SourceView>), Failure> {
    super::project::find(&app, &project).await?;
    if new.name.as_str() == nodes::LOADED {
        let message = format!("{:?} is the source of the nodes that people load.", nodes::LOADED);
        return Err(Failure::invalid(message, "Choose another name."));
    }
    let uses = match (&new.uses, &new.job) {
        (Some(uses), None) => uses,
        (None, Some(job)) => return of_job(&app, &caller, &project, &new, job).await,
        _ => {
            let message = "A source names either a component, `uses`, or a job, `job`.";
            return Err(Failure::invalid(message, "Write one of both."));
        }
    };
    let component = super::job::select(&app, uses).await?;
    let component = component.ok_or_else(|| Failure::not_found("component", uses))?;
    if component.manifest.kind != Kind::NodeSource {
        let message = format!("{uses} is a step, not a node source.");
        return Err(Failure::invalid(message, "Name a component of kind node-source."));
    }
    let document = discovery(&project, &new, &component)
        .map_err(|faults| Failure::faults("The source was not saved: it has mistakes.", faults))?;
    let missing = missing(&app, &project, &document).await?;
    let document = app.store.blobs().put(document.to_vec()).await.map_err(Failure::blob)?;
    let config = serde_json::to_value(&new).map_err(Failure::internal)?;
    let made = store::NewSource {
        project: project.clone(),
        name: new.name.clone(),
        kind: SourceKind::Component,
        config,
        document: Some(document),
        every: new.every,
    };
    app.store.save_source(made).await?;
    app.audit(caller.name(), "source.save", format!("{project}/{}", new.name)).await?;
    app.scheduler.refresh_source(&project, &new.name, (caller.name().as_str(), Origin::Operator)).await?;
    let saved = view(&app, &find(&app, &project, &new.name).await?).await?;
    Ok((StatusCode::CREATED, Json(SourceView { missing, ..saved })))
}

/// Saves a source that takes the results of a job, and takes those that there are.
async fn of_job(
    app: &App,
    caller: &Caller,
    project: &ProjectName,
    new: &NewSource,
    job: &JobName,
) -> Result<(StatusCode, Json<SourceView>), Failure> {
    let bare =
        new.with.is_empty() && new.secrets.is_empty() && new.grant.is_none() && new.runner_tags.is_empty();
    if !bare {
        let message =
            "A source of a job takes no `with`, `secrets`, `grant` or `runner_tags`: the job has its own.";
        return Err(Failure::invalid(message, "Leave them out."));
    }
    if app.store.job(project, job, None).await?.is_none() {
        return Err(Failure::not_found("job", job));
    }
    let made = store::NewSource {
        project: project.clone(),
        name: new.name.clone(),
        kind: SourceKind::Job,
        config: serde_json::to_value(new).map_err(Failure::internal)?,
        document: None,
        every: Some(new.every.unwrap_or(Span::from_secs(10))),
    };
    app.store.save_source(made).await?;
    app.audit(caller.name(), "source.save", format!("{project}/{}", new.name)).await?;
    let taken =
        app.scheduler.refresh_source(project, &new.name, (caller.name().as_str(), Origin::Operator)).await;
    if let Err(error) = taken
        && !matches!(error, TriggerError::NoResults(_))
    {
        return Err(error.into());
    }
    Ok((StatusCode::CREATED, Json(view(app, &find(app, project, &new.name).await?).await?)))
}

/// Why the runners that could be chosen for a source cannot ask it; nothing if one of them can, or has not told.
async fn missing(app: &App, project: &ProjectName, document: &Document) -> Result<Vec<String>, Failure> {
    let runners = chosen(app, project, document).await?;
    let tags = &document.runner.tags;
    let grant = document.steps.first().and_then(|step| match &step.action {
        Action::Component(action) => Some(&action.grant),
        _ => None,
    });
    let Some(grant) = grant else { return Ok(Vec::new()) };
    if runners.is_empty() {
        let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
        let which =
            if tags.is_empty() { "is local".to_owned() } else { format!("carries {}", tags.join(", ")) };
        return Ok(vec![format!("No runner of {project} {which}: nobody can ask the source.")]);
    }
    Ok(lacking(&runners, grant))
}

/// The runners that could be chosen for a document.
pub(super) async fn chosen(
    app: &App,
    project: &ProjectName,
    document: &Document,
) -> Result<Vec<store::Runner>, Failure> {
    let tags = &document.runner.tags;
    let chosen = |runner: &store::Runner| {
        let tagged = if tags.is_empty() { runner.local } else { tags.is_subset(&runner.tags) };
        tagged && runner.enabled && runner.projects.includes(project)
    };
    Ok(app.store.runners().await?.into_iter().filter(chosen).collect())
}

/// Why none of these runners can do what a grant gives, a sentence each; nothing if one of them can, or has not told, and
/// nothing if there is none.
pub(super) fn lacking(runners: &[store::Runner], grant: &Grant) -> Vec<String> {
    let lacking: Vec<_> =
        runners.iter().map(|runner| (runner, offer::missing(grant, &runner.features))).collect();
    if lacking.iter().any(|(_, what)| what.is_empty()) {
        return Vec::new();
    }
    let sentence = |(runner, what): &(&store::Runner, Vec<String>)| {
        format!("The ceiling of runner {} lacks {}.", runner.name, what.join(", "))
    };
    lacking.iter().take(20).map(sentence).collect()
}

/// The nodes that a source gave last, whole.
#[utoipa::path(get, path = path::SOURCE_NODES, tag = "nodes", params(("project" = ProjectName, Path), ("source" = SourceName, Path)), responses((status = 200, body = Object, description = "A node set.")))]
pub(crate) async fn given(
    State(app): State<App>,
    Place((project, name)): Place<(ProjectName, SourceName)>,
) -> Result<Json<NodeSet>, Failure> {
    let source = find(&app, &project, &name).await?;
    match source.nodes {
        Some(set) => Ok(Json(app.scheduler.node_set(set).await?)),
        None => Ok(Json(NodeSet { nodes: Vec::new() })),
    }
}

/// Asks a source for its nodes anew.
#[utoipa::path(post, path = path::SOURCE_REFRESH, tag = "nodes", params(("project" = ProjectName, Path), ("source" = SourceName, Path)), responses((status = 200, body = SourceView)))]
pub(crate) async fn refresh(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, name)): Place<(ProjectName, SourceName)>,
) -> Result<Json<SourceView>, Failure> {
    let execution =
        app.scheduler.refresh_source(&project, &name, (caller.name().as_str(), Origin::Operator)).await?;
    app.tokens.execution_of(execution, &project);
    Ok(Json(view(&app, &find(&app, &project, &name).await?).await?))
}

/// Takes a source away, with its nodes.
#[utoipa::path(delete, path = path::SOURCE, tag = "nodes", params(("project" = ProjectName, Path), ("source" = SourceName, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, name)): Place<(ProjectName, SourceName)>,
) -> Result<StatusCode, Failure> {
    if !app.store.delete_source(&project, &name).await? {
        return Err(Failure::not_found("node source", &name));
    }
    app.audit(caller.name(), "source.delete", format!("{project}/{name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(app: &App, project: &ProjectName, name: &SourceName) -> Result<Source, Failure> {
    let all = app.store.sources(project).await?;
    let found = all.into_iter().find(|source| source.name == *name);
    found.ok_or_else(|| Failure::not_found("node source", name))
}

async fn view(app: &App, source: &Source) -> Result<SourceView, Failure> {
    let uses = source.config.get("uses").and_then(|uses| uses.as_str());
    let uses = uses.and_then(|uses| uses.parse::<remit_protocol::ComponentSelector>().ok());
    let going = match source.execution {
        Some(id) => app.store.execution(id).await?.is_some_and(|record| !record.state.is_final()),
        None => false,
    };
    let status = match (&source.error, source.refreshed) {
        _ if going => SourceStatus::Refreshing,
        (Some(_), _) => SourceStatus::Failed,
        (None, Some(_)) => SourceStatus::Fresh,
        (None, None) => SourceStatus::New,
    };
    Ok(SourceView {
        name: source.name.clone(),
        component: uses.as_ref().map(|uses| uses.name().clone()),
        job: source.config.get("job").and_then(|job| job.as_str()).and_then(|job| JobName::new(job).ok()),
        uses,
        status,
        nodes: u64::from(source.count),
        refreshed: source.refreshed,
        error: source.error.clone(),
        execution: source.execution,
        every: source.every,
        config: (source.kind != SourceKind::Static).then(|| source.config.clone()),
        missing: Vec::new(),
    })
}
