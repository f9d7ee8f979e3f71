//! `ssh`: running a command on the node that the step is run for. The host speaks SSH; keys never reach the guest.
//!
//! [`plan`] decides from permit and attributes, before anything is resolved; [`known_hosts`] proves the node; [`session`] is
//! the effect: one connection, one login, one command; through a bastion where the node names one, which carries the
//! connection and sees nothing of it.
//!
//! *Invariant:* a secret logs in only as a user that the owner named for it, at an address that the owner named, at a host
//! whose key the owner's file knows. Each argument arrives as one word.

pub mod known_hosts;
pub mod plan;
pub mod session;

use std::collections::VecDeque;

use remit_protocol::{
    capability::{Denial, Side},
    report::Limit,
};
use tokio_util::sync::CancellationToken;
use wasmtime::component::{HasSelf, Linker, Resource};

use self::{
    plan::{Plan, Unplanned},
    session::{Ask, Ending, Event, Running, Secrets, SshError},
};
use super::{
    Fault,
    bindings::remit::ssh::run::{self, Chunk, Exit, Host, HostCommand},
};
use crate::{
    broker::{Answer, Broker, Call, Handle, Held, Used},
    dial::{DialError, address::Prohibited},
    launcher::Source,
    report::redact::Stream,
    sandbox::{Account, State},
    secrets::SecretValue,
};

/// Largest piece of output that is handed over at once.
const CHUNK: usize = 64 << 10;
/// Most bytes of one write to a subsystem.
const MAX_WRITE: usize = 1 << 20;

/// A command on the node, as the guest holds it.
pub struct Command(Handle);

/// A command that a run has started on the node.
pub(crate) struct Issued {
    running: Option<Box<Running>>,
    /// Output that was redacted and not yet handed over.
    waiting: VecDeque<(Source, Vec<u8>)>,
    stdout: Stream,
    stderr: Stream,
    /// Both sides speak by turns: the guest asks for nothing more before it has heard the end of what was said. The beginning
    /// of a secret at the end of a piece is not held back then; one that lies in a piece is still replaced.
    by_turns: bool,
    exit: Option<Option<Ending>>,
}

impl Issued {
    /// Takes the next event in; false when there will be none any more.
    async fn advance(&mut self) -> bool {
        let Some(running) = &mut self.running else { return false };
        match running.next().await {
            Event::Stdout(data) => {
                let mut clean = Vec::with_capacity(data.len());
                self.stdout.push(&data, &mut clean);
                if self.by_turns {
                    self.stdout.finish(&mut clean);
                }
                self.keep(&clean, Source::Output);
            }
            Event::Stderr(data) => {
                let mut clean = Vec::with_capacity(data.len());
                self.stderr.push(&data, &mut clean);
                self.keep(&clean, Source::Error);
            }
            Event::End => {
                self.exit = Some(running.ending().cloned());
                self.running = None;
                let (mut out, mut error) = (Vec::new(), Vec::new());
                self.stdout.finish(&mut out);
                self.stderr.finish(&mut error);
                self.keep(&out, Source::Output);
                self.keep(&error, Source::Error);
                return false;
            }
        }
        true
    }

    fn keep(&mut self, bytes: &[u8], source: Source) {
        self.waiting.extend(bytes.chunks(CHUNK).map(|piece| (source, piece.to_vec())));
    }

    /// Breaks off: the connection is closed, and how the command ended is not known.
    fn break_off(&mut self) {
        self.running = None;
        self.waiting.clear();
        self.exit.get_or_insert(None);
    }
}

fn unplanned(account: &Account, unplanned: Unplanned) -> Fault {
    match unplanned {
        Unplanned::Node(text) => Fault::failed(text),
        Unplanned::Denied(denial) => Fault::denied(account, denial),
    }
}

