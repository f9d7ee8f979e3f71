//! Executions: listed, shown, read node by node and line by line, cancelled, decided.

mod again;
mod view;

use axum::{Extension, extract::State};
use remit_protocol::{
    ExecutionId, NodeIndex, Outcome, SectionNumber, StepIndex,
    operator::{
        Answer, Cancel, Decide, ExecutionQuery, ExecutionSummary, ExecutionView, LogPage, LogQuery, MAX_PAGE,
        NodeResult, NodesQuery, Page, QueueEntry, QueueQuery, SectionState, path,
    },
};

use crate::{
    execution,
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Asked, Json, Place},
    },
    scheduler::Reason,
    store::{ExecutionFilter, LogFilter, LogLine, ResultFilter},
};

pub(crate) use again::{__path_rerun, __path_rerun_plan, __path_resume, rerun, rerun_plan, resume};
pub(in crate::http) use view::{Known, does, names, shown, summary};

/// Longest note of an approver.
const MAX_NOTE: usize = 64 << 10;
/// Longest reason for a no.
const MAX_WHY: usize = 1 << 10;

/// Executions that the caller may see, the newest first.
#[utoipa::path(get, path = path::EXECUTIONS, tag = "executions", params(ExecutionQuery), responses((status = 200, body = Page<ExecutionSummary>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<ExecutionQuery>,
) -> Result<Json<Page<ExecutionSummary>>, Failure> {
    let limit = asked.entries();
    let before = asked.after.as_deref().map(str::parse::<ExecutionId>).transpose();
    let before = before.map_err(|error| Failure::invalid(format!("`after`: {error}."), ""))?;
    let filter = ExecutionFilter {
        project: caller.limited_to(asked.project)?,
        job: asked.job,
        state: asked.state,
        outcome: asked.outcome,
        before,
        limit,
        ..ExecutionFilter::default()
    };
    let found = app.store.executions(filter).await?;
    let full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = found.last().filter(|_| full).map(|last| last.id.to_string());
    Ok(Json(Page { items: found.iter().map(|one| summary(&app, one)).collect(), next }))
}

/// An execution with its sections and steps.
#[utoipa::path(get, path = path::EXECUTION, tag = "executions", params(("execution" = ExecutionId, Path)), responses((status = 200, body = ExecutionView)))]
pub(crate) async fn show(
    State(app): State<App>,
    Place(id): Place<ExecutionId>,
) -> Result<Json<ExecutionView>, Failure> {
    let known = Known::read(&app, id).await?;
    Ok(Json(view::view(&app, &known).await?))
}

/// What a node step came to, node by node.
#[utoipa::path(get, path = path::EXECUTION_NODES, tag = "executions",
    params(("execution" = ExecutionId, Path), ("step" = StepIndex, Path), NodesQuery), responses((status = 200, body = Page<NodeResult>)))]
