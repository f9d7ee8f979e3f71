//! One attempt's life: prepare everything, ask, run the section, say how it ended.
//!
//! An attempt speaks to the dispatcher by [`Said`] and is told by [`Reins`]; it dials nobody but for the blobs that its
//! assignment names. *Must not know:* sessions, polls, the journal. *Invariant:* nothing runs before the dispatcher said
//! begin; every node that began gets an end for every step; the last event is `finished`.

mod artifacts;
mod fanout;
mod order;
mod prepare;
mod record;
mod schedule;
mod step;
mod typed;
mod voice;

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use remit_job::document::Document;
use remit_protocol::{
    AttemptId, Digest, NodeName, Outcome, RefusalCode, RunnerId, SectionNumber, StepIndex, StepName,
    assignment::Assignment,
    capability::{Ceiling, Effect},
    node::{Node, NodeSet},
    report::{Event, SignedResult},
};
use remit_signing::{SigningKey, run::Order};
use tokio::time::Instant;

use self::step::{Sight, Surroundings};
pub use self::{
    prepare::{NotReady, ReadyStep, Section, denied, remit},
    step::idempotency_key,
    voice::{Gate, Mouth, Reins, Sink, Voice, size},
};
use crate::{
    audit::Audit, broker::apart::Keeper, clock::Clock, component::Components, config::SignedKind,
    orchestrator::Client, runner::Said, sandbox::Sandbox, secrets::Providers, trust::Trust,
};

/// What all attempts share.
pub struct Workshop {
    /// Fetches blobs.
    pub client: Arc<Client>,
    /// Whom the owner believes.
    pub trust: Arc<Trust>,
    /// Loads components.
    pub components: Components,
    /// Runs them.
    pub sandbox: Sandbox,
    /// What the owner ever permits.
    pub ceiling: Ceiling,
    /// Runs what asks for anything, and has the secrets.
    pub broker: Arc<Keeper>,
    /// Where the files of options lie while an attempt lives.
    pub options: PathBuf,
    /// What the owner wants to see signed.
    pub require_signed: BTreeSet<SignedKind>,
    /// What the owner reads afterwards.
    pub audit: Arc<Audit>,
    /// Who this runner is to others.
    pub itself: Itself,
    /// The host's clock.
    pub clock: Clock,
    /// Job documents of late.
    pub documents: Recent<Digest, (Bytes, Arc<Document>)>,
    /// Node sets of late.
    pub node_sets: Recent<Digest, Arc<[Arc<Node>]>>,
}

/// Who this runner is to others.
pub struct Itself {
    /// Its id.
    pub runner: RunnerId,
    /// What it signs results with.
    pub key: SigningKey,
}

/// A few values that are likely to be asked for again.
pub struct Recent<K, V> {
    most: usize,
    kept: Mutex<Kept<K, V>>,
}

struct Kept<K, V> {
    /// How often anything was asked for.
    uses: u64,
    /// Each value, and at which use it was asked for last.
    values: HashMap<K, (u64, V)>,
}

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        Self { most, kept: Mutex::new(Kept { uses: 0, values: HashMap::new() }) }
    }

    fn get(&self, key: &K) -> Option<V> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let uses = kept.uses;
        let (used, value) = kept.values.get_mut(key)?;
        *used = uses;
        Some(value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.values.len() >= self.most
            && let Some(oldest) = kept.values.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key)
        {
            kept.values.remove(&oldest);
        }
        let uses = kept.uses;
        kept.values.insert(key, (uses, value));
    }
}

/// Runs an attempt from its assignment to its last event.
pub async fn run(workshop: Arc<Workshop>, assignment: Box<Assignment>, voice: Arc<Voice>, mut reins: Reins) {
    let deadline = assignment.time_left.map(|left| Instant::now() + left.duration());
    let cancel = reins.cancel.clone();
    let alone = assignment.nodes.is_none().then_some(assignment.first_step);
    let record = record::Of::assignment(&assignment);
    let signed = assignment.run_note.is_some() || assignment.job_note.is_some();
    voice.keep_ends(signed);
    let prepared = tokio::select! {
        prepared = prepare::section(&workshop, assignment) => prepared,
        () = cancel.cancelled() => Err(cancelled()),
    };
    let mut parts = None;
    let ended = match prepared {
        Ok(section) => {
            parts = signed.then(|| Parts::of(&section));
            begin(&workshop, section, &voice, &mut reins, deadline).await
        }
        Err(not) => Err(not),
    };
    let mut result = None;
    let end = match ended {
        Ok(end) => {
            workshop.audit.note(record.ended(end.outcome));
            result = parts.and_then(|parts| parts.sign(&workshop, &voice));
            end
        }
        Err(not) => {
            workshop.audit.note(record.refused(&not));
            if let Some(step) = alone {
                voice.event(step::not_run(step, None, not.outcome, not.message.clone(), (voice.clock())()));
            }
            End { outcome: not.outcome, message: not.message, nodes: None }
        }
    };
    // The dispatcher knows how many log entries there are.
    let End { outcome, message, nodes } = end;
    voice.event(Event::Finished { outcome, message, log_entries: 0, nodes, result });
}

