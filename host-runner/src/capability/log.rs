//! `log`: what a component says, and what it writes to standard output and error.
//!
//! *Invariant:* an entry that leaves here holds no control character, escape sequence or change of writing direction, no
//! known secret, and at most [`MAX_LOG_LINE`] bytes; all entries together stay within the remit's limit.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use remit_protocol::{
    limits::MAX_LOG_LINE,
    log_limit,
    report::{Level, Limit},
};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::bindings::remit::step::log;
use crate::{
    broker::Used,
    report::redact::Redactor,
    sandbox::{Account, OverLimit, State},
};

/// Most fields of an entry.
const MAX_FIELDS: usize = 64;
/// Longest name of a field.
const MAX_FIELD_NAME: usize = 128;
/// What standard output takes at once.
const WRITE_PERMIT: usize = 64 << 10;

/// One line of a step's log, ready to leave; the sink adds when, and which step on which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How serious.
    pub level: Level,
    /// The text, of at most [`MAX_LOG_LINE`] bytes.
    pub text: String,
    /// Named values.
    pub fields: Vec<(String, String)>,
}

/// Where lines and progress of one run go. Called from inside a run: it must not wait longer than a file write.
pub trait LogSink: Send + Sync {
    /// Takes a line.
    fn line(&self, line: Line);
    /// Takes word of how far the step is; a total of 0 means that it is not known.
    fn progress(&self, done: u64, total: u64);
    /// Takes word of a permission that was used. Most do not care.
    fn used(&self, _: Used) {}
}

/// Where a component's words go: into the log itself, or to whoever keeps it.
#[async_trait]
pub(crate) trait Words: Send + Sync {
    /// True while whoever can wait should, for [`room`](Self::room).
    fn full(&self) -> bool;
    /// Waits until more can be taken.
    async fn room(&self);
    /// Takes a message.
    fn write(&self, level: Level, message: &str, fields: Vec<(String, String)>) -> Result<(), OverLimit>;
    /// Takes bytes of standard output or error.
    fn stdio(&self, which: Stdio, bytes: &[u8]) -> Result<(), OverLimit>;
    /// Takes word of how far the step is.
    fn progress(&self, done: u64, total: u64);
}

/// The log of one run.
pub(crate) struct Log {
    sink: Arc<dyn LogSink>,
    redactor: Redactor,
    account: Arc<Account>,
    cut: AtomicBool,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Stdio {
    Out,
    Error,
}

impl Log {
    pub(crate) fn new(sink: Arc<dyn LogSink>, redactor: Redactor, account: Arc<Account>) -> Self {
        let (stdout, stderr) = (Mutex::default(), Mutex::default());
        Self { sink, redactor, account, cut: AtomicBool::new(false), stdout, stderr }
    }

    /// Says which permission was used.
    pub(crate) fn used(&self, used: Used) {
        self.sink.used(used);
    }

    /// Writes a message as one line or several. The limit cuts the log with a mark.
    pub(crate) fn write(
        &self,
        level: Level,
        message: &str,
        fields: Vec<(String, String)>,
    ) -> Result<(), OverLimit> {
        let message = self.presentable(message);
        let mut fields: Vec<_> = fields
            .into_iter()
            .take(MAX_FIELDS)
            .map(|(name, value)| (self.field(&name, MAX_FIELD_NAME), self.field(&value, MAX_LOG_LINE)))
            .collect();
        for line in message.split('\n').flat_map(pieces) {
            let fields = std::mem::take(&mut fields);
            let cost = log_limit::cost(line, &fields);
            let charged =
                self.account.charge(Limit::Lines, 1).and_then(|()| self.account.charge(Limit::Log, cost));
            if let Err(over) = charged {
                self.mark_cut(over);
                return Err(over);
            }
            self.sink.line(Line { level, text: line.to_owned(), fields });
        }
        Ok(())
    }

    pub(crate) fn progress(&self, done: u64, total: u64) {
        self.sink.progress(done, total);
    }

    /// Text as others may see it: redacted before and after the cleaning, which may put a secret together.
    pub(crate) fn presentable<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let redacted = self.redactor.text(text);
        let Cow::Owned(clean) = clean(&redacted) else { return redacted };
        Cow::Owned(self.redactor.text(&clean).into_owned())
    }

    fn field(&self, text: &str, most: usize) -> String {
        let text = self.presentable(text).replace('\n', " ");
        pieces(&text)
            .next()
            .map(|first| &first[..first.floor_char_boundary(most)])
            .unwrap_or_default()
            .to_owned()
    }

    fn mark_cut(&self, OverLimit(limit): OverLimit) {
        if !self.cut.swap(true, Ordering::Relaxed) {
            let allowed = self.account.allowed();
            let most = if limit == Limit::Lines {
                format!("{} lines", allowed.lines)
            } else {
                allowed.log.to_string()
            };
            let text = format!("the log is cut here: its limit of {most} is used up");
            self.sink.line(Line { level: Level::Warn, text, fields: Vec::new() });
        }
    }

