//! Inventories of Ansible: static ones in INI and YAML, and what `ansible-inventory --list` prints.

use std::collections::BTreeSet;

use remit_sdk::{Context, Fail, JsonSchema, Node, log};
use serde::Deserialize;

use crate::{Emitter, Value, documents};

mod hosts;
mod ini;
mod inventory;

use inventory::Host;
pub use inventory::Inventory;

/// How a static inventory is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "two formats")]
pub enum Format {
    Ini,
    Yaml,
}

impl Format {
    /// By the ending of a file's name, otherwise by how its text starts.
    fn of(name: &str, text: &str) -> Self {
        if [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending)) {
            return Self::Yaml;
        }
        let mut lines = text.lines().map(str::trim_end);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
        let yaml = first.is_some_and(|line| line == "---" || line.starts_with('{') || line.ends_with(':'));
        if yaml && !name.ends_with(".ini") { Self::Yaml } else { Self::Ini }
    }
}

/// Reads a static inventory; without a format, by the file's name and how its text starts.
///
/// # Errors
/// In words for the user, with the place, but without the file's name.
pub fn parse(text: &str, name: &str, format: Option<Format>) -> Result<Inventory, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format.unwrap_or_else(|| Format::of(name, text)) {
        Format::Ini => ini::parse(text),
        Format::Yaml => {
            let mut inventory = Inventory::default();
            documents(text)?.iter().try_for_each(|document| inventory.add_yaml(document))?;
            Ok(inventory)
        }
    }
}

/// Hands over the hosts of an inventory. `wanted` are the variables that become attributes; none: all but those that look
/// like credentials, which are named in the log.
///
/// # Errors
/// Groups in a circle; what the host says of a node.
pub fn emit(
    inventory: Inventory,
    wanted: Option<&[String]>,
    emitter: &mut Emitter<'_>,
    place: &str,
    context: &Context,
) -> Result<(), Fail> {
    let mut dropped = BTreeSet::new();
    for host in inventory.hosts().map_err(|why| Fail::new(why).while_doing(place))? {
        if emitter.emitted().is_multiple_of(1000) {
            context.check_cancelled()?;
        }
        emitter.emit(node(host, wanted, &mut dropped), place)?;
    }
    for name in dropped.iter().take(20) {
        log::warn!("the variable looks like a credential and is left out", variable = name);
    }
    log::info!("nodes were read", nodes = emitter.emitted());
    Ok(())
}

/// Groups that every host is in.
const EVERYBODY: [&str; 2] = ["all", "ungrouped"];
/// Parts of names of variables that hold credentials, and of those that only name a file.
const CREDENTIAL: [&str; 5] = ["pass", "secret", "token", "private_key", "credential"];

fn is_credential(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    value.trim_start().starts_with("$ANSIBLE_VAULT")
        || value.contains("__ansible_vault")
        || (!name.ends_with("_file") && CREDENTIAL.iter().any(|part| name.contains(part)))
}

fn node(host: Host, wanted: Option<&[String]>, dropped: &mut BTreeSet<String>) -> Node {
    let text = |name: &str| match host.variables.get(name) {
        Some(Value::Scalar(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let address =
        text("ansible_host").or_else(|| text("ansible_ssh_host")).unwrap_or_else(|| host.name.clone());
    let hostname = match text("ansible_port").or_else(|| text("ansible_ssh_port")) {
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
        None => address,
    };
    let mut node = Node::new(&host.name).attribute("hostname", hostname);
    if let Some(user) = text("ansible_user").or_else(|| text("ansible_ssh_user")) {
        node = node.attribute("username", user);
    }
    for (name, value) in &host.variables {
        let text = match value {
            Value::Null => continue,
            Value::Scalar(text) => text.clone(),
            Value::List(_) | Value::Map(_) => value.to_json().to_string(),
        };
        match wanted {
            Some(wanted) if !wanted.contains(name) => {}
            None if is_credential(name, &text) => {
                dropped.insert(name.clone());
            }
            Some(_) | None => node = node.attribute(name, text),
        }
    }
    for group in host.groups.iter().filter(|group| !EVERYBODY.contains(&group.as_str())) {
        node = node.tag(group);
    }
    node
}

#[cfg(test)]
mod tests;
