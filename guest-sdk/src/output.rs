//! What a program or an SSH command writes, and how it ends: shared by [`crate::exec`] and [`crate::ssh`].

use std::{collections::VecDeque, fmt};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{Fail, Refusal, host, log::Level};

/// A piece of output as it comes, at most 64 KiB; it may end in the middle of a line or a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// From standard output.
    Stdout(Vec<u8>),
    /// From standard error.
    Stderr(Vec<u8>),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By a signal: its name without `SIG`, or its number where it has no common name.
    Signal(String),
}

impl Exit {
    /// True for code 0.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(name) => write!(f, "signal {name}"),
        }
    }
}

/// The end of what was written to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    bytes: Vec<u8>,
    total: u64,
}

impl Tail {
    /// The kept bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The kept bytes as text, with U+FFFD for what is not UTF-8.
    pub fn text(&self) -> String {
        let cut = if self.truncated() {
            // The cut may have gone through a character: what is left of it is dropped.
            self.bytes.iter().take(3).take_while(|byte| *byte & 0xc0 == 0x80).count()
        } else {
            0
        };
        String::from_utf8_lossy(self.bytes.get(cut..).unwrap_or_default()).into_owned()
    }

    /// True if more was written than was kept.
    pub fn truncated(&self) -> bool {
        self.total > self.bytes.len() as u64
    }
}

/// How it ended and the end of what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// The end of its standard output.
    pub stdout: Tail,
    /// The end of its standard error.
    pub stderr: Tail,
}

impl Output {
    /// This, or the failure of what did not end with code 0: with exit code or signal and the end of standard error as
    /// details.
    pub fn success(self) -> Result<Self, Fail> {
        let fail = Fail::new(format!("ended with {}", self.exit));
        let fail = match &self.exit {
            Exit::Code(0) => return Ok(self),
            Exit::Code(code) => fail.with("exit_code", code),
            Exit::Signal(name) => fail.with("signal", name),
        };
        let text = self.stderr.text();
        let shown: Vec<char> = text.trim().chars().rev().take(500).collect();
        let shown: String = shown.into_iter().rev().collect();
        Err(if shown.is_empty() { fail } else { fail.with("stderr", shown) })
    }
}

/// An [`Output`] in the form in which a step gives it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Summary {
    /// The exit code; null when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal's name without `SIG`; null when it exited.
    pub signal: Option<String>,
    /// The end of its standard output.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
    /// True when more was written than is kept here.
    pub truncated: bool,
}

impl From<Output> for Summary {
    fn from(output: Output) -> Self {
        let (exit_code, signal) = match output.exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(name) => (None, Some(name)),
        };
        Self {
            exit_code,
            signal,
            stdout: output.stdout.text(),
            stderr: output.stderr.text(),
            truncated: output.stdout.truncated() || output.stderr.truncated(),
        }
    }
}

/// What a step does with the end of a program or an SSH command, as its input says it: `fail_on_exit` and `capture` of the
/// built-in steps, both `true` when left out ([`yes`]).
#[derive(Debug, Clone, Copy)]
pub struct Conclude {
    /// Whether any other end than exit code 0 fails the step.
    pub fail_on_exit: bool,
    /// Whether the end of its output is part of the step's output.
    pub capture: bool,
}

/// What `serde(default = "remit_sdk::output::yes")` gives.
pub fn yes() -> bool {
    true
}

impl Conclude {
    /// Bytes of each stream to keep: 32 KiB stay below the usual limit of an output with every byte escaped in JSON.
    pub fn keep(self) -> usize {
        if self.capture { 32 << 10 } else { 0 }
    }

    /// The step's output, or its failure with `what` before it.
    pub fn of(self, ended: Result<Output, Refusal>, what: impl fmt::Display) -> Result<Summary, Fail> {
        match ended {
            Ok(ended) => self.judge(ended, what),
            Err(refusal) => Err(Fail::from(refusal).while_doing(what)),
        }
    }

    /// As [`Conclude::of`], for what has ended.
    pub fn judge(self, ended: Output, what: impl fmt::Display) -> Result<Summary, Fail> {
        let ended =
            if self.fail_on_exit { ended.success().map_err(|fail| fail.while_doing(what))? } else { ended };
        Ok(ended.into())
    }
}

/// What a started program and a started SSH command have in common.
pub(crate) trait Running {
    fn read(&mut self) -> Result<Option<Chunk>, Refusal>;
    fn wait(&mut self) -> Result<Exit, Refusal>;
}

