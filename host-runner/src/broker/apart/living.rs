//! One broker process as its supervisor sees it, from its start to its end.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use remit_protocol::limits::MAX_LOG_LINE;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout},
};

use super::{
    Hello, Line, MAX_FROM_BROKER, MAX_WAITING, Plan, Progress, Ready, VERSION,
    artifacts::{Handed, take},
};
use crate::{
    capability::{
        context::Progress as Told,
        log::{Line as LogLine, LogSink, clean},
    },
    frames::{Broken, Frame, Frames, Kind, Link, Unread, encode},
    launcher::{Exit, Program, Running},
    sandbox::Ended,
};

/// How long a broker may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a broker's end is waited for, to tell how it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Most fields of a line, and the longest message of an end; an honest broker stays below.
const MAX_FIELDS: usize = 64;
const MAX_MESSAGE: usize = 8 << 10;
/// Most denials of a run that are told; an honest broker tells no more.
const MAX_DENIALS: usize = 32;

/// A broker that lives.
pub(super) struct Living {
    pub(super) link: Arc<Link>,
    /// Where it leaves what runs have kept.
    scratch: PathBuf,
    lanes: Mutex<Lanes>,
    /// The number of the last run or question.
    last: AtomicU32,
    known: Mutex<Known>,
    /// What it did that it is ended for.
    blame: OnceLock<String>,
    /// How it ended.
    gone: OnceLock<String>,
    told: Notify,
}

#[derive(Default)]
struct Lanes {
    closed: bool,
    open: HashMap<u32, Lane>,
}

/// Who hears what a broker says under one number.
enum Lane {
    Run { log: Arc<dyn LogSink>, progress: Told, ended: oneshot::Sender<Ended> },
    Question(oneshot::Sender<Frame>),
}

/// What a broker was told.
#[derive(Default)]
struct Known {
    components: HashSet<u32>,
    barred: usize,
}

/// A broker that has begun, and what is needed to hear it.
pub(super) struct Started {
    pub(super) living: Arc<Living>,
    frames: Frames,
    process: Box<dyn Running>,
}

/// Has the launcher start a broker and waits until it is confined and ready.
pub(super) async fn start(plan: &Plan) -> io::Result<Started> {
    let (near, far) = UnixStream::pair()?;
    // The launcher puts its own line to the broker into the second place.
    let ends = [far.try_clone()?.into(), far.into(), io::stderr().as_fd().try_clone_to_owned()?];
    let program = Program {
        path: plan.program.clone(),
        arguments: plan.arguments.clone(),
        environment: std::collections::BTreeMap::new(),
        secret: None,
        directory: Some("/".into()),
        stdin: Vec::new(),
    };
    let process = plan.launch.attach(program, ends).await?;
    let link = Arc::new(Link::new(near, MAX_WAITING)?);
    link.send(&encode(Kind::Hello, 0, 0, &Hello { version: VERSION.to_owned() }, &[]));
    let mut frames = Frames::new(MAX_FROM_BROKER);
    let first = link.first(&mut frames, PATIENCE).await?;
    let ready: Ready = match first {
        Some(frame) if frame.kind == Kind::Ready => frame.head().map_err(io::Error::other)?,
        Some(_) => return Err(io::Error::other("it did not say that it is ready")),
        None => return Err(io::Error::other(obituary(None, process).await)),
    };
    ready.map_err(io::Error::other)?;
    let living = Arc::new(Living {
        link,
        scratch: plan.scratch.clone(),
        lanes: Mutex::default(),
        last: AtomicU32::new(1),
        known: Mutex::default(),
        blame: OnceLock::new(),
        gone: OnceLock::new(),
        told: Notify::new(),
    });
    Ok(Started { living, frames, process })
}

impl Started {
    /// Hears the broker until it is gone, and tells how that came.
    pub(super) async fn attend(self) -> String {
        let Self { living, mut frames, process } = self;
        let why = {
            let mut flush = pin!(living.link.flush());
            loop {
                let frame = tokio::select! {
                    // A socket that breaks is told of by how the process ended.
                    _ = &mut flush => break None,
                    frame = living.link.receive(&mut frames) => frame,
                };
                let broken = match frame {
                    Ok(Some(frame)) => living.hear(&frame).err(),
                    Err(Unread::Broken(broken)) => Some(broken),
                    Ok(None) | Err(Unread::Socket(_)) => break None,
                };
                if let Some(broken) = broken {
                    break Some(broken.to_string());
                }
            }
        };
        living.link.close();
        let gone = obituary(living.blame.get().cloned().or(why), process).await;
        let _ = living.gone.set(gone.clone());
        living.told.notify_waiters();
        let mut lanes = living.lanes();
        lanes.closed = true;
        // Whoever waits for an answer hears that none comes.
        lanes.open.clear();
        gone
    }
}

