//! What a fake host is told to answer.

use serde_json::Value;

use crate::{
    Refusal,
    output::{Chunk, Exit},
};

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) refusal: Option<Refusal>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// With this status and no body.
    pub fn status(status: u16) -> Self {
        Self { refusal: None, status, headers: Vec::new(), body: Vec::new() }
    }

    /// With status 200 and this JSON.
    pub fn json(value: &Value) -> Self {
        Self::status(200).header("content-type", "application/json").body(value.to_string())
    }

    /// The host does not do it: denied, over a limit, cancelled or failed.
    pub fn refused(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::status(0) }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }
}

/// What a program or an SSH command writes, and how it ends: with code 0 unless said otherwise.
#[derive(Debug, Clone)]
pub struct Program {
    pub(super) start: Result<(), Refusal>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) end: Result<Exit, Refusal>,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Program {
    /// Writes nothing and ends with code 0.
    pub fn new() -> Self {
        Self { start: Ok(()), chunks: Vec::new(), end: Ok(Exit::Code(0)) }
    }

    /// It is not started.
    pub fn refused(refusal: Refusal) -> Self {
        Self { start: Err(refusal), ..Self::new() }
    }

    /// Writes this to standard output.
    #[must_use]
    pub fn stdout(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.chunks.push(Chunk::Stdout(bytes.into()));
        self
    }

    /// Writes this to standard error.
    #[must_use]
    pub fn stderr(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.chunks.push(Chunk::Stderr(bytes.into()));
        self
    }

    /// Ends with this code.
    #[must_use]
    pub fn code(mut self, code: i32) -> Self {
        self.end = Ok(Exit::Code(code));
        self
    }

    /// Is ended by this signal: its name without `SIG`.
    #[must_use]
    pub fn signal(mut self, name: &str) -> Self {
        self.end = Ok(Exit::Signal(name.to_owned()));
        self
    }

    /// After what it wrote, the host breaks off: reading and waiting give this.
    #[must_use]
    pub fn breaks(mut self, refusal: Refusal) -> Self {
        self.end = Err(refusal);
        self
    }
}
