//! A node: a machine or service with attributes and tags, and the set of nodes that an execution runs over.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    NodeName, Tag,
    limits::{MAX_ATTRIBUTE, MAX_NODE_ATTRIBUTES, MAX_NODES},
};

/// A machine or service as a node source describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node {
    /// Unique in its project.
    pub name: NodeName,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// Everything else, by name: `hostname`, `username`, `osFamily`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Why a node or a set of nodes is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNodes {
    /// Too many nodes.
    #[error("{0} nodes, at most {MAX_NODES} are allowed in one set")]
    TooMany(usize),
    /// Too many attributes.
    #[error("node {0}: more than {MAX_NODE_ATTRIBUTES} attributes")]
    TooManyAttributes(NodeName),
    /// An attribute's name or value is too long or holds control characters in its name.
    #[error("node {0}: the attribute {1:?} is longer than {MAX_ATTRIBUTE} bytes or has an unusable name")]
    Attribute(NodeName, String),
    /// The same name twice.
    #[error("node {0} stands twice")]
    Duplicate(NodeName),
}

impl Node {
    /// The attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// Checks the bounds of attributes.
    pub fn check(&self) -> Result<(), InvalidNodes> {
        if self.attributes.len() > MAX_NODE_ATTRIBUTES {
            return Err(InvalidNodes::TooManyAttributes(self.name.clone()));
        }
        for (name, value) in &self.attributes {
            if name.is_empty()
                || name.len() > 255
                || name.chars().any(char::is_control)
                || value.len() > MAX_ATTRIBUTE
            {
                return Err(InvalidNodes::Attribute(self.name.clone(), name.chars().take(80).collect()));
            }
        }
        Ok(())
    }
}

/// The nodes of one execution, in the order in which they are run; stored and sent as a blob by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSet {
    /// The nodes; a [`crate::NodeIndex`] counts from the first.
    pub nodes: Vec<Node>,
}

impl NodeSet {
    /// Checks number, bounds and that no name stands twice.
    pub fn check(&self) -> Result<(), InvalidNodes> {
        if self.nodes.len() > MAX_NODES {
            return Err(InvalidNodes::TooMany(self.nodes.len()));
        }
        let mut seen = std::collections::HashSet::with_capacity(self.nodes.len());
        for node in &self.nodes {
            node.check()?;
            if !seen.insert(node.name.as_str()) {
                return Err(InvalidNodes::Duplicate(node.name.clone()));
            }
        }
        Ok(())
    }
}
