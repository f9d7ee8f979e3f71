//! The files of a log, from an orchestrator or out of a directory.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use remit_protocol::operator::path;
use remit_signing::log::tile::{MAX_BUNDLE, TILE, TileId, TileKind};
use serde::Serialize;

use super::bad;
use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    files as disk,
};

const CHECKPOINT: &str = "checkpoint";
/// Largest checkpoint.
const MAX_CHECKPOINT: u64 = 64 << 10;

/// Where a log's files are.
pub(super) enum Files {
    /// Served by an orchestrator.
    Served(Box<Connection>),
    /// In a directory, such as `remit log mirror` makes.
    Directory(PathBuf),
}

impl Files {
    /// Those that an orchestrator serves.
    pub(super) fn of(connection: Connection) -> Self {
        Self::Served(Box::new(connection))
    }

    /// The newest signed head.
    pub(super) async fn checkpoint(&self) -> Result<Vec<u8>> {
        match self {
            Self::Served(connection) => connection.bytes(path::LOG_CHECKPOINT, MAX_CHECKPOINT).await,
            Self::Directory(directory) => disk::read(&directory.join(CHECKPOINT), MAX_CHECKPOINT),
        }
    }

    /// A tile or bundle. A partial one may be gone where a larger one has taken its place: then the larger one's beginning
    /// is what was asked for.
    pub(super) async fn tile(&self, tile: TileId) -> Result<Vec<u8>> {
        let limit = match tile.kind() {
            TileKind::Hashes(_) => 32 * TILE,
            TileKind::Entries => MAX_BUNDLE as u64,
        };
        match self {
            Self::Served(connection) => connection.bytes(&format!("/log/{tile}"), limit).await,
            Self::Directory(directory) => disk::read(&directory.join(tile.to_string()), limit),
        }
    }
}

/// What a copy came to.
#[derive(Serialize)]
pub(super) struct Mirrored {
    /// How many leaves the log has.
    pub(super) size: u64,
    /// How many files were fetched.
    pub(super) fetched: u64,
}

/// Copies what a log of the served size consists of into `directory`, the checkpoint last: whoever reads the directory
/// meanwhile finds what the checkpoint there speaks of. Nothing is believed here.
pub(super) async fn mirror(files: &Files, directory: &Path) -> Result<Mirrored> {
    let checkpoint = files.checkpoint().await?;
    let size = size(&checkpoint).ok_or_else(|| bad(&"its checkpoint is not an origin, a size and a root"))?;
    let mut fetched = 0;
    for tile in all(size) {
        let to = directory.join(tile.to_string());
        if !to.is_file() {
            disk::write(&to, &files.tile(tile).await?, false)?;
            fetched += 1;
        }
    }
    disk::write(&directory.join(CHECKPOINT), &checkpoint, false)?;
    Ok(Mirrored { size, fetched })
}

/// The size that a checkpoint claims.
fn size(checkpoint: &[u8]) -> Option<u64> {
    std::str::from_utf8(checkpoint).ok()?.lines().nth(1)?.parse().ok()
}

/// Every file of a log of `size` leaves.
fn all(size: u64) -> impl Iterator<Item = TileId> {
    let levels = (0..6).map(TileKind::Hashes).chain([TileKind::Entries]);
    levels.flat_map(move |kind| (0..).map_while(move |index| TileId::of(kind, index, size)))
}

/// Tiles that were fetched, by level and place.
pub(super) type Fetched = BTreeMap<(u8, u64), Vec<u8>>;

/// Fetches tiles of hashes, each of the size that it says.
pub(super) async fn fetch(files: &Files, wanted: impl IntoIterator<Item = TileId>) -> Result<Fetched> {
    let mut fetched = BTreeMap::new();
    for tile in wanted {
        let TileKind::Hashes(level) = tile.kind() else { continue };
        let bytes = files.tile(tile).await?;
        if bytes.len() != usize::from(tile.width()) * 32 {
            let wrong = format!("{tile} has {} bytes", bytes.len());
            return Err(Failure::new(
                Code::Refused,
                wrong,
                "fetch it again; if it persists, ask whoever runs the log",
            ));
        }
        fetched.insert((level, tile.index()), bytes);
    }
    Ok(fetched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_consists_of_these_files() {
        fn check(size: u64, expect: &[&str]) {
            let found: Vec<String> = all(size).map(|tile| tile.to_string()).collect();
            assert_eq!(found, expect, "{size}");
        }
        check(0, &[]);
        check(1, &["tile/0/000.p/1", "tile/entries/000.p/1"]);
        check(
            257,
            &["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/1"],
        );
    }
}
