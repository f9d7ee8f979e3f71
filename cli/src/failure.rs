//! How a command fails: words for people, an exit code for programs.

use std::{fmt, process::ExitCode};

use remit_protocol::endpoint::{Fault, Problem};

/// What kind of failure, as an exit code. `2` is the command line's own (usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The thing that was asked for ended badly: an execution failed, a test failed.
    Failed = 1,
    /// A file or a value that the person gave is not acceptable.
    Input = 3,
    /// A signature, a policy or a remit said no.
    Refused = 4,
    /// The orchestrator, or a program beside this one, cannot be reached.
    Unreachable = 5,
    /// The token does not allow it.
    Forbidden = 6,
    /// There is no such thing.
    NotFound = 7,
    /// There was nothing to check.
    Nothing = 8,
}

/// A failure: what happened and why, what to do, and where in the input.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) remedy: String,
    pub(crate) faults: Vec<Fault>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into(), faults: Vec::new() }
    }

    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self::new(Code::Input, message.to_string(), "")
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Code::Input, format!("{}: {error}", path.display()), "")
    }

    pub(crate) fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }

    /// The failure as `--output json` prints it.
    pub(crate) fn problem(&self) -> Problem {
        let code = match self.code {
            Code::Failed => "failed",
            Code::Input => "input",
            Code::Refused => "refused",
            Code::Unreachable => "unreachable",
            Code::Forbidden => "forbidden",
            Code::NotFound => "not-found",
            Code::Nothing => "nothing",
        };
        Problem {
            code: code.to_owned(),
            message: self.message.clone(),
            remedy: self.remedy.clone(),
            faults: self.faults.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for fault in &self.faults {
            let line =
                fault.line.map(|line| format!("{line}:{}: ", fault.column.unwrap_or(1))).unwrap_or_default();
            let place = if fault.place.is_empty() { String::new() } else { format!("{}: ", fault.place) };
            write!(f, "\n  {line}{place}{}", fault.message)?;
            for remedy in fault.remedy.lines() {
                write!(f, "\n      {remedy}")?;
            }
        }
        for line in self.remedy.lines() {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}
