//! Runners: made with a ticket, listed, changed.

use axum::{Extension, extract::State, http::StatusCode};
use remit_protocol::{
    RunnerId, RunnerName, Span, TicketId,
    operator::{
        EditRunner, NewRunner, Page, Part, RunnerStatus, RunnerView, ShownOnce, TicketIssued, TrailView, path,
    },
};
use remit_signing::ticket::Ticket;
use zeroize::Zeroizing;

use super::part;
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Asked, Json, Place},
    },
    scheduler::RunnerLoad,
    store::{self, NewTicket, Runner, RunnerChange},
};

/// How long a ticket is good.
const TICKET: Span = Span::from_secs(3600);
/// Where a runner's host keeps its state, unless its owner wants it elsewhere.
const STATE: &str = "/var/lib/remit-runner";

/// Every runner, by name.
#[utoipa::path(get, path = path::RUNNERS, tag = "runners", params(Part), responses((status = 200, body = Page<RunnerView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Asked(asked): Asked<Part>,
) -> Result<Json<Page<RunnerView>>, Failure> {
    let all = app.store.runners().await?;
    Ok(Json(part(&all, &asked, |runner| runner.name.to_string(), |runner| Ok(view(&app, runner)))?))
}

/// Makes a runner. Its one-use ticket is in this answer and nowhere else.
#[utoipa::path(post, path = path::RUNNERS, tag = "runners", request_body = NewRunner, responses((status = 201, body = TicketIssued)))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<NewRunner>,
) -> Result<(StatusCode, Json<TicketIssued>), Failure> {
    let now = app.now();
    let id = RunnerId::from_parts(now, app.random_bits()?);
    let name = new.name.clone();
    let made = store::NewRunner {
        id,
        name: new.name,
        local: new.local,
        tags: new.tags,
        projects: new.projects,
        description: new.description,
        at: now,
    };
    app.store.create_runner(made).await?;
    app.scheduler.runner_changed(id).await?;
    app.audit(caller.name(), "runner.create", &name).await?;
    Ok((StatusCode::CREATED, Json(issue(&app, find(&app, &name).await?).await?)))
}

/// A runner.
#[utoipa::path(get, path = path::RUNNER, tag = "runners", params(("runner" = RunnerName, Path)), responses((status = 200, body = RunnerView)))]
pub(crate) async fn show(
    State(app): State<App>,
    Place(name): Place<RunnerName>,
) -> Result<Json<RunnerView>, Failure> {
    Ok(Json(view(&app, &find(&app, &name).await?)))
}

/// The signed ends of a runner's own record: the longest that was seen under each key that it has had.
#[utoipa::path(get, path = path::RUNNER_TRAIL, tag = "runners", params(("runner" = RunnerName, Path)), responses((status = 200, body = Page<TrailView>)))]
pub(crate) async fn trail(
    State(app): State<App>,
    Place(name): Place<RunnerName>,
) -> Result<Json<Page<TrailView>>, Failure> {
    let runner = find(&app, &name).await?;
    let found = app.store.trails(runner.id).await?;
    let view = |head: store::TrailHead| TrailView {
        entries: head.head.entries,
        at: head.at,
        note: head.note,
        current: runner.key == Some(head.key),
        against: head.against,
    };
    Ok(Json(Page { items: found.into_iter().map(view).collect(), next: None }))
}

/// Changes a runner: what is absent stays.
#[utoipa::path(patch, path = path::RUNNER, tag = "runners", params(("runner" = RunnerName, Path)), request_body = EditRunner, responses((status = 200, body = RunnerView)))]
pub(crate) async fn edit(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(name): Place<RunnerName>,
    Json(edit): Json<EditRunner>,
) -> Result<Json<RunnerView>, Failure> {
    let EditRunner { tags, projects, description, local } = edit;
    let change = RunnerChange { tags, projects, description, local, ..RunnerChange::default() };
    changed(&app, &caller, "runner.edit", &name, change).await
}

/// Lets a runner take work again; a lock is lifted too.
#[utoipa::path(post, path = path::RUNNER_ENABLE, tag = "runners", params(("runner" = RunnerName, Path)), responses((status = 200, body = RunnerView)))]
pub(crate) async fn enable(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(name): Place<RunnerName>,
) -> Result<Json<RunnerView>, Failure> {
    let change = RunnerChange { enabled: Some(true), unlock: true, ..RunnerChange::default() };
    changed(&app, &caller, "runner.enable", &name, change).await
}

