//! Jobs: applied, listed, shown, deleted, run.

use std::collections::{HashMap, HashSet};

use axum::{Extension, extract::State, http::StatusCode};
use remit_job::{
    compile::{ResolvedComponent, compile},
    document::{Action, ComponentAction, Document, Per, Step},
    source::{JobSource, StepSource},
    widened::widened,
};
use remit_protocol::{
    ComponentSelector, JobName, ProjectName, StepName, Timestamp, digest,
    endpoint::Fault,
    limits::MAX_NODE_SET,
    manifest::Manifest,
    operator::{
        Applied, Apply, ApplyMode, Change, Command, JobOptions, JobSummary, JobView, LATEST_START,
        OptionsAsked, Page, Part, Plan, PlannedComponent, PlannedNodes, PlannedRunner, PlannedSecret,
        PlannedStep, SignedJob, Trigger, Triggered, Wider, path,
    },
};
use remit_signing::{
    job::JobNote,
    note::{NoteKind, UnverifiedNote},
};
use serde_json::Value;

use super::execution::does;
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Asked, Json, Place},
    },
    scheduler,
    store::{Job, NewRevision},
};

/// Most sentences about what runners lack for a job.
const MAX_TOLD: usize = 20;

/// Compiles a job file and saves it as the job's newest revision.
#[utoipa::path(post, path = path::JOBS, tag = "jobs", params(("project" = ProjectName, Path)), request_body = Apply, responses((status = 200, body = Applied)))]
pub(crate) async fn apply(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(project): Place<ProjectName>,
    Json(apply): Json<Apply>,
) -> Result<Json<Applied>, Failure> {
    super::project::find(&app, &project).await?;
    let source = JobSource::from_slice(apply.source.as_bytes()).map_err(faults)?;
    let components = match &apply.signed {
        Some(signed) => pinned(&app, &source, signed).await?,
        None => resolve(&app, &source).await?,
    };
    let document = compile(&source, &project, &|selector| components.get(&selector.to_string()).cloned());
    let document = document.map_err(faults)?;
    if document.job.as_str() == Command::JOB {
        let mut fault = Fault {
            line: None,
            column: None,
            place: "job".to_owned(),
            message: format!("executions of commands are called {}, and no job can be", Command::JOB),
            remedy: "choose another name".to_owned(),
        };
        source.locate(&mut fault);
        return Err(faults(vec![fault]));
    }
    family(&app, &document).await?;
    let over = over(&source, &document, app.now());
    if !over.is_empty() {
        return Err(faults(over));
    }
    let bytes = document.to_vec();
    if let Some(signed) = &apply.signed {
        check_signed(signed, &document, &bytes)?;
    }
    let known = app.store.job(&project, &document.job, None).await?;
    let wider = match &known {
        Some(job) => {
            let before = app.scheduler.document(job.document).await?;
            widened(&document, &before)
        }
        None => Vec::new(),
    };
    let wider: Vec<Wider> =
        wider.into_iter().map(|grown| Wider { step: grown.step, permission: grown.permission }).collect();
    if !wider.is_empty() && !apply.accept_wider && apply.mode == ApplyMode::Save {
        return Err(Failure::wider(wider.iter().map(wider_fault).collect()));
    }
    let missing = missing(&app, &project, &document).await?;
    let made = Made { project, document, bytes, wider, missing, known };
    save(&app, &caller, made, apply).await.map(Json)
}

/// Why the runners that could be chosen cannot run a step, a sentence each: it will be refused, unless its owner changes
/// the ceiling.
async fn missing(app: &App, project: &ProjectName, document: &Document) -> Result<Vec<String>, Failure> {
    let runners = super::node::chosen(app, project, document).await?;
    let of_step = |step: &Step| {
        let sentences =
            step.components().flat_map(|component| super::node::lacking(&runners, &component.grant));
        sentences.map(|sentence| format!("Step {}: {sentence}", step.name)).collect::<Vec<_>>()
    };
    Ok(document.steps.iter().flat_map(of_step).take(MAX_TOLD).collect())
}

