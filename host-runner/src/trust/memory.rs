//! What a runner remembers: one file in its state directory, replaced as a whole.

use std::path::{Path, PathBuf};

use remit_protocol::{ExecutionId, Timestamp, assignment::ChildOf};
use remit_signing::{Refusal, policy::TrustMemory};
use serde::{Deserialize, Serialize};

use super::NotBelieved;
use crate::state::{self, StateError};

const FILE: &str = "trust.json";

/// The memory, and where it is kept.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<PathBuf>,
    kept: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    v: u32,
    /// The latest time that was written down.
    time: Timestamp,
    trust: TrustMemory,
}

impl Default for Kept {
    fn default() -> Self {
        Self { v: 1, time: Timestamp::from_millis(0), trust: TrustMemory::default() }
    }
}

impl Memory {
    /// For a process that remembers nothing beyond itself.
    pub(super) fn nowhere() -> Self {
        Self { file: None, kept: Kept::default() }
    }

    /// The memory in the state directory `state`; a fresh one where there is none yet.
    pub(super) fn open(state: &Path) -> Result<Self, StateError> {
        let file = state.join(FILE);
        let kept = match state::read_private(&file, state::MAX_MEMORY)? {
            None => Kept::default(),
            Some(bytes) => {
                let damaged = |why: String| StateError::Damaged { path: file.clone(), why };
                let kept: Kept = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
                if kept.v != 1 {
                    return Err(damaged(format!("its form is {}, and this version knows 1", kept.v)));
                }
                kept
            }
        };
        Ok(Self { file: Some(file), kept })
    }

    /// Learns something; it is on disk when this comes back. Nothing is written where nothing is new.
    pub(super) fn learn<T>(
        &mut self,
        lesson: impl FnOnce(&mut TrustMemory) -> Result<T, Refusal>,
    ) -> Result<T, NotBelieved> {
        let mut trust = self.kept.trust.clone();
        let learnt = lesson(&mut trust)?;
        if trust != self.kept.trust {
            self.write(Kept { trust, ..self.kept.clone() })?;
        }
        Ok(learnt)
    }

    /// The run that began here for this step of another run and this item.
    pub(super) fn child_at(&self, place: &ChildOf) -> Option<ExecutionId> {
        self.kept.trust.child_at(place)
    }

    /// The latest time that was written down.
    pub(super) fn latest(&self) -> Timestamp {
        self.kept.time
    }

    /// Writes a later time down.
    pub(super) fn note_time(&mut self, time: Timestamp) -> Result<(), StateError> {
        self.write(Kept { time, ..self.kept.clone() })
    }

    fn write(&mut self, kept: Kept) -> Result<(), StateError> {
        if let Some(file) = &self.file {
            let bytes = serde_json::to_vec(&kept)
                .map_err(|e| StateError::Damaged { path: file.clone(), why: e.to_string() })?;
            state::write_private(file, &bytes)?;
        }
        self.kept = kept;
        Ok(())
    }
}
