//! Where in the file each place of a job stands.

use std::collections::HashMap;

use remit_protocol::{StepName, endpoint::Fault};

use crate::yaml::{Mark, Node, Tree};

/// Where each place of a file stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Locations(HashMap<String, Mark>);

impl Locations {
    pub(super) fn of(tree: &Node) -> Self {
        let mut locations = Self::default();
        locations.add(tree, "");
        locations
    }

    fn add(&mut self, node: &Node, place: &str) {
        match &node.value {
            Tree::Scalar(_) => {}
            Tree::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let steps =
                        place == "steps" || (place.starts_with("steps[") && place.ends_with("].parallel"));
                    let inner = if steps { step_place(place, items, at) } else { format!("{place}[{at}]") };
                    self.0.insert(inner.clone(), item.mark);
                    self.add(item, &inner);
                }
            }
            Tree::Map(members) => {
                for member in members {
                    let inner = join(place, &member.key);
                    self.0.insert(inner.clone(), member.mark);
                    self.add(&member.node, &inner);
                }
            }
        }
    }

    /// The nearest place that is known: a fault about something absent points to what should hold it.
    pub(super) fn place(&self, fault: &mut Fault) {
        if fault.line.is_some() {
            return;
        }
        let mut place = fault.place.as_str();
        loop {
            if let Some(mark) = self.0.get(place) {
                (fault.line, fault.column) = (Some(mark.line), Some(mark.column));
                return;
            }
            match place.rfind(['.', '[']) {
                Some(at) => place = &place[..at],
                None => break,
            }
        }
        (fault.line, fault.column) = (Some(1), Some(1));
    }
}

pub(super) fn join(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

/// What a step of the list at `list` is called in faults: by its name, or by its number where the name is missing, wrong or
/// taken.
pub(super) fn step_place(list: &str, items: &[Node], at: usize) -> String {
    let name = |node: &Node| match &node.value {
        Tree::Map(members) => {
            members.iter().find(|member| member.key == "name").and_then(|member| match &member.node.value {
                Tree::Scalar(serde_json::Value::String(name)) => StepName::new(name.as_str()).ok(),
                _ => None,
            })
        }
        _ => None,
    };
    match items.get(at).and_then(name) {
        Some(own) if !items[..at].iter().any(|item| name(item).as_ref() == Some(&own)) => {
            format!("steps.{own}")
        }
        _ => format!("{list}[{at}]"),
    }
}
