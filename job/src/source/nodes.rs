//! On which nodes a job runs its node steps, and how they are gone through.

use super::reader::Reader;
use crate::{
    document::{Nodes, OnEmpty, Tiers},
    yaml::{Node, Tree},
};

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Nodes> {
    const KEYS: &[&str] =
        &["filter", "threads", "keep_going", "rank", "limit", "tiers", "max_failures", "on_empty", "spread"];
    let fields = reader.map(node, "nodes", KEYS)?;
    let filter = reader
        .required(&fields, "filter", "write `filter: \"tags: web\"`; `.*` means all nodes")
        .and_then(|node| reader.text_as(node, "nodes.filter"));
    let threads = fields.get("threads").and_then(|node| reader.threads(node, "nodes.threads"));
    let keep_going = fields.get("keep_going").and_then(|node| reader.boolean(node, "nodes.keep_going"));
    let rank = fields.get("rank").and_then(|node| {
        use crate::filter::{Order, Rank};
        let fields = reader.map(node, "nodes.rank", &["by", "order"])?;
        let order = fields.get("order").and_then(|node| {
            let words = &[
                ("ascending", Order::Ascending),
                ("descending", Order::Descending),
                ("random", Order::Random),
            ];
            reader.word(node, "nodes.rank.order", words)
        });
        let by = match (fields.get("by"), order) {
            (None, Some(Order::Random)) => Some("name".to_owned()),
            _ => reader
                .required(&fields, "by", "write `by: rack`")
                .and_then(|node| reader.text(node, "nodes.rank.by")),
        };
        Some(Rank { by: by?, order: order.unwrap_or_default() })
    });
    let limit = fields.get("limit").and_then(|node| reader.share(node, "nodes.limit"));
    let tiers = fields.get("tiers").and_then(|node| tiers(reader, node));
    let max_failures = fields.get("max_failures").and_then(|node| reader.share(node, "nodes.max_failures"));
    let on_empty = fields.get("on_empty").and_then(|node| {
        let words = &[("succeed", OnEmpty::Succeed), ("fail", OnEmpty::Fail)];
        reader.word(node, "nodes.on_empty", words)
    });
    let spread = fields.get("spread").and_then(|node| reader.boolean(node, "nodes.spread"));
    Some(Nodes {
        filter: filter?,
        threads: threads.unwrap_or(crate::document::Threads::Fixed(1)),
        keep_going: keep_going.unwrap_or_default(),
        rank,
        limit,
        tiers,
        max_failures,
        on_empty: on_empty.unwrap_or_default(),
        spread: spread.unwrap_or_default(),
    })
}

/// `tiers: rank`, or a list of sizes that may end with `rest`.
fn tiers(reader: &mut Reader, node: &Node) -> Option<Tiers> {
    const PLACE: &str = "nodes.tiers";
    if matches!(node.value, Tree::Scalar(_)) {
        return reader.word(node, PLACE, &[("rank", ())]).map(|()| Tiers::Rank);
    }
    let items = reader.list(node, PLACE);
    let is_rest =
        |item: &Node| matches!(&item.value, Tree::Scalar(serde_json::Value::String(word)) if word == "rest");
    let sizes = match items.split_last() {
        Some((last, before)) if is_rest(last) => before,
        _ => items,
    };
    let mut shares = Vec::with_capacity(sizes.len());
    for (at, item) in sizes.iter().enumerate() {
        shares.push(reader.share(item, &format!("{PLACE}[{at}]"))?);
    }
    Some(Tiers::Sizes(shares))
}
