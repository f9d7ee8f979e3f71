//! The transparency log as it lasts: leaves, the hashes of its tiles, and the newest head that was signed.
//!
//! Leaves, tiles and head change in one transaction, so no crash leaves a head without its leaves, and no two heads are
//! ever signed for one size.

use remit_protocol::{Digest, limits::MAX_NOTE};
use remit_signing::log::{
    leaf_hash,
    tile::{Edge, TileId, TileKind, Tiles},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError, row};

/// Notes that are read at once when the store looks for those that are not in the log.
const PAGE: u32 = 256;

/// The newest signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// The signed note.
    pub checkpoint: String,
}

/// That a leaf is in the log, under its newest head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafProof {
    /// The leaf's place.
    pub index: u64,
    /// From its sibling up.
    pub hashes: Vec<Digest>,
    /// The head.
    pub head: LogHead,
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("the transparency log: {what}"))
}

fn head(db: &Connection) -> Result<Option<LogHead>, StoreError> {
    let mut query = db.prepare_cached("select * from log_head")?;
    let found = query.query_row([], |found| {
        Ok(LogHead {
            size: found.get("size")?,
            root: row::digest(found, "root")?,
            checkpoint: found.get("checkpoint")?,
        })
    });
    Ok(found.optional()?)
}

fn tile(db: &Connection, level: u8, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let mut query = db.prepare_cached("select hashes from tile where level = ? and number = ?")?;
    Ok(query.query_row(params![level, number], |found| found.get(0)).optional()?)
}

fn find(db: &Connection, hash: &Digest) -> Result<Option<u64>, StoreError> {
    let mut query = db.prepare_cached("select number from leaf where hash = ?")?;
    Ok(query.query_row([hash.as_bytes()], |found| found.get(0)).optional()?)
}

/// The tiles of a log of `size` leaves that a proof wants.
fn tiles(db: &Connection, size: u64, wanted: impl IntoIterator<Item = TileId>) -> Result<Tiles, StoreError> {
    let mut tiles = Tiles::new(size);
    for id in wanted {
        let TileKind::Hashes(level) = id.kind() else { return Err(damaged("no tile of hashes")) };
        let bytes = tile(db, level, id.index())?.unwrap_or_default();
        let part = bytes.get(..usize::from(id.width()) * 32);
        if !part.is_some_and(|part| tiles.insert(id, part)) {
            return Err(damaged(&format!("{id} is not whole")));
        }
    }
    Ok(tiles)
}

