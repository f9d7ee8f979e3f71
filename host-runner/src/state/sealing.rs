//! The key with which this runner opens what was typed for it, in a directory of its own: the broker is given that alone.
//!
//! The key is made at enrolment, or at the start of a runner that was enrolled before there was one. Beside it lies the note in
//! which the identity key stands for it, so that nobody has to read the key to tell its public half.

use std::path::{Path, PathBuf};

use remit_protocol::{RunnerId, Timestamp};
use remit_signing::sealing::{SealingKey, SealingNote};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Identity, MAX_FILE, StateError, make_private, read_private, write_private};

const DIRECTORY: &str = "sealing";
const KEY: &str = "key.json";
const NOTE: &str = "note";

/// The key, and whose it is.
pub struct Sealing {
    /// The runner.
    pub runner: RunnerId,
    /// The key.
    pub key: SealingKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    v: u32,
    runner: RunnerId,
    key: String,
    /// When it was made, to the second.
    issued: Timestamp,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Where it is in a state directory.
pub fn place(state: &Path) -> PathBuf {
    state.join(DIRECTORY)
}

/// The key of a state directory; none if none was made yet.
///
/// # Errors
/// [`StateError`]: it cannot be read, others could read it, or it is no key.
pub fn read(state: &Path) -> Result<Option<Sealing>, StateError> {
    Ok(read_raw(state)?.map(|(_, sealing)| sealing))
}

fn read_raw(state: &Path) -> Result<Option<(Timestamp, Sealing)>, StateError> {
    let path = place(state).join(KEY);
    let Some(bytes) = read_private(&path, MAX_FILE)? else { return Ok(None) };
    let damaged = |why: String| StateError::Damaged { path: path.clone(), why };
    let raw: Raw = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if raw.v != 1 {
        return Err(damaged(format!("its form is {}, and this version knows 1", raw.v)));
    }
    let key = SealingKey::from_private_text(&raw.key).map_err(|error| damaged(error.to_string()))?;
    Ok(Some((raw.issued, Sealing { runner: raw.runner, key })))
}

/// Sees to it that the runner has a key, and a note on it. A key of another runner, as in a directory that was copied, is
/// replaced: what was sealed to it is not for this one.
///
/// # Errors
/// [`StateError`].
pub fn settle(
    state: &Path,
    identity: &Identity,
    fresh: impl FnOnce() -> [u8; 32],
    now: Timestamp,
) -> Result<(), StateError> {
    let directory = place(state);
    make_private(&directory)?;
    let known = read_raw(state)?.filter(|(_, sealing)| sealing.runner == identity.runner);
    let (issued, sealing) = match known {
        Some(known) => known,
        None => {
            let key = SealingKey::from_seed(&Zeroizing::new(fresh()));
            let issued = Timestamp::from_millis(now.as_secs() * 1000);
            keep(&directory.join(KEY), identity.runner, &key, issued)?;
            (issued, Sealing { runner: identity.runner, key })
        }
    };
    let path = directory.join(NOTE);
    let about = (identity.runner, &identity.name);
    let note = SealingNote::sign(&identity.key, about, &sealing.key.public(), issued)
        .map_err(|refusal| StateError::Damaged { path: path.clone(), why: refusal.detail })?;
    write_private(&path, &note)
}

fn keep(path: &Path, runner: RunnerId, key: &SealingKey, issued: Timestamp) -> Result<(), StateError> {
    let raw = Raw { v: 1, runner, key: key.to_private_text().to_string(), issued };
    let bytes = serde_json::to_vec_pretty(&raw)
        .map(Zeroizing::new)
        .map_err(|error| StateError::Damaged { path: path.to_owned(), why: error.to_string() })?;
    write_private(path, &bytes)
}

/// The note in which the runner's identity key stands for its sealing key; none if there is none yet.
///
/// # Errors
/// [`StateError`].
pub fn note(state: &Path) -> Result<Option<String>, StateError> {
    let path = place(state).join(NOTE);
    let Some(bytes) = read_private(&path, MAX_FILE)? else { return Ok(None) };
    let text = String::from_utf8(bytes.to_vec());
    text.map(Some).map_err(|error| StateError::Damaged { path, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use remit_protocol::RunnerName;
    use remit_signing::{KeyName, SigningKey};

    use super::*;

    fn identity(runner: u128) -> Identity {
        let key = |name: &str| SigningKey::from_seed(KeyName::new(name).unwrap(), &[7; 32]);
        Identity {
            runner: RunnerId::from_u128(runner),
            name: RunnerName::new("dmz-1").unwrap(),
            answer_key: key("answer").public(),
            audience: "remit.corp.example".parse().unwrap(),
            ca: None,
            key: key("runner"),
        }
    }

    #[test]
    fn a_key_is_made_once_and_its_note_fits() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert!(read(state).unwrap().is_none() && note(state).unwrap().is_none());
        let now = Timestamp::from_millis(1_790_000_000_123);
        settle(state, &identity(5), || [3; 32], now).unwrap();
        let first = read(state).unwrap().unwrap();
        let said = note(state).unwrap().unwrap();
        settle(state, &identity(5), || [4; 32], now).unwrap();
        assert_eq!(read(state).unwrap().unwrap().key.public(), first.key.public());
        assert_eq!(note(state).unwrap().unwrap(), said);
        let pinned = identity(5).key.public().fingerprint();
        let read_note =
            SealingNote::believe(said.as_bytes(), (first.runner, &identity(5).name), pinned).unwrap();
        assert_eq!(read_note.key, first.key.public());

        // Another runner in a directory that was copied has a key of its own.
        settle(state, &identity(6), || [4; 32], now).unwrap();
        let second = read(state).unwrap().unwrap();
        assert_eq!(second.runner, RunnerId::from_u128(6));
        assert_ne!(second.key.public(), first.key.public());
    }

    #[test]
    fn what_others_can_read_or_is_no_key_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        settle(state, &identity(5), || [3; 32], Timestamp::from_millis(0)).unwrap();
        let path = place(state).join(KEY);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(state), Err(StateError::Open { .. })));
        write_private(&path, b"{}").unwrap();
        assert!(matches!(read(state), Err(StateError::Damaged { .. })));
    }
}
