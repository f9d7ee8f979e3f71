//! The broker: the half of a run that holds its remit, its secrets and its ways into the world. Under a runner it is in a
//! process of its own, see [`apart`].
//!
//! A component runs in the other half, which may be another process. What it asks for arrives here as a [`Call`] of owned
//! words; it is decided by the remit that was computed before, counted, done, redacted and given an [`Answer`]. What each
//! capability decides stands in its own file of `capability/`.
//!
//! *Must not know:* the engine's stores, processes. *Invariant:* nothing in a call is believed, neither a handle nor a name
//! nor a size: whoever asks gets what the remit gives, counted here, and no more.

mod access;
pub mod apart;
mod handles;
mod used;

use std::sync::Arc;

use remit_protocol::{capability::Remit, manifest::Kind, node::Node, report::ArtifactForm};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use self::handles::Handle;
pub use self::used::Used;
pub(crate) use self::{
    access::{Access, Ask, Refused},
    handles::{Handles, Held},
};
use crate::{
    capability::{
        Effects, Fault,
        files::{Kept, OptionFiles},
        http::{Door, Upstream},
        log::Log,
        nodes::{Found, Words},
        tcp::Proof,
    },
    launcher::{Exit, Source},
    report::redact::Redactor,
    sandbox::{Account, HostFault, Invocation, SandboxConfig},
    secrets::Resolve,
};

