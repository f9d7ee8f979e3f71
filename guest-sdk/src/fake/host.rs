//! The functions of `guest`, answered from the thread's fake.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Entry, HOST, Program, Scratch, Sent, State};
use crate::{
    Fail, Node, Refusal,
    http::{Head, Request},
    log::Level,
    output::{Chunk, Exit},
    tcp::Proof,
};

#[track_caller]
#[expect(clippy::panic, reason = "a unit test that calls a host without one is wrong, and has to see it")]
fn with<T>(ask: impl FnOnce(&mut State) -> T) -> T {
    HOST.with(|host| match host.borrow_mut().as_mut() {
        Some(state) => ask(state),
        None => {
            panic!("a step needs a host: in a native test, call it inside of `remit_sdk::fake::Fake::run`")
        }
    })
}

/// A call that the test did not prepare.
#[track_caller]
#[expect(clippy::panic, reason = "a unit test has to see what it did not prepare")]
fn unprepared(what: &str) -> ! {
    panic!("the step asked for what the test did not prepare: {what}")
}

pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
    with(|state| state.log.push(Entry { level, message: message.to_owned(), fields }));
}

pub(crate) fn node() -> Option<Node> {
    with(|state| state.node.clone())
}

pub(crate) fn execution() -> String {
    with(|state| state.execution.clone())
}

pub(crate) fn step() -> String {
    with(|state| state.step.clone())
}

pub(crate) fn attempt() -> u32 {
    with(|state| state.attempt)
}

pub(crate) fn idempotency_key() -> String {
    with(|state| match &state.node {
        Some(node) => format!("{}-{}-{}", state.execution, state.step, node.name),
        None => format!("{}-{}", state.execution, state.step),
    })
}

pub(crate) fn progress(done: u64, total: u64) {
    with(|state| state.progress.push((done, total)));
}

pub(crate) fn cancelled() -> bool {
    with(|state| state.cancel_at.is_some_and(|at| state.slept >= at))
}

