//! What the built-in node sources share: resource models in YAML, JSON and XML, as Rundeck writes them, and names that
//! come twice.
//!
//! *Must not know:* where a text comes from. *Invariant:* reading a text takes memory in proportion to its length,
//! whatever its aliases and entities say.

use std::collections::HashSet;

use remit_sdk::{Fail, JsonSchema, Node, Nodes, log};
use serde::Deserialize;

pub mod ansible;

mod entry;
mod json;
mod xml;
mod yaml;

pub use entry::{Value, split_tags};
pub use yaml::documents;

/// How a resource model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "three formats")]
pub enum Format {
    Yaml,
    Json,
    Xml,
}

impl Format {
    /// By the ending of a file's name.
    pub fn of(path: &str) -> Option<Self> {
        let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase())?;
        match ending.as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "xml" => Some(Self::Xml),
            _ => None,
        }
    }

    /// By how a text starts.
    pub fn guessed(text: &str) -> Self {
        match text.trim_start().chars().next() {
            Some('<') => Self::Xml,
            Some('{' | '[') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// The nodes of a resource model, in its order; without a format, it is guessed by how the text starts.
///
/// # Errors
/// In words for the user, with the place, but without the file's name.
pub fn parse(text: &str, format: Option<Format>) -> Result<Vec<Node>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format.unwrap_or_else(|| Format::guessed(text)) {
        Format::Yaml => yaml::nodes(text),
        Format::Json => json::nodes(text),
        Format::Xml => xml::nodes(text),
    }
}

/// Hands nodes over and tells of names that came before.
#[derive(Debug)]
pub struct Emitter<'a> {
    nodes: &'a mut Nodes,
    seen: HashSet<String>,
}

impl<'a> Emitter<'a> {
    /// Hands over to `nodes`.
    pub fn new(nodes: &'a mut Nodes) -> Self {
        Self { nodes, seen: HashSet::new() }
    }

    /// Hands over one node; `place` is where it was found, for the log and for errors.
    ///
    /// # Errors
    /// What the host says: a node that is not acceptable, a full set.
    pub fn emit(&mut self, node: Node, place: &str) -> Result<(), Fail> {
        if !self.seen.insert(node.name.clone()) {
            log::warn!("the node stands twice; the later one holds", node = node.name, place = place);
        }
        self.nodes.emit(node).map_err(|refusal| Fail::from(refusal).while_doing(place))
    }

    /// Hands over all nodes of a text.
    ///
    /// # Errors
    /// As [`parse`] and [`Emitter::emit`].
    pub fn emit_all(&mut self, text: &str, format: Option<Format>, place: &str) -> Result<(), Fail> {
        let found = parse(text, format).map_err(|why| Fail::new(why).while_doing(place))?;
        found.into_iter().try_for_each(|node| self.emit(node, place))
    }

    /// How many were handed over.
    pub fn emitted(&self) -> u64 {
        self.nodes.emitted()
    }
}
