//! How an attempt speaks to the dispatcher, and hears from it.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use remit_job::document::StepLog;
use remit_protocol::{
    AttemptId, NodeIndex, Outcome, StepIndex,
    report::{Event, Level, LogEntry},
};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    time::Instant,
};

use crate::{
    capability::log::{Line, LogSink},
    clock::Clock,
    runner::Said,
    sandbox::Cancel,
};

/// Bytes of log on their way to the dispatcher; beyond it, lines are cut, with a mark.
const MAX_QUEUED: usize = 16 << 20;

/// Whether something may begin: the lease holds, and there is room for what it will say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate {
    /// The lease, less its margin.
    pub until: Option<Instant>,
    /// Too much is kept for an orchestrator that does not answer.
    pub full: bool,
}

impl Gate {
    fn open(self, now: Instant) -> bool {
        !self.full && self.until.is_some_and(|until| now < until)
    }
}

/// What the dispatcher tells an attempt.
#[derive(Clone)]
pub struct Reins {
    /// True when it may begin.
    pub begin: watch::Receiver<bool>,
    /// The newest event that the orchestrator has.
    pub durable: watch::Receiver<u64>,
    /// Whether something may begin.
    pub gate: watch::Receiver<Gate>,
    /// It is to stop.
    pub cancel: Cancel,
}

impl Reins {
    /// Waits until something may begin. False: it is cancelled, or nobody holds the reins any more.
    pub async fn may_begin(&mut self) -> bool {
        loop {
            if self.cancel.is_cancelled() {
                return false;
            }
            if self.gate.borrow_and_update().open(Instant::now()) {
                return true;
            }
            tokio::select! {
                changed = self.gate.changed() => if changed.is_err() { return false },
                () = self.cancel.cancelled() => return false,
            }
        }
    }
}

/// What all attempts speak through.
#[derive(Clone)]
pub struct Mouth {
    /// To the dispatcher.
    pub said: UnboundedSender<(AttemptId, Said)>,
    /// Bytes of log on their way; the dispatcher takes off what it has heard.
    pub queued: Arc<AtomicUsize>,
    /// The host's clock.
    pub clock: Clock,
}

/// One attempt's voice.
pub struct Voice {
    attempt: AttemptId,
    mouth: Mouth,
    /// The number of the last event; held while one is sent, so that numbers and order agree.
    events: Mutex<u64>,
    /// How steps ended, where that is to be signed.
    ends: Mutex<Option<Vec<StepEnd>>>,
}

struct StepEnd {
    step: StepIndex,
    node: Option<NodeIndex>,
    outcome: Outcome,
    output: Option<Value>,
}

/// How a step of a section ended, on one node if it is a node step.
pub(super) struct End {
    /// The step's place in the section.
    pub(super) place: usize,
    /// Which node.
    pub(super) node: Option<NodeIndex>,
    /// How.
    pub(super) outcome: Outcome,
    /// What it gave.
    pub(super) output: Option<Value>,
}

impl Voice {
    /// The voice of `attempt`.
    pub fn new(attempt: AttemptId, mouth: Mouth) -> Self {
        Self { attempt, mouth, events: Mutex::new(0), ends: Mutex::new(None) }
    }

    /// Keeps how steps end from here on.
    pub(super) fn keep_ends(&self, keep: bool) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = keep.then(Vec::new);
    }

    /// How the steps from `first` on have ended.
    pub(super) fn ends(&self, first: StepIndex) -> Vec<End> {
        let kept = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let end = |end: StepEnd| {
            let place = usize::try_from(end.step.0.checked_sub(first.0)?).ok()?;
            Some(End { place, node: end.node, outcome: end.outcome, output: end.output })
        };
        kept.into_iter().filter_map(end).collect()
    }

    /// The host's clock.
    pub fn clock(&self) -> Clock {
        self.mouth.clock
    }

    /// Says something that is no event.
    pub fn say(&self, said: Said) {
        // Nobody listens any more when the runner is ending.
        let _ = self.mouth.said.send((self.attempt, said));
    }

    /// Says an event; gives the number that it has in the report.
    pub fn event(&self, event: Event) -> u64 {
        if let Event::StepEnded(ended) = &event
            && let Some(kept) = self.ends.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            // What was run per node gives nothing to later steps but how it ended.
            let output = ended.output.clone().filter(|_| ended.node.is_none());
            kept.push(StepEnd { step: ended.step, node: ended.node, outcome: ended.outcome, output });
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events += 1;
        self.say(Said::Event(event));
        *events
    }
}