async fn obituary(why: Option<String>, mut process: Box<dyn Running>) -> String {
    // One that breaks the rules is not waited for: dropping the process ends it.
    if let Some(why) = why {
        return why;
    }
    match timeout(LAST_WORDS, process.wait()).await {
        Ok(Ok(Exit::Signal(libc::SIGKILL))) => {
            "it was killed (SIGKILL), perhaps for want of memory".to_owned()
        }
        Ok(Ok(exit)) => format!("it ended with {exit}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it closed its socket".to_owned(),
    }
}

/// A run's or a question's place at its broker.
pub(super) struct Place<'a> {
    pub(super) number: u32,
    living: &'a Living,
    /// The broker has said all that there is to say.
    pub(super) answered: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let open = self.living.lanes().open.remove(&self.number);
        // Of a run that is given up here the broker hears.
        if !self.answered && matches!(open, Some(Lane::Run { .. })) {
            self.living.link.send(&encode(Kind::Stop, self.number, 0, &super::Stop::Cut, &[]));
        }
    }
}

impl Living {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, lane: Lane) -> Place<'_> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let mut lanes = self.lanes();
        // At a broker that is gone nothing is heard.
        if !lanes.closed {
            lanes.open.insert(number, lane);
        }
        Place { number, living: self, answered: false }
    }

    /// A place for a run whose lines go to `log`.
    pub(super) fn run(&self, log: Arc<dyn LogSink>) -> (Place<'_>, oneshot::Receiver<Ended>) {
        let (ended, hear) = oneshot::channel();
        (self.open(Lane::Run { log, progress: Told::default(), ended }), hear)
    }

    /// Asks, and waits for the answer; none comes from a broker that is gone.
    pub(super) async fn ask(&self, frame: impl FnOnce(u32) -> Vec<u8>) -> Result<Frame, String> {
        let (answer, hear) = oneshot::channel();
        let place = self.open(Lane::Question(answer));
        self.link.send(&frame(place.number));
        match hear.await {
            Ok(frame) => Ok(frame),
            Err(_) => Err(self.obituary().await),
        }
    }

    /// Has it load a component, once.
    pub(super) fn load(&self, component: u32, frame: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<()> {
        // Held while it is sent, so that nobody speaks of the component before.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.components.contains(&component) {
            self.link.send(&frame()?);
            known.components.insert(component);
        }
        Ok(())
    }

    /// Has it forget a component, if it knows it.
    pub(super) fn unload(&self, component: u32) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.components.remove(&component) {
            self.link.send(&encode(Kind::Unload, component, 0, &(), &[]));
        }
    }

    /// Tells it where the orchestrator was found, if it does not know all of that.
    pub(super) fn bar(&self, addresses: impl FnOnce() -> Vec<(IpAddr, u16)>, count: usize) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.barred != count {
            let addresses = addresses();
            self.link.send(&encode(Kind::Bar, 0, 0, &addresses, &[]));
            known.barred = addresses.len();
        }
    }

    /// Ends it, and with it all of its runs.
    pub(super) fn kill(&self, why: &str) {
        self.blame.get_or_init(|| why.to_owned());
        self.link.close();
    }

    /// How it ended, once it has.
    pub(super) async fn obituary(&self) -> String {
        loop {
            let told = self.told.notified();
            if let Some(gone) = self.gone.get() {
                return gone.clone();
            }
            told.await;
        }
    }

    /// Brings a frame to whoever waits for it. What is about a run that was given up is dropped; about one that never was it
    /// breaks the rules.
    fn hear(&self, frame: &Frame) -> Result<(), Broken> {
        if frame.run == 0 || frame.run >= self.last.load(Ordering::Relaxed) {
            return Err(Broken(format!("{:?} about a run that was not begun", frame.kind)));
        }
        match frame.kind {
            Kind::Line => {
                let line = line(frame)?;
                if let Some(Lane::Run { log, .. }) = self.lanes().open.get(&frame.run) {
                    log.line(line);
                }
            }
            Kind::Progress => {
                let (done, total): Progress = frame.head()?;
                if let Some(Lane::Run { log, progress, .. }) = self.lanes().open.get_mut(&frame.run)
                    && let Some((done, total)) = progress.say(Instant::now(), done, total)
                {
                    log.progress(done, total);
                }
            }
            Kind::Finish => {
                let ended = ended(frame, &self.scratch)?;
                let lane = self.lanes().open.remove(&frame.run);
                if let Some(Lane::Run { log, mut progress, ended: tell }) = lane {
                    if let Some((done, total)) = progress.take() {
                        log.progress(done, total);
                    }
                    // Whoever does not wait any more does not want it.
                    let _ = tell.send(ended);
                }
            }
            Kind::Answer => {
                if let Some(Lane::Question(tell)) = self.lanes().open.remove(&frame.run) {
                    let _ = tell.send(frame.clone());
                }
            }
            other => return Err(Broken(format!("{other:?} is not a broker's to say"))),
        }
        Ok(())
    }
}

