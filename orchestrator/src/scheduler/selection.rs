//! Which nodes there are, and which of them an execution is of.

use std::sync::Arc;

use remit_job::{
    document::{Document, OnEmpty},
    expression::{ExecutionView, Scope},
    filter::NodeFilter,
    trigger,
};
use remit_protocol::{
    ExecutionId, NodeName, ProjectName,
    digest::{self, Digest},
    node::NodeSet,
    operator::RunnerStatus,
};

use super::{
    Scheduler, names,
    trigger::{TriggerError, fault, unstored},
};
use crate::{
    execution::{Head, NodeSelection},
    nodes::enhance,
    store::{Source, SourceKind, StoreError, merge},
};

impl Scheduler {
    /// The nodes of a project by name: its sources, merged in their order.
    pub async fn project_nodes(&self, project: &ProjectName) -> Result<Arc<NodeSet>, StoreError> {
        let sources = self.store().sources(project).await?;
        let sets: Vec<(SourceKind, digest::Sized)> =
            sources.iter().filter_map(|source: &Source| Some((source.kind, source.nodes?))).collect();
        let digests: Vec<Digest> = sets.iter().map(|(_, set)| set.digest).collect();
        if let Some((known, nodes)) = &self.state().nodes
            && *known == digests
        {
            return Ok(Arc::clone(nodes));
        }
        let mut whole = NodeSet::default();
        for (kind, set) in sets {
            let part = self.node_set(set).await?;
            whole = match kind {
                SourceKind::Static | SourceKind::Component => merge([whole, part]),
                SourceKind::Job => enhance(whole, part),
            };
        }
        whole.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let nodes = Arc::new(whole);
        self.state().nodes = Some((digests, Arc::clone(&nodes)));
        Ok(nodes)
    }

    /// Evaluates the job's own numbers and chooses the nodes; the chosen set becomes a blob.
    pub(super) async fn resolve(
        &self,
        id: ExecutionId,
        head: &mut Head,
        document: &Document,
        filter: Option<NodeFilter>,
        given: Option<Option<digest::Sized>>,
    ) -> Result<Arc<[NodeName]>, TriggerError> {
        let view = ExecutionView {
            id,
            job: head.job.clone(),
            revision: head.revision,
            started_by: head.started_by.clone(),
        };
        let scope = Scope::new(&head.project, &view, &head.options).with_variables(&head.variables);
        let resolved = trigger::resolve(document, &scope).map_err(TriggerError::Faults)?;
        head.timeout = resolved.timeout;
        let (Some(chosen), Some(nodes)) = (resolved.nodes, &document.nodes) else {
            if filter.is_some() {
                return Err(fault("filter", "the job has no node steps", "leave the filter out"));
            }
            return Ok(Arc::from([]));
        };
        let chosen = match filter {
            Some(filter) => chosen.with_filter(filter),
            None => chosen,
        };
        let (stored, set) = match given {
            Some(signed) => {
                let missing =
                    || fault("nodes", "the nodes that were signed are not known here", "sign it anew");
                let stored = signed.ok_or_else(missing)?;
                (stored, self.node_set(stored).await.map_err(|_| missing())?)
            }
            None => self.choose(&head.project, &chosen).await?,
        };
        let count = u32::try_from(set.nodes.len()).unwrap_or(u32::MAX);
        head.nodes = Some(NodeSelection {
            set: stored,
            count,
            threads: chosen.threads(count),
            keep_going: nodes.keep_going,
            strategy: document.strategy,
            tiers: trigger::tiers(nodes, &set.nodes),
            max_failures: nodes.max_failures,
            fail_if_empty: nodes.on_empty == OnEmpty::Fail,
            lanes: 0,
        });
        if self.state().is_signed(head) && nodes.tiers.is_some() {
            let message = "a signed run is held to the order of its sections, and tiers are not in it";
            return Err(fault("nodes.tiers", message, "run it unsigned, or take `tiers` out of the job"));
        }
        self.spread(head, document);
        Ok(names(&set))
    }

    /// Splits the nodes over the runners that are there, where the job wants that. What a runner has to follow by itself
    /// stays in one piece: a signed run, what a schedule of a signed job begins, and the children of either.
    pub(super) fn spread(&self, head: &mut Head, document: &Document) {
        let followed = self.state().is_followed(head);
        if followed || !document.nodes.as_ref().is_some_and(|nodes| nodes.spread) {
            return;
        }
        let there =
            self.could_run(head).iter().filter(|(.., status)| *status == RunnerStatus::Healthy).count();
        if let Some(nodes) = &mut head.nodes {
            nodes.lanes = u32::try_from(there).unwrap_or(u32::MAX);
        }
    }

    /// The nodes that a job chooses now; the set becomes a blob.
    async fn choose(
        &self,
        project: &ProjectName,
        chosen: &trigger::ResolvedNodes,
    ) -> Result<(digest::Sized, NodeSet), TriggerError> {
        let all = self.project_nodes(project).await?;
        let picked = chosen.select(&all.nodes);
        let of = |index: &u32| all.nodes.get(usize::try_from(*index).unwrap_or(usize::MAX)).cloned();
        let set = NodeSet { nodes: picked.iter().filter_map(of).collect() };
        set.check().map_err(|invalid| fault("nodes", invalid.to_string(), "narrow the filter"))?;
        let bytes = serde_json::to_vec(&set)
            .map_err(|error| StoreError::Unavailable(format!("writing the nodes: {error}")))?;
        let stored = self.store().blobs().put(bytes).await.map_err(unstored)?;
        Ok((stored, set))
    }
}