/// Gives a runner no more work. What it has it goes on with.
#[utoipa::path(post, path = path::RUNNER_DISABLE, tag = "runners", params(("runner" = RunnerName, Path)), responses((status = 200, body = RunnerView)))]
pub(crate) async fn disable(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(name): Place<RunnerName>,
) -> Result<Json<RunnerView>, Failure> {
    let change = RunnerChange { enabled: Some(false), ..RunnerChange::default() };
    changed(&app, &caller, "runner.disable", &name, change).await
}

/// Takes a runner away. Its identity is never believed again.
#[utoipa::path(delete, path = path::RUNNER, tag = "runners", params(("runner" = RunnerName, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(name): Place<RunnerName>,
) -> Result<StatusCode, Failure> {
    let runner = find(&app, &name).await?;
    app.store.delete_runner(runner.id).await?;
    app.links.forget(runner.id);
    app.scheduler.runner_changed(runner.id).await?;
    app.audit(caller.name(), "runner.delete", &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Issues a new one-use ticket; an unused older one is void.
#[utoipa::path(post, path = path::RUNNER_TICKET, tag = "runners", params(("runner" = RunnerName, Path)), responses((status = 200, body = TicketIssued)))]
pub(crate) async fn ticket(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(name): Place<RunnerName>,
) -> Result<Json<TicketIssued>, Failure> {
    let runner = find(&app, &name).await?;
    app.audit(caller.name(), "runner.ticket", &name).await?;
    Ok(Json(issue(&app, runner).await?))
}

async fn find(app: &App, name: &RunnerName) -> Result<Runner, Failure> {
    app.store.runner_by_name(name).await?.ok_or_else(|| Failure::not_found("runner", name))
}

async fn changed(
    app: &App,
    caller: &Caller,
    action: &str,
    name: &RunnerName,
    change: RunnerChange,
) -> Result<Json<RunnerView>, Failure> {
    let runner = find(app, name).await?;
    let runner = app.store.change_runner(runner.id, change).await?;
    app.scheduler.runner_changed(runner.id).await?;
    app.audit(caller.name(), action, name).await?;
    Ok(Json(view(app, &runner)))
}

async fn issue(app: &App, mut runner: Runner) -> Result<TicketIssued, Failure> {
    let now = app.now();
    let seed = Zeroizing::new(app.random::<32>()?);
    let id = TicketId::from_parts(now, app.random_bits()?);
    let identity = &app.identity;
    let ticket = Ticket::new(id, &seed, identity.authority, &identity.answer_key.public());
    let expires = now.plus(TICKET.duration());
    let kept = NewTicket { id, runner: runner.id, key: *ticket.public().as_bytes(), expires };
    app.store.create_ticket(kept).await?;
    runner.ticket_expires = Some(expires);
    let text = ticket.to_text();
    let url = identity.url.clone();
    let enrol = format!("echo {} | remit-runner enrol --url {url} --state {STATE}", text.as_str());
    Ok(TicketIssued {
        ticket: ShownOnce::new(text.to_string()),
        id,
        expires,
        url,
        enrol: ShownOnce::new(enrol),
        runner: view(app, &runner),
    })
}

fn view(app: &App, runner: &Runner) -> RunnerView {
    let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    // The scheduler knows every runner; one that was made this instant it may not have heard of yet.
    let load = app.scheduler.runner_load(runner.id).unwrap_or(RunnerLoad {
        status: RunnerStatus::Expected,
        seen: None,
        attempts: 0,
        free: 0,
    });
    RunnerView {
        id: runner.id,
        name: runner.name.clone(),
        description: runner.description.clone(),
        tags: runner.tags.clone(),
        projects: runner.projects.clone(),
        local: runner.local,
        status: load.status,
        created: runner.created,
        last_seen: load.seen.or(runner.seen),
        version: told(&runner.version),
        hostname: told(&runner.hostname),
        features: runner.features.clone(),
        slots: runner.slots,
        free: load.free,
        attempts: load.attempts,
        ticket_expires: runner.ticket_expires,
    }
}
