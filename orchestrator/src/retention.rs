//! How long things are kept: logs of executions that are both old and not among the newest of their job are removed, and
//! idempotency keys that nobody repeats any more.

use std::collections::HashMap;

use remit_protocol::{ExecutionId, JobName, ProjectName, Timestamp};

use crate::{
    config::Keep,
    courier,
    store::{ExecutionFilter, LogError, MAX_PAGE, Store, StoreError},
};

/// How long a trigger may be repeated under its idempotency key and still means the same execution.
const KEYS: u64 = 7 * DAY;
/// How long deliveries of webhooks are known: much longer than their times are believed, should clocks go wrong.
const DELIVERIES: u64 = 7 * DAY;
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
}

/// Removes what is not to be kept at `now`: old keys, and the logs that `keep` does not ask to keep. Gives the number of the
/// logs.
///
/// # Errors
/// The store's; what was removed before stays removed.
pub async fn sweep(store: &Store, keep: Keep, now: Timestamp) -> Result<u64, RetentionError> {
    let before =
        |age: u64| ExecutionId::from_parts(Timestamp::from_millis(now.as_millis().saturating_sub(age)), 0);
    store.forget_keys(before(KEYS)).await?;
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