/// Schedules whose times are all over: they would never fire.
fn over(source: &JobSource, document: &Document, now: Timestamp) -> Vec<Fault> {
    let schedules = document.schedules.iter().enumerate();
    let over = schedules.filter(|(_, schedule)| schedule.next(now).is_none());
    over.map(|(at, schedule)| {
        let mut fault = Fault {
            line: None,
            column: None,
            place: format!("schedules[{at}].cron"),
            message: format!("\"{}\" never fires any more: its times are over", schedule.cron),
            remedy: "correct the year, or remove the schedule".to_owned(),
        };
        source.locate(&mut fault);
        fault
    })
    .collect()
}

/// A job that was compiled and compared.
struct Made {
    project: ProjectName,
    document: Document,
    bytes: Vec<u8>,
    wider: Vec<Wider>,
    missing: Vec<String>,
    known: Option<Job>,
}

async fn save(app: &App, caller: &Caller, made: Made, apply: Apply) -> Result<Applied, Failure> {
    let Made { project, document, bytes, wider, missing, known } = made;
    let digest = digest::Sized::of(&bytes);
    let value: Value = serde_json::from_slice(&bytes).map_err(Failure::internal)?;
    let newest = known.as_ref().map(|job| job.revision);
    let (revision, change) = match apply.mode {
        ApplyMode::Check => (newest.unwrap_or_default().next(), Change::Checked),
        ApplyMode::Save => {
            if known.is_none() {
                let quota = super::project::find(app, &project).await?.settings.quotas.jobs;
                if app.store.count_jobs(&project).await? >= quota {
                    return Err(Failure::quota(&format!("{quota} jobs")));
                }
            }
            // The bytes first: nothing names a document that is not there.
            app.store.blobs().put(bytes).await.map_err(Failure::blob)?;
            let note = apply.signed.map(|signed| signed.note);
            if let Some(note) = &note {
                app.registry.log().append(note.as_bytes()).await?;
            }
            let saved = app
                .store
                .save_job(NewRevision {
                    project: project.clone(),
                    job: document.job.clone(),
                    document: digest,
                    note,
                    source: apply.source,
                    group: document.group.clone(),
                    description: document.description.clone(),
                    schedules: document.schedules.clone(),
                    by: caller.name().to_string(),
                    at: app.now(),
                })
                .await?;
            let change = match (saved.new, newest) {
                (false, _) => Change::Unchanged,
                (true, None) => Change::Created,
                (true, Some(_)) => Change::Updated,
            };
            if saved.new {
                let target = format!("{project}/{} {}", document.job, saved.revision);
                app.audit(caller.name(), "job.save", target).await?;
            }
            (saved.revision, change)
        }
    };
    Ok(Applied { project, job: document.job, revision, change, digest, document: value, wider, missing })
}

/// The published components that the steps of a job select, by what the job writes.
pub(super) async fn resolve(
    app: &App,
    source: &JobSource,
) -> Result<HashMap<String, ResolvedComponent>, Failure> {
    let mut components = HashMap::new();
    for (_, own) in source.steps.iter().flat_map(StepSource::components) {
        let called = own.uses.to_string();
        if !components.contains_key(&called)
            && let Some(component) = select(app, &own.uses).await?
        {
            components.insert(called, component);
        }
    }
    Ok(components)
}

/// The components that a signed document pins, by what the job writes: the newest ones may be others by now.
async fn pinned(
    app: &App,
    source: &JobSource,
    signed: &SignedJob,
) -> Result<HashMap<String, ResolvedComponent>, Failure> {
    let document = Document::from_slice(signed.document.as_bytes()).map_err(|invalid| faults(invalid.0))?;
    let mut components = HashMap::new();
    let written = source.steps.iter().flat_map(StepSource::components);
    for ((_, own), action) in written.zip(document.steps.iter().flat_map(Step::components)) {
        let Some(found) = app.store.component_by_digest(action.digest).await? else { continue };
        if found.name == action.name && found.version == action.version {
            let manifest = Manifest::from_slice(found.manifest.as_bytes()).map_err(Failure::internal)?;
            let component = ResolvedComponent { version: found.version, digest: found.digest, manifest };
            components.insert(own.uses.to_string(), component);
        }
    }
    Ok(components)
}