pub(crate) async fn nodes(
    State(app): State<App>,
    Place((id, step)): Place<(ExecutionId, StepIndex)>,
    Asked(asked): Asked<NodesQuery>,
) -> Result<Json<Page<NodeResult>>, Failure> {
    let known = Known::read(&app, id).await?;
    known.step(step).ok_or_else(|| Failure::not_found("step", step))?;
    let Some(set) = &known.nodes else { return Ok(Json(Page { items: Vec::new(), next: None })) };
    let after = asked.after.as_deref().map(str::parse::<u32>).transpose();
    let after = after.map_err(|_| Failure::invalid("`after` is not a number.", ""))?;
    let limit = usize::try_from(asked.entries()).unwrap_or(usize::MAX);
    // A node without a result is open while its step goes on, and was not begun once it ended.
    let rest = known.record.steps.get(&step).copied().map(view::unreported);
    let bare = rest.map_or("open", Outcome::kind);
    let open = asked.outcome.as_deref() == Some(bare);
    let mut items = Vec::new();
    // Nodes come by their place. Those with a result come from the store; the others lie between them.
    let mut place = after.map_or(0, |after| after.saturating_add(1));
    let count = u32::try_from(set.nodes.len()).unwrap_or(u32::MAX);
    while items.len() <= limit && place < count {
        let wanted = ResultFilter {
            step: Some(step),
            outcome: asked.outcome.clone().filter(|_| !open),
            per_node: Some(true),
            after: place.checked_sub(1).map(|before| (Some(NodeIndex(before)), StepIndex(u32::MAX))),
            limit: crate::store::MAX_PAGE,
            ..ResultFilter::default()
        };
        let found = app.store.results(id, wanted).await?;
        let last = found.len() < usize::try_from(crate::store::MAX_PAGE).unwrap_or(usize::MAX);
        for result in found {
            let Some(NodeIndex(index)) = result.ended.node else { continue };
            if asked.outcome.is_none() || open {
                items.extend((place..index).filter_map(|index| waiting(set, index, rest)));
            }
            place = index.saturating_add(1);
            let wanted = asked.outcome.as_deref().is_none_or(|kind| kind == result.ended.outcome.kind());
            if wanted && let Some(item) = waiting(set, index, rest) {
                let outcome = Some(result.ended.outcome);
                items.push(NodeResult { outcome, run: Some(view::run(result.ended)), ..item });
            }
            if items.len() > limit {
                break;
            }
        }
        if last && items.len() <= limit {
            if asked.outcome.is_none() || open {
                let room = u32::try_from(limit + 1 - items.len()).unwrap_or(u32::MAX);
                let end = count.min(place.saturating_add(room));
                items.extend((place..end).filter_map(|index| waiting(set, index, rest)));
            }
            break;
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.index.0.to_string());
    Ok(Json(Page { items, next }))
}

/// A node without a result.
fn waiting(set: &remit_protocol::node::NodeSet, index: u32, outcome: Option<Outcome>) -> Option<NodeResult> {
    let node = set.nodes.get(usize::try_from(index).unwrap_or(usize::MAX))?;
    Some(NodeResult { index: NodeIndex(index), node: node.name.clone(), outcome, run: None })
}

/// The log, from any entry on.
#[utoipa::path(get, path = path::EXECUTION_LOG, tag = "executions", params(("execution" = ExecutionId, Path), LogQuery), responses((status = 200, body = LogPage)))]
pub(crate) async fn log(
    State(app): State<App>,
    Place(id): Place<ExecutionId>,
    Asked(asked): Asked<LogQuery>,
) -> Result<Json<LogPage>, Failure> {
    // Read before the log: what is final then has all its entries.
    let known = Known::read(&app, id).await?;
    let limit = usize::try_from(asked.entries()).unwrap_or(usize::MAX);
    let filter = LogFilter { step: asked.step, node: asked.node, attempt: None };
    let page = app.store.logs().page(id, asked.from.unwrap_or(1), limit, filter).await?;
    let complete = page.end && known.outcome().is_some();
    let lines = page.entries.into_iter().filter_map(|line| log_line(&known, line)).collect();
    Ok(Json(LogPage { lines, next: page.next, complete }))
}

/// An entry with the names of its step and node. A step that the document does not have is left out.
pub(in crate::http) fn log_line(known: &Known, line: LogLine) -> Option<remit_protocol::operator::LogLine> {
    let step = known.step(line.entry.step)?;
    let node = line
        .entry
        .node
        .and_then(|node| known.nodes.as_ref()?.nodes.get(usize::try_from(node.0).unwrap_or(usize::MAX)));
    Some(remit_protocol::operator::LogLine {
        number: line.number,
        step_name: step.name.clone(),
        node_name: node.map(|node| node.name.clone()),
        cut: line.cut.is_some(),
        entry: line.entry,
    })
}

/// Cancels an execution.
#[utoipa::path(post, path = path::EXECUTION_CANCEL, tag = "executions", params(("execution" = ExecutionId, Path)), request_body = Cancel, responses((status = 200, body = ExecutionSummary)))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(id): Place<ExecutionId>,
    Json(cancel): Json<Cancel>,
) -> Result<Json<ExecutionSummary>, Failure> {
    app.scheduler.cancel(id, cancel.mode, caller.name().as_str()).await?;
    app.audit(caller.name(), "execution.cancel", format!("{id} {:?}", cancel.mode)).await?;
    Ok(Json(Known::read(&app, id).await?.summary(&app)))
}

/// Agrees at a gate, or refuses.
#[utoipa::path(post, path = path::EXECUTION_ANSWER, tag = "executions",
    params(("execution" = ExecutionId, Path), ("section" = SectionNumber, Path)), request_body = Answer, responses((status = 200, body = ExecutionSummary)))]
pub(crate) async fn answer(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((id, section)): Place<(ExecutionId, SectionNumber)>,
    Json(Answer { agrees, note, why }): Json<Answer>,
) -> Result<Json<ExecutionSummary>, Failure> {
    if note.as_ref().is_some_and(|note| note.len() > MAX_NOTE) || why.len() > MAX_WHY {
        let message = format!("a note has at most {MAX_NOTE} bytes, a reason {MAX_WHY}.");
        return Err(Failure::invalid(message, "make it shorter"));
    }
    let by = caller.name().to_string();
    app.scheduler.at_gate(id, execution::Answer { section, agrees, by, note, why }).await?;
    let what = if agrees { "execution.approve" } else { "execution.deny" };
    app.audit(caller.name(), what, format!("{id} {section}")).await?;
    Ok(Json(Known::read(&app, id).await?.summary(&app)))
}

/// Decides what becomes of a section that is held in doubt.
#[utoipa::path(post, path = path::EXECUTION_DECIDE, tag = "executions",
    params(("execution" = ExecutionId, Path), ("section" = SectionNumber, Path)), request_body = Decide, responses((status = 200, body = ExecutionSummary)))]
pub(crate) async fn decide(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((id, section)): Place<(ExecutionId, SectionNumber)>,
    Json(decide): Json<Decide>,
) -> Result<Json<ExecutionSummary>, Failure> {
    app.scheduler.decide(id, section, decide.decision, caller.name().as_str()).await?;
    app.audit(caller.name(), "execution.decide", format!("{id} {section} {:?}", decide.decision)).await?;
    Ok(Json(Known::read(&app, id).await?.summary(&app)))
}

/// What waits, and why.
#[utoipa::path(get, path = path::QUEUE, tag = "executions", params(QueueQuery), responses((status = 200, body = Page<QueueEntry>)))]
pub(crate) async fn queue(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<QueueQuery>,
) -> Result<Json<Page<QueueEntry>>, Failure> {
    let project = caller.limited_to(asked.project)?;
    let limit = usize::try_from(MAX_PAGE).unwrap_or(usize::MAX);
    let waiting = app.scheduler.queue(project.as_ref(), limit).into_iter();
    let items = waiting.map(|(one, project, job)| QueueEntry {
        execution: one.execution,
        project,
        job,
        section: one.section,
        state: if matches!(one.reason, Reason::Person(_)) { SectionState::Held } else { SectionState::Ready },
        since: one.since,
        reason: one.reason.to_string(),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}
