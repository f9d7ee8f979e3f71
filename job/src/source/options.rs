//! `options`: what a job asks when it is run.

use std::collections::BTreeMap;

use remit_protocol::OptionName;

use super::reader::{Fields, Reader};
use crate::{
    options::{ByOption, OfJob, OfNodes, OptionDefinition, OptionType, Values},
    template::Template,
    yaml::{Node, Tree},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    Integer,
    Boolean,
    List,
    Date,
    File,
    Secret,
}

impl Kind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("string", Self::String),
        ("integer", Self::Integer),
        ("boolean", Self::Boolean),
        ("list", Self::List),
        ("date", Self::Date),
        ("file", Self::File),
        ("secret", Self::Secret),
    ];

    /// The keys that an option of this type has beside those that all have.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::String => &["values", "open", "pattern", "min_length", "max_length"],
            Self::Integer => &["values", "min", "max"],
            Self::Boolean => &[],
            Self::List => &["values", "open", "pattern", "min_items", "max_items"],
            Self::Date => &["format", "min", "max"],
            Self::File => &["max_size"],
            Self::Secret => &["values", "typed"],
        }
    }
}

/// The keys of every option.
const KEYS: [&str; 4] = ["type", "description", "required", "default"];

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

/// The type decides which keys there are, so it is looked at first. `enum` is what many would write for a list of values.
fn kind_of(reader: &mut Reader, node: &Node, place: &str) -> Option<Option<Kind>> {
    let Tree::Map(members) = &node.value else { return None };
    let member = members.iter().find(|member| member.key == "type")?;
    let place = format!("{place}.type");
    if matches!(&member.node.value, Tree::Scalar(serde_json::Value::String(text)) if text == "enum") {
        let remedy = "write `type: string` with `values: [a, b]`, or `type: integer` with numbers";
        reader.faults.push(member.mark.fault(&place, "there is no type `enum`", remedy));
        return Some(None);
    }
    Some(reader.word(&member.node, &place, Kind::WORDS))
}

fn option(
    reader: &mut Reader,
    node: &Node,
    place: &str,
    name: Option<OptionName>,
) -> Option<OptionDefinition> {
    let kind = kind_of(reader, node, place);
    let mut keys = KEYS.to_vec();
    match kind {
        Some(Some(kind)) => keys.extend(kind.keys()),
        _ => keys.extend(Kind::WORDS.iter().flat_map(|(_, kind)| kind.keys())),
    }
    let fields = reader.map(node, place, &keys)?;
    let words: Vec<_> = Kind::WORDS.iter().map(|(word, _)| *word).collect();
    let _ =
        reader.required(&fields, "type", &format!("write `type: string`; there are {}", words.join(", ")));
    let at = |key: &str| format!("{place}.{key}");
    let description =
        fields.get("description").and_then(|node| reader.text(node, &at("description"))).unwrap_or_default();
    let required = fields.get("required").and_then(|node| reader.boolean(node, &at("required")));
    let default = fields.get("default").map(Node::to_value).filter(|value| !value.is_null());
    let default = default.and_then(|value| {
        Template::new(value).map_err(|invalid| reader.faults.push(invalid.into_fault(&at("default")))).ok()
    });
    let kind = kind_with(reader, kind??, &fields, place);
    Some(OptionDefinition { name: name?, description, required: required.unwrap_or_default(), default, kind })
}

