//! Workers that live: started when a component is needed, lent to one run after the other, ended when nobody needs them.
//!
//! A worker is bound to the realm of its first run. A realm has a few workers, so that its runs use the processors; what is
//! idle for long, or beyond a number, goes.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use remit_protocol::{Digest, manifest::Manifest};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio::{sync::mpsc::Receiver, task::JoinSet, time::Instant};

use super::{
    attend::Heard,
    process::{Component, Crew, NoWorker, Origin, Port, Worker},
};
use crate::{launcher::Launch, sandbox::Metering};

/// Workers that nobody uses and that stay for the next run.
const MAX_IDLE: usize = 8;
/// How long they stay.
const IDLE: Duration = Duration::from_secs(120);
/// How long one is used on after the last of its runs that computed for long: it waits behind all others, and a run that comes
/// later is to have one that does not. As long as its runs compute for long there is no other: who is fresh would be in the way
/// of others until it is seen to compute as well.
const TIRED: Duration = Duration::from_secs(1);
/// How often is looked for those that stayed too long.
const LOOK: Duration = Duration::from_secs(20);

/// A component that workers are kept for.
pub(crate) struct Recipe {
    making: Arc<Making>,
    /// One at a time starts the first worker; the others wait for it.
    turn: tokio::sync::Mutex<()>,
    home: Weak<Shared>,
}

struct Making {
    number: u64,
    component: Component,
    /// Somebody is starting one more.
    growing: AtomicBool,
}

impl Recipe {
    /// The native code, in memory that cannot be changed any more.
    pub(crate) fn code(&self) -> io::Result<OwnedFd> {
        self.making.component.code.try_clone()
    }
}

impl Drop for Recipe {
    fn drop(&mut self) {
        if let Some(shared) = self.home.upgrade() {
            shared.entries().retain(|entry| entry.component != self.making.number);
        }
    }
}

/// All workers of a runner.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Shared>);

struct Shared {
    origin: Origin,
    /// Workers of one realm.
    most: usize,
    entries: Mutex<Vec<Entry>>,
    components: AtomicU64,
    tasks: Mutex<JoinSet<()>>,
}

struct Entry {
    worker: Arc<Worker>,
    component: u64,
    /// None until its first run.
    realm: Option<Digest>,
    active: u32,
    used: Instant,
}

impl Entry {
    /// Whether it is there for one more run.
    fn stays(&self, now: Instant) -> bool {
        let tired = self.worker.tired().is_some_and(|since| now.duration_since(since) >= TIRED);
        let idle = now.duration_since(self.used) < IDLE && !tired;
        self.worker.lives() && (self.active > 0 || idle)
    }
}

/// A worker while a run uses it.
pub(crate) struct Lease {
    worker: Arc<Worker>,
    home: Arc<Shared>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut entries = self.home.entries();
        if let Some(entry) = entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.worker, &self.worker)) {
            entry.active = entry.active.saturating_sub(1);
            entry.used = Instant::now();
        }
    }
}

