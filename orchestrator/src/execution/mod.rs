//! What an execution is and how it moves.
//!
//! [`state`] holds the states and the events of executions, sections, attempts and nodes; [`transition`] the one table
//! that says which event leads where; [`record`] what is kept; [`live`] an execution that has not ended, with the
//! operations on it; [`plan`] what is due next; [`log`] how much of its log is kept; [`recovery`] what becomes of work
//! whose runner is gone; [`again`] what one execution takes over from an earlier one.
//!
//! *Never here:* IO, a clock, randomness, SQL. *Invariants:* G1 at most one start per epoch, G2 exactly one recorded
//! outcome, G5 every non-final state leaves by a timer or a person, without the runner's help.

pub mod again;
pub mod attempt;
pub mod live;
pub mod log;
pub mod notice;
pub mod plan;
#[cfg(test)]
mod properties;
pub mod record;
pub mod recovery;
#[cfg(test)]
pub(crate) mod samples;
pub mod state;
pub mod transition;

pub use again::Earlier;
pub use attempt::{HandOut, Heard};
pub use live::{Draft, Live, Order, OrderKind, Remembered, Section};
pub use notice::Notice;
pub use record::{
    Approval, AttemptRecord, Change, Happening, Head, NodeSelection, Parent, Place, Purpose, ResultLine,
    SealedTo, SectionRecord, Work,
};
pub use recovery::{Answer, Undecidable};
pub use state::{AttemptState, ExecutionState, Hold, NodeState, SectionState};
