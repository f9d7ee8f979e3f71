//! The host as a component sees it: each function calls an interface of `wit/`. In native tests `fake::host` stands in its
//! place with the same functions.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

mod bindings;
mod http;

use self::bindings::imports::remit::{
    exec::run as exec, files::artifacts, files::named, secrets::reveal as secrets, ssh::run as ssh, step,
    tcp::connect,
};
use crate::{
    Context, Fail, Node, Nodes, Refusal,
    log::Level,
    output::{Chunk, Exit},
    run,
    tcp::Proof,
};

pub use bindings::{
    node_source_world::{self, export_node_source},
    step_world::{self, export_step},
};
pub(crate) use http::{Body, http};
pub use step::types::End;
use step::types::{CapabilityError, Failure};

/// Runs a step's function.
pub fn run<I: DeserializeOwned, O: Serialize>(
    step: fn(I, &Context) -> Result<O, Fail>,
    input: &str,
) -> Result<String, End> {
    run::call(step, input).map_err(End::from)
}

/// Runs a node source's function.
pub fn discover<I: DeserializeOwned>(
    source: fn(I, &mut Nodes, &Context) -> Result<(), Fail>,
    input: &str,
) -> Result<(), End> {
    run::call_source(source, input).map_err(End::from)
}

impl From<Fail> for End {
    fn from(fail: Fail) -> Self {
        if fail.is_cancelled() {
            return Self::Cancelled;
        }
        Self::Failed(Failure { message: fail.message().to_owned(), fields: fail.fields().to_vec() })
    }
}

impl From<CapabilityError> for Refusal {
    fn from(error: CapabilityError) -> Self {
        match error {
            CapabilityError::Denied(permission) => Self::Denied(permission),
            CapabilityError::OverLimit(limit) => Self::OverLimit(limit),
            CapabilityError::Cancelled => Self::Cancelled,
            CapabilityError::Failed(why) => Self::Failed(why),
        }
    }
}

pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
    let level = match level {
        Level::Debug => step::log::Level::Debug,
        Level::Info => step::log::Level::Info,
        Level::Warn => step::log::Level::Warn,
        Level::Error => step::log::Level::Error,
    };
    step::log::write(level, message, &fields);
}

pub(crate) fn node() -> Option<Node> {
    step::context::node().map(|node| Node {
        name: node.name,
        tags: node.tags.into_iter().collect(),
        attributes: node.attributes.into_iter().collect(),
    })
}

pub(crate) use step::context::{attempt, cancelled, execution, idempotency_key, progress, remaining, step};

#[expect(clippy::disallowed_methods, reason = "the one place where a component's clock is read")]
pub(crate) fn now() -> Duration {
    // A clock before 1970 is a clock that was never set.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn sleep(milliseconds: u64) -> Result<(), Fail> {
    step::context::sleep(milliseconds).map_err(|end| match end {
        End::Cancelled => Fail::cancelled(),
        End::Failed(failure) => Fail::new(failure.message),
    })
}

pub(crate) fn emit(page: Vec<Node>) -> Result<(), Refusal> {
    let page: Vec<_> = page
        .into_iter()
        .map(|node| step::types::Node {
            name: node.name,
            tags: node.tags.into_iter().collect(),
            attributes: node.attributes.into_iter().collect(),
        })
        .collect();
    Ok(step::nodes::emit(&page)?)
}

#[derive(Debug)]
pub(crate) struct Child(exec::Child);

impl Child {
    pub(crate) fn start(
        program: &str,
        args: &[String],
        variables: &[(String, String)],
        stdin: &[u8],
    ) -> Result<Self, Refusal> {
        // The older function is enough for most steps, and keeps them running on older hosts.
        Ok(Self(if variables.is_empty() {
            exec::Child::start(program, args, stdin)?
        } else {
            exec::Child::start_with(program, args, variables, stdin)?
        }))
    }