/// Where the log of one step on one node goes.
pub struct Sink {
    voice: Arc<Voice>,
    step: StepIndex,
    node: Option<NodeIndex>,
    cut: AtomicU64,
    /// What the job wants with each line, and what has been read of them.
    wanted: StepLog,
    read: Mutex<(Map<String, Value>, u32)>,
}

impl Sink {
    /// The log of `step` on `node`.
    pub fn new(voice: Arc<Voice>, step: StepIndex, node: Option<NodeIndex>) -> Self {
        Self { voice, step, node, cut: AtomicU64::new(0), wanted: StepLog::default(), read: Mutex::default() }
    }

    /// The same, with what the job wants with the lines of the step's own component.
    #[must_use]
    pub(super) fn wanting(self, wanted: &StepLog) -> Self {
        Self { wanted: wanted.clone(), ..self }
    }

    /// What the step says of its end, with the same hidden as in its lines.
    pub(super) fn masked(&self, message: String) -> String {
        if self.wanted.mask.is_empty() { message } else { self.wanted.masked_text(&message) }
    }

    /// The step's output, with the same hidden as in its lines, and the values that were read from them.
    pub(super) fn with_values(&self, output: Option<Value>) -> Option<Value> {
        let output = output.map(|output| self.wanted.masked_value(output));
        if self.wanted.outputs.is_empty() {
            return output;
        }
        let values = self.read.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
        let mut whole = match output {
            Some(Value::Object(whole)) => whole,
            Some(Value::Null) | None => Map::new(),
            Some(other) => Map::from_iter([("value".to_owned(), other)]),
        };
        whole.insert("log".to_owned(), Value::Object(values));
        Some(Value::Object(whole))
    }

    /// A line of the component: masked, read, and written unless enough was.
    fn heard(&self, line: Line) {
        if self.wanted.is_empty() {
            return self.write(line.level, line.text, line.fields);
        }
        let hide = |text: String| match self.wanted.masked(&text) {
            Cow::Owned(hidden) => hidden,
            Cow::Borrowed(_) => text,
        };
        let text = hide(line.text);
        let fields = line.fields.into_iter().map(|(name, value)| (name, hide(value))).collect();
        let lines = {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            self.wanted.read(&text, &mut read.0);
            read.1 = read.1.saturating_add(1);
            read.1
        };
        match self.wanted.keep {
            Some(keep) if lines > keep => {}
            _ => self.write(line.level, text, fields),
        }
    }

    /// Says how many lines were thrown away, once the run is over.
    pub(super) fn conclude(&self) {
        let lines = self.read.lock().unwrap_or_else(PoisonError::into_inner).1;
        let more = self.wanted.keep.map_or(0, |keep| lines.saturating_sub(keep));
        if more > 0 {
            let text = format!("{more} more lines were not kept: the job keeps {} of a run", lines - more);
            self.write(Level::Warn, text, Vec::new());
        }
    }

    /// Writes a line.
    pub fn write(&self, level: Level, text: String, fields: Vec<(String, String)>) {
        let bytes = size(&text, &fields);
        let queued = &self.voice.mouth.queued;
        if queued.load(Ordering::Relaxed) > MAX_QUEUED {
            self.cut.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let cut = self.cut.swap(0, Ordering::Relaxed);
        if cut > 0 {
            let text =
                format!("{cut} entries are missing here: they came faster than the runner could keep them");
            queued.fetch_add(size(&text, &[]), Ordering::Relaxed);
            self.entry(Level::Warn, text, Vec::new());
        }
        queued.fetch_add(bytes, Ordering::Relaxed);
        self.entry(level, text, fields);
    }

    fn entry(&self, level: Level, text: String, fields: Vec<(String, String)>) {
        let at = (self.voice.mouth.clock)();
        self.voice.say(Said::Log(LogEntry { at, step: self.step, node: self.node, level, text, fields }));
    }
}

/// What an entry counts while it is on its way.
pub fn size(text: &str, fields: &[(String, String)]) -> usize {
    text.len() + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
}

impl LogSink for Sink {
    fn line(&self, line: Line) {
        self.heard(line);
    }

    fn progress(&self, done: u64, total: u64) {
        self.voice.event(Event::Progress { step: self.step, node: self.node, done, total });
    }
}