/// Checks that what was signed is what the source says, so that nobody reads one job and runs another. Whether the
/// signatures are good is for runners to say.
fn check_signed(signed: &SignedJob, document: &Document, bytes: &[u8]) -> Result<(), Failure> {
    let differs = |what: &str| {
        let fault = Fault {
            line: None,
            column: None,
            place: "signed".to_owned(),
            message: what.to_owned(),
            remedy: "sign it again: remit job sign".to_owned(),
        };
        Err(faults(vec![fault]))
    };
    if signed.document.as_bytes() != bytes {
        return differs("the job file is not what was signed");
    }
    let note = UnverifiedNote::parse_as(NoteKind::Job, signed.note.as_bytes());
    let note = match note.and_then(|note| JobNote::parse(&note)) {
        Ok(note) => note,
        Err(refusal) => return differs(&refusal.to_string()),
    };
    if !note.definition.is(bytes) || note.name.project != document.project || note.name.job != document.job {
        return differs("the note is about another job document");
    }
    Ok(())
}

/// Checks that the jobs that a job runs are there, and that none of them comes back to it.
async fn family(app: &App, document: &Document) -> Result<(), Failure> {
    let run = |document: &Document| -> Vec<(StepName, JobName)> {
        let jobs = document.steps.iter().filter_map(|step| match &step.action {
            Action::Job(job) => Some((step.name.clone(), job.job.clone())),
            Action::Component(_) | Action::Gate(_) | Action::Halt(_) => None,
        });
        jobs.collect()
    };
    let mut seen: HashSet<JobName> = HashSet::new();
    for (step, first) in run(document) {
        let wrong = |message: String, remedy: &str| {
            let fault = Fault {
                line: None,
                column: None,
                place: format!("steps.{step}.job"),
                message,
                remedy: remedy.to_owned(),
            };
            Err(faults(vec![fault]))
        };
        let mut ways = vec![vec![first]];
        while let Some(way) = ways.pop() {
            let Some(last) = way.last() else { continue };
            let shown = || {
                let names: Vec<&str> =
                    std::iter::once(&document.job).chain(&way).map(JobName::as_str).collect();
                names.join(" runs ")
            };
            if *last == document.job {
                return wrong(
                    format!("jobs would run one another for ever: {}", shown()),
                    "break the circle",
                );
            }
            if !seen.insert(last.clone()) {
                continue;
            }
            let Some(job) = app.store.job(&document.project, last, None).await? else {
                let message = format!("there is no job {last} in this project ({})", shown());
                return wrong(message, "apply that job first");
            };
            let next = app.scheduler.document(job.document).await?;
            ways.extend(run(&next).into_iter().map(|(_, job)| way.iter().cloned().chain([job]).collect()));
        }
    }
    Ok(())
}

/// The published component that `selector` stands for now.
pub(super) async fn select(
    app: &App,
    selector: &ComponentSelector,
) -> Result<Option<ResolvedComponent>, Failure> {
    let Some(found) = app.store.select_component(selector).await? else { return Ok(None) };
    let manifest = Manifest::from_slice(found.manifest.as_bytes()).map_err(Failure::internal)?;
    Ok(Some(ResolvedComponent { version: found.version, digest: found.digest, manifest }))
}

/// The answer to a job file with mistakes.
fn faults(faults: Vec<Fault>) -> Failure {
    let count = faults.len();
    let places = if count == 1 { "a mistake" } else { "mistakes" };
    Failure::faults(format!("The job was not saved: it has {places}."), faults)
}

fn wider_fault(wider: &Wider) -> Fault {
    Fault {
        line: None,
        column: None,
        place: format!("steps.{}.grant", wider.step),
        message: format!("may now {}", wider.permission),
        remedy: String::new(),
    }
}

