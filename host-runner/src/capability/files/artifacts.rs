//! Artifacts: what a step keeps for people. The bytes are redacted on their way into a file in the scratch directory of the
//! host, which is gone with the run unless the step said `keep`, and else when it was brought away.
//!
//! *Invariant:* what is kept holds no form of a secret that the attempt knows: a text has it replaced, and anything else in
//! which something would have to be replaced is not kept.

use std::{io, path::Path};

use remit_protocol::{
    ArtifactName, Digest,
    capability::{Denial, Side},
    digest::Sized,
    report::{Artifact, ArtifactForm, Limit},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;
use wasmtime::component::{HasSelf, Linker, Resource};

use crate::{
    broker::{Broker, Call, Handle, Held},
    capability::{
        Fault,
        bindings::remit::files::artifacts::{self as bindings, Form, Host, HostArtifact},
    },
    report::redact::Stream,
    sandbox::State,
};

/// The beginning of the name of the file in which an artifact is, until it was brought away.
pub(crate) const ARTIFACT: &str = "artifact-";
/// Most bytes of one write.
const MAX_WRITE: usize = 1 << 20;
/// Most artifacts of one run: each is an open file until it was brought away.
const MAX_KEPT: usize = 16;
/// Longest name: with room for the number of an item in front of it.
const MAX_NAME: usize = 120;

/// An artifact that is being written, as the guest holds it.
pub struct Begun(Handle);

/// An artifact that is being written.
pub(crate) struct Writing {
    name: ArtifactName,
    form: ArtifactForm,
    file: tokio::fs::File,
    spool: TempPath,
    redacted: Stream,
    /// What came in and what goes out: they differ when something was replaced.
    input: Sha256,
    output: Sha256,
    length: u64,
}

/// An artifact that a run has kept.
#[derive(Debug)]
pub struct Kept {
    /// What a report says of it.
    pub artifact: Artifact,
    /// Where its bytes are, until they were brought to the orchestrator: a file that is gone with this.
    pub spool: Option<TempPath>,
}

/// Links `remit:files/artifacts`.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// A new file in `directory`.
async fn begin(directory: &Path) -> io::Result<(tokio::fs::File, TempPath)> {
    let directory = directory.to_owned();
    let made =
        tokio::task::spawn_blocking(move || tempfile::Builder::new().prefix(ARTIFACT).tempfile_in(directory));
    let (file, path) = made.await.map_err(io::Error::other)??.into_parts();
    Ok((tokio::fs::File::from_std(file), path))
}

impl Broker {
    pub(crate) async fn create_artifact(
        &mut self,
        name: String,
        form: ArtifactForm,
    ) -> Result<Handle, Fault> {
        if !self.remit.files().artifacts {
            let denial = Denial {
                permission: "artifacts".to_owned(),
                side: Side::Grant,
                remedy: "grant:\n  files: [{ artifacts: true }]".to_owned(),
            };
            return Err(Fault::denied(&self.account, denial));
        }
        let name = ArtifactName::new(name).map_err(Fault::failed)?;
        if name.as_str().len() > MAX_NAME {
            return Err(Fault::failed(format_args!(
                "the name of an artifact has at most {MAX_NAME} characters"
            )));
        }
        let (file, spool) = begin(&self.config.scratch).await.map_err(unkept)?;
        self.handles.keep(Held::Artifact(Box::new(Writing {
            name,
            form,
            file,
            spool,
            redacted: self.redactor.stream(),
            input: Sha256::new(),
            output: Sha256::new(),
            length: 0,
        })))
    }

    pub(crate) async fn write_artifact(&mut self, artifact: Handle, bytes: &[u8]) -> Result<(), Fault> {
        let writing = self.handles.artifact(artifact)?;
        if bytes.len() > MAX_WRITE {
            return Err(Fault::failed("at most 1 MiB is written at once"));
        }
        let mut out = Vec::with_capacity(bytes.len());
        writing.redacted.push(bytes, &mut out);
        writing.input.update(bytes);
        self.account.charge(Limit::Artifacts, out.len() as u64)?;
        writing.append(&out).await.map_err(unkept)
    }

    pub(crate) async fn keep_artifact(&mut self, artifact: Handle) -> Result<(), Fault> {
        let writing = self.handles.take_artifact(artifact)?;
        if self.artifacts.len() >= MAX_KEPT {
            return Err(Fault::failed(format_args!("a step keeps at most {MAX_KEPT} artifacts")));
        }
        if self.artifacts.iter().any(|kept| kept.artifact.name == writing.name) {
            return Err(Fault::failed(format_args!("there is an artifact {} of this step", writing.name)));
        }
        let kept = writing.finish(&self.account).await?;
        self.artifacts.push(kept);
        Ok(())
    }
}

/// The host's disk took nothing. Which disk is not the component's to know.
fn unkept(error: io::Error) -> Fault {
    tracing::warn!(%error, "an artifact could not be written");
    Fault::failed("the runner has no room for it")
}

impl Writing {
    async fn append(&mut self, out: &[u8]) -> io::Result<()> {
        self.output.update(out);
        self.length += out.len() as u64;
        self.file.write_all(out).await
    }

    async fn finish(mut self, account: &crate::sandbox::Account) -> Result<Kept, Fault> {
        let mut out = Vec::new();
        self.redacted.finish(&mut out);
        account.charge(Limit::Artifacts, out.len() as u64)?;
        self.append(&out).await.map_err(unkept)?;
        self.file.flush().await.map_err(unkept)?;
        let digest = Digest::from_hasher(self.output);
        if self.form == ArtifactForm::Binary && digest != Digest::from_hasher(self.input) {
            return Err(Fault::failed(format_args!(
                "the artifact {} holds the value of a secret; it is binary, where replacing would spoil it, so it is not kept",
                self.name
            )));
        }
        let bytes = Sized { digest, length: self.length };
        let artifact = Artifact { name: self.name, form: self.form, bytes };
        Ok(Kept { artifact, spool: Some(self.spool) })
    }
}

impl Host for State {}

impl HostArtifact for State {
    async fn create(&mut self, name: String, form: Form) -> Result<Resource<Begun>, Fault> {
        let form = match form {
            Form::Text => ArtifactForm::Text,
            Form::Binary => ArtifactForm::Binary,
        };
        let handle = self.ask(Call::CreateArtifact { name, form }).await?.opened()?;
        Ok(self.table.push(Begun(handle))?)
    }

    async fn write(&mut self, artifact: Resource<Begun>, bytes: Vec<u8>) -> Result<(), Fault> {
        let Begun(artifact) = *self.table.get(&artifact)?;
        self.ask(Call::WriteArtifact { artifact, bytes }).await?.done()
    }

    async fn keep(&mut self, artifact: Resource<Begun>) -> Result<(), Fault> {
        let Begun(artifact) = *self.table.get(&artifact)?;
        self.ask(Call::KeepArtifact(artifact)).await?.done()
    }

    async fn drop(&mut self, artifact: Resource<Begun>) -> wasmtime::Result<()> {
        let Begun(handle) = self.table.delete(artifact)?;
        self.broker.release(handle);
        Ok(())
    }
}
