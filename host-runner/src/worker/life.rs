//! The worker's own side: load one component, give everything else away, run it as often as it is told to.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{fs::FileExt as _, net::UnixStream},
    },
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use remit_protocol::{Outcome, RefusalCode, manifest::Manifest};
use tokio::task::JoinSet;

use super::{
    Begin, Finish, Hello, MAX_FROM_WORKER, MAX_TO_WORKER, Ready, Stop, Unloadable, VERSION,
    exchange::Streams,
    line::{FarLog, Line, Waiting},
};
use crate::{
    broker::Access,
    component::cache::MAX_NATIVE,
    confine::{
        Behind, Confinement, often,
        worker::{self as bars, Files},
    },
    frames::{Broken, Frame, Frames, Kind, Link, Unread, encode},
    sandbox::{Account, Cancel, Export, Running, Said, Stage, Task},
};

/// How long a component that was asked to end may go on: its supervisor cuts it off long before.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Threads for what cannot be waited for otherwise: files of the scratch directory.
const BLOCKING: usize = 8;
/// Longest message with which a component fails, and most of its fields: far above what a record keeps.
const MAX_MESSAGE: usize = 256 << 10;
const MAX_FIELDS: usize = 64;

/// The whole life of a worker, after [`bars::begin`]: `socket` leads to its supervisor, `code` is the native code of its
/// component. Below `scratch`, if there is such a directory, its runs have their own.
///
/// # Errors
/// The supervisor is no supervisor, or the kernel refuses something that nothing can do without.
pub fn live(
    socket: OwnedFd,
    code: OwnedFd,
    scratch: Option<PathBuf>,
    confinement: Confinement,
) -> io::Result<()> {
    let mut socket = UnixStream::from(socket);
    let (hello, manifest) = greeted(&mut socket)?;
    let files = scratch.clone().map_or(Files::None, Files::Below);
    if hello.version != VERSION {
        let detail = format!("the program was replaced by version {VERSION}: restart the runner");
        let ready: Ready = Err(Unloadable { code: None, detail });
        return socket.write_all(&encode(Kind::Ready, 0, 0, &ready, &[]));
    }
    // Before there is a second thread, and before the engine opens what it keeps open.
    bars::leave_namespaces();
    let ready = settle(&hello, &manifest, &File::from(code))
        .and_then(|stage| bars::bar_files(&files, confinement).map(|()| stage).map_err(unconfined));
    let stage = match ready {
        Ok(stage) => stage,
        Err(unloadable) => {
            let ready: Ready = Err(unloadable);
            return socket.write_all(&encode(Kind::Ready, 0, 0, &ready, &[]));
        }
    };
    let born = Born { scratch, behind: Behind::reserving(hello.reserved_processors) };
    // Until it computes for long.
    often();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING)
        .build()?;
    runtime.block_on(async {
        let link = Arc::new(Link::new(socket, MAX_FROM_WORKER.saturating_mul(4))?);
        let running = stage.begin().map_err(io::Error::other)?;
        let ready: Ready = bars::seal(&files, confinement).map_err(unconfined);
        link.send(&encode(Kind::Ready, 0, 0, &ready, &[]));
        if ready.is_ok() {
            serve(Arc::new(running), born, link).await.map_err(io::Error::other)
        } else {
            Ok(())
        }
    })
}

fn unconfined(error: crate::confine::CannotConfine) -> Unloadable {
    Unloadable { code: None, detail: format!("it cannot be confined: {error}") }
}

/// The supervisor's first word, and the manifest that it brings.
fn greeted(socket: &mut UnixStream) -> io::Result<(Hello, Manifest)> {
    let mut frames = Frames::new(MAX_TO_WORKER);
    let mut piece = vec![0; 64 << 10];
    let frame = loop {
        if let Some(frame) = frames.next().map_err(io::Error::other)? {
            break frame;
        }
        match socket.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => frames.buffer.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    };
    let hello = frame.head().map_err(io::Error::other)?;
    Ok((hello, Manifest::from_slice(&frame.bytes).map_err(io::Error::other)?))
}