/// The jobs of a project, by name.
#[utoipa::path(get, path = path::JOBS, tag = "jobs", params(("project" = ProjectName, Path), Part), responses((status = 200, body = Page<JobSummary>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Place(project): Place<ProjectName>,
    Asked(asked): Asked<Part>,
) -> Result<Json<Page<JobSummary>>, Failure> {
    super::project::find(&app, &project).await?;
    let after = asked.after.as_deref().map(str::parse::<JobName>).transpose();
    let after = after.map_err(|error| Failure::invalid(format!("`after`: {error}."), ""))?;
    let limit = asked.entries();
    // One more than is answered, to know whether there is more.
    let mut found = app.store.jobs(&project, after, limit.saturating_add(1)).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.name.to_string());
    let items = found.into_iter().map(|job| JobSummary {
        project: project.clone(),
        job: job.name,
        group: job.group,
        description: job.description,
        revision: job.revision,
        saved: job.saved,
        saved_by: job.saved_by,
    });
    Ok(Json(Page { items: items.collect(), next }))
}

/// A job: what its author wrote, and the compiled document.
#[utoipa::path(get, path = path::JOB, tag = "jobs", params(("project" = ProjectName, Path), ("job" = JobName, Path)), responses((status = 200, body = JobView)))]
pub(crate) async fn show(
    State(app): State<App>,
    Place((project, name)): Place<(ProjectName, JobName)>,
) -> Result<Json<JobView>, Failure> {
    let job = app.store.job(&project, &name, None).await?;
    let job = job.ok_or_else(|| Failure::not_found("job", &name))?;
    let document = app.scheduler.document(job.document).await?;
    let summary = JobSummary {
        project: job.project,
        job: job.name,
        group: job.group,
        description: job.description,
        revision: job.revision,
        saved: job.saved,
        saved_by: job.saved_by,
    };
    let document = serde_json::to_value(&*document).map_err(Failure::internal)?;
    Ok(Json(JobView { summary, source: job.source, digest: job.document, document, note: job.note }))
}

/// Takes a job away. Its executions stay.
#[utoipa::path(delete, path = path::JOB, tag = "jobs", params(("project" = ProjectName, Path), ("job" = JobName, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, name)): Place<(ProjectName, JobName)>,
) -> Result<StatusCode, Failure> {
    if !app.store.delete_job(&project, &name).await? {
        return Err(Failure::not_found("job", &name));
    }
    app.audit(caller.name(), "job.delete", format!("{project}/{name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs a job.
#[utoipa::path(post, path = path::JOB_EXECUTIONS, tag = "jobs", params(("project" = ProjectName, Path), ("job" = JobName, Path)), request_body = Trigger, responses((status = 201, body = Triggered), (status = 200, body = Triggered)))]
pub(crate) async fn trigger(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, job)): Place<(ProjectName, JobName)>,
    Json(trigger): Json<Trigger>,
) -> Result<(StatusCode, Json<Triggered>), Failure> {
    let mut trigger = wanted(&app, &caller, (project.clone(), job), trigger)?;
    trigger.filter = super::project::saved_filter(&app, &project, trigger.filter).await?;
    let triggered = app.scheduler.trigger(trigger).await?;
    app.tokens.execution_of(triggered.execution, &project);
    app.metrics.triggered.add(i64::from(triggered.new));
    let status = if triggered.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Triggered { execution: triggered.execution, created: triggered.new })))
}

/// Says what a run of a job would be, without running it: to look at it, or to sign it.
#[utoipa::path(post, path = path::JOB_PLAN, tag = "jobs", params(("project" = ProjectName, Path), ("job" = JobName, Path)), request_body = Trigger, responses((status = 200, body = Plan)))]
pub(crate) async fn plan(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, job)): Place<(ProjectName, JobName)>,
    Json(trigger): Json<Trigger>,
) -> Result<Json<Plan>, Failure> {
    let mut trigger = wanted(&app, &caller, (project.clone(), job), trigger)?;
    trigger.filter = super::project::saved_filter(&app, &project, trigger.filter).await?;
    let drafted = app.scheduler.draft(&trigger).await?;
    plan_of(&app, drafted).await.map(Json)
}

