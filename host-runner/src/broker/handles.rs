//! What a run holds open at its broker, by numbers that mean something to that run alone.

use std::collections::HashMap;

use remit_protocol::report::Limit;
use serde::{Deserialize, Serialize};

use crate::{
    capability::{
        Fault,
        exec::Started,
        files::{Opened, Writing},
        ssh::Issued,
        tcp::Made,
    },
    sandbox::{HostFault, OverLimit},
};

/// The number of something that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handle(u32);

/// Something that is open.
pub(crate) enum Held {
    Program(Started),
    Command(Issued),
    File(Opened),
    Artifact(Box<Writing>),
    Connection(Box<Made>),
}

/// All that is open.
pub(crate) struct Handles {
    held: HashMap<Handle, Held>,
    last: u32,
    most: usize,
}

/// The other half names something that it does not hold: an honest one never does.
fn unknown() -> Fault {
    Fault::Halt(HostFault("the run speaks of something that is not open".to_owned()).into())
}

macro_rules! each {
    ($($method:ident: $variant:ident => $held:ty;)*) => {
        $(pub(crate) fn $method(&mut self, handle: Handle) -> Result<&mut $held, Fault> {
            match self.held.get_mut(&handle) {
                Some(Held::$variant(held)) => Ok(held),
                _ => Err(unknown()),
            }
        })*
    };
}

impl Handles {
    /// At most so many.
    pub(crate) fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { held: HashMap::new(), last: 0, most }
    }

    /// Keeps something open. Numbers are not used again in one run.
    pub(crate) fn keep(&mut self, held: Held) -> Result<Handle, Fault> {
        let next = self.last.checked_add(1).filter(|_| self.held.len() < self.most);
        let next = next.ok_or_else(|| Fault::Halt(OverLimit(Limit::Handles).into()))?;
        self.last = next;
        self.held.insert(Handle(next), held);
        Ok(Handle(next))
    }

    each! {
        program: Program => Started;
        command: Command => Issued;
        file: File => Opened;
        artifact: Artifact => Box<Writing>;
        connection: Connection => Box<Made>;
    }

    /// Takes an artifact that is whole: its number means nothing from then on.
    pub(crate) fn take_artifact(&mut self, handle: Handle) -> Result<Writing, Fault> {
        match self.held.remove(&handle) {
            Some(Held::Artifact(writing)) => Ok(*writing),
            _ => Err(unknown()),
        }
    }

    /// Closes it; one that is not open is no matter.
    pub(crate) fn release(&mut self, handle: Handle) {
        self.held.remove(&handle);
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::capability::files::Read;

    struct Nothing;

    #[async_trait]
    impl Read for Nothing {
        async fn read(&mut self, _: u32) -> std::io::Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_number_stands_for_one_thing_of_one_kind_and_for_nothing_later() {
        let file = || Held::File(Opened(Box::new(Nothing)));
        let mut handles = Handles::new(2);
        let first = handles.keep(file()).unwrap();
        let second = handles.keep(file()).unwrap();
        assert_ne!(first, second);
        assert!(handles.keep(file()).is_err(), "a third one");
        assert!(handles.file(first).is_ok() && handles.program(first).is_err());
        assert!(handles.command(first).is_err() && handles.file(Handle(7)).is_err());
        handles.release(first);
        assert!(handles.file(first).is_err());
        let third = handles.keep(file()).unwrap();
        assert!(third != first && third != second);
    }
}
