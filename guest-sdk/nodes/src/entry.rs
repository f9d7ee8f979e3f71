//! What YAML and JSON have in common: a value as it stands in the file, and a node made of an entry.

use std::fmt;

use remit_sdk::Node;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A value of the file. Scalars are text from here on: attributes are nothing else.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A text, or a number or truth value as text.
    Scalar(String),
    /// Values in order.
    List(Vec<Self>),
    /// Values by key, in the order of the text.
    Map(Vec<(String, Self)>),
}

impl Value {
    /// The value of the last key of this name, in a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().rev().find(|(own, _)| own == key).map(|(_, value)| value),
            Self::Null | Self::Scalar(_) | Self::List(_) => None,
        }
    }

    /// As JSON, with scalars as texts.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Scalar(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

macro_rules! scalars {
    ($($visit:ident: $type:ty;)*) => {
        $(fn $visit<E>(self, value: $type) -> Result<Value, E> {
            Ok(Value::Scalar(value.to_string()))
        })*
    };
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    scalars! {
        visit_bool: bool;
        visit_i64: i64;
        visit_i128: i128;
        visit_u64: u64;
        visit_u128: u128;
        visit_f64: f64;
        visit_str: &str;
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Scalar(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}

/// Keys of an entry that are no attributes.
const RESERVED: [&str; 5] = ["nodename", "name", "attributes", "frameworkProject", "class"];

/// The value of a scalar key.
pub(crate) fn scalar<'a>(entry: &'a [(String, Value)], key: &str) -> Option<&'a str> {
    entry.iter().rev().find(|(own, _)| own == key).and_then(|(_, value)| match value {
        Value::Scalar(text) => Some(text.as_str()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    })
}

/// Makes a node of an entry. `compound` gives the text of an attribute that is a list or a map, or leaves it out.
pub(crate) fn node(
    name: String,
    entry: Vec<(String, Value)>,
    compound: impl Fn(&Value) -> Option<String>,
) -> Result<Node, String> {
    if name.trim().is_empty() {
        return Err("an entry has an empty name".to_owned());
    }
    let mut node = Node::new(name);
    for (key, value) in entry {
        if RESERVED.contains(&key.as_str()) {
            continue;
        }
        if key == "tags" {
            node.tags.extend(tags(&value));
            continue;
        }
        let text = match value {
            Value::Null => None,
            Value::Scalar(text) => Some(text),
            ref other => compound(other),
        };
        if let Some(text) = text {
            node.attributes.insert(key, text);
        }
    }
    Ok(node)
}

fn tags(value: &Value) -> Vec<String> {
    match value {
        Value::Scalar(text) => split_tags(text),
        Value::List(items) => items
            .iter()
            .flat_map(|item| match item {
                Value::Scalar(text) if !text.trim().is_empty() => vec![text.trim().to_owned()],
                _ => Vec::new(),
            })
            .collect(),
        Value::Null | Value::Map(_) => Vec::new(),
    }
}

/// `web, linux` as tags; blanks are dropped.
pub fn split_tags(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}
