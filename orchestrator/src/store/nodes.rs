//! Nodes of a project: sources in order, each with the set that it last gave.

use std::collections::HashMap;

use remit_protocol::{
    ExecutionId, ProjectName, SourceName, Span, Timestamp, digest,
    node::{Node, NodeSet},
};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, row};

/// Where the nodes of a source come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Somebody loads them.
    Static,
    /// A component discovers them: refreshing runs the source's document.
    Component,
    /// The results of a job say more about nodes that other sources have: refreshing takes the newest ones.
    Job,
}

/// A source that is to be made or changed.
#[derive(Debug, Clone)]
pub struct NewSource {
    /// The project.
    pub project: ProjectName,
    /// Its name, unique in the project.
    pub name: SourceName,
    /// Where its nodes come from.
    pub kind: SourceKind,
    /// As its author wrote it, JSON.
    pub config: serde_json::Value,
    /// For a component: the document of one step that discovers, a blob.
    pub document: Option<digest::Sized>,
    /// How often it is asked anew; none: only on demand.
    pub every: Option<Span>,
}

/// A source of nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The project.
    pub project: ProjectName,
    /// Its name.
    pub name: SourceName,
    /// Its place: later ones win.
    pub position: u32,
    /// Where its nodes come from.
    pub kind: SourceKind,
    /// As its author wrote it.
    pub config: serde_json::Value,
    /// For a component: the document that discovers.
    pub document: Option<digest::Sized>,
    /// How often it is asked anew; none: only on demand.
    pub every: Option<Span>,
    /// The nodes that it last gave, a blob.
    pub nodes: Option<digest::Sized>,
    /// How many.
    pub count: u32,
    /// When it last gave them.
    pub refreshed: Option<Timestamp>,
    /// The newest execution that refreshes or refreshed it.
    pub execution: Option<ExecutionId>,
    /// Why the newest refresh failed, if it did; the older nodes stay.
    pub error: Option<String>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Source> {
    let sized = |digest: &str, length: &str| -> rusqlite::Result<Option<digest::Sized>> {
        Ok(match (row::maybe_digest(row, digest)?, row.get::<_, Option<u64>>(length)?) {
            (Some(digest), Some(length)) => Some(digest::Sized { digest, length }),
            _ => None,
        })
    };
    Ok(Source {
        project: row::text(row, "project")?,
        name: row::text(row, "name")?,
        position: row.get("position")?,
        kind: row::json(row, "kind")?,
        config: row::json(row, "config")?,
        document: sized("document", "length")?,
        every: row.get::<_, Option<u64>>("every")?.map(Span::from_millis),
        nodes: sized("nodes", "nodes_length")?,
        count: row.get("count")?,
        refreshed: row::maybe_time(row, "refreshed")?,
        execution: row::maybe_id(row, "execution", ExecutionId::from_u128)?,
        error: row.get("error")?,
    })
}

/// What a refresh of a source came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// It gave these nodes.
    Nodes {
        /// A blob.
        set: digest::Sized,
        /// How many.
        count: u32,
    },
    /// It did not, and this is why.
    Failed(String),
}

/// Records what a refresh came to. An older refresh than the newest changes nothing.
pub(super) fn refreshed(
    tx: &Connection,
    source: (&ProjectName, &SourceName),
    by: Option<ExecutionId>,
    what: &Refreshed,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (project, name) = source;
    let by = by.map(|id| row::key(id.to_u128()));
    match what {
        Refreshed::Nodes { set, count } => tx
            .prepare_cached(
                "update source set nodes = ?, nodes_length = ?, count = ?, refreshed = ?, error = null
                 where project = ? and name = ? and execution is ?",
            )?
            .execute(params![
                set.digest.as_bytes(),
                set.length,
                count,
                at.as_millis(),
                project.as_str(),
                name.as_str(),
                by
            ])?,
        Refreshed::Failed(why) => tx
            .prepare_cached("update source set error = ? where project = ? and name = ? and execution is ?")?
            .execute(params![why, project.as_str(), name.as_str(), by])?,
    };
    Ok(())
}

