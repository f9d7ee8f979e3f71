//! The state directory: who this runner is, which session it had last, and the key of its cache.
//!
//! Its directories are 0700 and its files 0600; each file is replaced as a whole, durably, so that a crash leaves the old
//! one or the new one. One process at a time holds it. *Invariant:* a session number is on disk before it is used.

pub mod sealing;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use remit_protocol::{Digest, RunnerId, RunnerName, Session};
use remit_signing::{SigningKey, http::Audience, key::PublicKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

const IDENTITY: &str = "identity.json";
const SESSION: &str = "session";
const CACHE_KEY: &str = "cache.key";
const LOCK: &str = "lock";
/// Where steps have their scratch directories.
pub const SCRATCH: &str = "scratch";
/// Where those have them that the broker has no part in.
pub const WORKERS: &str = "workers";
/// Where the files of options lie, for the broker to read.
pub const OPTIONS: &str = "options";
/// No file of the state is larger; the identity has a few lines.
const MAX_FILE: u64 = 64 << 10;
/// Nor the memory of signed jobs and revocations.
pub const MAX_MEMORY: u64 = 64 << 20;

/// What went wrong with the state directory, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or directory that cannot be read or written.
    #[error("{path}: {source}; check that it belongs to the runner's user and that the disk has room")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could read or write it.
    #[error(
        "{path} has mode {mode:o} and owner {owner}: others could read this runner's keys; chmod {wanted:o} and chown it to the runner's user"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: u32,
        /// The mode that it should have.
        wanted: u32,
    },
    /// Another runner process has it.
    #[error(
        "{0} is in use by another remit-runner; stop that one first, or give this one a state directory of its own"
    )]
    InUse(PathBuf),
    /// Not enrolled.
    #[error("{0} holds no identity; run `remit-runner enrol` with a ticket first")]
    NotEnrolled(PathBuf),
    /// Enrolled already.
    #[error(
        "{0} already holds the identity of runner {1}; use another state directory, or remove this one if that runner was deleted"
    )]
    Enrolled(PathBuf, RunnerName),
    /// A file with other contents than this program writes.
    #[error("{path} is damaged: {why}; restore the state directory from before, or enrol anew")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Who this runner is and whom it believes.
pub struct Identity {
    /// Its id.
    pub runner: RunnerId,
    /// Its name when it enrolled.
    pub name: RunnerName,
    /// Its own key.
    pub key: SigningKey,
    /// What the orchestrator calls itself.
    pub audience: Audience,
    /// The key that signs the orchestrator's answers.
    pub answer_key: PublicKey,
    /// Digest of the certificate that the orchestrator's own has to lead to; absent: the operating system decides.
    pub ca: Option<Digest>,
}

impl Identity {
    /// The identity in the state directory `directory`, which another process may hold.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn read(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(IDENTITY);
        let Some(bytes) = read_private(&path, MAX_FILE)? else {
            return Err(StateError::NotEnrolled(directory.to_owned()));
        };
        let damaged = |why: String| StateError::Damaged { path: path.clone(), why };
        let raw: RawIdentity = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if raw.v != 1 {
            return Err(damaged(format!("its form is {}, and this version knows 1", raw.v)));
        }
        Ok(Self {
            runner: raw.runner,
            name: raw.name.clone(),
            key: SigningKey::from_private_text(&raw.key).map_err(|e| damaged(e.to_string()))?,
            audience: raw.audience.parse().map_err(|e| damaged(format!("{e}")))?,
            answer_key: PublicKey::from_base64(&raw.answer_key).map_err(|e| damaged(e.to_string()))?,
            ca: raw.ca,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIdentity {
    v: u32,
    runner: RunnerId,
    name: RunnerName,
    key: String,
    audience: String,
    answer_key: String,
    ca: Option<Digest>,
}

impl Drop for RawIdentity {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// A state directory that this process holds.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the directory and what belongs into it, as far as it is not there, and holds it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn create(path: &Path) -> Result<Self, StateError> {
        for directory in [path.to_owned(), path.join("journal"), path.join("cache")] {
            make_private(&directory)?;
        }
        Self::hold(path)
    }

    /// Holds the directory of an enrolled runner.
    ///
    /// # Errors
    /// [`StateError::NotEnrolled`] and the other cases.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        if !path.join(IDENTITY).exists() {
            return Err(StateError::NotEnrolled(path.to_owned()));
        }
        Self::create(path)
    }

