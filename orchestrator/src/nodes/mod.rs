//! Nodes: sets that people load, sets by digest kept parsed, parts of a set by filter.
//!
//! *Must not know:* how a source is asked, which is a runner's work, or which nodes an execution takes, which is the
//! scheduler's. *Invariant:* a set that is stored has passed every bound.

mod results;

use std::sync::{Arc, Mutex, PoisonError};

use remit_job::filter::{InvalidFilter, NodeFilter};
use remit_protocol::{
    Digest, ProjectName, SourceName, Timestamp, digest, json,
    limits::MAX_NODE_SET,
    node::{InvalidNodes, Node, NodeSet},
};

pub use self::results::{Results, enhance};
use crate::store::{BlobError, Store, StoreError};

/// Most parsed sets that are kept: each may have 100,000 nodes.
const KEPT: usize = 8;
/// The source that people load.
pub const LOADED: &str = "loaded";

/// Why nodes cannot be had or loaded.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// The set.
    #[error(transparent)]
    Invalid(#[from] InvalidNodes),
    /// The filter.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Blobs.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A stored set is not there or cannot be read.
    #[error("the node set {0} cannot be read")]
    Unreadable(Digest),
}

/// The nodes of all projects.
#[derive(Debug)]
pub struct Nodes {
    store: Arc<Store>,
    /// Parsed sets by the digest of their bytes, the one used longest ago first.
    sets: Mutex<Vec<(Digest, Arc<NodeSet>)>>,
}

impl Nodes {
    /// The nodes in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, sets: Mutex::default() }
    }

    /// Takes `set` as the nodes that people loaded into `project`, in place of those before. Gives their number.
    ///
    /// # Errors
    /// A set that is out of bounds, or a disk that is full.
    pub async fn load(&self, project: &ProjectName, set: NodeSet, now: Timestamp) -> Result<u32, NodesError> {
        set.check()?;
        let count = u32::try_from(set.nodes.len()).unwrap_or(u32::MAX);
        let encoded = tokio::task::spawn_blocking(move || serde_json::to_vec(&set));
        let bytes = encoded
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| StoreError::Unavailable("the nodes could not be written down".to_owned()))?;
        let stored = self.store.blobs().put(bytes).await?;
        let name = loaded()?;
        self.store.load_nodes(project, &name, stored, count, now).await?;
        Ok(count)
    }

    /// A stored set, parsed.
    ///
    /// # Errors
    /// A set that is not there.
    pub async fn set(&self, set: digest::Sized) -> Result<Arc<NodeSet>, NodesError> {
        if let Some(found) = self.kept(set.digest) {
            return Ok(found);
        }
        let bytes = self.store.blobs().get(set.digest, MAX_NODE_SET).await?;
        let bytes = bytes.ok_or(NodesError::Unreadable(set.digest))?;
        let parse = tokio::task::spawn_blocking(move || {
            json::from_slice::<NodeSet>(&bytes, usize::try_from(MAX_NODE_SET).unwrap_or(usize::MAX))
        });
        let parsed =
            parse.await.ok().and_then(Result::ok).ok_or(NodesError::Unreadable(set.digest)).map(Arc::new)?;
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= KEPT {
            sets.remove(0);
        }
        sets.push((set.digest, Arc::clone(&parsed)));
        Ok(parsed)
    }

    fn kept(&self, digest: Digest) -> Option<Arc<NodeSet>> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sets.iter().position(|(own, _)| *own == digest)?;
        let found = sets.remove(at);
        let set = Arc::clone(&found.1);
        sets.push(found);
        Some(set)
    }
}

/// The name of the source that people load.
///
/// # Errors
/// Never for the name that it has.
fn loaded() -> Result<SourceName, StoreError> {
    SourceName::new(LOADED).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// A part of `set`: at most `limit` nodes that `filter` selects (or all), after the name `after`. Gives the number of all
/// that are selected, and whether more follow.
///
/// # Errors
/// The filter's.
pub fn page(
    set: &NodeSet,
    filter: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<Node>, usize, bool), InvalidFilter> {
    let filter = filter.map(NodeFilter::parse).transpose()?;
    let selected = |node: &&Node| filter.as_ref().is_none_or(|filter| filter.matches(node));
    let mut total = 0;
    let (mut items, mut more) = (Vec::new(), false);
    for node in set.nodes.iter().filter(selected) {
        total += 1;
        if after.is_some_and(|after| node.name.as_str() <= after) {
            continue;
        }
        if items.len() < limit {
            items.push(node.clone());
        } else {
            more = true;
        }
    }
    Ok((items, total, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> NodeSet {
        let node = |name: &&str| Node {
            name: name.parse().unwrap(),
            tags: [if name.starts_with('w') { "web" } else { "db" }.parse().unwrap()].into(),
            attributes: Default::default(),
        };
        NodeSet { nodes: names.iter().map(node).collect() }
    }

    #[test]
    fn pages_follow_one_another_and_know_the_total() {
        let set = set(&["db1", "web1", "web2", "web3"]);
        let check = |filter: Option<&str>, after: Option<&str>, expect: &[&str], all: usize, rest: bool| {
            let (items, total, more) = page(&set, filter, after, 2).unwrap();
            let names: Vec<_> = items.iter().map(|node| node.name.as_str()).collect();
            assert_eq!((names.as_slice(), total, more), (expect, all, rest), "{filter:?} {after:?}");
        };
        check(None, None, &["db1", "web1"], 4, true);
        check(None, Some("web1"), &["web2", "web3"], 4, false);
        check(Some("tags: web"), None, &["web1", "web2"], 3, true);
        check(Some("tags: web"), Some("web2"), &["web3"], 3, false);
        check(Some("tags: mail"), None, &[], 0, false);
        assert!(page(&set, Some("name: ("), None, 2).is_err());
    }

    #[tokio::test]
    async fn a_set_is_checked_stored_and_kept_parsed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let project: ProjectName = "ops".parse().unwrap();
        let now = Timestamp::from_millis(1_795_000_000_000);
        let made = crate::store::Project {
            name: project.clone(),
            description: Default::default(),
            created: now,
            settings: Default::default(),
        };
        store.create_project(made).await.unwrap();
        let nodes = Nodes::new(Arc::clone(&store));
        assert_eq!(nodes.load(&project, set(&["web2", "web1"]), now).await.unwrap(), 2);
        let source = store.sources(&project).await.unwrap().remove(0);
        let stored = source.nodes.unwrap();
        let first = nodes.set(stored).await.unwrap();
        assert_eq!(*first, set(&["web2", "web1"]));
        assert!(Arc::ptr_eq(&first, &nodes.set(stored).await.unwrap()));
        let twice = nodes.load(&project, set(&["a", "a"]), now).await;
        assert!(matches!(twice, Err(NodesError::Invalid(InvalidNodes::Duplicate(_)))));
        let absent = nodes.set(digest::Sized::of(b"other")).await;
        assert!(matches!(absent, Err(NodesError::Unreadable(_))));
    }
}
