//! What is said about an execution. Option values, outputs and logs are never in it.

use std::collections::BTreeMap;

use remit_job::document::Document;
use remit_protocol::{
    OptionName, Timestamp,
    notice::{AnnouncedExecution, Announcement, Occasion},
    operator::path,
};
use serde_json::Value;

use crate::store::{Channel, ExecutionRecord, StoredNotice};

/// The form of announcements that this version writes.
const VERSION: u32 = 1;

/// The announcement of a notice.
pub(super) fn about(notice: &StoredNotice, record: &ExecutionRecord, url: &str) -> Announcement {
    let head = &record.head;
    let outcome = record.state.outcome();
    let said = match notice.occasion {
        Occasion::Start => "has begun".to_owned(),
        Occasion::Success => "has succeeded".to_owned(),
        Occasion::Failure => format!("has ended: {}", outcome.map(|o| o.to_string()).unwrap_or_default()),
        Occasion::Retry => "runs a part again, because its runner was lost".to_owned(),
        Occasion::Slow => "takes longer than usual".to_owned(),
    };
    Announcement {
        v: VERSION,
        occasion: Some(notice.occasion),
        at: notice.at,
        project: notice.project.clone(),
        execution: Some(AnnouncedExecution {
            id: record.id,
            url: format!("{url}{}", path::fill(path::EXECUTION, &[&record.id])),
            job: head.job.clone(),
            revision: head.revision,
            started_by: head.started_by.clone(),
            origin: head.origin.clone(),
            created: record.created,
            started: record.began,
            ended: record.ended,
            outcome,
        }),
        text: format!("{} in project {} {said}", head.job, notice.project),
    }
}

/// The announcement with which somebody tries a channel.
pub(super) fn test(channel: &Channel, by: &str, now: Timestamp) -> Announcement {
    Announcement {
        v: VERSION,
        occasion: None,
        at: now,
        project: channel.project.clone(),
        execution: None,
        text: format!("{by} tries the channel {} of project {}", channel.name, channel.project),
    }
}

/// The options that a job is given which makes an execution known: those of the known ones that it has.
pub(super) fn options(
    notice: &StoredNotice,
    record: &ExecutionRecord,
    document: &Document,
) -> BTreeMap<OptionName, Value> {
    let outcome = record.state.outcome().map(|outcome| outcome.to_string()).unwrap_or_default();
    let all = [
        ("occasion", notice.occasion.to_string()),
        ("project", notice.project.to_string()),
        ("job", notice.job.to_string()),
        ("execution", notice.execution.to_string()),
        ("outcome", outcome),
    ];
    let known = all.into_iter().filter_map(|(name, value)| {
        let option = document.options.iter().find(|option| option.name.as_str() == name)?;
        (!value.is_empty()).then(|| (option.name.clone(), Value::String(value)))
    });
    known.collect()
}
