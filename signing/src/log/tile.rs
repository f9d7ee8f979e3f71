//! The files of a log, `c2sp.org/tlog-tiles`: where each stands, what it holds, and how hashes are found in them.
//!
//! A tile holds up to 256 hashes: at level 0 those of leaves, at level L the roots of 256 complete tiles of the level
//! below. A bundle holds the leaves of one tile of level 0. Files with all 256 never change; those at the right edge are
//! called partial and say how many they hold. [`Edge`] is what appending needs of a log: the unfinished tiles, and no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use remit_protocol::{Digest, limits::MAX_NOTE};

use super::tree::{self, leaf_hash};

/// Hashes of a complete tile.
pub const TILE: u64 = 256;
/// Levels of tiles: `c2sp.org/tlog-tiles` has 0 to 5.
const LEVELS: u8 = 6;
/// Bits that one level stands for.
const HEIGHT: u32 = 8;
/// Most leaves of a log, so that every tile has a level.
pub const MAX_SIZE: u64 = 1 << 48;

/// What a file of the log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes at this level, 0 to 5.
    Hashes(u8),
    /// Leaves.
    Entries,
}

/// One file of the log. Its text form is its path below the log's address, such as `tile/0/x001/234.p/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TileId {
    /// The file that holds what a log of `size` leaves has at place `index`; `None` if it has nothing there.
    pub fn of(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let level = match kind {
            TileKind::Hashes(level) if level < LEVELS => level,
            TileKind::Hashes(_) => return None,
            TileKind::Entries => 0,
        };
        let hashes = size.checked_shr(HEIGHT * u32::from(level)).unwrap_or(0);
        let width = hashes.checked_sub(index.checked_mul(TILE)?)?.min(TILE);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Self { kind, index, width })
    }

    /// What it holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its place among those of its kind.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or leaves it holds, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// True if it never changes any more.
    pub fn is_complete(&self) -> bool {
        u64::from(self.width) == TILE
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.is_complete() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// A text that is not the path of a file of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile, such as tile/0/x001/234 or tile/entries/000.p/5")]
pub struct InvalidTile;

impl FromStr for TileId {
    type Err = InvalidTile;

    fn from_str(text: &str) -> Result<Self, InvalidTile> {
        let read = || {
            let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
            let kind = match kind {
                "entries" => TileKind::Entries,
                level => TileKind::Hashes(level.parse().ok().filter(|level| *level < LEVELS)?),
            };
            let (place, width) = match rest.split_once(".p/") {
                Some((place, width)) => (place, width.parse().ok().filter(|width| (1..256).contains(width))?),
                None => (rest, 256),
            };
            let mut index: u64 = 0;
            for group in place.split('/') {
                let digits = group.strip_prefix('x').unwrap_or(group);
                index = index.checked_mul(1000)?.checked_add(digits.parse().ok().filter(|n| *n < 1000)?)?;
            }
            // Every other spelling of the same place is refused: it is written as it was read, or it is none.
            let tile = Self { kind, index, width };
            (index < MAX_SIZE / TILE && tile.to_string() == text).then_some(tile)
        };
        read().ok_or(InvalidTile)
    }
}

/// The file that holds the root of the complete subtree at `height` and place `index`, and which of its hashes lead there.
fn place(height: u32, index: u64) -> Option<(TileKind, u64, std::ops::Range<usize>)> {
    let level = u8::try_from(height / HEIGHT).ok()?;
    let (first, count) = (index.checked_shl(height % HEIGHT)?, 1_u64 << (height % HEIGHT));
    let begin = usize::try_from(first % TILE).ok()?;
    Some((TileKind::Hashes(level), first / TILE, begin..begin + usize::try_from(count).ok()?))
}

/// The hash of a complete subtree, made of the hashes in the tile that holds it; `tile` gives a tile's hashes.
fn node(height: u32, index: u64, tile: impl FnOnce(TileKind, u64) -> Option<Vec<Digest>>) -> Option<Digest> {
    let (kind, at, hashes) = place(height, index)?;
    let tile = tile(kind, at)?;
    tree::fold(tile.get(hashes)?)
}

/// The tiles of a log of one size, as far as they are at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiles {
    size: u64,
    hashes: BTreeMap<(TileKind, u64), Vec<Digest>>,
}