/// What the owner could change so that the login works, if it is the owner's to change.
fn denial(plan: &Plan, error: &SshError) -> Option<Denial> {
    if let SshError::Bastion { source, .. } = error {
        return denial(plan.bastion.as_deref()?, source);
    }
    let target = format!("ssh to {}@{}:{}", plan.user, plan.host, plan.port);
    let (permission, remedy) = match error {
        SshError::Dial(DialError::Prohibited(prohibited)) => {
            let remedy = match prohibited {
                Prohibited::Unlisted { address, .. } => format!(
                    "[[ceiling.ssh]]\naddresses = [\"{}\"]\nport = {}\nusers = [{:?}]\nknown_hosts = \"known_hosts\"",
                    ipnet::IpNet::from(*address),
                    plan.port,
                    plan.user
                ),
                _ => "# nothing allows this: such a place is never called on behalf of a step".to_owned(),
            };
            (format!("{target}: {prohibited}"), remedy)
        }
        SshError::HostKey { why, file, line, .. } => (
            format!("{target}: its host key is not acceptable, {why}"),
            format!("# after comparing the key with the host's own, in {}:\n{line}", file.display()),
        ),
        SshError::KnownHosts { .. } | SshError::Secret(_) => {
            (format!("{target} with {}: {error}", plan.login.secret.path), format!("# {error}"))
        }
        _ => return None,
    };
    Some(Denial { permission, side: Side::Ceiling, remedy })
}

fn login_fault(broker: &Broker, plan: &Plan, error: &SshError) -> Fault {
    match denial(plan, error) {
        // The guest hears what is denied, not which addresses or keys would not be.
        Some(denial) => {
            broker.account.deny(denial);
            let target = format!("ssh to {}@{}:{}", plan.user, plan.host, plan.port);
            Fault::Answer(super::types::CapabilityError::Denied(target))
        }
        None => Fault::failed(broker.redactor.text(&error.to_string())),
    }
}

async fn or_cancelled<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Fault::cancelled()),
        done = work => Ok(done),
    }
}

impl Broker {
    /// Logs in to the node as the remit and the node's attributes say, and starts what is asked.
    async fn log_in(&mut self, ask: Ask) -> Result<Handle, Fault> {
        let Some(node) = self.node.clone() else {
            return Err(Fault::failed("the step is not run for a node: only a node step can use ssh"));
        };
        let remit = self.remit.clone();
        let Some(permit) = remit.ssh() else {
            let remedy = "grant:\n  ssh: [{ target: node }]".to_owned();
            let denial = Denial { permission: "ssh to the node".to_owned(), side: Side::Grant, remedy };
            return Err(Fault::denied(&self.account, denial));
        };
        let plan = plan::plan(permit, &node).map_err(|error| unplanned(&self.account, error))?;
        self.account.charge(Limit::Processes, 1)?;
        if let Ask::Command { line, stdin } = &ask {
            self.account.charge(Limit::Egress, (line.len() + stdin.len()) as u64)?;
        }
        let secrets = Secrets {
            node: self.login_secret(&plan).await?,
            bastion: match &plan.bastion {
                Some(hop) => Some(self.login_secret(hop).await?),
                None => None,
            },
        };
        let dialer = self.config.dialer.clone();
        let by_turns = matches!(ask, Ask::Sftp);
        self.log.used(Used::Command);
        let started = or_cancelled(&self.cancel, session::start(&dialer, &plan, &secrets, ask)).await?;
        let running = started.map_err(|error| login_fault(self, &plan, &error))?;
        self.handles.keep(Held::Command(Issued {
            running: Some(Box::new(running)),
            waiting: VecDeque::new(),
            stdout: self.redactor.stream(),
            stderr: self.redactor.stream(),
            by_turns,
            exit: None,
        }))
    }

    /// The secret of one login, read now.
    async fn login_secret(&mut self, plan: &Plan) -> Result<SecretValue, Fault> {
        let path = &plan.login.secret.path;
        let value = or_cancelled(&self.cancel, self.secrets.resolve(path)).await?.map_err(|error| {
            let permission = format!("the secret {path} for ssh to {}", plan.host);
            let denial = Denial { permission, side: Side::Ceiling, remedy: format!("# {error}") };
            Fault::denied(&self.account, denial)
        })?;
        self.redactor.add([(path, &value)]);
        Ok(value)
    }

    pub(crate) async fn start_command(&mut self, argv: Vec<String>, stdin: Vec<u8>) -> Result<Handle, Fault> {
        let line = plan::command_line(&argv).map_err(Fault::failed)?;
        self.log_in(Ask::Command { line, stdin }).await
    }

    pub(crate) async fn start_subsystem(&mut self, name: &str) -> Result<Handle, Fault> {
        if name != "sftp" {
            return Err(Fault::failed("the only subsystem that a step can use is sftp"));
        }
        self.log_in(Ask::Sftp).await
    }