/// An execution that would be, as people see it.
pub(super) async fn plan_of(app: &App, drafted: scheduler::Drafted) -> Result<Plan, Failure> {
    let head = drafted.head;
    let nodes = match head.nodes {
        Some(nodes) => {
            let bytes = app.store.blobs().get(nodes.set.digest, MAX_NODE_SET).await.map_err(Failure::blob)?;
            let text = String::from_utf8(bytes.unwrap_or_default()).map_err(Failure::internal)?;
            let before = std::iter::once(0).chain(nodes.tiers.iter().copied());
            let tiers =
                nodes.tiers.iter().zip(before).map(|(end, first)| end.saturating_sub(first)).collect();
            let split_over = Some(nodes.lanes).filter(|lanes| *lanes > 1);
            Some(PlannedNodes { set: nodes.set, text, threads: nodes.threads, tiers, split_over })
        }
        None => None,
    };
    let typed = remit_job::options::typed(&drafted.document.options, &head.options);
    let typed =
        typed.into_iter().map(|(option, path)| PlannedSecret { option: option.clone(), path: path.clone() });
    let typed: Vec<_> = typed.collect();
    let mut notes = match typed.is_empty() {
        true => Default::default(),
        false => app.store.sealing_notes(drafted.runners.iter().map(|(id, ..)| *id).collect()).await?,
    };
    let runners = drafted.runners.into_iter();
    Ok(Plan {
        execution: drafted.id,
        project: head.project,
        job: head.job,
        revision: head.revision,
        definition: head.document,
        options: head.options.text().to_owned(),
        typed,
        nodes,
        runners: runners
            .map(|(id, name, status)| PlannedRunner { id, name, status, sealing: notes.remove(&id) })
            .collect(),
        steps: drafted.document.steps.iter().map(planned).collect(),
    })
}

fn planned(step: &Step) -> PlannedStep {
    let component = |action: &ComponentAction| PlannedComponent {
        component: format!("{}@{}", action.name, action.version),
        digest: action.digest,
        grant: serde_json::to_value(&action.grant).unwrap_or_default(),
        secrets: action.secrets.clone(),
    };
    PlannedStep {
        name: step.name.clone(),
        does: does(step),
        per_node: step.per == Per::Node,
        effect: step.effect(),
        components: step.components().map(component).collect(),
    }
}

/// What the scheduler is asked for.
fn wanted(
    app: &App,
    caller: &Caller,
    (project, job): (ProjectName, JobName),
    trigger: Trigger,
) -> Result<scheduler::Trigger, Failure> {
    let Trigger { mut options, filter, runner_tags, idempotency_key, at, signed, sealed } = trigger;
    let text = signed.as_ref().map(|signed| &signed.options);
    if let Some(text) = text.or(sealed.as_ref().map(|sealed| &sealed.options)) {
        let own = options.is_empty() && filter.is_none();
        options = match serde_json::from_str(text) {
            Ok(text) if own => text,
            _ => {
                let message = "options and nodes of a run that is signed, or for which a secret was typed, are those of its plan.";
                return Err(Failure::invalid(message, "Send neither options nor a filter beside it."));
            }
        };
    }
    if at.is_some_and(|at| at.since(app.now()) > LATEST_START.duration()) {
        let message = format!("`at` is more than {LATEST_START} ahead.");
        return Err(Failure::invalid(message, "Choose an earlier time, or write a schedule into the job."));
    }
    Ok(scheduler::Trigger {
        filter,
        runner_tags,
        idempotency_key,
        not_before: at,
        signed,
        sealed,
        ..scheduler::Trigger::of(project, job, options, caller.name().to_string())
    })
}

/// What the job asks when it is run, and what may be given now.
#[utoipa::path(post, path = path::JOB_OPTIONS, tag = "jobs", params(("project" = ProjectName, Path), ("job" = JobName, Path)), request_body = OptionsAsked, responses((status = 200, body = JobOptions)))]
pub(crate) async fn options(
    State(app): State<App>,
    Place((project, job)): Place<(ProjectName, JobName)>,
    Json(asked): Json<OptionsAsked>,
) -> Result<Json<JobOptions>, Failure> {
    Ok(Json(app.scheduler.options(&project, &job, &asked.options).await?))
}
