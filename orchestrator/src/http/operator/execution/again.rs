//! Executions that go back to an earlier one: rerun and resume.

use axum::{Extension, extract::State, http::StatusCode};
use remit_protocol::{
    ExecutionId,
    operator::{Again, NodeFate, Plan, ProjectRole, Repeat, Rerun, Resume, Triggered, path},
};

use super::super::job::plan_of;
use crate::{
    execution::Purpose,
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Json, Place},
    },
    scheduler,
};

/// Runs the job of an execution again, on the nodes that did not end well.
#[utoipa::path(post, path = path::EXECUTION_RERUN, tag = "executions", params(("execution" = ExecutionId, Path)), request_body = Rerun, responses((status = 201, body = Triggered), (status = 200, body = Triggered)))]
pub(crate) async fn rerun(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(id): Place<ExecutionId>,
    Json(asked): Json<Rerun>,
) -> Result<(StatusCode, Json<Triggered>), Failure> {
    let trigger = wanted(&app, &caller, id, asked).await?;
    begin(&app, &caller, ("execution.rerun", id), trigger).await
}

/// Says what a rerun would be, without running it: to look at it, or to sign it.
#[utoipa::path(post, path = path::EXECUTION_RERUN_PLAN, tag = "executions", params(("execution" = ExecutionId, Path)), request_body = Rerun, responses((status = 200, body = Plan)))]
pub(crate) async fn rerun_plan(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(id): Place<ExecutionId>,
    Json(asked): Json<Rerun>,
) -> Result<Json<Plan>, Failure> {
    let trigger = wanted(&app, &caller, id, asked).await?;
    let drafted = app.scheduler.draft(&trigger).await?;
    plan_of(&app, drafted).await.map(Json)
}

/// Goes on with an execution that ended badly, from its first step that did.
#[utoipa::path(post, path = path::EXECUTION_RESUME, tag = "executions", params(("execution" = ExecutionId, Path)), request_body = Resume, responses((status = 201, body = Triggered), (status = 200, body = Triggered)))]
pub(crate) async fn resume(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(id): Place<ExecutionId>,
    Json(Resume { runner_tags, idempotency_key }): Json<Resume>,
) -> Result<(StatusCode, Json<Triggered>), Failure> {
    let trigger = of(&app, &caller, id, Repeat::Resume).await?;
    let trigger = scheduler::Trigger { runner_tags, idempotency_key, ..trigger };
    begin(&app, &caller, ("execution.resume", id), trigger).await
}

async fn wanted(
    app: &App,
    caller: &Caller,
    id: ExecutionId,
    asked: Rerun,
) -> Result<scheduler::Trigger, Failure> {
    let Rerun { mut nodes, runner_tags, idempotency_key, signed } = asked;
    if nodes.is_empty() {
        nodes.extend(NodeFate::USUAL);
    }
    let trigger = of(app, caller, id, Repeat::Rerun { nodes }).await?;
    Ok(scheduler::Trigger { runner_tags, idempotency_key, signed, ..trigger })
}

async fn of(
    app: &App,
    caller: &Caller,
    execution: ExecutionId,
    how: Repeat,
) -> Result<scheduler::Trigger, Failure> {
    let record = app.store.execution(execution).await?;
    let head = record.ok_or_else(|| Failure::not_found("execution", execution))?.head;
    if head.purpose == Purpose::Command {
        // Who may run jobs may not run commands, also not again.
        caller.in_project(&head.project, ProjectRole::Editor)?;
    }
    let by = caller.name().to_string();
    let again = Some(Again { execution, how });
    Ok(scheduler::Trigger { again, ..scheduler::Trigger::of(head.project, head.job, Default::default(), by) })
}

async fn begin(
    app: &App,
    caller: &Caller,
    (action, earlier): (&str, ExecutionId),
    trigger: scheduler::Trigger,
) -> Result<(StatusCode, Json<Triggered>), Failure> {
    let project = trigger.project.clone();
    let triggered = app.scheduler.trigger(trigger).await?;
    app.tokens.execution_of(triggered.execution, &project);
    app.metrics.triggered.add(i64::from(triggered.new));
    if triggered.new {
        app.audit(caller.name(), action, format!("{earlier} as {}", triggered.execution)).await?;
    }
    let status = if triggered.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Triggered { execution: triggered.execution, created: triggered.new })))
}