    /// Takes bytes of standard output or error; whole lines become entries.
    pub(crate) fn stdio(&self, which: Stdio, bytes: &[u8]) -> Result<(), OverLimit> {
        let mut waiting = self.buffer(which);
        waiting.extend_from_slice(bytes);
        let whole = match waiting.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            None if waiting.len() > MAX_LOG_LINE => waiting.len(),
            None => return Ok(()),
        };
        let lines: Vec<u8> = waiting.drain(..whole).collect();
        drop(waiting);
        let lines = lines.strip_suffix(b"\n").unwrap_or(&lines);
        self.write(which.level(), &String::from_utf8_lossy(lines), Vec::new())
    }

    /// Writes what standard output and error hold without a final newline.
    pub(crate) fn finish(&self) -> Result<(), OverLimit> {
        for which in [Stdio::Out, Stdio::Error] {
            let rest = std::mem::take(&mut *self.buffer(which));
            if !rest.is_empty() {
                self.write(which.level(), &String::from_utf8_lossy(&rest), Vec::new())?;
            }
        }
        Ok(())
    }

    fn buffer(&self, which: Stdio) -> std::sync::MutexGuard<'_, Vec<u8>> {
        let buffer = match which {
            Stdio::Out => &self.stdout,
            Stdio::Error => &self.stderr,
        };
        buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Words for Log {
    fn full(&self) -> bool {
        false
    }

    async fn room(&self) {}

    fn write(&self, level: Level, message: &str, fields: Vec<(String, String)>) -> Result<(), OverLimit> {
        Self::write(self, level, message, fields)
    }

    fn stdio(&self, which: Stdio, bytes: &[u8]) -> Result<(), OverLimit> {
        Self::stdio(self, which, bytes)
    }

    fn progress(&self, done: u64, total: u64) {
        Self::progress(self, done, total);
    }
}

impl Stdio {
    fn level(self) -> Level {
        match self {
            Self::Out => Level::Info,
            Self::Error => Level::Warn,
        }
    }
}

/// Splits a line at [`MAX_LOG_LINE`] bytes; an empty line is one piece.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (piece, after) = line.split_at(line.floor_char_boundary(MAX_LOG_LINE));
        rest = (!after.is_empty()).then_some(after);
        Some(piece)
    })
}

/// True for characters that change how a terminal or a page shows other text.
fn unwanted(c: char) -> bool {
    (c.is_control() && c != '\t' && c != '\n')
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Takes out escape sequences (ECMA-48), other control characters but tab and newline, and changes of direction.
/// A carriage return or a Unicode line separator ends a line, so that nothing is written over.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(unwanted) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.next_if(|c| *c != '\n') {
                Some('[') => skip_control_sequence(&mut rest),
                Some(']' | 'P' | 'X' | '^' | '_') => skip_control_string(&mut rest),
                Some(' '..='/') => {
                    while rest.next_if(|c| matches!(c, ' '..='/')).is_some() {}
                    rest.next_if(|c| matches!(c, '0'..='~'));
                }
                _ => {}
            },
            '\u{9b}' => skip_control_sequence(&mut rest),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_control_string(&mut rest),
            '\r' => {
                rest.next_if_eq(&'\n');
                clean.push('\n');
            }
            '\u{2028}' | '\u{2029}' | '\u{85}' => clean.push('\n'),
            c if unwanted(c) => {}
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Parameters and intermediates up to the final byte.
fn skip_control_sequence(rest: &mut Rest<'_>) {
    while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    rest.next_if(|c| matches!(c, '@'..='~'));
}