/// Loads the component.
fn settle(hello: &Hello, manifest: &Manifest, code: &File) -> Result<Stage, Unloadable> {
    let refused = |error: io::Error| Unloadable {
        code: Some(RefusalCode::Compile),
        detail: format!("its native code cannot be read: {error}"),
    };
    let length = code.metadata().map_err(refused)?.len();
    if length > MAX_NATIVE {
        return Err(refused(io::Error::other("it is too long")));
    }
    let mut native = vec![0; usize::try_from(length).unwrap_or_default()];
    code.read_exact_at(&mut native, 0).map_err(refused)?;
    Stage::load(hello.slots, &native, hello.metering, manifest)
        .map_err(|error| Unloadable { code: Some(error.code), detail: error.detail })
}

/// What a run leaves here for the frames that are about it.
struct Side {
    cancel: Cancel,
    waiting: Arc<Waiting>,
    streams: Arc<Streams>,
}

/// What its runs share beside the component.
struct Born {
    /// Where they have their scratch directories, if they have any.
    scratch: Option<PathBuf>,
    /// Where its thread goes that has computed for long.
    behind: Behind,
}

/// Serves until the supervisor is gone.
async fn serve(running: Arc<Running>, born: Born, link: Arc<Link>) -> Result<(), Unread> {
    let mut frames = Frames::new(MAX_TO_WORKER);
    let mut sides: HashMap<u32, Side> = HashMap::new();
    let mut runs = JoinSet::new();
    let mut flush = pin!(link.flush());
    loop {
        tokio::select! {
            flushed = &mut flush => return Ok(flushed?),
            frame = link.receive(&mut frames) => match frame? {
                None => return Ok(()),
                Some(frame) if frame.kind == Kind::Begin => {
                    let run = frame.run;
                    let side = Side { cancel: Cancel::new(), waiting: Arc::default(), streams: Arc::default() };
                    let work = begin(&born, &frame, &side, link.clone())?;
                    let running = running.clone();
                    runs.spawn(async move { (run, work.on(&running).await) });
                    sides.insert(run, side);
                }
                // What is about a run that has just ended is heard no more.
                Some(frame) => if let Some(side) = sides.get(&frame.run) {
                    side.hear(&frame)?;
                },
            },
            Some(ended) = runs.join_next() => {
                let (run, finish) = ended.map_err(io::Error::other)?;
                sides.remove(&run);
                tell(&link, run, finish);
            }
        }
    }
}

impl Side {
    fn hear(&self, frame: &Frame) -> Result<(), Broken> {
        match frame.kind {
            Kind::Answer => self.waiting.hear(frame),
            Kind::Stop => {
                self.cancel.within(match frame.head()? {
                    Stop::Asked => PATIENCE,
                    Stop::Cut => Duration::ZERO,
                });
                Ok(())
            }
            _ => self.streams.hear(frame),
        }
    }
}

/// A run that is about to begin.
struct Work {
    task: Task,
    export: Export,
    account: Arc<Account>,
    log: Arc<FarLog>,
    line: Line,
}

fn begin(born: &Born, frame: &Frame, side: &Side, link: Arc<Link>) -> Result<Work, Broken> {
    let begin: Begin<'_> = frame.head()?;
    let (run, account) = (frame.run, Arc::new(Account::new(begin.limits)));
    let export = if begin.describes { Export::Describe } else { Export::Main(frame.text()?) };
    let task = Task {
        wall: begin.wall,
        scratch: born.scratch.clone().filter(|_| begin.scratch),
        context: begin.context(),
        cancel: side.cancel.clone(),
        tired: Some(born.behind),
    };
    Ok(Work {
        task,
        export,
        log: Arc::new(FarLog::new(link.clone(), run, account.clone())),
        account,
        line: Line { link, run, waiting: side.waiting.clone(), streams: side.streams.clone() },
    })
}

impl Work {
    async fn on(self, running: &Running) -> Finish {
        let Self { task, export, account, log, line } = self;
        let said = running.run(task, export, account.clone(), log, Access::There(Box::new(line))).await;
        let said = said.unwrap_or_else(|fault| Said::Stopped(Outcome::HostFault, fault.0));
        Finish { said, counted: account.counted() }
    }
}

fn tell(link: &Link, run: u32, mut finish: Finish) {
    if let Said::Failed { message, fields } = &mut finish.said {
        fields.truncate(MAX_FIELDS);
        let texts = fields.iter_mut().flat_map(|(name, value)| [name, value]).chain([message]);
        texts.for_each(|text| text.truncate(text.floor_char_boundary(MAX_MESSAGE)));
    }
    let document = finish.said.document().map(std::mem::take).unwrap_or_default();
    link.send(&encode(Kind::Finish, run, 0, &finish, document.as_bytes()));
}
