//! How long things are kept: logs of executions that are both old and not among the newest of their job; executions, as the
//! settings of their project say, and their artifacts; blobs that nothing names; idempotency keys, deliveries and notices.

use std::{collections::HashMap, time::Duration};

use remit_protocol::{ExecutionId, JobName, ProjectName, Timestamp, operator::History};

use crate::{
    config::Keep,
    courier,
    store::{BlobError, ExecutionFilter, LogError, MAX_PAGE, Store, StoreError},
};

/// How long a trigger may be repeated under its idempotency key and still means the same execution.
const KEYS: u64 = 7 * DAY;
/// How long deliveries of webhooks are known: much longer than their times are believed, should clocks go wrong.
const DELIVERIES: u64 = 7 * DAY;
/// How long bytes may be here before anything names them: a runner that was away reports late.
const BLOB_GRACE: Duration = Duration::from_secs(7 * 86_400);
/// Milliseconds.
const DAY: u64 = 86_400_000;

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The logs.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The blobs.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Removes what is not to be kept at `now`. Gives the number of the logs that `keep` does not ask to keep.
///
/// # Errors
/// The store's; what was removed before stays removed.
pub async fn sweep(store: &Store, keep: Keep, now: Timestamp) -> Result<u64, RetentionError> {
    let before =
        |age: u64| ExecutionId::from_parts(Timestamp::from_millis(now.as_millis().saturating_sub(age)), 0);
    store.forget_keys(before(KEYS)).await?;
    for project in store.projects().await? {
        let gone = sweep_project(store, &project.name, project.settings.history, now).await?;
        let days = u64::from(project.settings.history.artifacts);
        let old = Timestamp::from_millis(now.as_millis().saturating_sub(days * DAY));
        let artifacts = store.forget_artifacts(&project.name, old).await?;
        if artifacts > 0 {
            tracing::info!(project = %project.name, artifacts, "artifacts were forgotten, as the project's settings ask");
        }
        if gone > 0 {
            tracing::info!(project = %project.name, gone, "executions were forgotten, as the project's settings ask");
        }
    }
    // In this order: what is put while this goes on is young.
    let used = store.blobs_in_use().await?;
    let removed = store.blobs().sweep(used, now, BLOB_GRACE).await?;
    if removed > 0 {
        tracing::info!(removed, "blobs that nothing names were removed");
    }
    store.forget_notices(courier::forgotten_before(now)).await?;
    let old = now.as_millis().saturating_sub(DELIVERIES);
    store.forget_deliveries(Timestamp::from_millis(old)).await?;
    let mut newest: HashMap<(ProjectName, JobName), Option<ExecutionId>> = HashMap::new();
    let mut removed = 0;
    let mut before = before(u64::from(keep.days) * DAY);
    loop {
        let filter = ExecutionFilter {
            before: Some(before),
            sources: true,
            limit: MAX_PAGE,
            ..ExecutionFilter::default()
        };
        let page = store.executions(filter).await?;
        let Some(last) = page.last() else { return Ok(removed) };
        before = last.id;
        let mut all_gone = true;
        for execution in page.iter().filter(|execution| execution.state.is_final()) {
            let job = (execution.project.clone(), execution.job.clone());
            let oldest_kept = match newest.get(&job) {
                Some(known) => *known,
                None => {
                    let found = oldest_kept(store, &job, keep.at_least).await?;
                    newest.insert(job, found);
                    found
                }
            };
            if oldest_kept.is_some_and(|kept| execution.id >= kept) {
                all_gone = false;
            } else if store.logs().remove(execution.id).await? {
                removed += 1;
                all_gone = false;
            }
        }
        // Behind a page without any log lie those that earlier sweeps went through.
        if all_gone {
            return Ok(removed);
        }
    }
}

/// The oldest of the newest `at_least` executions of a job: it and all after it are kept.
async fn oldest_kept(
    store: &Store,
    (project, job): &(ProjectName, JobName),
    at_least: u32,
) -> Result<Option<ExecutionId>, StoreError> {
    let filter = ExecutionFilter {
        project: Some(project.clone()),
        job: Some(job.clone()),
        sources: true,
        limit: at_least.min(MAX_PAGE),
        ..ExecutionFilter::default()
    };
    Ok(store.executions(filter).await?.last().map(|execution| execution.id))
}
/// How many executions are forgotten in one transaction.
const BATCH: usize = 100;

/// Forgets the executions of a project that its settings do not ask to keep; gives their number.
async fn sweep_project(
    store: &Store,
    project: &ProjectName,
    history: History,
    now: Timestamp,
) -> Result<u64, RetentionError> {
    let old = ExecutionId::from_parts(
        Timestamp::from_millis(now.as_millis().saturating_sub(u64::from(history.days) * DAY)),
        0,
    );
    let mut kept = Kept { history, old, jobs: HashMap::new(), count: 0, logs: 0 };
    let (mut before, mut gone) = (None, 0);
    loop {
        let filter = ExecutionFilter {
            project: Some(project.clone()),
            before,
            sources: true,
            limit: MAX_PAGE,
            ..ExecutionFilter::default()
        };
        let page = store.executions(filter).await?;
        let Some(last) = page.last() else { return Ok(gone) };
        before = Some(last.id);
        let mut over = Vec::new();
        for execution in &page {
            let logs = store.logs().size(execution.id).await?;
            if execution.state.is_final() && !kept.keeps(execution.id, &execution.job, logs) {
                over.push(execution.id);
            }
        }
        for batch in over.chunks(BATCH) {
            for id in store.forget_executions(batch.to_vec()).await? {
                store.logs().remove(id).await?;
                gone += 1;
            }
        }
    }
}

/// What is kept so far, from the newest execution back.
struct Kept {
    history: History,
    /// Executions before this one are too old.
    old: ExecutionId,
    jobs: HashMap<JobName, u32>,
    count: u32,
    logs: u64,
}

impl Kept {
    /// Whether this one, the next older that has ended, is kept.
    fn keeps(&mut self, id: ExecutionId, job: &JobName, logs: u64) -> bool {
        let of_job = self.jobs.entry(job.clone()).or_default();
        let young = id >= self.old || *of_job < self.history.keep;
        let fits =
            self.count < self.history.most && self.logs.saturating_add(logs) <= self.history.logs.bytes();
        if young && fits {
            *of_job += 1;
            self.count += 1;
            self.logs += logs;
        }
        young && fits
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::Size;

    use super::*;

    #[test]
    fn the_newest_are_kept_by_age_by_number_and_by_size() {
        const NOW: u64 = 100 * DAY;
        /// Executions of one job, the newest first, each with its age in days; every log has 10 bytes.
        fn check(history: History, ages: &[u64], expect: &[bool]) {
            let id = |age: u64| ExecutionId::from_parts(Timestamp::from_millis(NOW - age * DAY), 1);
            let mut kept =
                Kept { history, old: id(u64::from(history.days)), jobs: HashMap::new(), count: 0, logs: 0 };
            let job: JobName = "a".parse().unwrap();
            let found: Vec<bool> = ages.iter().map(|age| kept.keeps(id(*age), &job, 10)).collect();
            assert_eq!(found, expect, "{history:?}");
        }
        let history = History { days: 30, keep: 0, ..History::default() };
        check(history, &[1, 29, 31, 90], &[true, true, false, false]);
        check(History { keep: 3, ..history }, &[1, 29, 31, 90], &[true, true, true, false]);
        check(History { most: 1, keep: 3, ..history }, &[1, 2, 3], &[true, false, false]);
        check(History { logs: Size::from_bytes(25), ..history }, &[1, 2, 3], &[true, true, false]);
    }
}