/// Appends what is not there yet, signs the new head, and gives the place of each note.
fn append(
    tx: &Connection,
    notes: &[Vec<u8>],
    sign: impl FnOnce(u64, &Digest) -> Result<String, StoreError>,
) -> Result<Vec<u64>, StoreError> {
    let before = head(tx)?;
    let size = before.as_ref().map_or(0, |head| head.size);
    let mut failed = None;
    let edge = Edge::read(size, |level, number| {
        tile(tx, level, number).unwrap_or_else(|error| {
            failed = Some(error);
            None
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let mut edge = edge.ok_or_else(|| damaged("an unfinished tile is not whole"))?;
    let mut places = Vec::with_capacity(notes.len());
    for note in notes {
        if note.len() > MAX_NOTE {
            return Err(StoreError::conflict(
                "note",
                note.len(),
                "it is longer than a leaf of the log may be",
            ));
        }
        let hash = leaf_hash(note);
        let place = match find(tx, &hash)? {
            Some(place) => place,
            None => {
                let place = edge.append(hash).ok_or_else(|| damaged("it is full"))?;
                tx.prepare_cached("insert into leaf values (?, ?, ?)")?.execute(params![
                    place,
                    hash.as_bytes(),
                    note
                ])?;
                place
            }
        };
        places.push(place);
    }
    if before.is_some() && edge.size() == size {
        return Ok(places);
    }
    for (level, number, bytes) in edge.take_changed() {
        tx.prepare_cached("insert or replace into tile values (?, ?, ?)")?
            .execute(params![level, number, bytes])?;
    }
    let root = edge.root().ok_or_else(|| damaged("its root cannot be computed"))?;
    let checkpoint = sign(edge.size(), &root)?;
    tx.prepare_cached("insert or replace into log_head values (0, ?, ?, ?)")?.execute(params![
        edge.size(),
        root.as_bytes(),
        checkpoint
    ])?;
    Ok(places)
}

impl Store {
    /// Appends notes to the transparency log, as far as they are not in it, under a head that `sign` signs for size and
    /// root. Gives the place of each.
    pub async fn append_notes(
        &self,
        notes: Vec<Vec<u8>>,
        sign: impl FnOnce(u64, &Digest) -> Result<String, StoreError> + Send + 'static,
    ) -> Result<Vec<u64>, StoreError> {
        self.db.write(move |tx| append(tx, &notes, sign)).await
    }

    /// The newest head; none before the first append.
    pub async fn log_head(&self) -> Result<Option<LogHead>, StoreError> {
        self.db.read(head).await
    }

    /// Puts another signature on the newest head: of a new key.
    pub async fn sign_log_head(
        &self,
        sign: impl FnOnce(u64, &Digest) -> Result<String, StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                if let Some(head) = head(tx)? {
                    let checkpoint = sign(head.size, &head.root)?;
                    tx.execute("update log_head set checkpoint = ?", [checkpoint])?;
                }
                Ok(())
            })
            .await
    }

    /// The hashes of a tile, which may have grown since it was asked for.
    pub async fn log_tile(&self, level: u8, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.read(move |db| tile(db, level, number)).await
    }

    /// The leaves at the places `first .. end`.
    pub async fn log_leaves(&self, first: u64, end: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select note from leaf where number >= ? and number < ? order by number",
                )?;
                Ok(query.query_map([first, end], |found| found.get(0))?.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Shows that the leaf with this hash is in the log; `None` if it is not.
    pub async fn prove_leaf(&self, hash: Digest) -> Result<Option<LeafProof>, StoreError> {
        self.db
            .read(move |db| {
                let (Some(head), Some(index)) = (head(db)?, find(db, &hash)?) else { return Ok(None) };
                let wanted = Tiles::for_inclusion(index, head.size).unwrap_or_default();
                let hashes = tiles(db, head.size, wanted)?.prove_inclusion(index, head.size);
                let hashes = hashes.ok_or_else(|| damaged("a tile is not there"))?;
                Ok(Some(LeafProof { index, hashes, head }))
            })
            .await
    }

    /// Shows that the log of `older` leaves is where the log of `newer` leaves begins; `None` if it never had so many.
    pub async fn prove_consistency(&self, older: u64, newer: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.db
            .read(move |db| {
                let size = head(db)?.map_or(0, |head| head.size);
                let Some(wanted) = Tiles::for_consistency(older, newer, size) else { return Ok(None) };
                let proof = tiles(db, size, wanted)?.prove_consistency(older, newer);
                proof.map(Some).ok_or_else(|| damaged("a tile is not there"))
            })
            .await
    }

    /// Notes that are served and not in the log: a page of them, of which there may be more. Only a store that was
    /// written before there was a log has any.
    pub async fn unlogged_notes(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.db
            .read(|db| {
                let mut query = db.prepare(
                    "select note from component union all select note from verdict
                     union all select note from job_revision where note is not null",
                )?;
                let mut found = Vec::new();
                let mut rows = query.query([])?;
                while let Some(next) = rows.next()?
                    && found.len() < PAGE as usize
                {
                    let note: String = next.get(0)?;
                    if find(db, &leaf_hash(note.as_bytes()))?.is_none() {
                        found.push(note.into_bytes());
                    }
                }
                Ok(found)
            })
            .await
    }
}
