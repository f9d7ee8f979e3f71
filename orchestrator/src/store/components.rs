//! Components: what was published under which name and version. The bytes are blobs.

use remit_protocol::{ComponentName, ComponentSelector, ComponentVersion, Digest, Timestamp, manifest::Kind};
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, row};

/// A published component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is called.
    pub name: ComponentName,
    /// Its version.
    pub version: ComponentVersion,
    /// The component's bytes, a blob.
    pub digest: Digest,
    /// How many bytes.
    pub length: u64,
    /// Step or node source.
    pub kind: Kind,
    /// `manifest.json`, exactly.
    pub manifest: String,
    /// The component note, exactly.
    pub note: String,
    /// When it was published.
    pub published: Timestamp,
    /// Who sent it.
    pub publisher: String,
    /// Since when moving references no longer select it.
    pub yanked: Option<Timestamp>,
}

/// What publishing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is new.
    New,
    /// The same bytes, manifest and note were there already.
    Same,
    /// The same bytes and manifest, with another note, which takes the place of the old one.
    Resigned,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Component> {
    Ok(Component {
        name: row::text(row, "name")?,
        version: row::text(row, "version")?,
        digest: row::digest(row, "digest")?,
        length: row.get("length")?,
        kind: row::json(row, "kind")?,
        manifest: row.get("manifest")?,
        note: row.get("note")?,
        published: row::time(row, "published")?,
        publisher: row.get("publisher")?,
        yanked: row::maybe_time(row, "yanked")?,
    })
}

impl Store {
    /// Records a component whose bytes are a blob; a conflict if the version stands for other bytes.
    pub async fn publish_component(&self, new: Component) -> Result<Published, StoreError> {
        self.db
            .write(move |tx| {
                let version = new.version.to_string();
                let old = tx
                    .prepare_cached("select * from component where name = ? and version = ?")?
                    .query_row([new.name.as_str(), &version], read)
                    .optional()?;
                if let Some(old) = old {
                    if (old.digest, &old.manifest) != (new.digest, &new.manifest) {
                        let name = format!("{}@{version}", new.name);
                        let why = "this version was published with other bytes, and a version is never moved; publish a new version";
                        return Err(StoreError::conflict("component", name, why));
                    }
                    if old.note == new.note {
                        return Ok(Published::Same);
                    }
                    tx.prepare_cached("update component set note = ? where name = ? and version = ?")?
                        .execute(params![new.note, new.name.as_str(), version])?;
                    return Ok(Published::Resigned);
                }
                tx.prepare_cached("insert into component values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
                    new.name.as_str(),
                    version,
                    new.digest.as_bytes(),
                    new.length,
                    row::to_json(&new.kind)?,
                    new.manifest,
                    new.note,
                    new.published.as_millis(),
                    new.publisher,
                    new.yanked.map(Timestamp::as_millis)
                ])?;
                Ok(Published::New)
            })
            .await
    }

    /// The component with these bytes; the newest version, should several have the same.
    pub async fn component_by_digest(&self, digest: Digest) -> Result<Option<Component>, StoreError> {
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached(
                        "select * from component where digest = ? order by published desc limit 1",
                    )?
                    .query_row([digest.as_bytes()], read);
                Ok(found.optional()?)
            })
            .await
    }

    /// The newest version that `selector` selects. A yanked one only if it is named exactly.
    pub async fn select_component(
        &self,
        selector: &ComponentSelector,
    ) -> Result<Option<Component>, StoreError> {
        let selector = selector.clone();
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached("select * from component where name = ?")?;
                let exact = matches!(selector.version(), remit_protocol::VersionSelector::Exact(_));
                let mut newest: Option<Component> = None;
                for found in query.query_map([selector.name().as_str()], read)? {
                    let found = found?;
                    let eligible = selector.selects(&found.version) && (exact || found.yanked.is_none());
                    if eligible && newest.as_ref().is_none_or(|best| found.version > best.version) {
                        newest = Some(found);
                    }
                }
                Ok(newest)
            })
            .await
    }

    /// Every published component, by name, the newest version first.
    pub async fn components(&self) -> Result<Vec<Component>, StoreError> {
        self.db
            .read(|db| {
                let mut query = db.prepare_cached("select * from component")?;
                let mut all: Vec<Component> = query.query_map([], read)?.collect::<Result<_, _>>()?;
                all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| b.version.cmp(&a.version)));
                Ok(all)
            })
            .await
    }

    /// Keeps moving references from selecting a version, or lets them again (`None`).
    pub async fn yank_component(
        &self,
        name: &ComponentName,
        version: &ComponentVersion,
        at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (name, version) = (name.clone(), version.to_string());
        self.db
            .write(move |tx| {
                let found = tx
                    .prepare_cached("update component set yanked = ? where name = ? and version = ?")?
                    .execute(params![at.map(Timestamp::as_millis), name.as_str(), version])?;
                if found == 1 {
                    Ok(())
                } else {
                    Err(StoreError::not_found("component", format!("{name}@{version}")))
                }
            })
            .await
    }
}