/// What is needed to sign what a section came to, once the section is gone.
struct Parts {
    order: Order,
    section: SectionNumber,
    first: StepIndex,
    attempt: AttemptId,
    steps: Vec<StepName>,
    nodes: Vec<(u32, NodeName)>,
}

impl Parts {
    fn of(section: &Section) -> Self {
        let assignment = &section.assignment;
        let nodes = section.nodes.iter().map(|ready| (ready.index.0, ready.node.name.clone()));
        Self {
            order: order::of(assignment),
            section: assignment.section,
            first: assignment.first_step,
            attempt: assignment.attempt,
            steps: section.steps.iter().map(|ready| ready.step.name.clone()).collect(),
            nodes: nodes.collect(),
        }
    }

    fn sign(self, workshop: &Workshop, voice: &Voice) -> Option<SignedResult> {
        let Self { order, section, first, attempt, steps, nodes } = self;
        let signer = order::Signer { key: &workshop.itself.key, order, section, attempt };
        let signed = signer.sign(&steps, &nodes, voice.ends(first), (workshop.clock)());
        // Whoever wants to see it will not find it, and say so.
        signed.inspect_err(|error| tracing::error!(%error, "a result could not be signed")).ok()
    }
}

struct End {
    outcome: Outcome,
    message: String,
    nodes: Option<remit_protocol::digest::Sized>,
}

fn cancelled() -> NotReady {
    NotReady { outcome: Outcome::Cancelled, message: "It was cancelled before it began.".to_owned() }
}

async fn begin(
    workshop: &Workshop,
    section: Section,
    voice: &Arc<Voice>,
    reins: &mut Reins,
    deadline: Option<Instant>,
) -> Result<End, NotReady> {
    voice.say(Said::Ready);
    let cancel = reins.cancel.clone();
    // The record is written while the orchestrator is asked.
    let recorded = record::accept(&workshop.audit, &section);
    let begun = async {
        tokio::select! {
            begun = reins.begin.wait_for(|begin| *begin) => begun.is_ok(),
            () = cancel.cancelled() => false,
        }
    };
    let (recorded, begun) = tokio::join!(recorded, begun);
    if let Err(error) = recorded {
        return Err(NotReady::host(format!("{error}.")));
    }
    if !begun {
        return Err(cancelled());
    }
    if let Some(run) = &section.run {
        let once = section.assignment.effect == Effect::Effect;
        let (number, attempt) = (section.assignment.section, section.assignment.attempt);
        workshop.trust.begin(run, number, attempt, once)?;
    }
    let around = Surroundings {
        sandbox: workshop.sandbox.clone(),
        secrets: Arc::new(Providers::default()),
        client: Arc::clone(&workshop.client),
        voice: Arc::clone(voice),
        audit: Arc::clone(&workshop.audit),
        cancel,
        deadline,
    };
    match section.assignment.nodes.clone() {
        Some(work) => {
            let outcome = fanout::run(section, &work, around, reins.clone()).await;
            Ok(End { outcome, message: String::new(), nodes: None })
        }
        None => Ok(workflow_step(workshop, &section, &around).await),
    }
}

async fn workflow_step(workshop: &Workshop, section: &Section, around: &Surroundings) -> End {
    let mut sight =
        Sight { earlier: section.earlier.clone(), scope: section.scope.clone(), after_failure: false };
    let mut end = End { outcome: Outcome::Skipped, message: String::new(), nodes: None };
    for ready in &section.steps {
        let done = step::run(section, ready, None, &mut sight, around).await;
        end = End { outcome: done.outcome, message: done.message, nodes: None };
        if let Some(found) = done.nodes {
            match upload(workshop, &found).await {
                Ok(nodes) => end.nodes = Some(nodes),
                Err(not) => return End { outcome: not.outcome, message: not.message, nodes: None },
            }
        }
    }
    end
}

/// Keeps what a node source found at the orchestrator, before the event that names it.
async fn upload(workshop: &Workshop, found: &NodeSet) -> Result<remit_protocol::digest::Sized, NotReady> {
    let bad = |detail: String| NotReady { outcome: Outcome::Refused(RefusalCode::Nodes), message: detail };
    found.check().map_err(|error| bad(error.to_string()))?;
    let bytes = serde_json::to_vec(found).map_err(|error| bad(error.to_string()))?;
    Ok(workshop.client.upload(Bytes::from(bytes)).await?)
}