fn kind_with(reader: &mut Reader, kind: Kind, fields: &Fields<'_>, place: &str) -> OptionType {
    let at = |key: &str| format!("{place}.{key}");
    let pattern =
        |reader: &mut Reader| fields.get("pattern").and_then(|node| reader.text_as(node, &at("pattern")));
    let open = |reader: &mut Reader| {
        fields.get("open").and_then(|node| reader.boolean(node, &at("open"))).unwrap_or_default()
    };
    let count =
        |reader: &mut Reader, key: &str| fields.get(key).and_then(|node| reader.count(node, &at(key)));
    match kind {
        Kind::String => OptionType::String {
            values: values(reader, fields, place),
            open: open(reader),
            pattern: pattern(reader),
            min_length: count(reader, "min_length"),
            max_length: count(reader, "max_length"),
        },
        Kind::List => OptionType::List {
            values: values(reader, fields, place),
            open: open(reader),
            pattern: pattern(reader),
            min_items: count(reader, "min_items"),
            max_items: count(reader, "max_items"),
        },
        Kind::Integer => integer(reader, fields, place),
        Kind::Boolean => OptionType::Boolean {},
        Kind::Date => {
            let mut text = |key: &str| fields.get(key).and_then(|node| reader.text(node, &at(key)));
            let (min, max) = (text("min"), text("max"));
            let format = fields.get("format").and_then(|node| reader.text_as(node, &at("format")));
            OptionType::Date { format: format.unwrap_or_default(), min, max }
        }
        Kind::File => OptionType::File {
            max_size: fields.get("max_size").and_then(|node| reader.text_as(node, &at("max_size"))),
        },
        Kind::Secret => {
            let typed = fields.get("typed").map(|node| (node, reader.text_as(node, &at("typed"))));
            if let Some((node, path)) = typed {
                if fields.get("values").is_some() {
                    let remedy = "write `values` for secrets that the runner has stored, or `typed` for one that is typed";
                    reader.faults.push(node.mark.fault(&at("typed"), "there are `values`, too", remedy));
                }
                if let Some(path) = path {
                    return OptionType::Typed { path };
                }
            }
            let paths = fields.get("values").map(|node| reader.list_of(node, &at("values")));
            OptionType::Secret { values: paths.unwrap_or_default() }
        }
    }
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

/// `values`: a list, or a map that says where they come from.
fn values(reader: &mut Reader, fields: &Fields<'_>, place: &str) -> Values {
    let Some(node) = fields.get("values") else { return Values::default() };
    let place = format!("{place}.values");
    let Tree::Map(members) = &node.value else { return Values::Listed(reader.list_of(node, &place)) };
    let has = |key: &str| members.iter().any(|member| member.key == key);
    let found = if has("by") {
        by_option(reader, node, &place).map(Values::By)
    } else if has("nodes") {
        of_nodes(reader, node, &place).map(Values::Nodes)
    } else if has("job") {
        of_job(reader, node, &place).map(Values::Job)
    } else {
        let remedy =
            "write a list, `{ by: env, of: … }`, `{ nodes: \"tags: web\" }` or `{ job: …, step: … }`";
        reader.fault(&place, "it is not said where the values come from", remedy);
        None
    };
    found.unwrap_or_default()
}

fn by_option(reader: &mut Reader, node: &Node, place: &str) -> Option<ByOption> {
    let fields = reader.map(node, place, &["by", "of"])?;
    let by = fields.get("by").and_then(|node| reader.text_as(node, &format!("{place}.by")));
    let of = reader.required(&fields, "of", "write `of: { dev: [a], prod: [b, c] }`")?;
    let place = format!("{place}.of");
    let Tree::Map(members) = &of.value else {
        reader.fault(&place, format!("this is {}, not a map of lists", of.kind()), "write `{ dev: [a] }`");
        return None;
    };
    let mut lists = BTreeMap::new();
    for member in members {
        lists.insert(member.key.clone(), reader.list_of(&member.node, &format!("{place}.{}", member.key)));
    }
    Some(ByOption { by: by?, of: lists })
}

fn of_nodes(reader: &mut Reader, node: &Node, place: &str) -> Option<OfNodes> {
    let fields = reader.map(node, place, &["nodes", "attribute"])?;
    let nodes = fields.get("nodes").and_then(|node| reader.text_as(node, &format!("{place}.nodes")));
    let attribute = fields.get("attribute").and_then(|node| reader.text(node, &format!("{place}.attribute")));
    Some(OfNodes { nodes: nodes?, attribute })
}

fn of_job(reader: &mut Reader, node: &Node, place: &str) -> Option<OfJob> {
    let fields = reader.map(node, place, &["job", "step", "at", "max_age"])?;
    let at = |key: &str| format!("{place}.{key}");
    let job = fields.get("job").and_then(|node| reader.text_as(node, &at("job")));
    let step = reader
        .required(&fields, "step", "write `step: fetch`: the step whose output holds the list")
        .and_then(|node| reader.text_as(node, &at("step")));
    let pointer = fields.get("at").and_then(|node| reader.text(node, &at("at"))).unwrap_or_default();
    let max_age = fields.get("max_age").and_then(|node| reader.text_as(node, &at("max_age")));
    Some(OfJob { job: job?, step: step?, at: pointer, max_age })
}
