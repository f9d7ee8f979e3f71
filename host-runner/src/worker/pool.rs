//! Workers that live: started when a component is needed, lent to one run after the other, ended when nobody needs them.
//!
//! A worker is bound to the realm of its first run. A realm has a few workers, so that its runs use the processors; what is
//! idle for long, or beyond a number, goes.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, PipeReader, Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use remit_protocol::{Digest, manifest::Manifest};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    Hello, MAX_FROM_WORKER, MAX_WAITING, Ready, SCRATCH, Stop, Unloadable, VERSION, arguments, attend::Heard,
    exchange::Streams,
};
use crate::{
    confine::Confinement,
    frames::{Broken, Frame, Frames, Kind, Link, Unread, encode},
    launcher::{Exit, Launch, Program, Running},
    sandbox::{LoadError, Metering},
};

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
/// How long loading a component may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a worker's end is waited for, to tell how it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What is kept of what a worker wrote to its standard error.
const MAX_WORDS: usize = 2 << 10;
/// What a run hears before its worker has to wait.
const HEARD: usize = 64;

/// What workers are made of.
#[derive(Debug, Clone)]
pub struct Crew {
    /// The `remit-runner` that is started as `remit-runner worker`.
    pub program: PathBuf,
    /// Whether they begin on a kernel that cannot confine them.
    pub confinement: Confinement,
    /// Processors that they leave to others once they have computed for long.
    pub reserved_processors: u16,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum NoWorker {
    /// The component does not load.
    #[error(transparent)]
    Unloadable(LoadError),
    /// The process could not be had: the host's fault.
    #[error("a worker process could not be had: {0}")]
    Host(#[from] io::Error),
}

/// A component as workers load it.
pub(crate) struct Recipe {
    making: Arc<Making>,
    /// One at a time starts the first worker; the others wait for it.
    turn: tokio::sync::Mutex<()>,
    home: Weak<Shared>,
}

struct Making {
    number: u64,
    /// Native code, in memory that cannot be changed any more.
    code: OwnedFd,
    metering: Metering,
    manifest: Vec<u8>,
    /// Somebody is starting one more.
    growing: AtomicBool,
}

impl Recipe {
    /// The native code, in memory that cannot be changed any more.
    pub(crate) fn code(&self) -> io::Result<OwnedFd> {
        self.making.code.try_clone()
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
    crew: Crew,
    launch: Arc<dyn Launch>,
    scratch: PathBuf,
    slots: u32,
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
        let tired = self.worker.shared.tired().is_some_and(|since| now.duration_since(since) >= TIRED);
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
            crew,
            launch,
            scratch,
            slots,
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
                code: code.into(),
                metering,
                manifest: manifest.to_vec(),
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
        let worker = self.0.start(&recipe.making, scratch).await?;
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
        let worker = self.0.start(&recipe.making, scratch).await?;
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
                match shared.start(&making, scratch).await {
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

    /// Starts a worker and has it load the component.
    async fn start(&self, making: &Making, scratch: bool) -> Result<Arc<Worker>, NoWorker> {
        let (near, far) = UnixStream::pair()?;
        let (words, error) = io::pipe()?;
        let directory = scratch.then(|| TempDir::with_prefix_in(SCRATCH, &self.scratch)).transpose()?;
        let scratch = directory.as_ref().map(TempDir::path);
        let program = Program {
            path: self.crew.program.clone(),
            arguments: arguments(self.crew.confinement, scratch),
            environment: std::collections::BTreeMap::new(),
            secret: None,
            directory: Some(PathBuf::from("/")),
            stdin: Vec::new(),
        };
        let ends = [far.into(), making.code.try_clone()?, error.into()];
        let process = self.launch.attach(program, ends).await?;
        let link = Arc::new(Link::new(near, MAX_WAITING)?);
        let hello = Hello {
            version: VERSION.to_owned(),
            slots: self.slots,
            metering: making.metering,
            reserved_processors: self.crew.reserved_processors,
        };
        link.send(&encode(Kind::Hello, 0, 0, &hello, &making.manifest));
        let mut frames = Frames::new(MAX_FROM_WORKER);
        let first = link.first(&mut frames, PATIENCE).await?;
        let ready: Option<Ready> = match first {
            Some(frame) if frame.kind == Kind::Ready => Some(frame.head().map_err(io::Error::other)?),
            _ => None,
        };
        let worker = Worker::new(link, process, words, directory, frames);
        match ready {
            Some(Ok(())) => Ok(worker),
            Some(Err(Unloadable { code: Some(code), detail })) => {
                Err(NoWorker::Unloadable(LoadError { code, detail }))
            }
            Some(Err(Unloadable { code: None, detail })) => Err(NoWorker::Host(io::Error::other(detail))),
            None => {
                worker.kill("it did not say that it is ready");
                Err(NoWorker::Host(io::Error::other(worker.obituary().await)))
            }
        }
    }
}

/// A worker process.
struct Worker {
    shared: Arc<Inner>,
    /// Reads what it says. Ended with this, and with it the process.
    _listening: JoinSet<()>,
    /// Where its scratch directories are.
    _scratch: Option<TempDir>,
}

struct Inner {
    link: Arc<Link>,
    ports: Mutex<Ports>,
    last: AtomicU32,
    /// What it did that it is ended for.
    blame: OnceLock<String>,
    /// How it ended.
    gone: OnceLock<String>,
    told: tokio::sync::Notify,
    lives: AtomicBool,
    /// When the last of its runs ended that had computed for long.
    tired: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Ports {
    closed: bool,
    open: HashMap<u32, (Sender<Heard>, Arc<Streams>)>,
}

/// A run's place at its worker: what the worker says of it comes here.
pub(super) struct Port {
    pub(super) run: u32,
    pub(super) link: Arc<Link>,
    pub(super) streams: Arc<Streams>,
    /// The worker has said how the run ended.
    pub(super) finished: AtomicBool,
    inner: Arc<Inner>,
}

impl Port {
    /// How the worker ended, once it has.
    pub(super) async fn obituary(&self) -> String {
        self.inner.obituary().await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Of a run that is given up here the worker hears.
        if !self.finished.load(Ordering::Relaxed) {
            self.link.send(&encode(Kind::Stop, self.run, 0, &Stop::Cut, &[]));
        }
        self.inner.ports().open.remove(&self.run);
    }
}

impl Lease {
    /// A place for one more run.
    pub(super) fn open(&self) -> (Port, Receiver<Heard>) {
        let inner = self.worker.shared.clone();
        let (sender, heard) = channel(HEARD);
        let streams = Arc::<Streams>::default();
        let run = inner.last.fetch_add(1, Ordering::Relaxed);
        {
            let mut ports = inner.ports();
            // At a worker that is gone nothing is heard.
            if !ports.closed {
                ports.open.insert(run, (sender, streams.clone()));
            }
        }
        let finished = AtomicBool::new(false);
        (Port { run, link: inner.link.clone(), streams, finished, inner }, heard)
    }

    /// One of its runs has computed for long, so that it has given way.
    pub(super) fn tire(&self) {
        *self.worker.shared.tired() = Some(Instant::now());
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

impl Worker {
    fn new(
        link: Arc<Link>,
        process: Box<dyn Running>,
        words: PipeReader,
        scratch: Option<TempDir>,
        frames: Frames,
    ) -> Arc<Self> {
        let shared = Arc::new(Inner {
            link,
            ports: Mutex::default(),
            last: AtomicU32::new(1),
            blame: OnceLock::new(),
            gone: OnceLock::new(),
            told: tokio::sync::Notify::new(),
            lives: AtomicBool::new(true),
            tired: Mutex::default(),
        });
        let mut listening = JoinSet::new();
        listening.spawn(listen(shared.clone(), frames, process, words));
        Arc::new(Self { shared, _listening: listening, _scratch: scratch })
    }

    fn lives(&self) -> bool {
        self.shared.lives.load(Ordering::Relaxed)
    }

    fn kill(&self, why: &str) {
        self.shared.blame.get_or_init(|| why.to_owned());
        self.shared.lives.store(false, Ordering::Relaxed);
        self.shared.link.close();
    }

    async fn obituary(&self) -> String {
        self.shared.obituary().await
    }
}

impl Inner {
    fn ports(&self) -> std::sync::MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tired(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.tired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn obituary(&self) -> String {
        loop {
            let told = self.told.notified();
            if let Some(gone) = self.gone.get() {
                return format!("the worker process of this step is gone: {gone}");
            }
            told.await;
        }
    }
}

/// Hears a worker until it is gone, and tells how that came.
async fn listen(inner: Arc<Inner>, mut frames: Frames, process: Box<dyn Running>, words: PipeReader) {
    let why = {
        let mut flush = pin!(inner.link.flush());
        loop {
            let frame = tokio::select! {
                // A socket that breaks is told of by how the process ended.
                _ = &mut flush => break None,
                frame = inner.link.receive(&mut frames) => frame,
            };
            let broken = match frame {
                Ok(Some(frame)) => inner.hear(frame).await.err(),
                Err(Unread::Broken(broken)) => Some(broken),
                Ok(None) | Err(Unread::Socket(_)) => break None,
            };
            if let Some(broken) = broken {
                break Some(broken.to_string());
            }
        }
    };
    inner.lives.store(false, Ordering::Relaxed);
    inner.link.close();
    let gone = obituary(inner.blame.get().cloned().or(why), process, words).await;
    tracing::debug!(gone, "a worker process has ended");
    let _ = inner.gone.set(gone);
    inner.told.notify_waiters();
    let mut ports = inner.ports();
    ports.closed = true;
    for (_, (_, streams)) in ports.open.drain() {
        streams.break_off();
    }
}

async fn obituary(why: Option<String>, mut process: Box<dyn Running>, words: PipeReader) -> String {
    // One that breaks the rules is not waited for: dropping the process ends it.
    if let Some(why) = why {
        return why;
    }
    let status = match timeout(LAST_WORDS, process.wait()).await {
        Ok(Ok(Exit::Signal(libc::SIGSYS))) => {
            "it made a system call that running a component never takes (SIGSYS)".to_owned()
        }
        Ok(Ok(Exit::Signal(libc::SIGKILL))) => {
            "it was killed (SIGKILL), perhaps for want of memory".to_owned()
        }
        Ok(Ok(exit)) => format!("it ended with {exit}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it closed its socket".to_owned(),
    };
    let mut last = Vec::new();
    // The process is gone, so that the pipe has an end; what it wrote was bounded by the pipe.
    if words.take(MAX_WORDS as u64).read_to_end(&mut last).is_ok() && !last.is_empty() {
        let last = String::from_utf8_lossy(&last);
        tracing::warn!(words = %crate::capability::log::clean(last.trim()), "a worker's last words");
    }
    status
}

impl Inner {
    /// Brings a frame to its run. What is about a run that has ended is dropped; about one that never was it breaks the
    /// rules.
    async fn hear(self: &Arc<Self>, frame: Frame) -> Result<(), Broken> {
        if frame.run == 0 || frame.run >= self.last.load(Ordering::Relaxed) {
            return Err(Broken(format!("{:?} about a run that is not its own", frame.kind)));
        }
        let Some((sender, streams)) = self.ports().open.get(&frame.run).cloned() else { return Ok(()) };
        let ends = match frame.kind {
            Kind::Data | Kind::Trailers | Kind::End | Kind::Fail | Kind::Window | Kind::Cancel => {
                return streams.hear(&frame);
            }
            Kind::Request => {
                let ends = streams.open(&self.link, frame.run, frame.stream);
                Some(ends.ok_or_else(|| Broken::new("too many requests at once, or two of one number"))?)
            }
            _ => None,
        };
        // A run that was given up here hears nothing.
        let _ = sender.send(Heard { frame, ends }).await;
        Ok(())
    }
}
