//! The one table of what may follow what. Nothing else moves a state.
#![deny(clippy::wildcard_enum_match_arm)]

use remit_protocol::Outcome;

use super::state::{
    AttemptEvent, AttemptState, ExecutionEvent, ExecutionState, NodeEvent, NodeState, SectionEvent,
    SectionState,
};

/// An event that does not fit the state that it met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {state} and cannot {event}")]
pub struct Illegal {
    what: &'static str,
    state: String,
    event: String,
}

impl Illegal {
    fn new(what: &'static str, state: impl std::fmt::Display, event: impl std::fmt::Debug) -> Self {
        Self { what, state: state.to_string(), event: format!("{event:?}") }
    }
}

/// Where an execution goes.
pub fn execution(state: ExecutionState, event: ExecutionEvent) -> Result<ExecutionState, Illegal> {
    use {ExecutionEvent as E, ExecutionState as S};
    match (state, event) {
        (S::Queued, E::Admit) => Ok(S::Running),
        (S::Running, E::Hold) => Ok(S::Held),
        (S::Held, E::Resume) => Ok(S::Running),
        (S::Queued | S::Running | S::Held, E::Cancel) => Ok(S::Cancelling),
        (S::Running | S::Held | S::Cancelling, E::Conclude(outcome)) => Ok(S::Ended(outcome)),
        (S::Queued, E::Hold | E::Resume | E::Conclude(_))
        | (S::Running, E::Admit | E::Resume)
        | (S::Held, E::Admit | E::Hold)
        | (S::Cancelling, E::Admit | E::Hold | E::Resume | E::Cancel)
        | (S::Ended(_), E::Admit | E::Hold | E::Resume | E::Cancel | E::Conclude(_)) => {
            Err(Illegal::new("the execution", state, event))
        }
    }
}

/// Where a section goes.
pub fn section(state: SectionState, event: SectionEvent) -> Result<SectionState, Illegal> {
    use {SectionEvent as E, SectionState as S};
    match (state, event) {
        (S::Waiting, E::Due) => Ok(S::Ready),
        (S::Waiting, E::Gate) => Ok(S::Gated),
        (S::Waiting, E::Delegate) => Ok(S::Delegated),
        (S::Ready, E::Lease) => Ok(S::Leased),
        (S::Leased, E::Withdraw) => Ok(S::Ready),
        (S::Leased, E::Begin) => Ok(S::Started),
        (S::Started, E::Requeue) => Ok(S::Ready),
        (S::Started, E::Doubt) => Ok(S::InDoubt),
        (S::InDoubt, E::Adopt) => Ok(S::Started),
        (S::InDoubt, E::Rerun) => Ok(S::Ready),
        (
            S::Waiting | S::Ready | S::Leased | S::Started | S::Delegated | S::InDoubt | S::Gated,
            E::End(outcome),
        ) => Ok(S::Ended(outcome)),
        (S::Waiting, E::Lease | E::Withdraw | E::Begin | E::Requeue | E::Doubt | E::Adopt | E::Rerun)
        | (
            S::Ready,
            E::Due
            | E::Gate
            | E::Delegate
            | E::Withdraw
            | E::Begin
            | E::Requeue
            | E::Doubt
            | E::Adopt
            | E::Rerun,
        )
        | (
            S::Leased,
            E::Due | E::Gate | E::Delegate | E::Lease | E::Requeue | E::Doubt | E::Adopt | E::Rerun,
        )
        | (
            S::Started,
            E::Due | E::Gate | E::Delegate | E::Lease | E::Withdraw | E::Begin | E::Adopt | E::Rerun,
        )
        | (
            S::InDoubt,
            E::Due | E::Gate | E::Delegate | E::Lease | E::Withdraw | E::Begin | E::Requeue | E::Doubt,
        )
        | (
            S::Delegated | S::Gated,
            E::Due
            | E::Gate
            | E::Delegate
            | E::Lease
            | E::Withdraw
            | E::Begin
            | E::Requeue
            | E::Doubt
            | E::Adopt
            | E::Rerun,
        )
        | (
            S::Ended(_),
            E::Due
            | E::Gate
            | E::Delegate
            | E::Lease
            | E::Withdraw
            | E::Begin
            | E::Requeue
            | E::Doubt
            | E::Adopt
            | E::Rerun
            | E::End(_),
        ) => Err(Illegal::new("the section", state, event)),
    }
}

