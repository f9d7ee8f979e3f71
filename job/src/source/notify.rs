//! `notify`: what of an execution is made known, and to whom.

use std::collections::BTreeSet;

use remit_protocol::notice::Occasion;

use super::reader::Reader;
use crate::{
    notify::{Notify, Over, Target},
    yaml::Node,
};

pub(super) fn read(reader: &mut Reader, node: &Node) -> Vec<Notify> {
    let items = reader.list(node, "notify").iter().enumerate();
    items.filter_map(|(at, item)| entry(reader, item, &format!("notify[{at}]"))).collect()
}

fn entry(reader: &mut Reader, node: &Node, place: &str) -> Option<Notify> {
    let fields = reader.map(node, place, &["when", "over", "channel", "job"])?;
    let at = |key: &str| format!("{place}.{key}");
    let words: Vec<(&str, Occasion)> =
        Occasion::ALL.iter().map(|occasion| (occasion.as_str(), *occasion)).collect();
    let when: BTreeSet<Occasion> = reader
        .required(&fields, "when", "write `when: [failure]`")
        .map(|node| reader.list(node, &at("when")))
        .unwrap_or_default()
        .iter()
        .filter_map(|item| reader.word(item, &at("when"), &words))
        .collect();
    let over = fields.get("over").map(|node| reader.text_as::<Over>(node, &at("over")));
    let channel = fields.get("channel").map(|node| reader.text_as(node, &at("channel")).map(Target::Channel));
    let job = fields.get("job").map(|node| reader.text_as(node, &at("job")).map(Target::Job));
    let to = match (channel, job) {
        (Some(channel), None) => channel?,
        (None, Some(job)) => job?,
        _ => {
            reader.fault(
                place,
                "it says not to whom, or to two",
                "write either `channel: ops` or `job: tell_ops`",
            );
            return None;
        }
    };
    Some(Notify { when, over: over.unwrap_or(None), to })
}
