//! The runner's calls: method, path, request and answer of each in one place. Only GET and POST; HTTP/1.1 suffices.
//!
//! Every request but `enrol` carries the signature headers of `remit-signing`'s HTTP profile; every answer is signed by
//! the orchestrator's answer key, bound to the request. Every write is idempotent by (session, attempt, epoch, number).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    AttemptId, Digest, Epoch, RunnerId, RunnerName, Session, Span, Tag, Timestamp,
    assignment::Assignment,
    report::{AttemptReply, AttemptReport},
};

/// `GET`: answers `{"remit":"orchestrator","protocol":1}` without authentication; anything else is a middlebox.
pub const HELLO: &str = "/r/v1/hello";
/// `POST`: [`Enrol`] → [`Enrolled`].
pub const ENROL: &str = "/r/v1/enrol";
/// `POST`: [`OpenSession`] → [`SessionOpened`].
pub const SESSION: &str = "/r/v1/session";
/// `POST`: [`Poll`] → [`PollAnswer`]; held until there is something to say, at most `hold`.
pub const POLL: &str = "/r/v1/poll";
/// `POST`: [`Wait`] → [`Waited`], after so long: whether what lies between lets a silent call live. Outside of a session.
pub const WAIT: &str = "/r/v1/wait";
/// `POST`: [`Report`] → [`ReportAnswer`].
pub const REPORT: &str = "/r/v1/report";
/// `GET` + digest in text form: bytes of a job document, node set or component. `POST` without it: upload a node set.
pub const BLOBS: &str = "/r/v1/blobs";
/// `POST` + attempt, digest, length and offset as segments: the bytes of an artifact from there on, at most
/// [`MAX_PIECE`] → [`ArtifactUpload`].
pub const ARTIFACTS: &str = "/r/v1/artifacts";
/// Most bytes of one piece of an artifact.
pub const MAX_PIECE: usize = 256 << 10;
/// `GET` + namespace, name and version as segments: [`ComponentBundle`].
pub const COMPONENTS: &str = "/r/v1/components";

/// `GET` + the digest that is a note's leaf hash: [`LogProof`].
pub const LOG_PROOF: &str = "/r/v1/log/proof";
/// `GET` + an older and a newer number of leaves as segments: [`LogConsistency`].
pub const LOG_CONSISTENCY: &str = "/r/v1/log/consistency";

/// `POST`: [`TrailHead`] → [`TrailKept`]. The signed end of the runner's own record, whenever it has signed a new one.
pub const TRAIL: &str = "/r/v1/trail";

/// Longest hold of a poll.
pub const HOLD: Span = Span::from_secs(25);
/// A session that has not been heard of for this long loses its leases.
pub const LEASE: Span = Span::from_secs(75);

/// The answer of [`HELLO`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// `orchestrator`.
    pub remit: String,
    /// Newest protocol that is served.
    pub protocol: u32,
    /// The orchestrator's clock, for the skew of request signatures only.
    pub now: Timestamp,
}

/// A new runner introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// The `remit/enrol/v1` note, signed by the ticket's key and by the runner's new key.
    pub note: String,
}

/// The orchestrator takes it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// The `remit/enrolled/v1` note, signed by the answer key that the ticket names.
    pub note: String,
}

/// A runner process begins: it fences off any earlier process of the same runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// Which runner.
    pub runner: RunnerId,
    /// The newest session that it knows of; the orchestrator knows the same one, or one of them is a copy.
    pub last: Session,
    /// Newest protocol that it speaks.
    pub protocol: u32,
    /// Its version.
    pub version: String,
    /// Its host's name, for people.
    pub hostname: String,
    /// What it can do beyond the base: the capabilities by name, and later features.
    pub features: BTreeSet<String>,
    /// How many sandboxes it runs at once.
    pub slots: u32,
    /// The `remit/sealing/v1` note: to which key secrets for it are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<String>,
    /// Attempts in its journal.
    pub attempts: Vec<Held>,
}

/// An attempt that a runner has in its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Which.
    pub attempt: AttemptId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How far.
    pub state: HeldState,
}