impl Store {
    /// Makes a source, behind the others, or changes it in its place; the nodes that it gave stay.
    pub async fn save_source(&self, new: NewSource) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                tx.prepare_cached(
                    "insert into source (project, name, position, kind, config, document, length, every)
                     values (?1, ?2, (select coalesce(max(position), 0) + 1 from source where project = ?1), ?3, ?4, ?5,
                     ?6, ?7) on conflict (project, name) do update set kind = excluded.kind, config = excluded.config,
                     document = excluded.document, length = excluded.length, every = excluded.every",
                )?
                .execute(params![
                    new.project.as_str(),
                    new.name.as_str(),
                    row::to_json(&new.kind)?,
                    row::to_json(&new.config)?,
                    new.document.as_ref().map(|document| document.digest.as_bytes()),
                    new.document.map(|document| document.length),
                    new.every.map(Span::as_millis)
                ])?;
                Ok(())
            })
            .await
    }

    /// Gives a static source the nodes that somebody loaded; the set is a blob already. The source is made, before all
    /// others, if it is not there.
    pub async fn load_nodes(
        &self,
        project: &ProjectName,
        name: &SourceName,
        set: digest::Sized,
        count: u32,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .write(move |tx| {
                tx.prepare_cached(
                    "insert into source (project, name, position, kind, config) values (?, ?, 0, ?, 'null')
                     on conflict do nothing",
                )?
                .execute(params![
                    project.as_str(),
                    name.as_str(),
                    row::to_json(&SourceKind::Static)?
                ])?;
                let kind: SourceKind = tx
                    .prepare_cached("select kind from source where project = ? and name = ?")?
                    .query_row([project.as_str(), name.as_str()], |row| row::json(row, "kind"))?;
                if kind != SourceKind::Static {
                    return Err(StoreError::conflict("node source", name, "its nodes come from a component"));
                }
                refreshed(tx, (&project, &name), None, &Refreshed::Nodes { set, count }, at)
            })
            .await
    }

    /// Gives a source of kind `job` what an execution of the job found out; the set is a blob already.
    pub async fn take_results(
        &self,
        source: &Source,
        by: ExecutionId,
        (set, count): (digest::Sized, u32),
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (project, name) = (source.project.clone(), source.name.clone());
        self.db
            .write(move |tx| {
                tx.prepare_cached("update source set execution = ? where project = ? and name = ?")?
                    .execute(params![row::key(by.to_u128()), project.as_str(), name.as_str()])?;
                refreshed(tx, (&project, &name), Some(by), &Refreshed::Nodes { set, count }, at)
            })
            .await
    }

    /// Takes a source away, with its nodes. True if it was there.
    pub async fn delete_source(&self, project: &ProjectName, name: &SourceName) -> Result<bool, StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .write(move |tx| {
                let gone = tx
                    .prepare_cached("delete from source where project = ? and name = ?")?
                    .execute([project.as_str(), name.as_str()])?;
                Ok(gone == 1)
            })
            .await
    }

    /// The sources that are asked at intervals, of all projects.
    pub async fn sources_with_interval(&self) -> Result<Vec<Source>, StoreError> {
        self.db
            .read(|db| {
                let mut query =
                    db.prepare_cached("select * from source where every is not null order by project, name")?;
                let all = query.query_map([], read)?.collect::<Result<_, _>>()?;
                Ok(all)
            })
            .await
    }

    /// The sources of a project in their order.
    pub async fn sources(&self, project: &ProjectName) -> Result<Vec<Source>, StoreError> {
        let project = project.clone();
        self.db
            .read(move |db| {
                let mut query =
                    db.prepare_cached("select * from source where project = ? order by position, name")?;
                let all = query.query_map([project.as_str()], read)?.collect::<Result<_, _>>()?;
                Ok(all)
            })
            .await
    }
}

/// One set of several: in the order of the first appearance; of two nodes of one name the attributes of the later win,
/// and their tags unite.
pub fn merge(sets: impl IntoIterator<Item = NodeSet>) -> NodeSet {
    let mut nodes: Vec<Node> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for node in sets.into_iter().flat_map(|set| set.nodes) {
        match places.get(node.name.as_str()) {
            Some(&place) => {
                nodes[place].attributes.extend(node.attributes);
                nodes[place].tags.extend(node.tags);
            }
            None => {
                places.insert(node.name.as_str().to_owned(), nodes.len());
                nodes.push(node);
            }
        }
    }
    NodeSet { nodes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_win_and_tags_unite() {
        let set = |text: &str| serde_json::from_str::<NodeSet>(text).unwrap();
        let merged = merge([
            set(r#"{"nodes":[{"name":"a","tags":["x"],"attributes":{"k":"1","l":"1"}},{"name":"b"}]}"#),
            set(r#"{"nodes":[{"name":"c"},{"name":"a","tags":["y"],"attributes":{"k":"2"}}]}"#),
        ]);
        let expect = set(
            r#"{"nodes":[{"name":"a","tags":["x","y"],"attributes":{"k":"2","l":"1"}},{"name":"b"},{"name":"c"}]}"#,
        );
        assert_eq!(merged, expect);
    }
}