impl Workers {
    pub(crate) fn new(crew: Crew, launch: Arc<dyn Launch>, scratch: PathBuf, slots: u32) -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 4);
        let shared = Arc::new(Shared {
            origin: Origin { crew, launch, scratch, slots },
            most,
            entries: Mutex::default(),
            components: AtomicU64::new(0),
            tasks: Mutex::new(JoinSet::new()),
        });
        let weak = Arc::downgrade(&shared);
        shared.tasks().spawn(async move {
            while let Some(shared) = weak.upgrade() {
                shared.sweep();
                drop(shared);
                tokio::time::sleep(LOOK).await;
            }
        });
        Self(shared)
    }

    /// Keeps a component ready for workers.
    pub(crate) fn recipe(
        &self,
        native: &[u8],
        metering: Metering,
        manifest: &Manifest,
    ) -> io::Result<Recipe> {
        let mut code =
            File::from(memfd_create("remit-native", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        code.write_all(native)?;
        fcntl_add_seals(&code, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        Ok(Recipe {
            making: Arc::new(Making {
                number: self.0.components.fetch_add(1, Ordering::Relaxed),
                component: Component { code: code.into(), metering, manifest: manifest.to_vec() },
                growing: AtomicBool::new(false),
            }),
            turn: tokio::sync::Mutex::new(()),
            home: Arc::downgrade(&self.0),
        })
    }

    /// Has a worker load the component, if none has.
    pub(crate) async fn warm(&self, recipe: &Recipe, scratch: bool) -> Result<(), NoWorker> {
        let _turn = recipe.turn.lock().await;
        let number = recipe.making.number;
        if self.0.entries().iter().any(|entry| entry.component == number && entry.worker.lives()) {
            return Ok(());
        }
        let worker = self.0.origin.start(&recipe.making.component, scratch).await?;
        self.0.add(worker, number, None, 0);
        Ok(())
    }

    /// A worker for a run in `realm`.
    pub(crate) async fn lease(
        &self,
        recipe: &Recipe,
        scratch: bool,
        realm: Digest,
    ) -> Result<Lease, NoWorker> {
        if let Some(lease) = self.find(recipe, scratch, realm) {
            return Ok(lease);
        }
        let _turn = recipe.turn.lock().await;
        if let Some(lease) = self.find(recipe, scratch, realm) {
            return Ok(lease);
        }
        let worker = self.0.origin.start(&recipe.making.component, scratch).await?;
        Ok(self.0.add(worker, recipe.making.number, Some(realm), 1))
    }

    /// The least busy worker of a realm, or one that has none yet. Where all are busy one more is started meanwhile.
    fn find(&self, recipe: &Recipe, scratch: bool, realm: Digest) -> Option<Lease> {
        let number = recipe.making.number;
        let now = Instant::now();
        let mut entries = self.0.entries();
        entries.retain(|entry| entry.stays(now));
        let own = |entry: &&mut Entry| entry.component == number && entry.realm == Some(realm);
        let count = entries.iter_mut().filter(own).count();
        let least = entries.iter_mut().filter(own).min_by_key(|entry| entry.active);
        let entry = match least {
            Some(entry) if entry.active == 0 || count >= self.0.most => entry,
            least => {
                let busy = least.is_some();
                let unbound =
                    entries.iter().position(|entry| entry.component == number && entry.realm.is_none());
                match unbound {
                    Some(place) => &mut entries[place],
                    None if busy => {
                        self.grow(&recipe.making, scratch, realm);
                        entries.iter_mut().filter(own).min_by_key(|entry| entry.active)?
                    }
                    None => return None,
                }
            }
        };
        entry.realm = Some(realm);
        entry.active += 1;
        Some(Lease { worker: entry.worker.clone(), home: self.0.clone() })
    }

    fn grow(&self, making: &Arc<Making>, scratch: bool, realm: Digest) {
        if making.growing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (weak, making) = (Arc::downgrade(&self.0), making.clone());
        let mut tasks = self.0.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            if let Some(shared) = weak.upgrade() {
                match shared.origin.start(&making.component, scratch).await {
                    Ok(worker) => drop(shared.add(worker, making.number, Some(realm), 1)),
                    Err(error) => tracing::warn!(%error, "steps go on with fewer workers"),
                }
            }
            making.growing.store(false, Ordering::Relaxed);
        });
    }
}

impl Shared {
    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        self: &Arc<Self>,
        worker: Arc<Worker>,
        component: u64,
        realm: Option<Digest>,
        active: u32,
    ) -> Lease {
        let entry = Entry { worker: worker.clone(), component, realm, active, used: Instant::now() };
        self.entries().push(entry);
        self.sweep();
        Lease { worker, home: self.clone() }
    }

    /// Lets go of workers that are gone, that nobody has used for long, or that are too many.
    fn sweep(&self) {
        let now = Instant::now();
        let mut entries = self.entries();
        // What goes ends outside of the lock.
        let mut gone: Vec<Entry> = entries.extract_if(.., |entry| !entry.stays(now)).collect();
        loop {
            let idle = entries.iter().enumerate().filter(|(_, entry)| entry.active == 0);
            if idle.clone().count() <= MAX_IDLE {
                break;
            }
            let Some(oldest) = idle.min_by_key(|(_, entry)| entry.used).map(|(place, _)| place) else {
                break;
            };
            gone.push(entries.swap_remove(oldest));
        }
        drop(entries);
    }
}

impl Lease {
    /// A place for one more run.
    pub(super) fn open(&self) -> (Port, Receiver<Heard>) {
        self.worker.open()
    }

    /// One of its runs has computed for long, so that it has given way.
    pub(super) fn tire(&self) {
        self.worker.tire();
    }

    /// Ends the worker, and with it all of its runs.
    pub(super) fn kill(&self, why: &str) {
        self.worker.kill(why);
    }

    /// How the worker ended.
    pub(super) async fn obituary(&self) -> String {
        self.worker.obituary().await
    }
}