/// Where an attempt goes. A hand-out that was never begun ends as `not-started`.
pub fn attempt(state: AttemptState, event: AttemptEvent) -> Result<AttemptState, Illegal> {
    use {AttemptEvent as E, AttemptState as S};
    match (state, event) {
        (S::Leased, E::Begin) => Ok(S::Started),
        (S::Leased, E::Withdraw) => Ok(S::Ended(Outcome::NotStarted)),
        (S::Started, E::Miss) => Ok(S::Missing),
        (S::Missing, E::Adopt) => Ok(S::Started),
        (S::Leased | S::Started | S::Missing, E::End(outcome)) => Ok(S::Ended(outcome)),
        (S::Leased, E::Miss | E::Adopt)
        | (S::Started, E::Begin | E::Withdraw | E::Adopt)
        | (S::Missing, E::Begin | E::Withdraw | E::Miss)
        | (S::Ended(_), E::Begin | E::Withdraw | E::Miss | E::Adopt | E::End(_)) => {
            Err(Illegal::new("the attempt", state, event))
        }
    }
}

/// Where a node of a section goes. A node that ended stays so: its first result counts.
pub fn node(state: NodeState, event: NodeEvent) -> Result<NodeState, Illegal> {
    use {NodeEvent as E, NodeState as S};
    match (state, event) {
        (S::Pending, E::Dispatch) => Ok(S::Dispatched),
        (S::Dispatched, E::Reset) => Ok(S::Pending),
        (S::Pending | S::Dispatched, E::End(outcome)) => Ok(S::Ended(outcome)),
        (S::Pending, E::Reset)
        | (S::Dispatched, E::Dispatch)
        | (S::Ended(_), E::Dispatch | E::Reset | E::End(_)) => Err(Illegal::new("the node", state, event)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Outcome = Outcome::Failed;

    #[test]
    fn what_has_ended_stays_as_it_is() {
        use {ExecutionEvent as X, SectionEvent as S};
        for event in [X::Admit, X::Hold, X::Resume, X::Cancel, X::Conclude(END)] {
            assert!(execution(ExecutionState::Ended(Outcome::Succeeded), event).is_err());
        }
        let events = [
            S::Due,
            S::Gate,
            S::Delegate,
            S::Lease,
            S::Withdraw,
            S::Begin,
            S::Requeue,
            S::Doubt,
            S::Adopt,
            S::Rerun,
            S::End(END),
        ];
        for event in events {
            assert!(section(SectionState::Ended(Outcome::Succeeded), event).is_err());
        }
    }

    #[test]
    fn every_open_state_has_a_way_out_without_a_runner() {
        for state in SectionState::OPEN {
            assert_eq!(section(*state, SectionEvent::End(END)), Ok(SectionState::Ended(END)));
        }
        for state in AttemptState::OPEN {
            assert_eq!(attempt(*state, AttemptEvent::End(END)), Ok(AttemptState::Ended(END)));
        }
        for state in ExecutionState::OPEN {
            let stopped = execution(*state, ExecutionEvent::Cancel).unwrap_or(*state);
            assert_eq!(execution(stopped, ExecutionEvent::Conclude(END)), Ok(ExecutionState::Ended(END)));
        }
    }

    #[test]
    fn only_a_leased_section_begins() {
        for state in SectionState::OPEN {
            assert_eq!(section(*state, SectionEvent::Begin).is_ok(), *state == SectionState::Leased);
        }
    }
}
