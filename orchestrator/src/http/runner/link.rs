//! What is remembered of each runner between its calls: its key, which requests were seen, the newest answers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use axum::body::Bytes;
use remit_protocol::{Digest, RunnerId, Session, Timestamp};
use remit_signing::{
    http::{MAX_AGE, MAX_SKEW, SequenceWindow, VerifiedRequest},
    key::PublicKey,
};

/// Answers that are kept for repetition.
const KEPT: usize = 2;
/// Largest answer that is kept.
const MAX_KEPT: usize = 16 << 10;
/// Most runners that are remembered; beyond it all are looked up again.
const MOST: usize = 100_000;
/// Session openings that are remembered, until their time has passed anyway.
const OPENINGS: usize = 16;

/// An answer that was given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

#[derive(Debug)]
struct Link {
    key: PublicKey,
    session: Session,
    window: SequenceWindow,
    answers: VecDeque<(u64, Digest, Given)>,
    /// Signatures of requests that opened sessions, and when they came.
    openings: VecDeque<(Digest, Timestamp)>,
}

/// All runners that called since the start.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<HashMap<RunnerId, Link>>);

/// Whether a verified request counts.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is new.
    New,
    /// It is a repetition, and this was the answer.
    Again(Given),
    /// It is a repetition, and the answer is not known any more, or is still being worked on.
    Replayed,
}

impl Links {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<RunnerId, Link>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The runner's key, if it is known.
    pub(super) fn key(&self, runner: RunnerId) -> Option<PublicKey> {
        self.with(|links| links.get(&runner).map(|link| link.key))
    }

    /// Remembers the runner's key.
    pub(super) fn learn(&self, runner: RunnerId, key: PublicKey) {
        self.with(|links| {
            if links.len() >= MOST {
                links.clear();
            }
            let link = Link {
                key,
                session: Session::default(),
                window: SequenceWindow::default(),
                answers: VecDeque::new(),
                openings: VecDeque::new(),
            };
            links.entry(runner).or_insert(link);
        });
    }

    /// Forgets a runner: it was deleted, or has a new key.
    pub(crate) fn forget(&self, runner: RunnerId) {
        self.with(|links| links.remove(&runner));
    }

    /// Takes note of a verified request inside a session.
    pub(super) fn take(&self, request: &VerifiedRequest) -> Turn {
        self.with(|links| {
            let Some(link) = links.get_mut(&request.runner()) else { return Turn::New };
            if request.session() != link.session {
                // Whether this session is the right one the scheduler says; an older one never comes back to life.
                if request.session() < link.session {
                    return Turn::New;
                }
                link.session = request.session();
                link.window = SequenceWindow::default();
                link.answers.clear();
            }
            if link.window.take(request.sequence()) {
                return Turn::New;
            }
            let same = |(sequence, body, _): &&(u64, Digest, Given)| {
                (*sequence, *body) == (request.sequence(), request.body())
            };
            match link.answers.iter().find(same) {
                Some((_, _, given)) => Turn::Again(given.clone()),
                None => Turn::Replayed,
            }
        })
    }

    /// Takes note of a verified request that opens a session. Those have no numbers of a session of their own: each
    /// signature counts once for as long as its time allows it.
    pub(super) fn open(&self, request: &VerifiedRequest, now: Timestamp) -> Turn {
        let signature = Digest::of(request.signature().as_bytes());
        let life = std::time::Duration::from_secs(MAX_AGE + 2 * MAX_SKEW);
        self.with(|links| {
            let Some(link) = links.get_mut(&request.runner()) else { return Turn::New };
            link.openings.retain(|(_, at)| now.since(*at) < life);
            if link.openings.iter().any(|(seen, _)| *seen == signature) || link.openings.len() >= OPENINGS {
                return Turn::Replayed;
            }
            link.openings.push_back((signature, now));
            Turn::New
        })
    }

    /// Keeps an answer for the case that its request comes again.
    pub(super) fn answered(&self, request: &VerifiedRequest, given: Given) {
        if given.body.len() > MAX_KEPT {
            return;
        }
        self.with(|links| {
            let Some(link) = links.get_mut(&request.runner()) else { return };
            if link.session != request.session() {
                return;
            }
            if link.answers.len() >= KEPT {
                link.answers.pop_front();
            }
            link.answers.push_back((request.sequence(), request.body(), given));
        });
    }
}