/// Which streams are logged, a line each as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logged {
    None,
    Errors,
    Both,
}

/// Output that comes by another way than [`crate::exec`] and [`crate::ssh`]: each line is logged as it comes, standard
/// output as info, standard error as warn, and the last bytes of each stream are kept.
#[derive(Debug)]
pub struct Lines {
    keep: usize,
    streams: [Stream; 2],
}

impl Lines {
    /// Keeps the last `keep` bytes of each stream.
    pub fn new(keep: usize) -> Self {
        Self { keep, streams: [Stream::new(Level::Info), Stream::new(Level::Warn)] }
    }

    fn take(&mut self, at: usize, bytes: &[u8], log: bool) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        stream.keep(bytes, self.keep);
        if log {
            stream.log(bytes);
        }
    }

    /// A piece of standard output.
    pub fn stdout(&mut self, bytes: &[u8]) {
        self.take(0, bytes, true);
    }

    /// A piece of standard error.
    pub fn stderr(&mut self, bytes: &[u8]) {
        self.take(1, bytes, true);
    }

    /// What was kept, with how it ended.
    pub fn finish(mut self, exit: Exit) -> Output {
        self.streams.iter_mut().for_each(Stream::log_rest);
        let [stdout, stderr] = self.streams.map(Stream::into_tail);
        Output { exit, stdout, stderr }
    }
}

/// Reads to the end and keeps the last `keep` bytes of each stream.
pub(crate) fn collect(running: &mut impl Running, keep: usize, logged: Logged) -> Result<Output, Refusal> {
    let mut lines = Lines::new(keep);
    while let Some(chunk) = running.read()? {
        match chunk {
            Chunk::Stdout(bytes) => lines.take(0, &bytes, logged == Logged::Both),
            Chunk::Stderr(bytes) => lines.take(1, &bytes, logged != Logged::None),
        }
    }
    let exit = running.wait()?;
    Ok(lines.finish(exit))
}

/// Reads all of standard output, which is UTF-8 text of at most `max` bytes; standard error is logged. Any other end than
/// code 0 is a failure.
pub(crate) fn whole(running: &mut impl Running, max: usize) -> Result<String, Fail> {
    let ended = collect(running, max, Logged::Errors)?.success()?;
    if ended.stdout.truncated() {
        return Err(Fail::new(format!("it wrote more than {max} bytes")));
    }
    String::from_utf8(ended.stdout.bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Fail::new(format!("what it wrote is not UTF-8 text: byte {at} does not fit"))
    })
}

/// Longest line of the log; a longer one becomes several.
const LINE: usize = 16 << 10;

#[derive(Debug)]
struct Stream {
    level: Level,
    kept: VecDeque<u8>,
    total: u64,
    line: Vec<u8>,
}

impl Stream {
    fn new(level: Level) -> Self {
        Self { level, kept: VecDeque::new(), total: 0, line: Vec::new() }
    }

    fn keep(&mut self, bytes: &[u8], keep: usize) {
        self.total += bytes.len() as u64;
        let new = &bytes[bytes.len().saturating_sub(keep)..];
        let old = (self.kept.len() + new.len()).saturating_sub(keep);
        self.kept.drain(..old);
        self.kept.extend(new);
    }

    fn log(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            while self.line.len() > LINE {
                let rest = self.line.split_off(LINE);
                self.log_rest();
                self.line = rest;
            }
            if self.line.ends_with(b"\n") {
                self.log_rest();
            }
        }
    }

    fn log_rest(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        host::log(self.level, &String::from_utf8_lossy(line), Vec::new());
    }

    fn into_tail(self) -> Tail {
        Tail { bytes: self.kept.into(), total: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        fn check(chunks: &[&str], keep: usize, text: &str, truncated: bool) {
            let mut stream = Stream::new(Level::Info);
            for chunk in chunks {
                stream.keep(chunk.as_bytes(), keep);
            }
            let tail = stream.into_tail();
            assert_eq!((tail.text().as_str(), tail.truncated()), (text, truncated), "{chunks:?}");
        }
        check(&[], 4, "", false);
        check(&["ab", "cd"], 4, "abcd", false);
        check(&["ab", "cde"], 4, "bcde", true);
        check(&["abcdefg"], 4, "defg", true);
        check(&["abc"], 0, "", true);
        // Of the two bytes of `ü` only the second is kept: it is no character.
        check(&["aüb"], 2, "b", true);
    }
}
