//! `files`: the scratch directory ([`scratch`]), the paths that the runner's owner gave a name ([`named`]), files that were
//! given for options of the job ([`option`]), and what a step keeps for people ([`artifacts`]).

mod artifacts;
mod named;
mod option;
mod scratch;

use remit_protocol::{
    capability::{Denial, Side},
    report::Limit,
};
use wasmtime::component::{HasSelf, Linker, Resource};

pub(crate) use self::artifacts::{ARTIFACT, Writing, link as link_artifacts};
pub use self::artifacts::{Begun, Kept};
use self::named::Entry;
pub use self::named::{Local, OpenError, Read, Shelf};
pub use self::option::OptionFiles;
pub(crate) use self::scratch::{Scratch, link as link_scratch};
use super::{
    Fault,
    bindings::remit::files::named::{self as bindings, Host, HostFile},
    types::CapabilityError,
};
use crate::{
    broker::{Answer, Broker, Call, Handle, Held, Used},
    sandbox::State,
};

/// Most bytes of one read.
const MAX_READ: u32 = 64 << 10;

/// A file, as the guest holds it.
pub struct File(Handle);

/// A file that a run has opened.
pub(crate) struct Opened(pub(crate) Box<dyn Read>);

/// Links `remit:files/named`.
pub(super) fn link_named(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl Broker {
    /// The path behind a name of the remit.
    fn named(&self, name: &str) -> Result<Entry, Fault> {
        match self.remit.files().named.iter().find(|(known, _)| known == name) {
            Some((_, path)) => Ok(Entry(path.clone())),
            None if self.remit.files().options.iter().any(|option| option.as_str() == name) => {
                match self.option_files.path(name) {
                    Some(path) => Ok(Entry(path)),
                    None => Err(Fault::failed(format_args!("the option {name} has no file"))),
                }
            }
            None => Err(Fault::denied(
                &self.account,
                Denial {
                    permission: format!("files {name}"),
                    side: Side::Grant,
                    remedy: format!("grant:\n  files: [{{ name: {name:?} }}]"),
                },
            )),
        }
    }
}

fn refused(name: &str, error: OpenError) -> Fault {
    match error {
        OpenError::Outside => Fault::Answer(CapabilityError::Denied(format!(
            "files {name}: a path that leaves it, or a symbolic link"
        ))),
        other => Fault::failed(format_args!("files {name}: {other}")),
    }
}

impl Broker {
    pub(crate) async fn list_named(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        let entry = self.named(name)?;
        self.log.used(Used::Entry(name.to_owned()));
        self.effects.files.entries(entry.0).await.map_err(|error| refused(name, error))
    }

    pub(crate) async fn open_named(&mut self, name: &str, path: String) -> Result<Handle, Fault> {
        let entry = self.named(name)?;
        self.log.used(Used::Entry(name.to_owned()));
        let file = self.effects.files.open(entry.0, path).await.map_err(|error| refused(name, error))?;
        self.handles.keep(Held::File(Opened(file)))
    }

    pub(crate) async fn read_named(&mut self, file: Handle, max: u32) -> Result<Vec<u8>, Fault> {
        let file = self.handles.file(file)?;
        let bytes = file.0.read(max.min(MAX_READ)).await.map_err(Fault::failed)?;
        self.account.charge(Limit::Ingress, u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        Ok(bytes)
    }
}

impl Host for State {
    async fn entries(&mut self, name: String) -> Result<Vec<String>, Fault> {
        match self.ask(Call::Entries(name)).await? {
            Answer::Texts(entries) => Ok(entries),
            other => Err(other.unexpected()),
        }
    }

    async fn open(&mut self, name: String, path: String) -> Result<Resource<File>, Fault> {
        let handle = self.ask(Call::Open { name, path }).await?.opened()?;
        Ok(self.table.push(File(handle))?)
    }
}

impl HostFile for State {
    async fn read(&mut self, file: Resource<File>, max: u32) -> Result<Vec<u8>, Fault> {
        let File(file) = *self.table.get(&file)?;
        match self.ask(Call::Read { file, max }).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            other => Err(other.unexpected()),
        }
    }

    async fn drop(&mut self, file: Resource<File>) -> wasmtime::Result<()> {
        let File(handle) = self.table.delete(file)?;
        self.broker.release(handle);
        Ok(())
    }
}
