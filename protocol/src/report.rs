//! How things end, and what a runner says while they go on.
//!
//! An attempt's events are numbered from 1 without a gap, and so are its log entries; the orchestrator applies each
//! number once and says up to which it has made durable. The runner frees nothing before that.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ArtifactName, AttemptId, Digest, Epoch, Limits, NodeIndex, Span, StepIndex, Timestamp, digest,
    limits::Spent, refusal::RefusalCode,
};

/// How an attempt, a step or a node ended. Closed: retry rules are a function of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Outcome {
    /// It did what it should.
    Succeeded,
    /// The step said that it failed.
    Failed,
    /// The runner did not run it: a signature, a permission or an input.
    Refused(RefusalCode),
    /// The component broke off: a trap, an abort, a panic.
    Trapped,
    /// Its time ran out.
    TimedOut,
    /// It used up a limit.
    OverLimit(Limit),
    /// Somebody cancelled it.
    Cancelled,
    /// The runner's fault: disk, memory, a bug.
    HostFault,
    /// The runner restarted while it ran; nothing of it is running any more.
    Interrupted,
    /// The runner has not been heard of; whether it ran to its end is not known.
    Lost,
    /// Its condition said no.
    Skipped,
    /// It was never begun.
    NotStarted,
}

/// The limits that end a step when they are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the fields of `Limits`")]
pub enum Limit {
    Memory,
    Cpu,
    Fuel,
    Log,
    Lines,
    Output,
    Call,
    Requests,
    Egress,
    Ingress,
    Processes,
    Scratch,
    Handles,
    Artifacts,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 14] = [
        Self::Memory,
        Self::Cpu,
        Self::Fuel,
        Self::Log,
        Self::Lines,
        Self::Output,
        Self::Call,
        Self::Requests,
        Self::Egress,
        Self::Ingress,
        Self::Processes,
        Self::Scratch,
        Self::Handles,
        Self::Artifacts,
    ];

    /// The limit's name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Fuel => "fuel",
            Self::Log => "log",
            Self::Lines => "lines",
            Self::Output => "output",
            Self::Call => "call",
            Self::Requests => "requests",
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Processes => "processes",
            Self::Scratch => "scratch",
            Self::Handles => "handles",
            Self::Artifacts => "artifacts",
        }
    }
}

impl Outcome {
    /// The word without detail, as conditions compare it: `succeeded`, `refused`, `over-limit` …
    pub fn kind(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refused(_) => "refused",
            Self::Trapped => "trapped",
            Self::TimedOut => "timed-out",
            Self::OverLimit(_) => "over-limit",
            Self::Cancelled => "cancelled",
            Self::HostFault => "host-fault",
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
            Self::NotStarted => "not-started",
        }
    }

    /// Every word that [`Self::kind`] gives.
    pub const KINDS: [&str; 12] = [
        "succeeded",
        "failed",
        "refused",
        "trapped",
        "timed-out",
        "over-limit",
        "cancelled",
        "host-fault",
        "interrupted",
        "lost",
        "skipped",
        "not-started",
    ];

    /// True for `succeeded` and `skipped`: what follows on success may follow.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Succeeded | Self::Skipped)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "refused({code})"),
            Self::OverLimit(limit) => write!(f, "over-limit({})", limit.as_str()),
            other => f.write_str(other.kind()),
        }
    }
}

/// A text that is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an outcome")]
pub struct UnknownOutcome(String);

impl FromStr for Outcome {
    type Err = UnknownOutcome;
    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        let unknown = || UnknownOutcome(text.chars().take(40).collect());
        if let Some((kind, detail)) = text.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
            return match kind {
                "refused" => detail.parse().map(Self::Refused).map_err(|_| unknown()),
                "over-limit" => {
                    let limit = Limit::ALL.into_iter().find(|limit| limit.as_str() == detail);
                    limit.map(Self::OverLimit).ok_or_else(unknown)
                }
                _ => Err(unknown()),
            };
        }
        let plain = [
            Self::Succeeded,
            Self::Failed,
            Self::Trapped,
            Self::TimedOut,
            Self::Cancelled,
            Self::HostFault,
            Self::Interrupted,
            Self::Lost,
            Self::Skipped,
            Self::NotStarted,
        ];
        plain.into_iter().find(|outcome| outcome.kind() == text).ok_or_else(unknown)
    }
}

impl TryFrom<String> for Outcome {
    type Error = UnknownOutcome;
    fn try_from(text: String) -> Result<Self, UnknownOutcome> {
        text.parse()
    }
}

impl From<Outcome> for String {
    fn from(outcome: Outcome) -> Self {
        outcome.to_string()
    }
}

/// What one run of one step used, of what its remit allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Peak or sum, field by field as in [`Limits`].
    pub used: Limits,
    /// The remit's limits.
    pub allowed: Limits,
}

impl Usage {
    /// Each limit with how much of it was used, in the order of [`Limits`].
    pub fn each(&self) -> Vec<Spent> {
        self.allowed.spent(&self.used)
    }