/// What a component asks of its broker, one call at a time.
#[derive(Serialize, Deserialize)]
pub enum Call {
    /// `exec`: start a program.
    Start {
        /// Its name in the remit.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Environment variables of the step's own.
        variables: Vec<(String, String)>,
        /// Its standard input.
        #[serde(skip)]
        stdin: Vec<u8>,
    },
    /// `exec`: the next output of a program.
    Output(Handle),
    /// `exec`: how a program ended.
    Wait(Handle),
    /// `ssh`: run a command on the node.
    Command {
        /// The command and its arguments.
        argv: Vec<String>,
        /// Its standard input.
        #[serde(skip)]
        stdin: Vec<u8>,
    },
    /// `ssh`: start a subsystem of the node's server, whose standard input stays open.
    Subsystem(String),
    /// `ssh`: write to a subsystem.
    CommandInput {
        /// Which.
        command: Handle,
        /// What.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
    /// `ssh`: close a subsystem's standard input.
    CommandInputEnd(Handle),
    /// `ssh`: the next output of a command.
    CommandOutput(Handle),
    /// `ssh`: how a command ended.
    CommandWait(Handle),
    /// `secrets`: the value of a secret.
    Reveal(String),
    /// `files`: what is below a name.
    Entries(String),
    /// `files`: open a file below a name.
    Open {
        /// The name in the remit.
        name: String,
        /// The path below it.
        path: String,
    },
    /// `files`: the next bytes of a file.
    Read {
        /// Which.
        file: Handle,
        /// How many at most.
        max: u32,
    },
    /// `nodes`: a page of what a node source found.
    Emit(Vec<Words>),
    /// `files`: begin an artifact.
    CreateArtifact {
        /// Its name, as the component says it.
        name: String,
        /// What its bytes are.
        form: ArtifactForm,
    },
    /// `files`: bytes of an artifact.
    WriteArtifact {
        /// Which.
        artifact: Handle,
        /// The bytes.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
    /// `files`: an artifact is whole.
    KeepArtifact(Handle),
    /// `tcp`: connect.
    Connect {
        /// The host's name.
        host: String,
        /// The port.
        port: u16,
    },
    /// `tcp`: encrypt from here on.
    StartTls(Handle),
    /// `tcp`: prove the rule's secret.
    Scram {
        /// To whom.
        connection: Handle,
        /// The client's first message.
        first: String,
        /// The server's answer to it.
        asked: String,
    },
    /// `tcp`: send.
    Send {
        /// Over which connection.
        connection: Handle,
        /// What.
        #[serde(skip)]
        bytes: Vec<u8>,
    },
    /// `tcp`: the next bytes; none at the end.
    Receive {
        /// Of which connection.
        connection: Handle,
        /// How many at most.
        max: u32,
    },
}

/// What a broker answers.
#[derive(Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// Something that stays open.
    Opened(Handle),
    /// A piece of output.
    Piece(
        /// Of which stream.
        Source,
        /// The bytes.
        #[serde(skip)]
        Vec<u8>,
    ),
    /// There is no more output.
    End,
    /// How a program ended.
    Ended(Exit),
    /// How a command on a node ended: its code or the name of its signal.
    CommandEnded(Result<i32, String>),
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// Bytes.
    Bytes(#[serde(skip)] Vec<u8>),
}

impl Call {
    /// How many bytes it brings.
    pub(crate) fn size(&self) -> usize {
        let all = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        match self {
            Self::Start { program, args, variables, stdin } => {
                let variables: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
                program.len() + all(args) + variables + stdin.len()
            }
            Self::Command { argv, stdin } => all(argv) + stdin.len(),
            Self::Subsystem(text)
            | Self::Reveal(text)
            | Self::Entries(text)
            | Self::CreateArtifact { name: text, .. }
            | Self::Connect { host: text, .. } => text.len(),
            Self::CommandInput { bytes, .. }
            | Self::WriteArtifact { bytes, .. }
            | Self::Send { bytes, .. } => bytes.len(),
            Self::Open { name, path } => name.len() + path.len(),
            Self::Scram { first, asked, .. } => first.len() + asked.len(),
            Self::Emit(page) => page.iter().map(Words::size).sum(),
            Self::Output(_)
            | Self::Wait(_)
            | Self::CommandInputEnd(_)
            | Self::CommandOutput(_)
            | Self::CommandWait(_)
            | Self::KeepArtifact(_)
            | Self::StartTls(_)
            | Self::Receive { .. }
            | Self::Read { .. } => 0,
        }
    }

    /// The bytes that a call carries beside its words.
    pub(crate) fn bytes(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Start { stdin, .. } | Self::Command { stdin, .. } => Some(stdin),
            Self::CommandInput { bytes, .. }
            | Self::WriteArtifact { bytes, .. }
            | Self::Send { bytes, .. } => Some(bytes),
            _ => None,
        }
    }
}

impl Answer {
    /// The bytes that an answer carries beside its words.
    pub(crate) fn bytes(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Piece(_, bytes) | Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The fault of a broker whose answer is none to the call.
    pub(crate) fn unexpected(&self) -> Fault {
        Fault::Halt(HostFault("the broker's answer does not fit the call".to_owned()).into())
    }

    pub(crate) fn done(self) -> Result<(), Fault> {
        match self {
            Self::Done => Ok(()),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn opened(self) -> Result<Handle, Fault> {
        match self {
            Self::Opened(handle) => Ok(handle),
            other => Err(other.unexpected()),
        }
    }

    pub(crate) fn piece(self) -> Result<Option<(Source, Vec<u8>)>, Fault> {
        match self {
            Self::Piece(source, bytes) => Ok(Some((source, bytes))),
            Self::End => Ok(None),
            other => Err(other.unexpected()),
        }
    }

    fn of_piece(piece: Option<(Source, Vec<u8>)>) -> Self {
        piece.map_or(Self::End, |(source, bytes)| Self::Piece(source, bytes))
    }
}

/// The broker of one run. What it holds open ends with it.
pub struct Broker {
    pub(crate) account: Arc<Account>,
    pub(crate) remit: Arc<Remit>,
    pub(crate) secrets: Arc<dyn Resolve>,
    pub(crate) redactor: Redactor,
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) log: Arc<Log>,
    pub(crate) found: Option<Found>,
    pub(crate) artifacts: Vec<Kept>,
    pub(crate) option_files: Arc<OptionFiles>,
    pub(crate) config: Arc<SandboxConfig>,
    pub(crate) effects: Arc<Effects>,
    pub(crate) cancel: CancellationToken,
    pub(crate) handles: Handles,
}

impl Broker {
    /// The broker of a run of a component of `kind`.
    pub(crate) fn new(
        invocation: &Invocation,
        kind: Kind,
        config: Arc<SandboxConfig>,
        effects: Arc<Effects>,
    ) -> Self {
        let limits = *invocation.remit.limits();
        let account = Arc::new(Account::new(limits));
        let (sink, redactor) = (invocation.log.clone(), invocation.redactor.clone());
        Self {
            log: Arc::new(Log::new(sink, redactor.clone(), account.clone())),
            account,
            remit: invocation.remit.clone(),
            secrets: invocation.secrets.clone(),
            redactor,
            node: invocation.context.node.clone(),
            found: (kind == Kind::NodeSource).then(Found::default),
            artifacts: Vec::new(),
            option_files: invocation.files.clone(),
            config,
            effects,
            cancel: invocation.cancel.asked().clone(),
            handles: Handles::new(limits.handles),
        }
    }

    /// Does what is asked, if the remit allows it.
    ///
    /// # Errors
    /// What the component is told, or why its run ends.
    pub async fn ask(&mut self, call: Call) -> Result<Answer, Fault> {
        Ok(match call {
            Call::Start { program, args, variables, stdin } => {
                Answer::Opened(self.start_program(program, args, variables, stdin).await?)
            }
            Call::Output(child) => Answer::of_piece(self.read_program(child).await?),
            Call::Wait(child) => Answer::Ended(self.wait_for_program(child).await?),
            Call::Command { argv, stdin } => Answer::Opened(self.start_command(argv, stdin).await?),
            Call::Subsystem(name) => Answer::Opened(self.start_subsystem(&name).await?),
            Call::CommandInput { command, bytes } => {
                self.write_command(command, bytes).await?;
                Answer::Done
            }
            Call::CommandInputEnd(command) => {
                self.finish_command(command).await?;
                Answer::Done
            }
            Call::CommandOutput(command) => Answer::of_piece(self.read_command(command).await?),
            Call::CommandWait(command) => Answer::CommandEnded(self.wait_for_command(command).await?),
            Call::Reveal(name) => Answer::Text(self.reveal(&name).await?),
            Call::Entries(name) => Answer::Texts(self.list_named(&name).await?),
            Call::Open { name, path } => Answer::Opened(self.open_named(&name, path).await?),
            Call::Read { file, max } => Answer::Bytes(self.read_named(file, max).await?),
            Call::Emit(page) => {
                self.take_nodes(page)?;
                Answer::Done
            }
            Call::CreateArtifact { name, form } => Answer::Opened(self.create_artifact(name, form).await?),
            Call::WriteArtifact { artifact, bytes } => {
                self.write_artifact(artifact, &bytes).await?;
                Answer::Done
            }
            Call::KeepArtifact(artifact) => {
                self.keep_artifact(artifact).await?;
                Answer::Done
            }
            Call::Connect { host, port } => Answer::Opened(self.connect(host, port).await?),
            Call::StartTls(connection) => {
                self.start_tls(connection).await?;
                Answer::Done
            }
            Call::Scram { connection, first, asked } => {
                let Proof { answer, expected } = self.scram(connection, first, asked).await?;
                Answer::Texts(vec![answer, expected])
            }
            Call::Send { connection, bytes } => {
                self.send(connection, &bytes).await?;
                Answer::Done
            }
            Call::Receive { connection, max } => Answer::Bytes(self.receive(connection, max).await?),
        })
    }

    /// Lets go of something that is open.
    pub fn release(&mut self, handle: Handle) {
        self.handles.release(handle);
    }

    /// The way out for requests of this run.
    pub(crate) fn door(&self) -> Door {
        let upstream = Upstream::new(
            self.config.dialer.clone(),
            self.config.launch.clone(),
            self.secrets.clone(),
            self.redactor.clone(),
        );
        let log = self.log.clone();
        Door::new(self.remit.clone(), self.account.clone(), self.redactor.clone(), Arc::new(upstream))
            .telling(move |target| log.used(Used::Request(target.clone())))
    }
}
