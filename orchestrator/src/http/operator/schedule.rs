//! Schedules: listed with their next times, paused and resumed. What they are stands in the job files.

use axum::{Extension, extract::State};
use remit_job::schedule::Missed;
use remit_protocol::{
    JobName, ProjectName, ScheduleName,
    operator::{MAX_FIRES, Page, Part, ScheduleQuery, ScheduleView, path},
};

use super::part;
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Asked, Json, Place},
    },
    store::{ScheduleKey, StoredSchedule},
};

/// The schedules of a project's jobs, by job and name.
#[utoipa::path(get, path = path::SCHEDULES, tag = "schedules", params(("project" = ProjectName, Path), ScheduleQuery), responses((status = 200, body = Page<ScheduleView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Place(project): Place<ProjectName>,
    Asked(asked): Asked<ScheduleQuery>,
) -> Result<Json<Page<ScheduleView>>, Failure> {
    super::project::find(&app, &project).await?;
    let all = app.store.schedules(&project, asked.job.as_ref()).await?;
    let fires = asked.fires.unwrap_or(1).min(MAX_FIRES);
    let asked = Part { after: asked.after, limit: asked.limit };
    let key = |stored: &StoredSchedule| format!("{}/{}", stored.job, stored.schedule.name);
    Ok(Json(part(&all, &asked, key, |stored| Ok(view(stored, fires)))?))
}

/// Lets a schedule fire again, from now on.
#[utoipa::path(post, path = path::SCHEDULE_ENABLE, tag = "schedules",
    params(("project" = ProjectName, Path), ("job" = JobName, Path), ("schedule" = ScheduleName, Path)), responses((status = 200, body = ScheduleView)))]
pub(crate) async fn enable(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, job, name)): Place<(ProjectName, JobName, ScheduleName)>,
) -> Result<Json<ScheduleView>, Failure> {
    switch(&app, &caller, ScheduleKey { project, job, name }, true).await
}

/// Stops a schedule from firing. Its times meanwhile are left out, whatever its policy for missed ones.
#[utoipa::path(post, path = path::SCHEDULE_DISABLE, tag = "schedules",
    params(("project" = ProjectName, Path), ("job" = JobName, Path), ("schedule" = ScheduleName, Path)), responses((status = 200, body = ScheduleView)))]
pub(crate) async fn disable(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, job, name)): Place<(ProjectName, JobName, ScheduleName)>,
) -> Result<Json<ScheduleView>, Failure> {
    switch(&app, &caller, ScheduleKey { project, job, name }, false).await
}

async fn switch(
    app: &App,
    caller: &Caller,
    key: ScheduleKey,
    enabled: bool,
) -> Result<Json<ScheduleView>, Failure> {
    if app.store.enable_schedule(key.clone(), enabled, app.now()).await? {
        let action = if enabled { "schedule.enable" } else { "schedule.disable" };
        app.audit(caller.name(), action, format!("{}/{}/{}", key.project, key.job, key.name)).await?;
    }
    let all = app.store.schedules(&key.project, Some(&key.job)).await?;
    let stored = all.iter().find(|stored| stored.schedule.name == key.name);
    let stored = stored.ok_or_else(|| Failure::not_found("schedule", &key.name))?;
    Ok(Json(view(stored, 1)))
}

fn view(stored: &StoredSchedule, fires: u32) -> ScheduleView {
    let schedule = &stored.schedule;
    let (missed, most) = match schedule.missed {
        Missed::Skip => ("skip", None),
        Missed::Once => ("once", None),
        Missed::All(most) => ("all", Some(most)),
    };
    let fires = usize::try_from(fires).unwrap_or(usize::MAX);
    let next = std::iter::successors(stored.next, |at| schedule.next(*at)).take(fires);
    ScheduleView {
        job: stored.job.clone(),
        name: schedule.name.clone(),
        cron: schedule.cron.to_string(),
        zone: schedule.zone.to_string(),
        missed: missed.to_owned(),
        most,
        options: schedule.options.clone(),
        enabled: stored.enabled,
        next: if stored.enabled { next.collect() } else { Vec::new() },
        execution: stored.execution,
        error: stored.error.clone(),
    }
}