/// Everything up to the terminator; a string that is not ended goes on to the end of its line.
fn skip_control_string(rest: &mut Rest<'_>) {
    while let Some(c) = rest.next_if(|c| *c != '\n') {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                rest.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

impl log::Host for State {
    async fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        let brought: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.account.peak(Limit::Call, message.len() + brought)?;
        if self.log.full() {
            self.log.room().await;
        }
        Ok(self.log.write(level, &message, fields)?)
    }
}

/// A guest's standard output or error. Not the engine's adapter, which keeps what is written in empty pieces.
pub(crate) struct LogStream {
    log: Arc<dyn Words>,
    account: Arc<Account>,
    which: Stdio,
}

impl LogStream {
    pub(crate) fn new(log: Arc<dyn Words>, account: Arc<Account>, which: Stdio) -> Self {
        Self { log, account, which }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self::new(self.log.clone(), self.account.clone(), self.which))
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {
        self.log.room().await;
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let taken = self.account.peak(Limit::Call, bytes.len());
        taken.and_then(|()| self.log.stdio(self.which, &bytes)).map_err(|over| StreamError::Trap(over.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.log.full() { 0 } else { WRITE_PERMIT })
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::{Limits, Size};

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<Line>>);

    impl LogSink for Lines {
        fn line(&self, line: Line) {
            self.0.lock().unwrap().push(line);
        }
        fn progress(&self, _: u64, _: u64) {}
    }

    fn log(limit: u64) -> (Arc<Lines>, Log) {
        let lines = Arc::new(Lines::default());
        let limits = Limits { log: Size::from_bytes(limit), ..Limits::default() };
        (lines.clone(), Log::new(lines, Redactor::new(), Arc::new(Account::new(limits))))
    }

    fn texts(lines: &Lines) -> Vec<String> {
        lines.0.lock().unwrap().iter().map(|line| line.text.clone()).collect()
    }

    #[test]
    fn text_is_neutralised() {
        fn check(text: &str, expect: &str) {
            assert_eq!(clean(text), expect, "{text:?}");
            assert!(!clean(text).contains(unwanted));
        }
        check("plain\ttext\n", "plain\ttext\n");
        check("\u{1b}[31mred\u{1b}[0m", "red");
        check("\u{1b}[2J\u{1b}[1;1Hgone", "gone");
        check("\u{1b}]8;;https://evil.example\u{7}link\u{1b}]8;;\u{1b}\\", "link");
        check("\u{1b}]52;c;cHduZWQ=\u{7}x", "x");
        check("\u{1b}]never ended\nnext line", "\nnext line");
        check("\u{9b}31mred\u{9d}title\u{9c}!", "red!");
        check("\u{1b}(0x\u{1b}cy", "xy");
        check("ok\rfail", "ok\nfail");
        check("a\r\nb", "a\nb");
        check("a\u{2028}b", "a\nb");
        check("user\u{202e}txt.exe", "usertxt.exe");
        check("\u{2066}a\u{2069}\u{200f}\u{feff}b\u{0}c\u{8}\u{7f}", "abc");
        check("\u{e0041}tag", "tag");
        check("\u{1b}", "");
        check("\u{1b}\n", "\n");
        check("héllo — 漢字 🦀", "héllo — 漢字 🦀");
    }

    #[test]
    fn lines_are_split_and_bounded() {
        let (lines, log) = log(1 << 20);
        log.write(Level::Info, "a\nb", vec![("n\u{1b}[1m".to_owned(), "v\nw".to_owned())]).unwrap();
        log.write(Level::Info, &"é".repeat(MAX_LOG_LINE), Vec::new()).unwrap();
        assert_eq!(lines.0.lock().unwrap()[0].fields, [("n".to_owned(), "v w".to_owned())]);
        assert!(lines.0.lock().unwrap()[1].fields.is_empty());
        let lengths: Vec<_> = texts(&lines).iter().map(String::len).collect();
        assert_eq!(lengths, [1, 1, MAX_LOG_LINE, MAX_LOG_LINE]);
    }

    #[test]
    fn standard_output_becomes_lines_at_its_newlines() {
        let (lines, log) = log(1 << 20);
        for piece in ["one\ntw", "o\n", "\u{1b}[1mthr", "ee"] {
            log.stdio(Stdio::Out, piece.as_bytes()).unwrap();
        }
        log.stdio(Stdio::Error, b"\xffpanic\n").unwrap();
        assert_eq!(texts(&lines), ["one", "two", "\u{fffd}panic"]);
        log.finish().unwrap();
        assert_eq!(texts(&lines)[3], "three");
    }

    #[test]
    fn a_line_without_end_does_not_pile_up() {
        let (lines, log) = log(1 << 30);
        for _ in 0..10 {
            log.stdio(Stdio::Out, &[b'x'; 10_000]).unwrap();
            assert!(log.buffer(Stdio::Out).len() <= MAX_LOG_LINE);
        }
        log.finish().unwrap();
        assert_eq!(texts(&lines).iter().map(String::len).sum::<usize>(), 100_000);
    }

    #[test]
    fn lines_are_counted_beside_their_bytes() {
        let lines = Arc::new(Lines::default());
        let account = Arc::new(Account::new(Limits { lines: 3, ..Limits::default() }));
        let log = Log::new(lines.clone(), Redactor::new(), account.clone());
        log.write(Level::Info, "one\ntwo", Vec::new()).unwrap();
        log.stdio(Stdio::Out, b"three\n").unwrap();
        assert_eq!(log.write(Level::Info, "four", Vec::new()), Err(OverLimit(Limit::Lines)));
        let expect = ["one", "two", "three", "the log is cut here: its limit of 3 lines is used up"];
        assert_eq!(texts(&lines), expect);
        assert_eq!(account.used(Limit::Lines), 3);
    }

    #[test]
    fn the_limit_cuts_with_one_mark() {
        let (lines, log) = log(1000);
        let mut written = 0;
        while log.write(Level::Info, "", Vec::new()).is_ok() {
            written += 1;
        }
        assert!(log.write(Level::Info, &"y".repeat(1000), Vec::new()).is_err());
        assert_eq!(written, 1000 / usize::try_from(log_limit::ENTRY).unwrap());
        let texts = texts(&lines);
        assert_eq!(texts.len(), written + 1);
        assert!(texts[written].contains("the log is cut here"), "{}", texts[written]);
    }
}
