//! What people do to an execution that goes on: cancel it, decide about a section that waits for them.

use remit_protocol::{
    ExecutionId, Outcome, SectionNumber,
    operator::{CancelMode, Decision},
};

use super::Scheduler;
use crate::{
    execution::{Answer, Undecidable},
    store::StoreError,
};

/// Why an execution was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such execution.
    #[error("there is no execution {0}")]
    Unknown(ExecutionId),
    /// It has ended.
    #[error("execution {0} has ended: {1}")]
    Ended(ExecutionId, Outcome),
    /// The decision does not fit.
    #[error(transparent)]
    Undecidable(#[from] Undecidable),
    /// Nothing was recorded; ask again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scheduler {
    /// Cancels an execution. By force, the word of runners that are not there is not waited for: what they have is then
    /// recorded as `lost`. Asking again while it is being cancelled asks the runners again.
    pub async fn cancel(&self, id: ExecutionId, mode: CancelMode, by: &str) -> Result<(), ControlError> {
        let message = match mode {
            CancelMode::Ask => format!("cancelled by {by}"),
            CancelMode::Force => format!("ended by {by} without its runner's word"),
        };
        let found = self
            .decide_and_record(|state, drafts| {
                let live = state.live.get_mut(&id)?;
                Some(live.stop(Outcome::Cancelled, mode, &message, self.now(), drafts.of(id)))
            })
            .await?;
        self.checked(id, found.map(|result| result.map_err(Undecidable::from))).await
    }

    /// Decides about a section that is held in doubt.
    pub async fn decide(
        &self,
        id: ExecutionId,
        section: SectionNumber,
        decision: Decision,
        by: &str,
    ) -> Result<(), ControlError> {
        let found = self
            .decide_and_record(|state, drafts| {
                let live = state.live.get_mut(&id)?;
                Some(live.decide(section, decision, by, self.now(), drafts.of(id)))
            })
            .await?;
        self.checked(id, found).await
    }

    /// Hears a person's answer at a gate.
    pub async fn at_gate(&self, id: ExecutionId, answer: Answer) -> Result<(), ControlError> {
        let found = self
            .decide_and_record(|state, drafts| {
                let live = state.live.get_mut(&id)?;
                Some(live.answer(answer, self.now(), drafts.of(id)))
            })
            .await?;
        self.checked(id, found).await
    }

    async fn checked(
        &self,
        id: ExecutionId,
        found: Option<Result<(), Undecidable>>,
    ) -> Result<(), ControlError> {
        match found {
            Some(result) => Ok(result?),
            None => match self.store().execution(id).await? {
                Some(record) => match record.state.outcome() {
                    Some(outcome) => Err(ControlError::Ended(id, outcome)),
                    None => {
                        Err(StoreError::Unavailable("the execution is being read; try again".to_owned())
                            .into())
                    }
                },
                None => Err(ControlError::Unknown(id)),
            },
        }
    }
}
