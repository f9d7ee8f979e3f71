//! What a step kept, on its way to the orchestrator: all of its bytes are there before the step is said to have ended.

use remit_protocol::{AttemptId, Outcome, limits::MAX_ARTIFACTS, report::Limit};

use super::step::Surroundings;
use crate::{capability::files::Kept, orchestrator::CallError, sandbox::Ended};

/// Brings the artifacts of a run. Those that cannot be brought are not kept, and the run is no success then.
pub(super) async fn bring(ended: &mut Ended, attempt: AttemptId, around: &Surroundings) {
    let mut faults = Vec::new();
    let mut brought = Vec::with_capacity(ended.artifacts.len());
    for mut kept in std::mem::take(&mut ended.artifacts) {
        let Some(spool) = kept.spool.take() else { continue };
        let done = tokio::select! {
            done = around.client.bring(attempt, kept.artifact.bytes, &spool) => done,
            () = around.cancel.over() => break,
        };
        match done {
            Ok(()) => brought.push(kept),
            Err(error) => faults.push((kept.artifact.name, error)),
        }
    }
    ended.artifacts = brought;
    let Some((name, error)) = faults.into_iter().next() else { return };
    let over = matches!(&error, CallError::Refused { status: 413 | 429, .. });
    let outcome = if over { Outcome::OverLimit(Limit::Artifacts) } else { Outcome::HostFault };
    spoil(ended, outcome, &format!("the artifact {name} was not kept: {error}"));
}

/// Puts `more` – of earlier items, or of the step's handler – beside the artifacts that are there. Of two with one name the
/// one that is there stays.
pub(super) fn join(all: &mut Ended, more: Vec<Kept>) {
    for kept in more {
        if !all.artifacts.iter().any(|known| known.artifact.name == kept.artifact.name) {
            all.artifacts.push(kept);
        }
    }
    if all.artifacts.len() > MAX_ARTIFACTS {
        all.artifacts.truncate(MAX_ARTIFACTS);
        let message = format!("it kept more than {MAX_ARTIFACTS} artifacts");
        spoil(all, Outcome::OverLimit(Limit::Artifacts), &message);
    }
}

/// Gives the artifacts of an item names that those of other items do not have.
pub(super) fn number(ended: &mut Ended, item: usize) {
    for kept in &mut ended.artifacts {
        // The capability leaves room for the number.
        if let Ok(name) = format!("{item}.{}", kept.artifact.name).parse() {
            kept.artifact.name = name;
        }
    }
}

fn spoil(ended: &mut Ended, outcome: Outcome, message: &str) {
    if ended.outcome.is_good() {
        ended.outcome = outcome;
        ended.output = None;
        ended.nodes = None;
        message.clone_into(&mut ended.message);
    } else {
        ended.message.push('\n');
        ended.message.push_str(message);
    }
}
