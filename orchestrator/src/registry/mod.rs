//! Components: taken in by the registry's own trust policy, kept by digest, shown to auditors.
//!
//! The policy is read anew for each publication, so that a change of it holds at once. Runners decide again for
//! themselves: what the registry believes is a first sieve and a record. *Invariants:* a published version never moves;
//! nothing is listed or served whose bytes are not stored, and no note that is not in the transparency log ([`Log`]).

mod audit;
mod bench;
mod log;
mod verdict;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use remit_protocol::{
    Timestamp,
    limits::MAX_COMPONENT,
    operator::{ComponentView, Publish},
};
use remit_signing::{Refusal, TrustPolicy, policy::PolicyFault, verify};

pub use audit::summary;
pub use bench::append_speed;
pub use log::Log;

use crate::store::{BlobError, Component, Store, StoreError};

/// The registry.
#[derive(Debug)]
pub struct Registry {
    store: Arc<Store>,
    trust: PathBuf,
    log: Log,
}

/// The trust policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("{file}: {error}", file = file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It has mistakes.
    #[error("{}", lines(file, faults))]
    Faults {
        /// Which file.
        file: PathBuf,
        /// The mistakes, in the order of the file.
        faults: Vec<PolicyFault>,
    },
}

fn lines(file: &Path, faults: &[PolicyFault]) -> String {
    let line = |fault: &PolicyFault| {
        format!("{}:{}:{}: {}. {}", file.display(), fault.line, fault.column, fault.what, fault.remedy)
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Why a component was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The component or its signatures.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its bytes were not uploaded before.
    #[error("the component's bytes are not here")]
    NoBytes,
    /// The registry's own policy cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Storing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The machine.
    #[error("verification broke off")]
    Broke,
}

/// Reads a trust policy; a file that is absent believes nobody.
///
/// # Errors
/// A file that cannot be read, or its mistakes.
pub fn trust(file: &Path) -> Result<TrustPolicy, TrustError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TrustPolicy::nobody()),
        Err(error) => return Err(TrustError::File { file: file.to_owned(), error }),
    };
    TrustPolicy::from_toml(&text).map_err(|faults| TrustError::Faults { file: file.to_owned(), faults })
}

impl Registry {
    /// The registry over `store` that believes whom the policy in the file `trust` believes.
    pub fn new(store: Arc<Store>, trust: PathBuf, log: Log) -> Self {
        Self { store, trust, log }
    }

    /// The transparency log: whoever serves a note appends it here first.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Verifies and records a component whose bytes are a blob.
    ///
    /// # Errors
    /// A refusal with its code, or a version that stands for other bytes.
    pub async fn publish(
        &self,
        publish: Publish,
        by: &str,
        now: Timestamp,
    ) -> Result<ComponentView, PublishError> {
        let bytes = self.store.blobs().get(publish.component, MAX_COMPONENT).await?;
        let bytes = bytes.ok_or(PublishError::NoBytes)?;
        let trust = self.trust.clone();
        // Hashing and parsing 128 MiB takes a while.
        let verified = tokio::task::spawn_blocking(move || {
            let policy = self::trust(&trust)?;
            let (note, manifest) = (publish.note.as_bytes(), publish.manifest.as_bytes());
            // Reviewers come after this: a runner's policy asks for them, not the registry's.
            let taken_by = policy.clone().before_review();
            let verified = verify::component(note, manifest, bytes, &taken_by, now)?;
            Ok::<_, PublishError>((verified, policy, publish))
        });
        let (verified, policy, publish) = verified.await.map_err(|_| PublishError::Broke)??;
        let manifest = verified.manifest();
        let component = Component {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: verified.digest(),
            length: verified.bytes().len() as u64,
            kind: manifest.kind,
            manifest: publish.manifest,
            note: publish.note,
            published: now,
            publisher: by.to_owned(),
            yanked: None,
        };
        // Nothing unlogged is served: a crash in between leaves a leaf that nobody asks for.
        self.log.append(component.note.as_bytes()).await?;
        self.store.publish_component(component.clone()).await?;
        let verdicts = self.verdicts(&component).await?;
        Ok(audit::view(&component, manifest, &verdicts, &policy, now))
    }

    /// A component as an auditor sees it: by what the policy says now, which may be another than when it was published.
    ///
    /// # Errors
    /// A policy that cannot be used, or a stored manifest that cannot be read.
    pub async fn view(&self, component: &Component, now: Timestamp) -> Result<ComponentView, PublishError> {
        let policy = self.policy().await?;
        let manifest = remit_protocol::manifest::Manifest::from_slice(component.manifest.as_bytes());
        let manifest =
            manifest.map_err(|_| StoreError::Damaged(format!("the manifest of {}", component.name)))?;
        let verdicts = self.verdicts(component).await?;
        Ok(audit::view(component, &manifest, &verdicts, &policy, now))
    }

    /// The policy as its file says now.
    async fn policy(&self) -> Result<TrustPolicy, PublishError> {
        let trust = self.trust.clone();
        let policy = tokio::task::spawn_blocking(move || self::trust(&trust));
        Ok(policy.await.map_err(|_| PublishError::Broke)??)
    }
}
