//! Reading values of a tree: each mistake becomes a fault at its place, and reading goes on.

use std::fmt::Display;

use remit_protocol::{endpoint::Fault, nearest::nearest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::locations::join;
use crate::{
    document::{Share, Threads},
    expression::Expression,
    yaml::{Node, Tree},
};

/// Collects faults while a tree is read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) faults: Vec<Fault>,
}

/// The members of a map whose keys have been checked.
pub(super) struct Fields<'a> {
    node: &'a Node,
    place: String,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        match &self.node.value {
            Tree::Map(members) => members.iter().find(|member| member.key == key).map(|member| &member.node),
            _ => None,
        }
    }
}

impl Reader {
    pub(super) fn fault(&mut self, place: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let (message, remedy) = (message.into(), remedy.into());
        self.faults.push(Fault { line: None, column: None, place: place.to_owned(), message, remedy });
    }

    /// A fault at the value itself instead of its key.
    fn fault_at(&mut self, node: &Node, place: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(node.mark.fault(place, message, remedy));
    }

    /// A map with none but these keys.
    pub(super) fn map<'a>(&mut self, node: &'a Node, place: &str, keys: &[&str]) -> Option<Fields<'a>> {
        let Tree::Map(members) = &node.value else {
            let remedy = format!("write a map with {}", keys.join(", "));
            let name = if place.is_empty() { "job" } else { place };
            self.fault_at(node, name, format!("this is {}, not a map", node.kind()), remedy);
            return None;
        };
        for member in members.iter().filter(|member| !keys.contains(&member.key.as_str())) {
            let remedy = match nearest(&member.key, keys.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", keys.join(", ")),
            };
            let shown: String = member.key.chars().take(80).collect();
            let place = join(place, &shown);
            self.faults.push(member.mark.fault(&place, format!("there is no key `{shown}` here"), remedy));
        }
        Some(Fields { node, place: place.to_owned() })
    }

    /// The member `key`; a fault if it is absent.
    pub(super) fn required<'a>(&mut self, fields: &Fields<'a>, key: &str, remedy: &str) -> Option<&'a Node> {
        let found = fields.get(key);
        if found.is_none() {
            let place = if fields.place.is_empty() { "job" } else { &fields.place };
            self.faults.push(fields.node.mark.fault(place, format!("the key `{key}` is missing"), remedy));
        }
        found
    }

    pub(super) fn text(&mut self, node: &Node, place: &str) -> Option<String> {
        match &node.value {
            Tree::Scalar(Value::String(text)) => Some(text.clone()),
            Tree::Scalar(value @ (Value::Number(_) | Value::Bool(_))) => {
                self.fault_at(
                    node,
                    place,
                    format!("this is {}, not a text", node.kind()),
                    format!("put it in quotes: \"{value}\""),
                );
                None
            }
            _ => {
                self.fault_at(node, place, format!("this is {}, not a text", node.kind()), "write a text");
                None
            }
        }
    }

    /// A text that is parsed further.
    pub(super) fn text_as<T>(&mut self, node: &Node, place: &str) -> Option<T>
    where
        T: TryFrom<String>,
        T::Error: Display,
    {
        let text = self.text(node, place)?;
        T::try_from(text).map_err(|error| self.fault_at(node, place, error.to_string(), "")).ok()
    }

    pub(super) fn boolean(&mut self, node: &Node, place: &str) -> Option<bool> {
        match &node.value {
            Tree::Scalar(Value::Bool(value)) => Some(*value),
            _ => {
                self.fault_at(
                    node,
                    place,
                    format!("this is {}, not true or false", node.kind()),
                    "write true or false",
                );
                None
            }
        }
    }

    pub(super) fn integer(&mut self, node: &Node, place: &str) -> Option<i64> {
        let number = match &node.value {
            Tree::Scalar(Value::Number(number)) => number.as_i64(),
            _ => None,
        };
        if number.is_none() {
            self.fault_at(
                node,
                place,
                format!("this is {}, not a whole number", node.kind()),
                "write a whole number",
            );
        }
        number
    }

    pub(super) fn count(&mut self, node: &Node, place: &str) -> Option<u32> {
        let number = self.integer(node, place)?;
        let count = u32::try_from(number).ok();
        if count.is_none() {
            self.fault_at(
                node,
                place,
                format!("{number} is out of range"),
                "write a small number that is not negative",
            );
        }
        count
    }

    pub(super) fn number(&mut self, node: &Node, place: &str) -> Option<f64> {
        let number = match &node.value {
            Tree::Scalar(Value::Number(number)) => number.as_f64(),
            _ => None,
        };
        if number.is_none() {
            self.fault_at(node, place, format!("this is {}, not a number", node.kind()), "write a number");
        }
        number
    }

    /// One word of a closed set.
    pub(super) fn word<T: Copy>(&mut self, node: &Node, place: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, place)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let remedy = match nearest(&text, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {}", names.join(", ")),
            };
            let shown: String = text.chars().take(80).collect();
            self.fault_at(
                node,
                place,
                format!("{shown:?} is not one of the words that can stand here"),
                remedy,
            );
        }
        found
    }

    pub(super) fn threads(&mut self, node: &Node, place: &str) -> Option<Threads> {
        match &node.value {
            Tree::Scalar(Value::Number(_)) => self.count(node, place).map(Threads::Fixed),
            Tree::Scalar(Value::String(text)) if text.ends_with('%') => {
                self.text_as(node, place).map(Threads::Percent)
            }
            _ => self.text_as::<Expression>(node, place).map(Threads::Expression),
        }
    }

    /// A number of nodes, or a percentage of them.
    pub(super) fn share(&mut self, node: &Node, place: &str) -> Option<Share> {
        match &node.value {
            Tree::Scalar(Value::String(_)) => self.text_as(node, place).map(Share::Percent),
            _ => self.count(node, place).map(Share::Count),
        }
    }

    /// The items of a list.
    pub(super) fn list<'a>(&mut self, node: &'a Node, place: &str) -> &'a [Node] {
        match &node.value {
            Tree::List(items) => items,
            _ => {
                self.fault_at(
                    node,
                    place,
                    format!("this is {}, not a list", node.kind()),
                    "write a list: [a, b]",
                );
                &[]
            }
        }
    }

    /// A list of texts that are parsed further.
    pub(super) fn list_of<T>(&mut self, node: &Node, place: &str) -> Vec<T>
    where
        T: TryFrom<String>,
        T::Error: Display,
    {
        let items = self.list(node, place).iter().enumerate();
        items.filter_map(|(at, item)| self.text_as(item, &format!("{place}[{at}]"))).collect()
    }

    /// A type of the protocol in the form that it has there; the caller has checked the keys.
    pub(super) fn value_as<T: DeserializeOwned>(
        &mut self,
        node: &Node,
        place: &str,
        remedy: &str,
    ) -> Option<T> {
        match serde_json::from_value(node.to_value()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault_at(node, place, error.to_string(), remedy);
                None
            }
        }
    }
}