impl Tiles {
    /// No tile yet of a log with `size` leaves.
    pub fn new(size: u64) -> Self {
        Self { size, hashes: BTreeMap::new() }
    }

    /// Takes the bytes of a tile; false if they are not of its width.
    #[must_use]
    pub fn insert(&mut self, tile: TileId, bytes: &[u8]) -> bool {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() != usize::from(tile.width) {
            return false;
        }
        let hashes = hashes.iter().map(|hash| Digest::from_bytes(*hash)).collect();
        self.hashes.insert((tile.kind, tile.index), hashes);
        true
    }

    fn node(&self, height: u32, index: u64) -> Option<Digest> {
        node(height, index, |kind, at| self.hashes.get(&(kind, at)).cloned())
    }

    /// The root over the log's first `size` leaves; `None` if a tile is not at hand.
    pub fn root(&self, size: u64) -> Option<Digest> {
        (size <= self.size).then(|| tree::root(size, &mut |height, index| self.node(height, index)))?
    }

    /// As [`super::Tree::prove_inclusion`].
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if size > self.size {
            return None;
        }
        tree::inclusion(index, size, &mut |height, index| self.node(height, index))
    }

    /// As [`super::Tree::prove_consistency`].
    pub fn prove_consistency(&self, older: u64, newer: u64) -> Option<Vec<Digest>> {
        if newer > self.size {
            return None;
        }
        tree::consistency(older, newer, &mut |height, index| self.node(height, index))
    }

    /// The tiles of a log of `size` leaves that `work` would look into.
    fn wanted(
        size: u64,
        work: impl FnOnce(&mut dyn FnMut(u32, u64) -> Option<Digest>),
    ) -> Option<BTreeSet<TileId>> {
        let mut wanted = BTreeSet::new();
        let mut complete = true;
        work(&mut |height, index| {
            match place(height, index).and_then(|(kind, at, _)| TileId::of(kind, at, size)) {
                Some(tile) => drop(wanted.insert(tile)),
                None => complete = false,
            }
            // What the hash is does not matter: which ones are asked for depends on numbers alone.
            Some(Digest::from_bytes([0; 32]))
        });
        complete.then_some(wanted)
    }

    /// The tiles that the root over the first `part` leaves of a log of `size` needs; `None` if there are not so many.
    pub fn for_root(part: u64, size: u64) -> Option<BTreeSet<TileId>> {
        (part <= size && size <= MAX_SIZE).then(|| {
            Self::wanted(size, |node| {
                let _ = tree::root(part, node);
            })
        })?
    }

    /// The tiles that an inclusion proof needs.
    pub fn for_inclusion(index: u64, size: u64) -> Option<BTreeSet<TileId>> {
        let able = index < size && size <= MAX_SIZE;
        able.then(|| Self::wanted(size, |node| drop(tree::inclusion(index, size, node))))?
    }

    /// The tiles of a log of `size` leaves that a consistency proof between two of its sizes needs.
    pub fn for_consistency(older: u64, newer: u64, size: u64) -> Option<BTreeSet<TileId>> {
        let able = 0 < older && older <= newer && newer <= size && size <= MAX_SIZE;
        able.then(|| Self::wanted(size, |node| drop(tree::consistency(older, newer, node))))?
    }
}

/// The right edge of a log: its unfinished tiles, and those that appending has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// The unfinished tile of each level; the last is empty.
    tiles: Vec<Vec<Digest>>,
    changed: BTreeMap<(u8, u64), Vec<Digest>>,
}

impl Edge {
    /// The tiles that [`Edge::read`] needs of a log that has `size` leaves by now, to stand behind the first `at` of them.
    pub fn tiles(at: u64, size: u64) -> Option<Vec<TileId>> {
        let level = |level: u8| {
            let hashes = at >> (HEIGHT * u32::from(level));
            (!hashes.is_multiple_of(TILE)).then(|| TileId::of(TileKind::Hashes(level), hashes / TILE, size))
        };
        if at > size || size > MAX_SIZE {
            return None;
        }
        (0..LEVELS).filter_map(level).collect()
    }

