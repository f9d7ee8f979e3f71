//! In which order nodes are taken: by an attribute, with numbers in it read as numbers.

use std::cmp::Ordering;

use remit_protocol::{Digest, node::Node};
use serde::{Deserialize, Serialize};

/// By which attribute nodes are ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rank {
    /// The attribute; `name` is the node's name.
    pub by: String,
    /// Up or down.
    pub order: Order,
}

/// Up or down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// From small to large.
    #[default]
    Ascending,
    /// From large to small.
    Descending,
    /// By chance: another order in each execution.
    Random,
}

/// The value by which a node is ranked.
pub fn rank_of<'a>(node: &'a Node, rank: &Rank) -> Option<&'a str> {
    match rank.by.as_str() {
        "name" | "nodename" => Some(node.name.as_str()),
        attribute => node.attribute(attribute),
    }
}

/// Puts `indices` of `nodes` in order: by rank, and where that is equal or absent by name, ascending. Nodes without the
/// attribute come last in either order.
pub fn arrange(nodes: &[Node], indices: &mut [u32], rank: Option<&Rank>, seed: &str) {
    if rank.is_some_and(|rank| rank.order == Order::Random) {
        // The order depends on the seed alone, so that it can be found again.
        indices.sort_by_cached_key(|index| {
            let node = usize::try_from(*index).ok().and_then(|at| nodes.get(at));
            *Digest::of(format!("{seed}\n{}", node.map_or("", |node| node.name.as_str())).as_bytes())
                .as_bytes()
        });
        return;
    }
    let descending = rank.is_some_and(|rank| rank.order == Order::Descending);
    // Looked up once a node, not once a comparison.
    let mut keys: Vec<(Option<&str>, &str, u32)> = indices
        .iter()
        .map(|index| {
            let node = usize::try_from(*index).ok().and_then(|at| nodes.get(at));
            let name = node.map_or("", |node| node.name.as_str());
            let value = match rank {
                Some(rank) => node.and_then(|node| rank_of(node, rank)),
                None => Some(name),
            };
            (value, name, *index)
        })
        .collect();
    keys.sort_by(|(a, a_name, _), (b, b_name, _)| {
        let ranked = match (a, b) {
            (Some(a), Some(b)) if descending => natural(b, a),
            (Some(a), Some(b)) => natural(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        ranked.then_with(|| natural(a_name, b_name))
    });
    for (place, (_, _, index)) in indices.iter_mut().zip(keys) {
        *place = index;
    }
}

/// Compares texts with runs of digits as numbers: `web9` before `web10`. A total order: texts that read the same
/// (`7` and `07`) are compared as they stand.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (left.first(), right.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (one, rest_one) = number(left);
            let (two, rest_two) = number(right);
            (left, right) = (rest_one, rest_two);
            one.len().cmp(&two.len()).then_with(|| one.cmp(two))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The digits at the start, without leading zeros, and what follows.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    (&digits[zeros..], rest)
}
