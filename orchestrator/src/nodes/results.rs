//! What a job found out about its nodes, as attributes of theirs: health checks and enhancers are jobs.
//!
//! *Must not know:* where results are kept. *Invariant:* only nodes that the job ran for get attributes, and all of one run's
//! attributes replace those of the run before.

use std::collections::BTreeMap;

use remit_protocol::{
    SourceName, Tag, Timestamp,
    limits::{MAX_ATTRIBUTE, MAX_NODE_ATTRIBUTES},
    node::{Node, NodeSet},
    report::{Outcome, StepEnded},
};
use serde_json::Value;

/// The step whose outputs become attributes of the node by their own names.
const ATTRIBUTES: &str = "attributes";
/// Most bytes of what a node's attribute says of a failure.
const MAX_WHY: usize = 500;

/// How one node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Healthy,
    Unknown,
    Unhealthy,
}

impl Status {
    fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Succeeded => Some(Self::Healthy),
            Outcome::Skipped => None,
            Outcome::Failed | Outcome::Trapped | Outcome::TimedOut | Outcome::OverLimit(_) => {
                Some(Self::Unhealthy)
            }
            Outcome::Refused(_)
            | Outcome::Cancelled
            | Outcome::HostFault
            | Outcome::Interrupted
            | Outcome::Lost
            | Outcome::NotStarted => Some(Self::Unknown),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is known of one node so far.
#[derive(Debug, Default)]
struct Found {
    status: Option<Status>,
    why: String,
    at: Option<Timestamp>,
    attributes: BTreeMap<String, String>,
    tags: Vec<Tag>,
}

/// Gathers the results of one execution.
#[derive(Debug)]
pub struct Results {
    source: SourceName,
    nodes: Vec<Node>,
    found: Vec<Found>,
}

impl Results {
    /// Of an execution over these nodes, for a source of this name.
    pub fn new(source: SourceName, nodes: NodeSet) -> Self {
        let found = nodes.nodes.iter().map(|_| Found::default()).collect();
        Self { source, nodes: nodes.nodes, found }
    }

    /// Takes in how a step ended on its node.
    pub fn take(&mut self, step: &str, ended: &StepEnded) {
        let place = ended.node.and_then(|node| usize::try_from(node.0).ok());
        let Some(found) = place.and_then(|place| self.found.get_mut(place)) else { return };
        let Some(status) = Status::of(ended.outcome) else { return };
        if found.status.is_none_or(|worst| worst < status) {
            found.status = Some(status);
            found.why = match status {
                Status::Healthy => String::new(),
                Status::Unknown | Status::Unhealthy => {
                    let why = format!("{step}: {}: {}", ended.outcome, ended.message);
                    cut(why.trim_end_matches([':', ' ']), MAX_WHY)
                }
            };
        }
        found.at = found.at.max(Some(ended.ended));
        if let (true, Some(Value::Object(output))) = (step == ATTRIBUTES, &ended.output) {
            for (name, value) in output {
                found.output(name, value);
            }
        }
    }