    /// The edge behind the first `at` leaves; `tile` gives the bytes of a tile, which may hold more than `at` has there.
    /// `None` if one is absent or too short. Whether the hashes are the log's shows when [`Edge::root`] is compared.
    pub fn read(at: u64, mut tile: impl FnMut(u8, u64) -> Option<Vec<u8>>) -> Option<Self> {
        let mut tiles = Vec::new();
        for level in 0..LEVELS {
            let hashes = at >> (HEIGHT * u32::from(level));
            let width = usize::try_from(hashes % TILE).ok()?;
            let mut own = Vec::with_capacity(TILE as usize);
            if width > 0 {
                let bytes = tile(level, hashes / TILE)?;
                own.extend(bytes.as_chunks::<32>().0.get(..width)?.iter().copied().map(Digest::from_bytes));
            }
            tiles.push(own);
        }
        (at <= MAX_SIZE).then_some(Self { size: at, tiles, changed: BTreeMap::new() })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash and gives its place; `None` if the log is full.
    pub fn append(&mut self, leaf: Digest) -> Option<u64> {
        if self.size >= MAX_SIZE {
            return None;
        }
        let place = self.size;
        self.size += 1;
        let mut hash = leaf;
        for level in 0..LEVELS {
            if self.tiles.len() == usize::from(level) {
                self.tiles.push(Vec::new());
            }
            let own = self.tiles.get_mut(usize::from(level))?;
            own.push(hash);
            let index = place >> (HEIGHT * (u32::from(level) + 1));
            self.changed.insert((level, index), own.clone());
            if own.len() < TILE as usize {
                break;
            }
            hash = tree::fold(own)?;
            own.clear();
        }
        Some(place)
    }

    /// The root over all leaves.
    pub fn root(&self) -> Option<Digest> {
        tree::root(self.size, &mut |height, index| {
            node(height, index, |kind, _| match kind {
                TileKind::Hashes(level) => self.tiles.get(usize::from(level)).cloned(),
                TileKind::Entries => None,
            })
        })
    }

    /// The bytes of the tiles that have changed since the last call, by level and place.
    pub fn take_changed(&mut self) -> impl Iterator<Item = (u8, u64, Vec<u8>)> {
        let bytes = |hashes: Vec<Digest>| hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        std::mem::take(&mut self.changed)
            .into_iter()
            .map(move |((level, index), hashes)| (level, index, bytes(hashes)))
    }
}

/// Writes leaves as a bundle: each with its length in two bytes, big-endian. `None` if one is longer than a note may be.
pub fn bundle<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for leaf in leaves {
        bytes.extend(u16::try_from(leaf.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(leaf);
    }
    Some(bytes)
}

/// Largest bundle.
pub const MAX_BUNDLE: usize = (MAX_NOTE + 2) * TILE as usize;

/// The leaves of a bundle with their hashes; `None` if there are not exactly `width`.
pub fn leaves(mut bundle: &[u8], width: u16) -> Option<Vec<(Digest, &[u8])>> {
    let mut found = Vec::with_capacity(width.into());
    for _ in 0..width {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (leaf, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        found.push((leaf_hash(leaf), leaf));
        bundle = rest;
    }
    bundle.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Tree, *};

    /// Everything that a log of these leaves would serve.
    struct Files {
        edge: Edge,
        tiles: BTreeMap<(u8, u64), Vec<u8>>,
    }

    impl Files {
        fn of(leaves: &[Digest], batch: usize) -> Self {
            let mut files = Self { edge: Edge::default(), tiles: BTreeMap::new() };
            for batch in leaves.chunks(batch) {
                for leaf in batch {
                    files.edge.append(*leaf).unwrap();
                }
                let changed: Vec<_> = files.edge.take_changed().collect();
                files.tiles.extend(changed.into_iter().map(|(level, index, bytes)| ((level, index), bytes)));
                // The edge is nothing that the files do not hold.
                let again =
                    Edge::read(files.edge.size(), |level, index| files.tiles.get(&(level, index)).cloned());
                let again = again.unwrap();
                assert_eq!((again.size(), again.root()), (files.edge.size(), files.edge.root()));
            }
            files
        }

        fn get(&self, wanted: &BTreeSet<TileId>, size: u64) -> Tiles {
            let mut tiles = Tiles::new(size);
            for tile in wanted {
                let TileKind::Hashes(level) = tile.kind() else { panic!("{tile}") };
                let bytes = &self.tiles[&(level, tile.index())];
                assert!(tiles.insert(*tile, &bytes[..usize::from(tile.width()) * 32]), "{tile}");
            }
            tiles
        }
    }

    fn hashes(count: u64) -> Vec<Digest> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    #[test]
    fn a_tile_has_one_path() {
        fn check(path: &str, kind: TileKind, index: u64, width: u16) {
            let tile = TileId { kind, index, width };
            assert_eq!(tile.to_string(), path);
            assert_eq!(path.parse(), Ok(tile));
        }
        check("tile/0/000", TileKind::Hashes(0), 0, 256);
        check("tile/0/x001/234", TileKind::Hashes(0), 1234, 256);
        check("tile/3/x001/x234/067", TileKind::Hashes(3), 1_234_067, 256);
        check("tile/0/x001/x234/067.p/8", TileKind::Hashes(0), 1_234_067, 8);
        check("tile/entries/x001/000.p/255", TileKind::Entries, 1000, 255);
        check("tile/entries/999", TileKind::Entries, 999, 256);
    }

    #[test]
    fn no_other_text_is_a_path() {
        fn check(path: &str) {
            assert_eq!(path.parse::<TileId>(), Err(InvalidTile), "{path}");
        }
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/6/000",
            "tile/00/000",
            "tile/-1/000",
            "tile/data/000",
            "tile/0/0",
            "tile/0/1234",
            "tile/0/x000/001",
            "tile/0/001/234",
            "tile/0/x001",
            "tile/0/x001/x234",
            "tile/0/x001/234/",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/08",
            "tile/0/000.p/",
            "tile/0/000.p/1/000",
            "tile/0/../000",
            "/tile/0/000",
            "tile/0/x1/234",
            "tile/0/+01",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/000.p/+1",
            "tile/+0/000",
        ] {
            check(path);
        }
    }

    #[test]
    fn a_log_has_the_tiles_of_its_size() {
        fn check(kind: TileKind, index: u64, size: u64, expect: Option<u16>) {
            assert_eq!(TileId::of(kind, index, size).map(|tile| tile.width()), expect, "{index} of {size}");
        }
        check(TileKind::Hashes(0), 0, 0, None);
        check(TileKind::Hashes(0), 0, 1, Some(1));
        check(TileKind::Hashes(0), 0, 256, Some(256));
        check(TileKind::Hashes(0), 1, 256, None);
        check(TileKind::Hashes(0), 1, 257, Some(1));
        check(TileKind::Hashes(1), 0, 255, None);
        check(TileKind::Hashes(1), 0, 256, Some(1));
        check(TileKind::Hashes(1), 0, 70_000, Some(256));
        check(TileKind::Hashes(1), 1, 70_000, Some(17));
        check(TileKind::Hashes(2), 0, 70_000, Some(1));
        check(TileKind::Hashes(6), 0, u64::MAX, None);
        check(TileKind::Entries, 273, 70_000, Some(112));
        check(TileKind::Entries, u64::MAX, 70_000, None);
    }

    /// Tiles say what the tree says, at sizes around every border, whichever batches made them.
    #[test]
    fn tiles_prove_what_the_tree_proves() {
        let leaves = hashes(66_000);
        let mut tree = Tree::default();
        for leaf in &leaves {
            tree.append(*leaf);
        }
        let files = Files::of(&leaves, 1000);
        assert_eq!(files.edge.root(), Some(tree.root()));
        for size in [1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 66_000] {
            let wanted = Tiles::for_root(size, 66_000).unwrap();
            assert_eq!(files.get(&wanted, 66_000).root(size), tree.root_of(size), "{size}");
            for index in [0, 1, 254, 255, 256, 300, 65_535, 65_536].into_iter().filter(|index| *index < size)
            {
                let wanted = Tiles::for_inclusion(index, size).unwrap();
                let proof = files.get(&wanted, size).prove_inclusion(index, size);
                assert_eq!(proof, tree.prove_inclusion(index, size), "{index} of {size}");
            }
            for older in [1, 2, 255, 256, 257, 400, 65_536].into_iter().filter(|older| *older <= size) {
                let wanted = Tiles::for_consistency(older, size, 66_000).unwrap();
                let proof = files.get(&wanted, 66_000).prove_consistency(older, size);
                assert_eq!(proof, tree.prove_consistency(older, size), "{older} in {size}");
            }
            // Whoever goes on from an earlier size comes to the same root.
            let mut tiles =
                Edge::tiles(size, 66_000).unwrap().into_iter().map(|tile| (tile.kind(), tile.index()));
            let mut edge = Edge::read(size, |level, index| {
                assert_eq!(tiles.next(), Some((TileKind::Hashes(level), index)));
                files.tiles.get(&(level, index)).cloned()
            })
            .unwrap();
            assert_eq!(edge.root(), tree.root_of(size));
            for leaf in &leaves[usize::try_from(size).unwrap()..] {
                edge.append(*leaf).unwrap();
            }
            assert_eq!(edge.root(), Some(tree.root()));
        }
        assert_eq!(Tiles::for_inclusion(5, 5), None);
        assert_eq!(Tiles::for_consistency(0, 5, 5), None);
        assert_eq!(Tiles::for_consistency(3, 6, 5), None);
        assert_eq!(Tiles::for_root(6, 5), None);
        assert_eq!(Edge::tiles(6, 5), None);
    }

    #[test]
    fn an_empty_log_has_a_root() {
        let edge = Edge::read(0, |_, _| None).unwrap();
        assert_eq!(edge.root(), Some(Digest::of(b"")));
        assert!(Edge::read(1, |_, _| None).is_none());
        assert!(Edge::read(2, |_, _| Some(vec![0; 32])).is_none());
    }

    #[test]
    fn a_tile_of_another_width_is_not_taken() {
        let tile = "tile/0/000.p/2".parse().unwrap();
        let mut tiles = Tiles::new(2);
        assert!(!tiles.insert(tile, &[0; 32]));
        assert!(!tiles.insert(tile, &[0; 65]));
        assert!(tiles.root(2).is_none());
        assert!(tiles.insert(tile, &[0; 64]));
        assert!(tiles.root(2).is_some());
    }

    #[test]
    fn a_bundle_holds_its_leaves_and_nothing_else() {
        let made = bundle([&b"one"[..], b"", b"three"]).unwrap();
        assert_eq!(made, b"\0\x03one\0\0\0\x05three");
        let found = leaves(&made, 3).unwrap();
        let expect: Vec<_> = [&b"one"[..], b"", b"three"].map(|leaf| (leaf_hash(leaf), leaf)).to_vec();
        assert_eq!(found, expect);
        assert!(leaves(&made, 2).is_none());
        assert!(leaves(&made, 4).is_none());
        assert!(leaves(&made[..made.len() - 1], 3).is_none());
        assert!(bundle([&[0_u8; 65_536][..]]).is_none());
        assert_eq!(bundle([&[0_u8; 65_535][..]]).unwrap().len(), 65_537);
    }

    proptest! {
        /// Partial tiles of every width, made in batches of every length.
        #[test]
        fn batches_do_not_matter(count in 1_u64..900, batch in 1_usize..300, at in 0_u64..900) {
            let leaves = hashes(count);
            let files = Files::of(&leaves, batch);
            let mut tree = Tree::default();
            for leaf in &leaves {
                tree.append(*leaf);
            }
            prop_assert_eq!(files.edge.root(), Some(tree.root()));
            let index = at % count;
            let tiles = files.get(&Tiles::for_inclusion(index, count).unwrap(), count);
            prop_assert_eq!(tiles.prove_inclusion(index, count), tree.prove_inclusion(index, count));
            let tiles = files.get(&Tiles::for_consistency(index + 1, count, count).unwrap(), count);
            prop_assert_eq!(tiles.prove_consistency(index + 1, count), tree.prove_consistency(index + 1, count));
        }

        #[test]
        fn no_numbers_make_it_panic(kind in 0_u8..8, index: u64, size: u64, other: u64) {
            let _ = TileId::of(TileKind::Hashes(kind), index, size);
            let _ = TileId::of(TileKind::Entries, index, size);
            let _ = Tiles::for_root(index, size);
            let _ = Tiles::for_inclusion(index, size);
            let _ = Tiles::for_consistency(index, other, size);
            let _ = Edge::tiles(index, size);
            let _ = Edge::read(index, |_, _| Some(vec![0; 31]));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(tile/)?[0-9a-z./x]{0,30}") {
            if let Ok(tile) = text.parse::<TileId>() {
                prop_assert_eq!(tile.to_string(), text);
            }
        }
    }
}
