//! Running a command on the node that the step is being run for. The runner speaks SSH and logs in; keys never come here.
//!
//! ```
//! use remit_sdk::{ssh, Context, Fail};
//!
//! fn uptime(_: (), _: &Context) -> Result<String, Fail> {
//!     Ok(ssh::command(["uptime", "-p"]).output(4096)?.success()?.stdout.text())
//! }
//! # use remit_sdk::fake::{Fake, Program};
//! # let fake = Fake::new().node(remit_sdk::Node::new("web1")).ssh(&["uptime", "-p"], Program::new().stdout("up 1 day"));
//! # assert_eq!(fake.run(|context| uptime((), context)).result.unwrap(), "up 1 day");
//! ```

use crate::{
    Refusal, host,
    output::{self, Chunk, Exit, Logged, Output, Running},
};

/// A program and its arguments. Each arrives on the node as one argument: the runner quotes for the node's shell.
pub fn command(argv: impl IntoIterator<Item = impl Into<String>>) -> Command {
    Command { argv: argv.into_iter().map(Into::into).collect(), stdin: Vec::new() }
}

/// A command for the node, not yet started.
#[derive(Debug, Clone)]
#[must_use = "it is started by `start`, `output` or `follow`"]
pub struct Command {
    argv: Vec<String>,
    stdin: Vec<u8>,
}

impl Command {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// What the command reads from standard input; without it, nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Session, Refusal> {
        Ok(Session(host::Session::start(&self.argv, &self.stdin)?))
    }

    /// Runs it to its end and keeps the last `keep` bytes of each stream.
    pub fn output(self, keep: usize) -> Result<Output, Refusal> {
        output::collect(&mut self.start()?, keep, Logged::None)
    }

    /// As [`Command::output`], and each line is logged as it comes: standard output as info, standard error as warn.
    pub fn follow(self, keep: usize) -> Result<Output, Refusal> {
        output::collect(&mut self.start()?, keep, Logged::Both)
    }
}

/// Starts the SFTP of the node's SSH server: what is written with [`Session::write`] is answered by [`Session::read`].
pub fn sftp() -> Result<Session, Refusal> {
    Ok(Session(host::Session::subsystem("sftp")?))
}

/// A command that was started on the node. Dropping it closes its channel.
#[derive(Debug)]
pub struct Session(host::Session);

impl Session {
    /// Waits for the next piece of output; none when both streams have ended.
    pub fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        self.0.read()
    }

    /// Writes to a subsystem; at most 1 MiB at once.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.0.write(bytes)
    }

    /// Closes the standard input of a subsystem.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        self.0.finish()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Result<Exit, Refusal> {
        self.0.wait()
    }
}

impl Running for Session {
    fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        self.0.read()
    }

    fn wait(&mut self) -> Result<Exit, Refusal> {
        self.0.wait()
    }
}
