//! `context`: what a component may know of its run, and how it hears that it should end.

use std::{sync::Arc, time::Duration};

use remit_protocol::{ExecutionId, StepName, node::Node};

use super::{bindings::remit::step::context::Host, types};
use crate::sandbox::State;

/// Two calls of `progress` within this time are one.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Which run of which step this is.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// The execution.
    pub execution: ExecutionId,
    /// The step's name in the job.
    pub step: StepName,
    /// The node that the step is run for; none in a workflow step and in a node source.
    pub node: Option<Arc<Node>>,
    /// The number of this try, from 1.
    pub try_number: u32,
    /// The same for every try of this step on this node in this execution, and for nothing else.
    pub idempotency_key: String,
}

/// How far the component says it is, so often as others want to hear it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    sent: Option<tokio::time::Instant>,
    waiting: Option<(u64, u64)>,
}

impl Progress {
    /// What to pass on now, if anything.
    pub(crate) fn say(&mut self, now: tokio::time::Instant, done: u64, total: u64) -> Option<(u64, u64)> {
        if self.sent.is_some_and(|sent| now.duration_since(sent) < PROGRESS_INTERVAL) {
            self.waiting = Some((done, total));
            return None;
        }
        self.sent = Some(now);
        self.waiting = None;
        Some((done, total))
    }

    /// What was held back, at the end of the run.
    pub(crate) fn take(&mut self) -> Option<(u64, u64)> {
        self.waiting.take()
    }
}

impl Host for State {
    fn node(&mut self) -> wasmtime::Result<Option<types::Node>> {
        Ok(self.context.node.as_deref().map(|node| types::Node {
            name: node.name.as_str().to_owned(),
            tags: node.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            attributes: node.attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        }))
    }

    fn execution(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.execution.to_string())
    }

    fn step(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.step.as_str().to_owned())
    }

    fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.context.try_number)
    }

    fn idempotency_key(&mut self) -> wasmtime::Result<String> {
        Ok(self.context.idempotency_key.clone())
    }

    fn progress(&mut self, done: u64, total: u64) -> wasmtime::Result<()> {
        if let Some((done, total)) = self.progress.say(tokio::time::Instant::now(), done, total) {
            self.log.progress(done, total);
        }
        Ok(())
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.cancel.is_cancelled())
    }

    fn remaining(&mut self) -> wasmtime::Result<u64> {
        let left = self.deadline.saturating_duration_since(tokio::time::Instant::now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep(&mut self, milliseconds: u64) -> wasmtime::Result<Result<(), types::End>> {
        let woken = tokio::time::sleep(Duration::from_millis(milliseconds));
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Ok(Err(types::End::Cancelled)),
            () = woken => Ok(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_merged_and_the_last_word_is_kept() {
        let start = tokio::time::Instant::now();
        let mut progress = Progress::default();
        assert_eq!(progress.say(start, 1, 10), Some((1, 10)));
        assert_eq!(progress.say(start + Duration::from_millis(10), 2, 10), None);
        assert_eq!(progress.say(start + Duration::from_millis(20), 3, 10), None);
        assert_eq!(progress.say(start + PROGRESS_INTERVAL, 4, 10), Some((4, 10)));
        assert_eq!(progress.take(), None);
        assert_eq!(progress.say(start + PROGRESS_INTERVAL, 5, 10), None);
        assert_eq!(progress.take(), Some((5, 10)));
    }
}
