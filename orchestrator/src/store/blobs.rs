//! Bytes by digest, one file each: `ab/cdef…`. A name is given only to bytes that are complete, on disk and hash to it.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use remit_protocol::{Digest, Timestamp, digest};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// Why bytes were not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// More bytes than the caller allows.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// Not the bytes that were announced, or the stored ones have changed.
    #[error("the bytes hash to {found}, not to {expected}")]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What was computed.
        found: Digest,
    },
    /// The disk is full; nothing was stored.
    #[error("the orchestrator's disk is full; free some space and try again")]
    Full,
    /// The disk failed.
    #[error("blob storage: {0}")]
    Io(io::Error),
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

/// The directory of blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: Arc<PathBuf>,
}

impl Blobs {
    /// Opens the directory, makes it if it is absent, and removes what interrupted uploads left behind.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let uploads = root.join("uploads");
        match std::fs::remove_dir_all(&uploads) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&uploads)?,
        }
        File::open(root)?.sync_all()?;
        Ok(Self { root: Arc::new(root.to_owned()) })
    }

    fn directory(&self, digest: Digest) -> PathBuf {
        self.root.join(&digest.to_hex()[..2])
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.directory(digest).join(&digest.to_hex()[2..])
    }

    /// Begins to store at most `limit` bytes that arrive in pieces. Blocking, as is all of [`Upload`].
    pub fn upload(&self, limit: u64) -> Result<Upload, BlobError> {
        let file = NamedTempFile::new_in(self.root.join("uploads"))?;
        Ok(Upload { blobs: self.clone(), file, hasher: Sha256::new(), length: 0, limit })
    }

    /// Stores `bytes`, unless they are there already. They are on disk when this returns.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<digest::Sized, BlobError> {
        let blobs = self.clone();
        blocking(move || {
            let stored = digest::Sized::of(&bytes);
            if blobs.length_now(stored.digest)? == Some(stored.length) {
                blobs.touch(stored.digest)?;
                return Ok(stored);
            }
            let mut upload = blobs.upload(stored.length)?;
            upload.write(&bytes)?;
            upload.finish(Some(stored.digest))
        })
        .await
    }

    /// The bytes, checked against their digest; none if they are not there or more than `limit`.
    pub async fn get(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>, BlobError> {
        let blobs = self.clone();
        blocking(move || {
            let Some((file, length)) = blobs.open_now(digest)? else { return Ok(None) };
            if length > limit {
                return Err(BlobError::TooLarge { limit });
            }
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
            match Digest::of(&bytes) {
                found if found == digest => Ok(Some(bytes)),
                found => Err(BlobError::Mismatch { expected: digest, found }),
            }
        })
        .await
    }

    /// The file and its length, to be sent in pieces. Who receives it computes the digest itself.
    pub async fn open_file(&self, digest: Digest) -> Result<Option<(File, u64)>, BlobError> {
        let blobs = self.clone();
        blocking(move || blobs.open_now(digest)).await
    }

    /// True if the bytes are there.
    pub async fn has(&self, digest: Digest) -> Result<bool, BlobError> {
        let blobs = self.clone();
        blocking(move || Ok(blobs.length_now(digest)?.is_some())).await
    }

    /// Removes the bytes. True if they were there.
    pub async fn remove(&self, digest: Digest) -> Result<bool, BlobError> {
        let blobs = self.clone();
        blocking(move || match std::fs::remove_file(blobs.path(digest)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// Somebody counts on these bytes from now on: they are as good as new to [`Self::sweep`].
    fn touch(&self, digest: Digest) -> io::Result<()> {
        let keep = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let file = File::open(self.path(digest))?;
        rustix::fs::futimens(&file, &rustix::fs::Timestamps { last_access: keep, last_modification: now })?;
        Ok(())
    }

    /// Removes blobs that are not `used` and that nobody has put for longer than `grace`; gives their number. The grace
    /// covers bytes that are here before anything names them.
    pub async fn sweep(
        &self,
        used: HashSet<Digest>,
        now: Timestamp,
        grace: Duration,
    ) -> Result<u64, BlobError> {
        let blobs = self.clone();
        blocking(move || {
            let mut removed = 0;
            for directory in std::fs::read_dir(blobs.root.as_path())? {
                let directory = directory?;
                let begin = directory.file_name().to_string_lossy().into_owned();
                if begin.len() != 2 {
                    continue;
                }
                for entry in std::fs::read_dir(directory.path())? {
                    let entry = entry?;
                    let rest = entry.file_name().to_string_lossy().into_owned();
                    // What is not named as a blob is not ours to remove.
                    let Ok(digest) = format!("sha256:{begin}{rest}").parse::<Digest>() else { continue };
                    let put = Timestamp::from_system(entry.metadata()?.modified()?);
                    if !used.contains(&digest) && now > put && now.since(put) > grace {
                        std::fs::remove_file(entry.path())?;
                        removed += 1;
                    }
                }
            }
            Ok(removed)
        })
        .await
    }

    fn open_now(&self, digest: Digest) -> Result<Option<(File, u64)>, BlobError> {
        match File::open(self.path(digest)) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some((file, length)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn length_now(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        match std::fs::metadata(self.path(digest)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(BlobError::Io(io::Error::other("the work was broken off"))),
    }
}

/// Bytes on their way in. Dropped before [`Self::finish`], nothing of them stays.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    file: NamedTempFile,
    hasher: Sha256,
    length: u64,
    limit: u64,
}

impl Upload {
    /// How many bytes have come.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next piece; refuses it if it goes beyond the limit.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let length = self.length.saturating_add(piece.len() as u64);
        if length > self.limit {
            return Err(BlobError::TooLarge { limit: self.limit });
        }
        self.file.write_all(piece)?;
        self.hasher.update(piece);
        self.length = length;
        Ok(())
    }

    /// Gives the bytes their name, if they are the expected ones. They are on disk when this returns.
    pub fn finish(self, expected: Option<Digest>) -> Result<digest::Sized, BlobError> {
        let digest = Digest::from_hasher(self.hasher);
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(BlobError::Mismatch { expected, found: digest });
        }
        self.file.as_file().sync_all()?;
        let directory = self.blobs.directory(digest);
        if let Err(error) = std::fs::create_dir(&directory) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error.into());
            }
        } else {
            File::open(self.blobs.root.as_path())?.sync_all()?;
        }
        self.file.persist(self.blobs.path(digest)).map_err(|failed| failed.error)?;
        File::open(directory)?.sync_all()?;
        Ok(digest::Sized { digest, length: self.length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_or_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let stored = blobs.put(b"abc".to_vec()).await.unwrap();
        assert_eq!(stored, digest::Sized::of(b"abc"));
        assert_eq!(blobs.put(b"abc".to_vec()).await.unwrap(), stored);
        assert_eq!(blobs.get(stored.digest, 3).await.unwrap().as_deref(), Some(&b"abc"[..]));
        assert!(matches!(blobs.get(stored.digest, 2).await, Err(BlobError::TooLarge { limit: 2 })));
        assert!(blobs.get(Digest::of(b"other"), 9).await.unwrap().is_none());

        std::fs::write(blobs.path(stored.digest), b"abd").unwrap();
        assert!(matches!(blobs.get(stored.digest, 3).await, Err(BlobError::Mismatch { .. })));
        assert!(blobs.remove(stored.digest).await.unwrap());
        assert!(!blobs.remove(stored.digest).await.unwrap());
    }

    #[test]
    fn an_upload_is_bounded_and_checked() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let mut upload = blobs.upload(4).unwrap();
        upload.write(b"abc").unwrap();
        assert!(matches!(upload.write(b"de"), Err(BlobError::TooLarge { limit: 4 })));
        assert!(matches!(upload.finish(Some(Digest::of(b"x"))), Err(BlobError::Mismatch { .. })));
        assert_eq!(std::fs::read_dir(directory.path().join("uploads")).unwrap().count(), 0);
    }

    #[test]
    fn what_an_interrupted_upload_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        Blobs::open(directory.path()).unwrap();
        std::fs::write(directory.path().join("uploads/left"), b"x").unwrap();
        Blobs::open(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path().join("uploads")).unwrap().count(), 0);
    }
}
