//! A worker process: started through the launcher, heard until it is gone, with a port for each of its runs.

use std::{
    collections::HashMap,
    io::{self, PipeReader, Read as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

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

/// A component as a worker loads it.
pub(super) struct Component {
    /// Native code, in memory that cannot be changed any more.
    pub(super) code: OwnedFd,
    pub(super) metering: Metering,
    pub(super) manifest: Vec<u8>,
}

/// What every worker of a runner is started with.
pub(super) struct Origin {
    pub(super) crew: Crew,
    pub(super) launch: Arc<dyn Launch>,
    /// Where the directories of those with scratch are.
    pub(super) scratch: PathBuf,
    /// Runs at once.
    pub(super) slots: u32,
}

impl Origin {
    /// Starts a worker and has it load the component.
    pub(super) async fn start(&self, component: &Component, scratch: bool) -> Result<Arc<Worker>, NoWorker> {
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
        let ends = [far.into(), component.code.try_clone()?, error.into()];
        let process = self.launch.attach(program, ends).await?;
        let link = Arc::new(Link::new(near, MAX_WAITING)?);
        let hello = Hello {
            version: VERSION.to_owned(),
            slots: self.slots,
            metering: component.metering,
            reserved_processors: self.crew.reserved_processors,
        };
        link.send(&encode(Kind::Hello, 0, 0, &hello, &component.manifest));
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
pub(super) struct Worker {
    inner: Arc<Inner>,
    /// When the last of its runs ended that had computed for long.
    tired: Mutex<Option<Instant>>,
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

impl Worker {
    fn new(
        link: Arc<Link>,
        process: Box<dyn Running>,
        words: PipeReader,
        scratch: Option<TempDir>,
        frames: Frames,
    ) -> Arc<Self> {
        let inner = Arc::new(Inner {
            link,
            ports: Mutex::default(),
            last: AtomicU32::new(1),
            blame: OnceLock::new(),
            gone: OnceLock::new(),
            told: tokio::sync::Notify::new(),
            lives: AtomicBool::new(true),
        });
        let mut listening = JoinSet::new();
        listening.spawn(listen(inner.clone(), frames, process, words));
        Arc::new(Self { inner, tired: Mutex::default(), _listening: listening, _scratch: scratch })
    }

    pub(super) fn lives(&self) -> bool {
        self.inner.lives.load(Ordering::Relaxed)
    }

    /// When the last of its runs ended that had computed for long.
    pub(super) fn tired(&self) -> Option<Instant> {
        *self.tired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of its runs has computed for long, so that it has given way.
    pub(super) fn tire(&self) {
        *self.tired.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A place for one more run.
    pub(super) fn open(&self) -> (Port, Receiver<Heard>) {
        let inner = self.inner.clone();
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

    /// Ends it, and with it all of its runs.
    pub(super) fn kill(&self, why: &str) {
        self.inner.blame.get_or_init(|| why.to_owned());
        self.inner.lives.store(false, Ordering::Relaxed);
        self.inner.link.close();
    }

    /// How it ended, once it has.
    pub(super) async fn obituary(&self) -> String {
        self.inner.obituary().await
    }
}

impl Inner {
    fn ports(&self) -> std::sync::MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
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
