//! What the clock begins: the schedules of jobs.
//!
//! Which times are run is decided by [`remit_job::schedule`]; that each becomes one execution, whoever looks and however
//! often, by the store, which takes a time in the transaction that makes its execution.

use std::time::Duration;

use remit_protocol::{Origin, Timestamp};

use super::{Scheduler, Trigger, TriggerError};
use crate::store::{StoreError, StoredSchedule};

/// How often it looks.
const ROUND: Duration = Duration::from_secs(1);

impl Scheduler {
    /// Looks at the clock until the task is dropped.
    pub async fn watch_the_clock(&self) {
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            if let Err(error) = self.fire_due().await {
                tracing::error!(%error, "schedules that are due could not be looked at; it is tried again");
            }
            if let Err(error) = self.tell_slow().await {
                tracing::error!(%error, "what takes long could not be recorded; it is tried again");
            }
        }
    }

    /// Begins whatever schedules ask for now.
    pub async fn fire_due(&self) -> Result<(), StoreError> {
        let now = self.now();
        for stored in self.store().schedules_due(now).await? {
            self.fire(&stored, now).await?;
        }
        Ok(())
    }

    async fn fire(&self, stored: &StoredSchedule, now: Timestamp) -> Result<(), StoreError> {
        let due = stored.schedule.due(stored.done, now);
        if let Some(skipped) = due.skipped {
            tracing::warn!(
                project = %stored.project, job = %stored.job, schedule = %stored.schedule.name,
                from = %stored.done, until = %skipped, policy = ?stored.schedule.missed,
                "times of a schedule were missed and are left out"
            );
        }
        if due.fires.is_empty() {
            return self.store().pass_schedule(stored.key(), due.skipped.unwrap_or(now), None).await;
        }
        for at in due.fires {
            match self.trigger(scheduled(stored, at)).await {
                Ok(_) => {}
                // Somebody else took this time, or the schedule has changed since: what holds now is read next time.
                Err(TriggerError::Store(StoreError::Conflict { .. })) => return Ok(()),
                Err(TriggerError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        project = %stored.project, job = %stored.job, schedule = %stored.schedule.name, %error,
                        "a schedule fired and its job could not be run"
                    );
                    self.store().pass_schedule(stored.key(), at, Some(error.to_string())).await?;
                }
            }
        }
        Ok(())
    }
}

fn scheduled(stored: &StoredSchedule, due: Timestamp) -> Trigger {
    let schedule = &stored.schedule;
    Trigger {
        origin: Origin::Schedule { name: schedule.name.clone(), due },
        ..Trigger::of(
            stored.project.clone(),
            stored.job.clone(),
            schedule.options.clone(),
            format!("schedule:{}", schedule.name),
        )
    }
}