    /// What was used at all, for people to read: `memory 1.1MiB of 64MiB, wall 12ms of 1m`.
    pub fn words(&self) -> String {
        let used = self.each().into_iter().filter(|spent| !spent.is_nothing());
        let parts = used.map(|spent| format!("{} {} of {}", spent.limit, spent.used, spent.allowed));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// The limit of which the largest part was used.
    pub fn nearest(&self) -> Option<Spent> {
        self.each().into_iter().rev().max_by_key(|spent| spent.percent)
    }
}

/// One run of one step (on one node) has ended; retries inside the attempt are counted in `tries`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepEnded {
    /// Which step of the document.
    pub step: StepIndex,
    /// Which node of the set; absent for a workflow step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeIndex>,
    /// How it ended.
    pub outcome: Outcome,
    /// How often it was run; zero if it never was.
    pub tries: u32,
    /// When the first try began.
    pub started: Timestamp,
    /// When the last one ended.
    pub ended: Timestamp,
    /// The output document, redacted; absent unless it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why, in words, redacted: the step's failure, the refusal with its remedy, the trap.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What was used; absent if no sandbox was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// The remit that it ran under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remit: Option<Digest>,
    /// What it kept for people, brought to the orchestrator before this is said; however it ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

/// A file that a step kept for people: its bytes stay with the execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Unique among those of its step on its node.
    pub name: ArtifactName,
    /// What its bytes are.
    pub form: ArtifactForm,
    /// Which bytes: of a text after its redaction.
    pub bytes: digest::Sized,
}

/// What the bytes of an artifact are, as the step says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ArtifactForm {
    /// Text: secrets in it are replaced, as in a log.
    Text,
    /// Anything else: replacing would spoil it, so what holds a secret is not kept.
    Binary,
}

/// Something that happened in an attempt and changes the record of the execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// These nodes are about to be begun: should the runner be lost, only they are in doubt.
    Dispatched {
        /// The nodes.
        nodes: Vec<NodeIndex>,
    },
    /// A step ended.
    StepEnded(Box<StepEnded>),
    /// A step said how far it is.
    Progress {
        /// Which step.
        step: StepIndex,
        /// On which node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeIndex>,
        /// So much is done,
        done: u64,
        /// of so much.
        total: u64,
    },
    /// The attempt ended; the last event.
    Finished {
        /// How.
        outcome: Outcome,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
        /// How many log entries there are in all.
        log_entries: u64,
        /// For a node source: the nodes it found, uploaded as a blob before this event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nodes: Option<crate::digest::Sized>,
        /// For a job that was signed: what the runner signs about this end, so that other runners can go on from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<SignedResult>,
    },
}

/// What a runner signed about the end of a section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedResult {
    /// The note, `remit/result/v1`.
    pub note: String,
    /// The very bytes that it names: what each step came to.
    pub steps: String,
}

/// How serious a log entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[expect(missing_docs, reason = "the usual levels")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One line of a step's log, redacted and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogEntry {
    /// When.
    pub at: Timestamp,
    /// Which step.
    pub step: StepIndex,
    /// On which node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeIndex>,
    /// How serious.
    pub level: Level,
    /// The text; at most [`crate::limits::MAX_LOG_LINE`] bytes.
    pub text: String,
    /// Named values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
}

/// What a runner says of one attempt: any of the three may be absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptReport {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// "May I begin?", with a number of the runner's choosing that makes the question repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// The number of the first of `events`.
    #[serde(default)]
    pub first_event: u64,
    /// Events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// The number of the first of `log`.
    #[serde(default)]
    pub first_entry: u64,
    /// Log entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<LogEntry>,
}

/// What the orchestrator answers for one attempt. Everything up to the numbers given is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptReply {
    /// Which attempt.
    pub attempt: AttemptId,
    /// The highest event number that is durable; send the next one.
    pub events: u64,
    /// The highest log entry number that is durable; send the next one.
    pub entries: u64,
    /// The answer to `start`, or what to do with the attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What the orchestrator says about an attempt's right to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The start is recorded: begin.
    Begin,
    /// Somebody wants it cancelled.
    Cancel,
    /// Another epoch is current or it has ended: stop it and forget it. What it did is kept as evidence.
    Superseded,
}

/// How long to wait before the next try of a failed step.
pub fn backoff(delay: Span, factor: f64, tries: u32) -> Span {
    let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "clamped"
    )]
    let millis = (delay.as_millis() as f64 * factor.max(1.0).powi(exponent)).min(3_600_000.0) as u64;
    Span::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_one_text() {
        let mut all = vec![
            Outcome::Succeeded,
            Outcome::Failed,
            Outcome::Trapped,
            Outcome::TimedOut,
            Outcome::Cancelled,
            Outcome::HostFault,
            Outcome::Interrupted,
            Outcome::Lost,
            Outcome::Skipped,
            Outcome::NotStarted,
        ];
        all.extend(RefusalCode::ALL.iter().map(|code| Outcome::Refused(*code)));
        all.extend(Limit::ALL.map(Outcome::OverLimit));
        for outcome in all {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
            assert!(Outcome::KINDS.contains(&outcome.kind()));
        }
        for bad in ["", "ok", "refused", "refused(E_NOTHING)", "over-limit", "over-limit(wall)", "failed()"] {
            assert!(bad.parse::<Outcome>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_used_reads_as_a_line() {
        let nothing = Limits::nothing();
        let used = Limits {
            memory: crate::Size::from_bytes(1_150_000),
            lines: 90_000,
            wall: Span::from_millis(12),
            ..nothing
        };
        let usage = Usage { used, allowed: Limits::default() };
        assert_eq!(usage.words(), "memory 1MiB of 64MiB, wall 12ms of 1m, lines 90000 of 100000");
        let nearest = usage.nearest().unwrap();
        assert_eq!((nearest.limit, nearest.percent), ("lines", 90));
        assert_eq!(Usage { used: nothing, ..usage }.words(), "");
    }

    #[test]
    fn waiting_grows_by_the_factor_up_to_an_hour() {
        assert_eq!(backoff(Span::from_secs(5), 2.0, 1), Span::from_secs(5));
        assert_eq!(backoff(Span::from_secs(5), 2.0, 3), Span::from_secs(20));
        assert_eq!(backoff(Span::from_secs(5), 2.0, 99), Span::from_secs(3600));
        assert_eq!(backoff(Span::from_secs(5), 0.0, 9), Span::from_secs(5));
    }
}