pub(crate) fn remaining() -> u64 {
    with(|state| u64::try_from(state.wall.saturating_sub(state.slept).as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn now() -> Duration {
    with(|state| state.began.saturating_add(state.slept))
}

pub(crate) fn sleep(milliseconds: u64) -> Result<(), Fail> {
    with(|state| {
        let wake = state.slept.saturating_add(Duration::from_millis(milliseconds));
        let cancelled = state.cancel_at.filter(|at| *at <= wake);
        state.slept = cancelled.unwrap_or(wake).max(state.slept);
        cancelled.map_or(Ok(()), |_| Err(Fail::cancelled()))
    })
}

pub(crate) fn emit(page: Vec<Node>) -> Result<(), Refusal> {
    with(|state| {
        if page.len() > 1000 {
            return Err(Refusal::OverLimit("nodes of a page".to_owned()));
        }
        state.pages.push(page.len());
        state.nodes.extend(page);
        Ok(())
    })
}

/// A program that is being played.
#[derive(Debug)]
pub(crate) struct Played {
    chunks: VecDeque<Chunk>,
    end: Result<Exit, Refusal>,
}

impl Played {
    fn start(
        kind: &str,
        prepared: impl FnOnce(&mut State) -> &mut Vec<(Vec<String>, Program)>,
        words: &[String],
        stdin: &[u8],
    ) -> Result<Self, Refusal> {
        if cancelled() {
            return Err(Refusal::Cancelled);
        }
        let found = with(|state| {
            state.stdin.push(stdin.to_vec());
            let prepared = prepared(state);
            let at = prepared.iter().position(|(own, _)| own == words)?;
            Some(prepared.remove(at).1)
        });
        let Some(program) = found else { unprepared(&format!("{kind} {words:?}")) };
        program.start?;
        Ok(Self { chunks: program.chunks.into(), end: program.end })
    }

    fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        match (self.chunks.pop_front(), &self.end) {
            (Some(chunk), _) => Ok(Some(chunk)),
            (None, Ok(_)) => Ok(None),
            (None, Err(refusal)) => Err(refusal.clone()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Child(Played);

impl Child {
    pub(crate) fn start(
        program: &str,
        args: &[String],
        variables: &[(String, String)],
        stdin: &[u8],
    ) -> Result<Self, Refusal> {
        with(|state| state.variables.push(variables.to_vec()));
        let words: Vec<String> = std::iter::once(program.to_owned()).chain(args.iter().cloned()).collect();
        Played::start("program", |state| &mut state.exec, &words, stdin).map(Self)
    }

    pub(crate) fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        self.0.read()
    }

    pub(crate) fn wait(&mut self) -> Result<Exit, Refusal> {
        self.0.end.clone()
    }
}

#[derive(Debug)]
pub(crate) enum Session {
    Command(Played),
    /// What the subsystem has answered and nobody has read yet; whether its input is open.
    Subsystem {
        answers: VecDeque<Vec<u8>>,
        open: bool,
    },
}

impl Session {
    pub(crate) fn start(argv: &[String], stdin: &[u8]) -> Result<Self, Refusal> {
        on_a_node()?;
        Played::start("ssh", |state| &mut state.ssh, argv, stdin).map(Self::Command)
    }

    pub(crate) fn subsystem(name: &str) -> Result<Self, Refusal> {
        on_a_node()?;
        if name != "sftp" || with(|state| state.subsystem.is_none()) {
            unprepared(&format!("the subsystem {name}"));
        }
        Ok(Self::Subsystem { answers: VecDeque::new(), open: true })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self {
            Self::Subsystem { answers, open: true } => {
                // Taken out while it plays: it may look at the host itself.
                let played = with(|state| state.subsystem.take());
                if let Some(mut played) = played {
                    answers.push_back((played.0)(bytes));
                    with(|state| state.subsystem = Some(played));
                }
                Ok(())
            }
            _ => Err(Refusal::Failed("its standard input is closed".to_owned())),
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), Refusal> {
        if let Self::Subsystem { open, .. } = self {
            *open = false;
        }
        Ok(())
    }

    pub(crate) fn read(&mut self) -> Result<Option<Chunk>, Refusal> {
        match self {
            Self::Command(played) => played.read(),
            Self::Subsystem { answers, open } => match answers.pop_front() {
                Some(answer) => Ok(Some(Chunk::Stdout(answer))),
                None if *open => Err(Refusal::Failed("nothing was asked of the subsystem".to_owned())),
                None => Ok(None),
            },
        }
    }

    pub(crate) fn wait(&mut self) -> Result<Exit, Refusal> {
        match self {
            Self::Command(played) => played.end.clone(),
            Self::Subsystem { .. } => Ok(Exit::Code(0)),
        }
    }
}

fn on_a_node() -> Result<(), Refusal> {
    match node() {
        Some(_) => Ok(()),
        None => Err(Refusal::Failed("there is no node: this is not a node step".to_owned())),
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    place: (String, u16),
    /// What the other side has said and nobody has read yet.
    answers: VecDeque<u8>,
}

impl Connection {
    pub(crate) fn open(host: &str, port: u16) -> Result<Self, Refusal> {
        if cancelled() {
            return Err(Refusal::Cancelled);
        }
        let place = (host.to_owned(), port);
        let prepared = with(|state| state.tcp.get(&place).map(|peer| peer.refusal.clone()));
        match prepared {
            None => unprepared(&format!("a connection to {host}:{port}")),
            Some(Some(refusal)) => Err(refusal),
            Some(None) => {
                let mut connection = Self { place, answers: VecDeque::new() };
                connection.say(b"");
                Ok(connection)
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        // Taken out while it plays: it may look at the host itself.
        let Some(mut peer) = with(|state| state.tcp.remove(&self.place)) else { return };
        self.answers.extend((peer.answer)(bytes));
        with(|state| state.tcp.insert(self.place.clone(), peer));
    }

    pub(crate) fn start_tls(&mut self) -> Result<(), Refusal> {
        with(|state| match state.tcp.get_mut(&self.place) {
            Some(peer) if self.answers.is_empty() => {
                peer.encrypted = true;
                Ok(())
            }
            _ => Err(Refusal::Failed("bytes came before the encryption that were not read".to_owned())),
        })
    }

    pub(crate) fn scram_sha_256(&mut self, first: &str, asked: &str) -> Result<Proof, Refusal> {
        let (host, port) = &self.place;
        with(|state| match state.tcp.get_mut(&self.place).map(|peer| (peer.encrypted, peer.proof.as_mut())) {
            Some((true, Some(prove))) => Ok(prove(first, asked)),
            Some((_, None)) => Err(Refusal::Denied(format!("a secret on tcp {host}:{port}"))),
            _ => Err(Refusal::Failed("a proof is given once a connection, under TLS".to_owned())),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.say(bytes);
        Ok(())
    }

    pub(crate) fn read(&mut self, max: u32) -> Result<Option<Vec<u8>>, Refusal> {
        let max = (max as usize).min(64 << 10).min(self.answers.len());
        let bytes: Vec<u8> = self.answers.drain(..max).collect();
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

pub(crate) fn reveal(name: &str) -> Result<String, Refusal> {
    with(|state| state.secrets.get(name).cloned())
        .ok_or_else(|| Refusal::Denied(format!("reveal of the secret {name}")))
}

#[derive(Debug)]
pub(crate) struct File(VecDeque<u8>);

impl File {
    pub(crate) fn read(&mut self, max: u32) -> Result<Vec<u8>, Refusal> {
        let max = (max as usize).min(64 << 10).min(self.0.len());
        Ok(self.0.drain(..max).collect())
    }
}

pub(crate) fn open(name: &str, path: &str) -> Result<File, Refusal> {
    with(|state| {
        let files = state.files.get(name).ok_or_else(|| Refusal::Denied(format!("files {name}")))?;
        let bytes = files.get(path).ok_or_else(|| Refusal::Failed(format!("{path:?}: no such file")))?;
        Ok(File(bytes.clone()))
    })
}

pub(crate) fn entries(name: &str) -> Result<Vec<String>, Refusal> {
    with(|state| {
        let files = state.files.get(name).ok_or_else(|| Refusal::Denied(format!("files {name}")))?;
        Ok(files.keys().cloned().collect())
    })
}

#[derive(Debug)]
pub(crate) struct Artifact(String, Vec<u8>);

impl Artifact {
    pub(crate) fn create(name: &str, _: bool) -> Result<Self, Refusal> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !first || name.len() > 120 || !name.bytes().all(inner) {
            return Err(Refusal::Failed(format!("{name:?} is not a name of an artifact")));
        }
        Ok(Self(name.to_owned(), Vec::new()))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn keep(self) -> Result<(), Refusal> {
        let Self(name, bytes) = self;
        with(|state| match state.artifacts.entry(name) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(bytes);
                Ok(())
            }
            std::collections::btree_map::Entry::Occupied(place) => {
                Err(Refusal::Failed(format!("there is an artifact {} of this step", place.key())))
            }
        })
    }
}

pub(crate) fn scratch() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    with(|state| {
        state
            .scratch
            .get_or_insert_with(|| {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let path =
                    std::env::temp_dir().join(format!("remit-scratch-{}-{number}", std::process::id()));
                if let Err(error) = std::fs::create_dir_all(&path) {
                    unprepared(&format!("the scratch directory {}: {error}", path.display()));
                }
                Scratch(path)
            })
            .0
            .clone()
    })
}

/// A body that is being read: in two pieces, so that a step which takes only the first shows it.
#[derive(Debug)]
pub(crate) struct Body(VecDeque<Vec<u8>>);

impl Body {
    pub(crate) fn read(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(self.0.pop_front())
    }
}

pub(crate) fn http(request: Request) -> Result<Head, Refusal> {
    if cancelled() {
        return Err(Refusal::Cancelled);
    }
    let url = request.url.to_string();
    let place = format!("{} {url}", request.method);
    let answer = with(|state| {
        let at = state.http.iter().position(|(method, own, _)| *method == request.method && *own == url)?;
        let (_, _, answer) = state.http.remove(at);
        let Request { method, headers, body, .. } = request;
        state.requests.push(Sent { method, url, headers, body });
        Some(answer)
    });
    let Some(answer) = answer else { unprepared(&place) };
    if let Some(refusal) = answer.refusal {
        return Err(refusal);
    }
    let (first, second) = answer.body.split_at(answer.body.len() / 2);
    let body = [first, second].into_iter().filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect();
    Ok(Head { status: answer.status, headers: answer.headers, body: Body(body) })
}
