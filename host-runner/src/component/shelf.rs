//! Verified components on disk, so that a restart fetches nothing again. They are verified anew whenever they are read,
//! so nobody has to believe the disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use remit_protocol::{ComponentPin, Digest, Size, endpoint::ComponentBundle, limits::MAX_COMPONENT};

use crate::state::no_follow;

const SUFFIX: &str = "component";
/// Bytes that the shelf takes on disk; the oldest goes first.
const MOST: Size = Size::from_mib(512);
/// Largest entry: the bundle's line, and the component.
const MAX_ENTRY: u64 = MAX_COMPONENT + (4 << 20);

/// The directory of the components: each file is the bundle in one line of JSON, then the bytes.
pub(super) struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn get(&self, pin: &ComponentPin) -> Option<(ComponentBundle, Bytes)> {
        let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(self.path(pin)).ok()?;
        let mut entry = Vec::new();
        file.take(MAX_ENTRY).read_to_end(&mut entry).ok()?;
        let line = entry.iter().position(|byte| *byte == b'\n')?;
        let bundle = serde_json::from_slice(&entry[..line]).ok()?;
        Some((bundle, Bytes::from(entry).slice(line + 1..)))
    }

    pub(super) fn put(&self, pin: &ComponentPin, bundle: &ComponentBundle, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
        serde_json::to_writer(&mut file, bundle)?;
        file.write_all(b"\n")?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(pin)).map_err(|error| error.error)?;
        File::open(&self.directory)?.sync_all()?;
        make_room(&self.directory, SUFFIX, MOST, &self.path(pin))
    }

    fn path(&self, pin: &ComponentPin) -> PathBuf {
        self.directory.join(format!("{}.{SUFFIX}", Digest::of(pin.to_string().as_bytes()).to_hex()))
    }
}

/// Removes the files with this suffix that were used least recently, until they take at most `most`; never `kept`.
pub(super) fn make_room(directory: &Path, suffix: &str, most: Size, kept: &Path) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == suffix)
            && let Ok(found) = fs::symlink_metadata(&path)
        {
            entries.push((found.modified()?, found.len(), path));
        }
    }
    entries.sort();
    let mut total: u64 = entries.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in entries {
        if total <= most.bytes() {
            break;
        }
        if path != kept {
            fs::remove_file(&path)?;
            total -= length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(directory.path().to_owned());
        let digest = Digest::of(b"wasm\nwith a line");
        let bundle = ComponentBundle {
            digest,
            length: 16,
            manifest: "{}\n".to_owned(),
            note: "note\n".to_owned(),
            proof: None,
            verdicts: Vec::new(),
        };
        let pin = |name: &str| ComponentPin {
            name: name.parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            digest,
        };
        assert!(shelf.get(&pin("acme/x")).is_none());
        shelf.put(&pin("acme/x"), &bundle, b"wasm\nwith a line").unwrap();
        assert!(shelf.get(&pin("acme/y")).is_none());
        assert_eq!(shelf.get(&pin("acme/x")), Some((bundle, Bytes::from_static(b"wasm\nwith a line"))));
    }
}