    pub(crate) fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        Ok(self.0.read()?.map(|chunk| match chunk {
            exec::Chunk::Stdout(bytes) => Chunk::Stdout(bytes),
            exec::Chunk::Stderr(bytes) => Chunk::Stderr(bytes),
        }))
    }

    pub(crate) fn wait(&mut self) -> Result<Exit, Refusal> {
        Ok(match self.0.wait()? {
            exec::Exit::Code(code) => Exit::Code(code),
            exec::Exit::Signal(number) => Exit::Signal(signal(number)),
        })
    }
}

/// The names of the signals that have the same number on every Linux.
fn signal(number: i32) -> String {
    match number {
        1 => "HUP".to_owned(),
        2 => "INT".to_owned(),
        3 => "QUIT".to_owned(),
        6 => "ABRT".to_owned(),
        8 => "FPE".to_owned(),
        9 => "KILL".to_owned(),
        11 => "SEGV".to_owned(),
        13 => "PIPE".to_owned(),
        14 => "ALRM".to_owned(),
        15 => "TERM".to_owned(),
        number => number.to_string(),
    }
}

#[derive(Debug)]
pub(crate) struct Session(ssh::Command);

impl Session {
    pub(crate) fn start(argv: &[String], stdin: &[u8]) -> Result<Self, Refusal> {
        Ok(Self(ssh::Command::start(argv, stdin)?))
    }

    pub(crate) fn subsystem(name: &str) -> Result<Self, Refusal> {
        Ok(Self(ssh::Command::subsystem(name)?))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        Ok(self.0.write(bytes)?)
    }

    pub(crate) fn finish(&mut self) -> Result<(), Refusal> {
        Ok(self.0.finish()?)
    }

    pub(crate) fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        Ok(self.0.read()?.map(|chunk| match chunk {
            ssh::Chunk::Stdout(bytes) => Chunk::Stdout(bytes),
            ssh::Chunk::Stderr(bytes) => Chunk::Stderr(bytes),
        }))
    }

    pub(crate) fn wait(&mut self) -> Result<Exit, Refusal> {
        Ok(match self.0.wait()? {
            ssh::Exit::Code(code) => Exit::Code(code),
            ssh::Exit::Signal(name) => Exit::Signal(name),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Connection(connect::Connection);

impl Connection {
    pub(crate) fn open(host: &str, port: u16) -> Result<Self, Refusal> {
        Ok(Self(connect::Connection::open(host, port)?))
    }

    pub(crate) fn start_tls(&mut self) -> Result<(), Refusal> {
        Ok(self.0.start_tls()?)
    }

    pub(crate) fn scram_sha_256(&mut self, first: &str, asked: &str) -> Result<Proof, Refusal> {
        let connect::Proof { answer, expected } = self.0.scram_sha256(first, asked)?;
        Ok(Proof { answer, expected })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        Ok(self.0.write(bytes)?)
    }

    pub(crate) fn read(&mut self, max: u32) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(self.0.read(max)?)
    }
}

pub(crate) fn reveal(name: &str) -> Result<String, Refusal> {
    Ok(secrets::get(name)?)
}

#[derive(Debug)]
pub(crate) struct File(named::File);

impl File {
    pub(crate) fn read(&mut self, max: u32) -> Result<Vec<u8>, Refusal> {
        Ok(self.0.read(max)?)
    }
}

pub(crate) fn open(name: &str, path: &str) -> Result<File, Refusal> {
    Ok(File(named::open(name, path)?))
}

pub(crate) fn entries(name: &str) -> Result<Vec<String>, Refusal> {
    Ok(named::entries(name)?)
}

#[derive(Debug)]
pub(crate) struct Artifact(artifacts::Artifact);

impl Artifact {
    pub(crate) fn create(name: &str, binary: bool) -> Result<Self, Refusal> {
        let form = if binary { artifacts::Form::Binary } else { artifacts::Form::Text };
        Ok(Self(artifacts::Artifact::create(name, form)?))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        Ok(self.0.write(bytes)?)
    }

    pub(crate) fn keep(self) -> Result<(), Refusal> {
        Ok(self.0.keep()?)
    }
}

pub(crate) fn scratch() -> PathBuf {
    PathBuf::from("/scratch")
}