/// A line as it leaves. A broker's lines are so already; one that was taken over shall not speak to a terminal either.
fn line(frame: &Frame) -> Result<LogLine, Broken> {
    let (level, fields): Line = frame.head()?;
    let text = frame.text()?;
    let long = |text: &str| text.len() > MAX_LOG_LINE;
    if long(&text)
        || fields.len() > MAX_FIELDS
        || fields.iter().any(|(name, value)| long(name) || long(value))
    {
        return Err(Broken::new("a line that is too long"));
    }
    let plain = |text: String| match clean(&text) {
        Cow::Borrowed(_) if !text.contains('\n') => text,
        clean => clean.replace('\n', " "),
    };
    let fields = fields.into_iter().map(|(name, value)| (plain(name), plain(value))).collect();
    Ok(LogLine { level, text: plain(text), fields })
}

/// How a run ended, as far as a broker may say it.
fn ended(frame: &Frame, scratch: &Path) -> Result<Ended, Broken> {
    let (mut ended, handed): (Ended, Vec<Handed>) = frame.head()?;
    ended.artifacts = take(handed, scratch).map_err(|error| Broken(error.to_string()))?;
    if !frame.bytes.is_empty() {
        let output = serde_json::from_slice(&frame.bytes);
        ended.output = Some(output.map_err(|error| Broken(format!("{:?}: {error}", frame.kind)))?);
    }
    ended.message.truncate(ended.message.floor_char_boundary(MAX_MESSAGE));
    ended.denials.truncate(MAX_DENIALS);
    ended.revealed.truncate(MAX_DENIALS);
    Ok(ended)
}

/// A line as it is sent.
pub(super) fn line_frame(run: u32, line: LogLine) -> Vec<u8> {
    let head: Line = (line.level, line.fields);
    encode(Kind::Line, run, 0, &head, line.text.as_bytes())
}

/// The end of a run as it is sent.
pub(super) fn ended_frame(run: u32, ended: &Ended, kept: &[Handed]) -> Vec<u8> {
    // A value always has a form in JSON.
    let output = ended.output.as_ref().map(|output| output.to_string()).unwrap_or_default();
    encode(Kind::Finish, run, 0, &(ended, kept), output.as_bytes())
}

#[cfg(test)]
mod tests {
    use remit_protocol::{Outcome, report::Level};
    use serde_json::json;

    use super::*;

    fn received(bytes: &[u8]) -> Frame {
        let mut frames = Frames::new(MAX_FROM_BROKER);
        frames.buffer.extend_from_slice(bytes);
        frames.next().unwrap().unwrap()
    }

    #[test]
    fn a_line_comes_as_it_was_and_speaks_to_no_terminal() {
        fn check(text: &str, value: &str, expect: Option<(&str, &str)>) {
            let fields = vec![("name".to_owned(), value.to_owned())];
            let sent = line_frame(3, LogLine { level: Level::Warn, text: text.to_owned(), fields });
            let found = line(&received(&sent)).ok();
            let found = found.as_ref().map(|line| (line.text.as_str(), line.fields[0].1.as_str()));
            assert_eq!(found, expect);
        }
        check("all is well", "grün", Some(("all is well", "grün")));
        check("two\nlines", "a\nb", Some(("two lines", "a b")));
        check("\u{1b}[31mred", "\u{202e}left", Some(("red", "left")));
        check(&"x".repeat(MAX_LOG_LINE + 1), "", None);
        check("", &"x".repeat(MAX_LOG_LINE + 1), None);
        let many = vec![(String::new(), String::new()); MAX_FIELDS + 1];
        let sent = line_frame(3, LogLine { level: Level::Info, text: String::new(), fields: many });
        assert!(line(&received(&sent)).is_err());
    }

    fn back(bytes: &[u8]) -> Result<Ended, Broken> {
        ended(&received(bytes), Path::new("/nowhere"))
    }

    #[test]
    fn an_end_comes_as_it_was_within_its_bounds() {
        let mut sent = crate::sandbox::fault("why");
        sent.output = Some(json!({"a": [1, "two", 0.1]}));
        let found = back(&ended_frame(3, &sent, &[])).unwrap();
        assert_eq!((found.outcome, found.message.as_str()), (Outcome::HostFault, "why"));
        assert_eq!(found.output, sent.output);
        sent.output = None;
        sent.message = "é".repeat(MAX_MESSAGE);
        let found = back(&ended_frame(3, &sent, &[])).unwrap();
        assert_eq!((found.output, found.message.len()), (None, MAX_MESSAGE));
        // Null is an output as well.
        sent.output = Some(json!(null));
        assert_eq!(back(&ended_frame(3, &sent, &[])).unwrap().output, Some(json!(null)));
        assert!(back(&encode(Kind::Finish, 3, 0, &(&sent, [(); 0]), b"{")).is_err());
    }
}
