//! `options`: what a job asks when it is run.

use remit_protocol::OptionName;
use serde_json::Value;

use super::reader::{Fields, Reader};
use crate::{
    options::{OptionDefinition, OptionType},
    pattern::Pattern,
    yaml::{Node, Tree},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    Integer,
    Boolean,
}

pub(super) fn read(reader: &mut Reader, node: &Node) -> Vec<OptionDefinition> {
    let Tree::Map(members) = &node.value else {
        let remedy = "write a map: `options: { service: { type: string } }`";
        reader.fault("options", format!("this is {}, not a map of options", node.kind()), remedy);
        return Vec::new();
    };
    let mut options = Vec::with_capacity(members.len());
    for member in members {
        let name = OptionName::new(member.key.as_str()).map_err(|invalid| {
            let place = format!("options.{}", member.key.chars().take(80).collect::<String>());
            reader.faults.push(member.mark.fault(&place, invalid.to_string(), "rename it"));
        });
        let place = format!("options.{}", member.key);
        let option = option(reader, &member.node, &place, name.ok());
        options.extend(option);
    }
    options
}

fn option(
    reader: &mut Reader,
    node: &Node,
    place: &str,
    name: Option<OptionName>,
) -> Option<OptionDefinition> {
    const WORDS: &[(&str, Kind)] =
        &[("string", Kind::String), ("integer", Kind::Integer), ("boolean", Kind::Boolean)];
    // The type decides which keys there are, so it is looked at first.
    let word = match &node.value {
        Tree::Map(members) => members.iter().find(|member| member.key == "type"),
        _ => None,
    };
    let kind = word.map(|member| reader.word(&member.node, &format!("{place}.type"), WORDS));
    let keys: &[&str] = match kind {
        Some(Some(Kind::String)) => &["type", "description", "required", "default", "values", "pattern"],
        Some(Some(Kind::Integer)) => &["type", "description", "required", "default", "values", "min", "max"],
        Some(Some(Kind::Boolean)) => &["type", "description", "required", "default"],
        _ => &["type", "description", "required", "default", "values", "pattern", "min", "max"],
    };
    let fields = reader.map(node, place, keys)?;
    let _ = reader.required(&fields, "type", "write `type: string`, `integer` or `boolean`");
    let text = |reader: &mut Reader, key: &str| {
        fields.get(key).and_then(|node| reader.text(node, &format!("{place}.{key}")))
    };
    let description = text(reader, "description").unwrap_or_default();
    let required = fields.get("required").and_then(|node| reader.boolean(node, &format!("{place}.required")));
    let default = fields.get("default").map(Node::to_value).filter(|value| !value.is_null());
    let kind = match kind?? {
        Kind::String => {
            let values =
                fields.get("values").map(|node| reader.list_of::<String>(node, &format!("{place}.values")));
            let pattern = fields
                .get("pattern")
                .and_then(|node| reader.text_as::<Pattern>(node, &format!("{place}.pattern")));
            OptionType::String { values: values.unwrap_or_default(), pattern }
        }
        Kind::Integer => integer(reader, &fields, place),
        Kind::Boolean => OptionType::Boolean {},
    };
    Some(OptionDefinition {
        name: name?,
        description,
        required: required.unwrap_or_default(),
        default: default.filter(|value| *value != Value::Null),
        kind,
    })
}

fn integer(reader: &mut Reader, fields: &Fields<'_>, place: &str) -> OptionType {
    let mut bound =
        |key: &str| fields.get(key).and_then(|node| reader.integer(node, &format!("{place}.{key}")));
    let (min, max) = (bound("min"), bound("max"));
    let mut values = Vec::new();
    if let Some(node) = fields.get("values") {
        let place = format!("{place}.values");
        for (at, item) in reader.list(node, &place).iter().enumerate() {
            values.extend(reader.integer(item, &format!("{place}[{at}]")));
        }
    }
    OptionType::Integer { values, min, max }
}
