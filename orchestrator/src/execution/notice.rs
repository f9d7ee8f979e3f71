//! What of a decision is made known outside, as the job asks for it.

use remit_job::notify::{Notify, Target};
use remit_protocol::{Origin, Outcome, notice::Occasion};

use super::{
    live::Live,
    record::{Change, Head},
    state::ExecutionState,
};

/// Something to make known, once: the same execution, occasion, part and entry are the same notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// On what occasion.
    pub occasion: Occasion,
    /// Which of several such occasions.
    pub part: String,
    /// Which entry of the job's `notify`.
    pub entry: u32,
    /// To whom.
    pub target: Target,
}

/// What `changes` to `live` make known.
pub fn notices(live: &Live, changes: &[Change]) -> Vec<Notice> {
    let entries = &live.document.notify;
    if entries.is_empty() {
        return Vec::new();
    }
    let mut notices = Vec::new();
    for change in changes {
        let (occasion, part) = match change {
            Change::Execution { state: ExecutionState::Ended(Outcome::Succeeded), .. } => {
                (Occasion::Success, String::new())
            }
            Change::Execution { state: ExecutionState::Ended(_), .. } => (Occasion::Failure, String::new()),
            Change::Execution { began: Some(_), .. } => (Occasion::Start, String::new()),
            Change::HandedOut(attempt) if attempt.epoch.0 > 1 => {
                (Occasion::Retry, format!("{}/{}", attempt.section, attempt.epoch.0))
            }
            Change::Retry(_) => (Occasion::Retry, "execution".to_owned()),
            _ => continue,
        };
        notices.extend(about(&live.head, entries, occasion, &part));
    }
    notices
}

/// The notices of one occasion.
pub fn about(head: &Head, entries: &[Notify], occasion: Occasion, part: &str) -> Vec<Notice> {
    // An execution that makes another one known does not begin a third.
    let chained = matches!(head.origin, Origin::Notification { .. });
    let wanted = (0..).zip(entries).filter(|(_, entry)| {
        entry.when.contains(&occasion) && !(chained && matches!(entry.to, Target::Job(_)))
    });
    wanted
        .map(|(number, entry)| Notice {
            occasion,
            part: part.to_owned(),
            entry: number,
            target: entry.to.clone(),
        })
        .collect()
}
