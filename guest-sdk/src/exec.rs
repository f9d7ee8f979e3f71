//! Starting programs that the runner's owner named. There is no shell: arguments arrive as they are given.
//!
//! ```
//! use remit_sdk::{exec, Context, Fail};
//!
//! fn kernel(_: (), _: &Context) -> Result<String, Fail> {
//!     let output = exec::command("uname").arg("-r").output(4096)?.success()?;
//!     Ok(output.stdout.text().trim().to_owned())
//! }
//! # use remit_sdk::fake::{Fake, Program};
//! # let run = Fake::new().exec(&["uname", "-r"], Program::new().stdout("6.1.0\n")).run(|context| kernel((), context));
//! # assert_eq!(run.result.unwrap(), "6.1.0");
//! ```

use crate::{
    Fail, Refusal, host,
    output::{self, Chunk, Exit, Logged, Output, Running},
};

/// A program by the name that the owner gave it, such as `ansible-playbook`; arguments follow.
pub fn command(program: impl Into<String>) -> Command {
    Command { program: program.into(), args: Vec::new(), variables: Vec::new(), stdin: Vec::new() }
}

/// A program with its arguments, not yet started.
#[derive(Debug, Clone)]
#[must_use = "it is started by `start`, `output` or `follow`"]
pub struct Command {
    program: String,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    stdin: Vec<u8>,
}

impl Command {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable; the owner says which names a step may set.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// What the program reads from standard input; without it, nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Child, Refusal> {
        Ok(Child(host::Child::start(&self.program, &self.args, &self.variables, &self.stdin)?))
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

impl Command {
    /// Runs it to its end and gives all of its standard output, UTF-8 text of at most `max` bytes; standard error is logged as
    /// warn. Any other end than code 0 is a failure, and errors begin with the program's name.
    pub fn text(self, max: usize) -> Result<String, Fail> {
        let program = self.program.clone();
        let named = |fail: Fail| fail.while_doing(&program);
        let mut child = self.start().map_err(|refusal| named(refusal.into()))?;
        output::whole(&mut child, max).map_err(named)
    }
}

/// A program that was started. Dropping it ends the program and everything that it started.
#[derive(Debug)]
pub struct Child(host::Child);

impl Child {
    /// Waits for the next piece of output; none when both streams have ended.
    pub fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        self.0.read()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Result<Exit, Refusal> {
        self.0.wait()
    }
}

impl Running for Child {
    fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        self.0.read()
    }

    fn wait(&mut self) -> Result<Exit, Refusal> {
        self.0.wait()
    }
}
