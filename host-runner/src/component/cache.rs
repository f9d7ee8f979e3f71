//! Native code on disk, believed only under this host's own MAC.
//!
//! An entry is `magic | key | length u64 | code | HMAC-SHA256` over everything before. Its key binds the component's
//! computed digest to the engine that compiled it. Whatever does not fit is deleted and compiled anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use remit_protocol::{Digest, Size};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::shelf::make_room;
use crate::state::no_follow;

const MAGIC: &[u8; 8] = b"REMITNC1";
const HEAD: usize = 8 + 32 + 8;
const MAC: usize = 32;
const SUFFIX: &str = "native";
/// Largest native code: Cranelift makes a few bytes out of each byte of wasm.
pub(crate) const MAX_NATIVE: u64 = 1 << 30;

/// The cache's directory, its key and its bound.
pub struct Cache {
    directory: PathBuf,
    key: Zeroizing<[u8; 32]>,
    most: Size,
}

impl Cache {
    /// The cache in `directory`, which is 0700, of at most `most` bytes.
    pub fn new(directory: PathBuf, key: Zeroizing<[u8; 32]>, most: Size) -> Self {
        Self { directory, key, most }
    }

    /// The key of a component's native code for one engine.
    pub fn key(component: Digest, engine: Digest) -> Digest {
        Digest::of(&[&component.as_bytes()[..], &engine.as_bytes()[..]].concat())
    }

    /// The native code under `key`, if it is there and this host's own. What is not is removed.
    pub fn get(&self, key: Digest, now: SystemTime) -> Option<Vec<u8>> {
        let path = self.path(key);
        match self.read(&path, key) {
            Ok(code) => {
                // When it was last used decides what goes first; a file system without times only evicts less well.
                let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(now));
                Some(code)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(entry = %key, %error, "cache: an entry is not used and removed");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    fn read(&self, path: &Path, key: Digest) -> io::Result<Vec<u8>> {
        let bad = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
        let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0
        {
            return Err(bad("it is not a file that only this user can open"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.len().min(MAX_NATIVE)).unwrap_or_default());
        file.take(MAX_NATIVE + 1).read_to_end(&mut bytes)?;
        let (body, mac) = bytes.split_last_chunk::<MAC>().ok_or_else(|| bad("it is cut off"))?;
        self.mac(body)?.verify_slice(mac).map_err(|_| bad("its MAC is not this host's"))?;
        let head = body.get(..HEAD).ok_or_else(|| bad("it is cut off"))?;
        let length = body.len() - HEAD;
        if head[..8] != MAGIC[..]
            || head[8..40] != key.as_bytes()[..]
            || head[40..] != (length as u64).to_le_bytes()
        {
            return Err(bad("it belongs to another component or engine"));
        }
        bytes.truncate(HEAD + length);
        bytes.drain(..HEAD);
        Ok(bytes)
    }

    /// Keeps native code under `key`, and lets the least recently used entries go while the cache is above its bound.
    ///
    /// # Errors
    /// When it cannot be written; then it is compiled again next time.
    pub fn put(&self, key: Digest, code: &[u8]) -> io::Result<()> {
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(key.as_bytes());
        head.extend_from_slice(&(code.len() as u64).to_le_bytes());
        let mut mac = self.mac(&head)?;
        mac.update(code);
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.directory)?;
        file.write_all(&head)?;
        file.write_all(code)?;
        file.write_all(&mac.finalize().into_bytes())?;
        file.as_file().sync_all()?;
        file.persist(self.path(key)).map_err(|error| error.error)?;
        make_room(&self.directory, SUFFIX, self.most, &self.path(key))
    }

    /// Where it lies.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, key: Digest) -> PathBuf {
        self.directory.join(format!("{}.{SUFFIX}", key.to_hex()))
    }

    fn mac(&self, bytes: &[u8]) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::new_from_slice(&self.key[..]).map_err(io::Error::other)?;
        mac.update(bytes);
        Ok(mac)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache(directory: &Path, key: u8, most: u64) -> Cache {
        Cache::new(directory.to_owned(), Zeroizing::new([key; 32]), Size::from_bytes(most))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn only_whole_entries_of_this_host_are_believed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), 1, 1 << 20);
        let key = Cache::key(Digest::of(b"wasm"), Digest::of(b"engine"));
        let path = cache.path(key);
        assert_eq!(cache.get(key, at(1)), None);
        cache.put(key, b"code").unwrap();
        assert_eq!(cache.get(key, at(1)).as_deref(), Some(&b"code"[..]));
        let sound = fs::read(&path).unwrap();
        for byte in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[byte] ^= 1;
            cache.put(key, b"code").unwrap();
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.get(key, at(1)), None, "byte {byte}");
            assert!(!path.exists(), "byte {byte}");
        }
        cache.put(key, b"code").unwrap();
        let other = Cache::key(Digest::of(b"other"), Digest::of(b"engine"));
        fs::rename(&path, cache.path(other)).unwrap();
        assert_eq!(cache.get(other, at(1)), None);
        cache.put(key, b"code").unwrap();
        let stranger =
            Cache { key: Zeroizing::new([2; 32]), directory: directory.path().into(), most: cache.most };
        assert_eq!(stranger.get(key, at(1)), None);
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), 1, 1 << 20);
        let key = Digest::of(b"key");
        cache.put(key, b"code").unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(cache.path(key), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, cache.path(key)).unwrap();
        assert_eq!(cache.get(key, at(1)), None);
        assert!(elsewhere.exists());
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), 1, 400);
        let key = |n: u8| Digest::of(&[n]);
        for n in 1..=3 {
            cache.put(key(n), &[n; 40]).unwrap();
            assert!(cache.get(key(n), at(n.into())).is_some());
        }
        cache.get(key(1), at(10));
        cache.put(key(4), &[4; 40]).unwrap();
        let left: Vec<u8> = (1..=4).filter(|n| cache.path(key(*n)).exists()).collect();
        assert_eq!(left, [1, 3, 4]);
    }
}
