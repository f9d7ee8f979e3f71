//! Nodes: what a node step runs for, and what a node source finds.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Refusal, host};

/// A machine or service with tags and attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Node {
    /// Unique in its project.
    pub name: String,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// Everything else, by name: `hostname`, `username`, `osFamily`, …
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Node {
    /// A node without tags and attributes.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Adds or replaces an attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// About how many bytes it takes on its way.
    fn weight(&self) -> usize {
        let tags = self.tags.iter().map(|tag| tag.len() + 8).sum::<usize>();
        let attributes =
            self.attributes.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>();
        self.name.len() + tags + attributes + 32
    }
}

/// Most nodes of a page; the host takes up to 1,000.
const PAGE_NODES: usize = 500;
/// Most bytes of a page, so that few of them are in memory: one larger node still makes a page.
const PAGE_BYTES: usize = 256 << 10;

/// Where a node source puts what it finds. Pages are made of it by itself; the last one when the function returns `Ok`.
#[derive(Debug, Default)]
pub struct Nodes {
    page: Vec<Node>,
    bytes: usize,
    emitted: u64,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a node. A name that came before replaces the former node.
    pub fn emit(&mut self, node: Node) -> Result<(), Refusal> {
        let weight = node.weight();
        if self.page.len() >= PAGE_NODES || (self.bytes + weight > PAGE_BYTES && !self.page.is_empty()) {
            self.flush()?;
        }
        self.bytes += weight;
        self.emitted += 1;
        self.page.push(node);
        Ok(())
    }

    /// How many nodes were added.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    pub(crate) fn flush(&mut self) -> Result<(), Refusal> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        host::emit(std::mem::take(&mut self.page))
    }
}