    /// The nodes with what was found out about them, and nothing else.
    pub fn into_set(self) -> NodeSet {
        let source = self.source;
        let nodes = self.nodes.into_iter().zip(self.found).filter_map(|(node, found)| {
            let status = found.status?;
            let mut attributes = found.attributes;
            attributes.insert(format!("{source}:status"), status.as_str().to_owned());
            if let Some(at) = found.at {
                attributes.insert(format!("{source}:at"), at.to_seconds_text());
            }
            if !found.why.is_empty() {
                attributes.insert(format!("{source}:why"), found.why);
            }
            Some(Node { name: node.name, tags: found.tags.into_iter().collect(), attributes })
        });
        NodeSet { nodes: nodes.collect() }
    }
}

impl Found {
    /// An output of the step that gives attributes: `tags` are tags, what is no text, number or truth value is JSON.
    fn output(&mut self, name: &str, value: &Value) {
        if name == "tags" {
            let texts: Vec<&str> = match value {
                Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
                Value::String(text) => text.split(',').map(str::trim).collect(),
                _ => Vec::new(),
            };
            self.tags.extend(texts.into_iter().filter_map(|text| Tag::new(text).ok()).take(100));
            return;
        }
        let text = match value {
            Value::Null => return,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let usable = !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
        // Room for what is said of the run itself.
        if usable && self.attributes.len() < MAX_NODE_ATTRIBUTES - 3 {
            self.attributes.insert(name.to_owned(), cut(&text, MAX_ATTRIBUTE));
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// `known` with what `found` says of nodes that are known: attributes of `found` win, tags unite, nothing is added.
pub fn enhance(mut known: NodeSet, found: NodeSet) -> NodeSet {
    let mut more: BTreeMap<_, _> = found.nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
    for node in &mut known.nodes {
        if let Some(found) = more.remove(&node.name) {
            let fits = |attributes: &BTreeMap<String, String>| attributes.len() < MAX_NODE_ATTRIBUTES;
            for (name, value) in found.attributes {
                if node.attributes.contains_key(&name) || fits(&node.attributes) {
                    node.attributes.insert(name, value);
                }
            }
            node.tags.extend(found.tags);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use remit_protocol::{NodeIndex, StepIndex};
    use serde_json::json;

    use super::*;

    fn set(names: &[&str]) -> NodeSet {
        let node = |name: &&str| Node {
            name: name.parse().unwrap(),
            tags: ["web".parse().unwrap()].into(),
            attributes: BTreeMap::from([("rack".to_owned(), "a".to_owned())]),
        };
        NodeSet { nodes: names.iter().map(node).collect() }
    }

    fn ended(node: u32, outcome: Outcome, output: Value, message: &str) -> StepEnded {
        let at = Timestamp::from_millis(1_795_000_000_000 + u64::from(node) * 1000);
        StepEnded {
            step: StepIndex(0),
            node: Some(NodeIndex(node)),
            outcome,
            tries: 1,
            started: at,
            ended: at,
            output: Some(output).filter(|output| !output.is_null()),
            message: message.to_owned(),
            usage: None,
            remit: None,
            artifacts: Vec::new(),
        }
    }

    fn attributes(set: &NodeSet, name: &str) -> Option<Value> {
        let node = set.nodes.iter().find(|node| node.name.as_str() == name)?;
        let mut shown = serde_json::to_value(&node.attributes).unwrap();
        shown.as_object_mut().unwrap().remove("health:at");
        Some(shown)
    }

    #[test]
    fn the_worst_step_says_how_a_node_is() {
        let mut results = Results::new("health".parse().unwrap(), set(&["a", "b", "c", "d"]));
        results.take("ping", &ended(0, Outcome::Succeeded, Value::Null, ""));
        results.take("disk", &ended(0, Outcome::Skipped, Value::Null, ""));
        results.take("ping", &ended(1, Outcome::Lost, Value::Null, ""));
        results.take("ping", &ended(2, Outcome::Failed, Value::Null, "no answer"));
        results.take("disk", &ended(2, Outcome::NotStarted, Value::Null, ""));
        results.take("ping", &ended(9, Outcome::Failed, Value::Null, ""));
        let set = results.into_set();
        assert_eq!(attributes(&set, "a"), Some(json!({"health:status": "healthy"})));
        assert_eq!(
            attributes(&set, "b"),
            Some(json!({"health:status": "unknown", "health:why": "ping: lost"}))
        );
        assert_eq!(
            attributes(&set, "c"),
            Some(json!({"health:status": "unhealthy", "health:why": "ping: failed: no answer"}))
        );
        assert_eq!(attributes(&set, "d"), None);
        assert!(set.nodes[0].attributes["health:at"].starts_with("2026-11-18T"));
    }

    #[test]
    fn the_step_that_is_called_so_gives_attributes() {
        let mut results = Results::new("health".parse().unwrap(), set(&["a"]));
        let output = json!({"kernel": "6.1", "cpus": 4, "none": null, "list": [1], "": "x", "tags": "big, a b,big", "long": "\u{e9}".repeat(20_000)});
        results.take("facts", &ended(0, Outcome::Succeeded, json!({"other": 1}), ""));
        results.take("attributes", &ended(0, Outcome::Succeeded, output, ""));
        let mut set = results.into_set();
        let long = set.nodes[0].attributes.remove("long").unwrap();
        assert_eq!(long.len(), MAX_ATTRIBUTE);
        assert_eq!(
            attributes(&set, "a"),
            Some(json!({"health:status": "healthy", "kernel": "6.1", "cpus": "4", "list": "[1]"}))
        );
        let tags: Vec<_> = set.nodes[0].tags.iter().map(Tag::as_str).collect();
        assert_eq!(tags, ["big"]);
        set.check().unwrap();
    }

    #[test]
    fn nodes_that_are_not_known_are_not_added() {
        let mut found = set(&["b", "ghost"]);
        found.nodes[0].attributes =
            BTreeMap::from([("rack".to_owned(), "z".to_owned()), ("up".to_owned(), "1".to_owned())]);
        found.nodes[0].tags = ["big".parse().unwrap()].into();
        let known = enhance(set(&["a", "b"]), found);
        assert_eq!(known.nodes.len(), 2);
        assert_eq!(attributes(&known, "b"), Some(json!({"rack": "z", "up": "1"})));
        assert_eq!(known.nodes[1].tags.len(), 2);
    }
}