    pub(crate) async fn write_command(&mut self, this: Handle, bytes: Vec<u8>) -> Result<(), Fault> {
        if bytes.len() > MAX_WRITE {
            return Err(Fault::failed(format_args!("more than {MAX_WRITE} bytes in one write")));
        }
        self.account.charge(Limit::Egress, bytes.len() as u64)?;
        let running = self.handles.command(this)?.running.as_mut();
        let running = running.ok_or_else(|| Fault::failed("the connection has ended"))?;
        or_cancelled(&self.cancel, running.write(bytes)).await?.map_err(Fault::failed)
    }

    pub(crate) async fn finish_command(&mut self, this: Handle) -> Result<(), Fault> {
        match self.handles.command(this)?.running.as_mut() {
            Some(running) => or_cancelled(&self.cancel, running.finish()).await?.map_err(Fault::failed),
            None => Ok(()),
        }
    }

    pub(crate) async fn read_command(&mut self, this: Handle) -> Result<Option<(Source, Vec<u8>)>, Fault> {
        let command = self.handles.command(this)?;
        while command.waiting.is_empty() {
            match or_cancelled(&self.cancel, command.advance()).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(cancelled) => {
                    command.break_off();
                    return Err(cancelled);
                }
            }
        }
        let Some((source, bytes)) = command.waiting.pop_front() else { return Ok(None) };
        if let Err(over) = self.account.charge(Limit::Ingress, bytes.len() as u64) {
            command.break_off();
            return Err(over.into());
        }
        Ok(Some((source, bytes)))
    }

    /// The command's code, or the name of the signal that ended it.
    pub(crate) async fn wait_for_command(&mut self, this: Handle) -> Result<Result<i32, String>, Fault> {
        let command = self.handles.command(this)?;
        loop {
            match or_cancelled(&self.cancel, command.advance()).await {
                Ok(true) => command.waiting.clear(),
                Ok(false) => break,
                Err(cancelled) => {
                    command.break_off();
                    return Err(cancelled);
                }
            }
        }
        command.waiting.clear();
        match command.exit.clone().flatten() {
            Some(Ending::Code(code)) => Ok(Ok(code)),
            Some(Ending::Signal(name)) => Ok(Err(name)),
            None => Err(Fault::failed("the connection ended without saying how the command ended")),
        }
    }
}

impl Host for State {}

impl HostCommand for State {
    async fn start(&mut self, argv: Vec<String>, stdin: Vec<u8>) -> Result<Resource<Command>, Fault> {
        let handle = self.ask(Call::Command { argv, stdin }).await?.opened()?;
        Ok(self.table.push(Command(handle))?)
    }

    async fn subsystem(&mut self, name: String) -> Result<Resource<Command>, Fault> {
        let handle = self.ask(Call::Subsystem(name)).await?.opened()?;
        Ok(self.table.push(Command(handle))?)
    }

    async fn write(&mut self, this: Resource<Command>, bytes: Vec<u8>) -> Result<(), Fault> {
        let Command(command) = *self.table.get(&this)?;
        self.ask(Call::CommandInput { command, bytes }).await?.done()
    }

    async fn finish(&mut self, this: Resource<Command>) -> Result<(), Fault> {
        let Command(command) = *self.table.get(&this)?;
        self.ask(Call::CommandInputEnd(command)).await?.done()
    }

    async fn read(&mut self, this: Resource<Command>) -> Result<Option<Chunk>, Fault> {
        let Command(handle) = *self.table.get(&this)?;
        let piece = self.ask(Call::CommandOutput(handle)).await?.piece()?;
        Ok(piece.map(|(source, bytes)| match source {
            Source::Output => Chunk::Stdout(bytes),
            Source::Error => Chunk::Stderr(bytes),
        }))
    }

    async fn wait(&mut self, this: Resource<Command>) -> Result<Exit, Fault> {
        let Command(handle) = *self.table.get(&this)?;
        match self.ask(Call::CommandWait(handle)).await? {
            Answer::CommandEnded(Ok(code)) => Ok(Exit::Code(code)),
            Answer::CommandEnded(Err(signal)) => Ok(Exit::Signal(signal)),
            other => Err(other.unexpected()),
        }
    }

    async fn drop(&mut self, this: Resource<Command>) -> wasmtime::Result<()> {
        let Command(handle) = self.table.delete(this)?;
        self.broker.release(handle);
        Ok(())
    }
}

/// Links `remit:ssh/run`.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    run::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

#[cfg(test)]
mod tests;
