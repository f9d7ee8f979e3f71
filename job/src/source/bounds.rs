//! What bounds the executions of a job: which runners, how many at once, how much log.

use std::collections::BTreeSet;

use remit_protocol::{
    LogLimit, Span,
    log_limit::{AtLimit, LogHalt, LogMost},
};

use super::reader::Reader;
use crate::{
    document::{Concurrency, RunnerSelection, WhenFull},
    yaml::{Node, Tree},
};

pub(super) fn runner(reader: &mut Reader, node: &Node) -> Option<RunnerSelection> {
    let fields = reader.map(node, "runner", &["tags", "override"])?;
    let tags = fields.get("tags").map(|node| reader.list_of(node, "runner.tags")).unwrap_or_default();
    let may_override = fields.get("override").and_then(|node| reader.boolean(node, "runner.override"));
    let count = tags.len();
    let tags: BTreeSet<_> = tags.into_iter().collect();
    if tags.len() < count {
        reader.fault("runner.tags", "a tag stands twice", "remove one of them");
    }
    Some(RunnerSelection { tags, may_override: may_override.unwrap_or_default() })
}

/// `concurrency: 1`, or a map.
pub(super) fn concurrency(reader: &mut Reader, node: &Node) -> Option<Concurrency> {
    const PLACE: &str = "concurrency";
    let plain = |limit| Concurrency { limit, when_full: WhenFull::Queue, most_queued: None, expires: None };
    if matches!(node.value, Tree::Scalar(_)) {
        return reader.count(node, PLACE).map(plain);
    }
    let fields = reader.map(node, PLACE, &["limit", "when_full", "most_queued", "expires"])?;
    let limit = reader
        .required(&fields, "limit", "write `limit: 1`: how many go on at once")
        .and_then(|node| reader.count(node, "concurrency.limit"));
    let when_full = fields.get("when_full").and_then(|node| {
        let words = &[("queue", WhenFull::Queue), ("refuse", WhenFull::Refuse)];
        reader.word(node, "concurrency.when_full", words)
    });
    let most_queued =
        fields.get("most_queued").and_then(|node| reader.count(node, "concurrency.most_queued"));
    let expires = fields.get("expires").and_then(|node| reader.text_as::<Span>(node, "concurrency.expires"));
    Some(Concurrency { when_full: when_full.unwrap_or_default(), most_queued, expires, ..plain(limit?) })
}

/// One of the three measures, and what happens once there is more.
pub(super) fn log_limit(reader: &mut Reader, node: &Node) -> Option<LogLimit> {
    const PLACE: &str = "log_limit";
    let fields = reader.map(node, PLACE, &["lines", "bytes", "lines_per_node", "at_limit", "outcome"])?;
    let mut lines = |key: &str| {
        let node = fields.get(key)?;
        let place = format!("{PLACE}.{key}");
        let number = reader.integer(node, &place)?;
        let lines = u64::try_from(number).ok();
        if lines.is_none() {
            reader.fault(&place, format!("{number} lines are none"), "write a number from 1");
        }
        lines
    };
    let measures = [
        lines("lines").map(LogMost::Lines),
        lines("lines_per_node").map(LogMost::LinesPerNode),
        fields.get("bytes").and_then(|node| reader.text_as(node, "log_limit.bytes")).map(LogMost::Bytes),
    ];
    let written = ["lines", "lines_per_node", "bytes"].iter().filter(|key| fields.get(key).is_some()).count();
    if written != 1 {
        let message = format!("{written} of `lines`, `bytes` and `lines_per_node` are given");
        reader.fault(PLACE, message, "write one of them, such as `lines: 5000` or `bytes: 10MiB`");
    }
    let outcome = fields.get("outcome").and_then(|node| {
        let words = &[
            ("over-limit", LogHalt::OverLimit),
            ("failed", LogHalt::Failed),
            ("cancelled", LogHalt::Cancelled),
        ];
        reader.word(node, "log_limit.outcome", words)
    });
    let halt = AtLimit::Halt(outcome.unwrap_or_default());
    let at_limit = fields
        .get("at_limit")
        .and_then(|node| {
            reader.word(node, "log_limit.at_limit", &[("halt", halt), ("truncate", AtLimit::Truncate)])
        })
        .unwrap_or(halt);
    if at_limit == AtLimit::Truncate && outcome.is_some() {
        let message = "`outcome` goes with `at_limit: halt`: the execution goes on here";
        reader.fault("log_limit.outcome", message, "remove it");
    }
    let most = measures.into_iter().flatten().next()?;
    Some(LogLimit { most, at_limit })
}