    fn hold(path: &Path) -> Result<Self, StateError> {
        check_private(path, 0o700)?;
        let lock_path = path.join(LOCK);
        let fault = |source| StateError::Io { path: lock_path.clone(), source };
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(fault)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(path.to_owned())),
            Err(errno) => Err(fault(errno.into())),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where native code is kept.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// Where steps have their scratch directories.
    pub fn scratch(&self) -> PathBuf {
        self.path.join(SCRATCH)
    }

    /// Where the files of options lie while an attempt lives.
    pub fn options(&self) -> PathBuf {
        self.path.join(OPTIONS)
    }

    /// Where those steps have them that the broker has no part in.
    pub fn workers(&self) -> PathBuf {
        self.path.join(WORKERS)
    }

    /// Who this runner is.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn identity(&self) -> Result<Identity, StateError> {
        Identity::read(&self.path)
    }

    /// Keeps a new identity with the session that it begins with.
    ///
    /// # Errors
    /// [`StateError::Enrolled`] if there is one already, and the other cases.
    pub fn enrol(&self, identity: &Identity, session: Session) -> Result<(), StateError> {
        match self.identity() {
            Ok(old) => return Err(StateError::Enrolled(self.path.clone(), old.name)),
            Err(StateError::NotEnrolled(_)) => {}
            Err(other) => return Err(other),
        }
        let raw = RawIdentity {
            v: 1,
            runner: identity.runner,
            name: identity.name.clone(),
            key: identity.key.to_private_text().to_string(),
            audience: identity.audience.to_string(),
            answer_key: identity.answer_key.to_base64(),
            ca: identity.ca,
        };
        let path = self.path.join(IDENTITY);
        let bytes = serde_json::to_vec_pretty(&raw)
            .map_err(|e| StateError::Damaged { path: path.clone(), why: e.to_string() })?;
        self.keep_session(session)?;
        write_private(&path, &Zeroizing::new(bytes))
    }

    /// The newest session that this runner had.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn session(&self) -> Result<Session, StateError> {
        let path = self.path.join(SESSION);
        let bytes = read_private(&path, MAX_FILE)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let number = text.trim_end().parse();
        number.map(Session).map_err(|_| StateError::Damaged { path, why: "it is not a number".to_owned() })
    }

    /// Keeps `session` durably: it may be used when this comes back.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_session(&self, session: Session) -> Result<(), StateError> {
        write_private(&self.path.join(SESSION), format!("{session}\n").as_bytes())
    }

    /// The key of the cache's MAC: made with `fresh` when there is none. It never leaves the host.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn cache_key(&self, fresh: impl FnOnce() -> [u8; 32]) -> Result<Zeroizing<[u8; 32]>, StateError> {
        let path = self.path.join(CACHE_KEY);
        if let Some(bytes) = read_private(&path, MAX_FILE)? {
            let key = <[u8; 32]>::try_from(&bytes[..]).map(Zeroizing::new);
            return key.map_err(|_| StateError::Damaged { path, why: "it is not 32 bytes long".to_owned() });
        }
        let key = Zeroizing::new(fresh());
        write_private(&path, &key[..])?;
        Ok(key)
    }
}

/// Makes a directory that only this user can enter, empty of what an earlier process left in it.
///
/// # Errors
/// [`StateError::Io`].
pub fn make_empty(path: &Path) -> Result<(), StateError> {
    let fault = |source| StateError::Io { path: path.to_owned(), source };
    match fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(error)),
    }
    DirBuilder::new().mode(0o700).create(path).map_err(fault)
}

