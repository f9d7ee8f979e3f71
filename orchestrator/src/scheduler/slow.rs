//! Executions that take longer than such executions do.

use std::time::Duration;

use remit_protocol::{ExecutionId, JobName, ProjectName, Timestamp, notice::Occasion};

use super::{Scheduler, State};
use crate::{
    execution::{Notice, notice},
    store::StoreError,
};
use remit_job::notify::OVER;

/// An execution of which it is to be told when it takes long.
struct Watched {
    id: ExecutionId,
    project: ProjectName,
    job: JobName,
    began: Timestamp,
}

impl Scheduler {
    /// Makes known which executions take too long by now. Each is told once: the outbox sees to that.
    pub async fn tell_slow(&self) -> Result<(), StoreError> {
        let now = self.now();
        let watched = self.state().watched();
        for one in watched {
            let average = self.average(&one).await?;
            let due = self.state().slow(&one, average, now);
            for notice in due {
                self.store().add_notice(one.id, notice, now).await?;
            }
        }
        Ok(())
    }

    /// How long such executions took, as it was when this one was first looked at.
    async fn average(&self, one: &Watched) -> Result<Option<Duration>, StoreError> {
        if let Some(average) = self.state().averages.get(&one.id) {
            return Ok(*average);
        }
        let average = self.store().average(&one.project, &one.job).await?;
        self.state().averages.insert(one.id, average);
        Ok(average)
    }
}

impl State {
    /// Executions that have begun and of which somebody wants to know when they take long.
    fn watched(&mut self) -> Vec<Watched> {
        let live = &self.live;
        self.averages.retain(|id, _| live.contains_key(id));
        self.told_slow.retain(|id, _| live.contains_key(id));
        let asks = |live: &&crate::execution::Live| {
            live.document.notify.iter().any(|entry| entry.when.contains(&Occasion::Slow))
        };
        let all = self.live.values().filter(asks);
        all.filter_map(|live| {
            Some(Watched {
                id: live.id,
                project: live.head.project.clone(),
                job: live.head.job.clone(),
                began: live.began?,
            })
        })
        .collect()
    }

    /// The notices that are due, each given once.
    fn slow(&mut self, one: &Watched, average: Option<Duration>, now: Timestamp) -> Vec<Notice> {
        let Some(live) = self.live.get(&one.id) else { return Vec::new() };
        let entries = &live.document.notify;
        let taken = now.since(one.began);
        let too_long = |notice: &Notice| {
            let entry = usize::try_from(notice.entry).ok().and_then(|at| entries.get(at));
            let limit = entry.and_then(|entry| entry.over.unwrap_or(OVER).limit(average));
            limit.is_some_and(|limit| taken > limit)
        };
        let told = self.told_slow.entry(one.id).or_default();
        let mut due = notice::about(&live.head, entries, Occasion::Slow, "");
        due.retain(|notice| too_long(notice) && told.insert(notice.entry));
        due
    }
}
