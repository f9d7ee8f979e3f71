//! The runner's own record for its owner: what was verified, refused and run, under which remit, with which secrets.
//!
//! [`Audit`] takes [`Event`]s and a thread writes them into linked lines ([`remit_signing::trail`]) below the state
//! directory. What has an effect begins only when its entry is on disk; what can be repeated without harm does not wait, and
//! its entry is there within a second. Once a minute, and at the end, the runner signs the newest line.
//!
//! *Must not know:* how sections run. *Invariant:* a trail that cannot be written means that no section is accepted, and a
//! trail that is shorter than its own signed end means that the runner does not begin.

mod event;
mod file;

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use remit_protocol::{Digest, Timestamp, capability::Remit};
use remit_signing::SigningKey;
use tokio::sync::{oneshot, watch};

pub use self::event::{Accepted, AcceptedStep, Event};
use self::file::File;
use crate::{clock::Clock, state::StateError};

/// How long an entry that nobody waits for may stay off the disk.
const LAZY: Duration = Duration::from_secs(1);
/// How often the newest line is signed while there are new ones.
const SEAL: Duration = Duration::from_secs(60);
/// Remits that are remembered as written; beyond it they are written again.
const REMITS: usize = 4096;

/// The trail cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail cannot be written: make room on the state directory's disk")]
pub struct CannotRecord;

/// Writes the whole trail of the state directory `state` and its signed end, as `remit audit verify` reads them.
///
/// # Errors
/// There is none, or it cannot be read or written.
pub fn export(state: &Path, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    file::export(&state.join("audit"), out)
}

enum Order {
    Write(Timestamp, Box<Event>),
    Sync(oneshot::Sender<Result<(), CannotRecord>>),
}

/// The record. Dropping it writes what is left and signs the end.
pub struct Audit {
    orders: Option<mpsc::Sender<Order>>,
    writer: Option<JoinHandle<()>>,
    clock: Clock,
    broken: Arc<AtomicBool>,
    edition: AtomicU64,
    remits: Mutex<HashSet<Digest>>,
    sealed: watch::Receiver<Option<String>>,
}

impl Audit {
    /// Opens the trail in the state directory `state`; `key` signs its end for `keeper`.
    ///
    /// # Errors
    /// It cannot be read or written, or is not what was signed.
    pub fn open(
        state: &Path,
        keeper: String,
        key: SigningKey,
        clock: Clock,
    ) -> Result<(Self, u64), StateError> {
        let (file, torn) = File::open(&state.join("audit"), keeper, key)?;
        let (seals, sealed) = watch::channel(file.sealed()?);
        let (orders, received) = mpsc::channel();
        let broken = Arc::new(AtomicBool::new(false));
        let writer = {
            let broken = Arc::clone(&broken);
            std::thread::Builder::new()
                .name("audit".to_owned())
                .spawn(move || write(file, &received, clock, &broken, &seals))
                .map_err(|source| StateError::Io { path: state.join("audit"), source })?
        };
        let audit = Self {
            orders: Some(orders),
            writer: Some(writer),
            clock,
            broken,
            edition: AtomicU64::new(u64::MAX),
            remits: Mutex::default(),
            sealed,
        };
        Ok((audit, torn))
    }

    /// Records an event within a second.
    pub fn note(&self, event: Event) {
        self.send(Order::Write((self.clock)(), Box::new(event)));
    }

    /// Records an event; it is on disk when this comes back.
    ///
    /// # Errors
    /// [`CannotRecord`].
    pub async fn durable(&self, event: Event) -> Result<(), CannotRecord> {
        let (done, waited) = oneshot::channel();
        self.note(event);
        self.send(Order::Sync(done));
        waited.await.unwrap_or(Err(CannotRecord))
    }

    /// Refuses while the trail cannot be written.
    ///
    /// # Errors
    /// [`CannotRecord`].
    pub fn check(&self) -> Result<(), CannotRecord> {
        if self.broken.load(Ordering::Relaxed) { Err(CannotRecord) } else { Ok(()) }
    }

    /// Records the trust policy where it is another one than before.
    pub fn policy(&self, edition: u64, version: u64) {
        if self.edition.swap(edition, Ordering::Relaxed) != edition {
            self.note(Event::Policy { version });
        }
    }

    /// Records a remit where this process has not done so before.
    pub fn remit(&self, digest: Digest, remit: &Remit) {
        let mut remits = self.remits.lock().unwrap_or_else(PoisonError::into_inner);
        if remits.len() >= REMITS {
            remits.clear();
        }
        if remits.insert(digest) {
            self.note(Event::Remit { digest, remit: Box::new(remit.clone()) });
        }
    }

    /// The note on the newest signed end, as it changes.
    pub fn sealed(&self) -> watch::Receiver<Option<String>> {
        self.sealed.clone()
    }

    fn send(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // A writer that is gone has left `broken` behind.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.note(Event::Stopped);
        self.orders = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The thread's life: writes what has come, and syncs when somebody waits or a second is over.
#[expect(clippy::disallowed_methods, reason = "the thread keeps its own pace, which nothing else depends on")]
fn write(
    mut file: File,
    orders: &mpsc::Receiver<Order>,
    clock: Clock,
    broken: &AtomicBool,
    seals: &watch::Sender<Option<String>>,
) {
    let (mut synced, mut sealed) = (Instant::now(), Instant::now());
    loop {
        let first = orders.recv_timeout(LAZY);
        let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        let mut waiting = Vec::new();
        for order in first.into_iter().chain(orders.try_iter()) {
            match order {
                Order::Write(at, event) => file.append(at, &event),
                Order::Sync(done) => waiting.push(done),
            }
        }
        let mut written = file.write();
        if written.is_ok() && (ended || !waiting.is_empty() || synced.elapsed() >= LAZY) {
            written = file.sync();
            synced = Instant::now();
        }
        broken.store(written.is_err(), Ordering::Relaxed);
        if let Err(error) = &written {
            tracing::error!(%error, "the audit trail cannot be written: no section is accepted");
        }
        for done in waiting {
            // Whoever gave up waiting does not begin either.
            let _ = done.send(written.as_ref().copied().map_err(|_| CannotRecord));
        }
        if (ended || sealed.elapsed() >= SEAL) && !broken.load(Ordering::Relaxed) {
            match file.seal(clock()) {
                Ok(None) => {}
                Ok(note) => drop(seals.send_replace(note)),
                Err(error) => tracing::warn!(%error, "the end of the audit trail could not be signed"),
            }
            sealed = Instant::now();
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