/// Makes a directory that only this user can enter, if it is not there.
///
/// # Errors
/// [`StateError::Io`].
pub fn make_private(path: &Path) -> Result<(), StateError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StateError::Io { path: path.to_owned(), source })
}

/// Refuses a file or directory of which others than this user could read or write anything.
///
/// # Errors
/// [`StateError::Open`] or [`StateError::Io`].
pub fn check_private(path: &Path, wanted: u32) -> Result<(), StateError> {
    let fault = |source| StateError::Io { path: path.to_owned(), source };
    let found = fs::symlink_metadata(path).map_err(fault)?;
    let (mode, owner) = (found.mode() & 0o7777, found.uid());
    if mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(StateError::Open { path: path.to_owned(), mode, owner, wanted });
    }
    Ok(())
}

/// Reads a file of the state directory of at most `most` bytes; none if it is not there.
///
/// # Errors
/// [`StateError`]: it cannot be read, others could read it, or it is longer.
pub fn read_private(path: &Path, most: u64) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
    let fault = |source| StateError::Io { path: path.to_owned(), source };
    let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    check_private(path, 0o600)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(most + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > most {
        return Err(StateError::Damaged {
            path: path.to_owned(),
            why: format!("it has more than {most} bytes"),
        });
    }
    Ok(Some(bytes))
}

/// Replaces a file as a whole: written beside it, synced, renamed, and the directory synced.
///
/// # Errors
/// [`StateError::Io`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let written = || {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|source| StateError::Io { path: path.to_owned(), source })
}

/// The flag that refuses a symbolic link at the path's end.
pub(crate) fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use remit_signing::KeyName;

    use super::*;

    fn identity() -> Identity {
        let key = SigningKey::from_seed(KeyName::new("runner").unwrap(), &[7; 32]);
        Identity {
            runner: RunnerId::from_u128(5),
            name: RunnerName::new("dmz-1").unwrap(),
            answer_key: SigningKey::from_seed(KeyName::new("answer").unwrap(), &[9; 32]).public(),
            audience: "remit.corp.example".parse().unwrap(),
            ca: Some(Digest::of(b"ca")),
            key,
        }
    }

    #[test]
    fn an_identity_is_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert!(matches!(State::open(&path), Err(StateError::NotEnrolled(_))));
        let state = State::create(&path).unwrap();
        state.enrol(&identity(), Session(0)).unwrap();
        assert!(matches!(state.enrol(&identity(), Session(0)), Err(StateError::Enrolled(..))));
        state.keep_session(Session(41)).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::InUse(_))));
        drop(state);
        let state = State::open(&path).unwrap();
        let found = state.identity().unwrap();
        assert_eq!(found.key.public(), identity().key.public());
        assert_eq!((found.runner, found.ca), (identity().runner, identity().ca));
        assert_eq!(state.session().unwrap(), Session(41));
        let key = state.cache_key(|| [3; 32]).unwrap();
        assert_eq!(state.cache_key(|| [4; 32]).unwrap(), key);
    }

    #[test]
    fn what_others_can_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let state = State::create(&path).unwrap();
        state.enrol(&identity(), Session(0)).unwrap();
        fs::set_permissions(path.join(IDENTITY), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(state.identity(), Err(StateError::Open { mode: 0o640, .. })));
        drop(state);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::Open { wanted: 0o700, .. })));
    }

    #[test]
    fn damage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let state = State::create(&path).unwrap();
        write_private(&path.join(IDENTITY), b"{}").unwrap();
        write_private(&path.join(SESSION), b"many").unwrap();
        assert!(matches!(state.identity(), Err(StateError::Damaged { .. })));
        assert!(matches!(state.session(), Err(StateError::Damaged { .. })));
    }
}