/// How far a runner is with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldState {
    /// Handed out, not begun.
    Leased,
    /// Begun and running.
    Running,
    /// Begun by an earlier process of this runner that is gone.
    Interrupted,
    /// Ended; the report is on its way.
    Finished,
}

/// The session is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionOpened {
    /// The new session: keep it durably before it is used.
    pub session: Session,
    /// The name under which people know the runner.
    pub name: RunnerName,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// Longest hold of a poll.
    pub hold: Span,
    /// How long leases live without a sign of life.
    pub lease: Span,
    /// Held attempts that are superseded: stop and forget them.
    pub forget: Vec<AttemptId>,
}

/// Is there something for me? Also the heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// Under which session.
    pub session: Session,
    /// The highest command number that was received.
    pub ack: u64,
    /// Free slots.
    pub free: u32,
    /// No new work is wanted: the runner is about to stop.
    pub draining: bool,
    /// How long the answer may be held; middleboxes shrink it.
    pub hold: Span,
    /// Every attempt that the runner has; sent on the first poll and when asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<Held>>,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollAnswer {
    /// The number of the first of `commands`. Commands are repeated until they are acknowledged.
    pub first: u64,
    /// What to do.
    pub commands: Vec<Command>,
    /// The orchestrator's clock.
    pub now: Timestamp,
}

/// What an orchestrator tells a runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Run this section.
    Run(Box<Assignment>),
    /// Stop this attempt: tell the step, and interrupt it when the grace is over.
    Cancel {
        /// Which.
        attempt: AttemptId,
        /// Under which epoch.
        epoch: Epoch,
        /// How long it may tidy up.
        grace: Span,
    },
    /// Superseded: stop it and forget it.
    Forget {
        /// Which.
        attempt: AttemptId,
    },
    /// Take no more work, end what runs, stop.
    Drain,
}

/// A question whose answer is to be held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// How long; at most [`HOLD`].
    pub hold: Span,
}

/// The answer that was held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waited {
    /// How long it was.
    pub hold: Span,
}

/// Starts, events and log entries of any number of attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Under which session.
    pub session: Session,
    /// What there is to say.
    pub attempts: Vec<AttemptReport>,
}

/// One reply for each attempt of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportAnswer {
    /// In the report's order.
    pub attempts: Vec<AttemptReply>,
}

/// What belongs to a component beside its bytes; the bytes are the blob of `digest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentBundle {
    /// The component.
    pub digest: Digest,
    /// How many bytes it has.
    pub length: u64,
    /// `manifest.json`, exactly.
    pub manifest: String,
    /// The component note, exactly.
    pub note: String,
    /// The transparency log's proof, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// The `remit/verdict/v1` notes about it, and about the releases that their deltas begin from, exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<String>,
}

/// How much of an artifact has arrived. What was sent at another offset was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactUpload {
    /// Send from here on.
    pub have: u64,
    /// All of it is durable: a report may name it.
    pub kept: bool,
}

/// That a note is in the transparency log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogProof {
    /// A `c2sp.org/tlog-proof@v1` file under the log's newest head.
    pub proof: String,
}

/// That one head of the transparency log is where another one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConsistency {
    /// The hashes of RFC 9162's consistency proof; fewer than 65.
    pub hashes: Vec<Digest>,
}

/// The signed end of a runner's own record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrailHead {
    /// The `remit/trail/v1` note, signed by the runner's key.
    pub note: String,
}

/// The longest end that was seen of the runner's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrailKept {
    /// How many entries it has. More than were sent: the record was cut off since then.
    pub entries: u64,
    /// What was sent is that end, or the one that follows it.
    pub fits: bool,
}

/// The body of every failed call of both APIs: what happened, why, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A stable word for programs: `not-found`, `session-superseded`, …
    pub code: String,
    /// What happened and why, for people.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Places in the input, if it was at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// One mistake in something that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fault {
    /// Line, from 1; absent where there are no lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The place in words, such as `steps.restart.grant.http[0]`.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}
