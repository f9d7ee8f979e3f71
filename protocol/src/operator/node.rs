//! Nodes of a project and the sources that they come from.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ComponentName, ComponentSelector, ExecutionId, JobName, SecretName, SecretPath, SourceName, Span, Tag,
    Timestamp, capability::Grant, node::Node,
};

/// Which nodes are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct NodeQuery {
    /// A node filter; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// `next` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many entries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl NodeQuery {
    /// The number of entries to answer with.
    pub fn entries(&self) -> u32 {
        super::entries(self.limit)
    }
}

/// A part of a project's nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodePage {
    /// The nodes, by name.
    pub items: Vec<Node>,
    /// How many there are in all.
    pub total: u64,
    /// Send this as `after` for the next part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A node source to be made: a component of kind `node-source` and what it is given, or a job whose results become attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewSource {
    /// Its name in the project.
    pub name: SourceName,
    /// Which component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<ComponentSelector>,
    /// In place of a component: a job whose newest results become attributes of the nodes that it ran for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// Its input.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub with: Map<String, Value>,
    /// Its secrets, by name.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub secrets: BTreeMap<SecretName, SecretPath>,
    /// What it may do; absent: what the component requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub grant: Option<Grant>,
    /// The tags of the runner that asks it; empty: the local runner.
    #[serde(default)]
    pub runner_tags: BTreeSet<Tag>,
    /// How often it is asked anew; absent: only on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
}

/// How a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SourceStatus {
    /// It has not been asked yet.
    New,
    /// It is being asked.
    Refreshing,
    /// Its nodes are those of the last time.
    Fresh,
    /// The last time failed; its nodes are those of the time before.
    Failed,
}

/// A source of nodes. Later sources win where two name the same node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceView {
    /// Its name; the nodes that people load are the source `loaded`.
    pub name: SourceName,
    /// The component; absent for nodes that people loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentName>,
    /// The component as its maker wrote it, version included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<ComponentSelector>,
    /// The job whose results it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// How it is doing.
    pub status: SourceStatus,
    /// How many nodes it has given.
    pub nodes: u64,
    /// When it gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<Timestamp>,
    /// Why the last time failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The execution that asked or is asking it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// How often it is asked anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// What its maker wrote, as [`NewSource`]; absent for nodes that people loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub config: Option<Value>,
    /// In the answer to saving it: why the runners that are there could not ask it, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}
