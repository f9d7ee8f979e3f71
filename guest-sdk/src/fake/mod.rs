//! A host for native unit tests: it answers as it was told, and tells what the step did.
//!
//! ```
//! use std::time::Duration;
//! use remit_sdk::{fake::{Answer, Fake}, http, Context, Fail};
//!
//! fn wait_until_up(url: String, context: &Context) -> Result<u32, Fail> {
//!     for polls in 1..=10 {
//!         if http::get(&url).send()?.status() == 200 {
//!             return Ok(polls);
//!         }
//!         context.sleep(Duration::from_secs(1))?;
//!     }
//!     Err(Fail::new("it did not come up"))
//! }
//!
//! let run = Fake::new()
//!     .http("GET", "https://a.example/", Answer::status(503))
//!     .http("GET", "https://a.example/", Answer::status(200))
//!     .run(|context| wait_until_up("https://a.example".into(), context));
//! assert_eq!(run.result, Ok(2));
//! assert_eq!(run.slept, Duration::from_secs(1));
//! ```
//!
//! A call that the test did not prepare panics and says which; so does [`Fake::run`] for an answer that was never asked
//! for. Time does not pass by itself: only `sleep` moves it. Each test's fake is its own thread's.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

mod answer;
pub(crate) mod host;

pub use answer::{Answer, Program};

use crate::{Context, Fail, Node, Nodes, Refusal, log::Level, run, tcp::Proof};

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// How much it matters.
    pub level: Level,
    /// The message.
    pub message: String,
    /// The fields.
    pub fields: Vec<(String, String)>,
}

/// A request that the step sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// The whole address.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Sent {
    /// The first header of this name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a step did, and what came of it.
#[derive(Debug)]
pub struct Run<T> {
    /// What the function gave back.
    pub result: T,
    /// The log.
    pub log: Vec<Entry>,
    /// Every progress that was told: done and total.
    pub progress: Vec<(u64, u64)>,
    /// Every request that was sent, those that were refused too.
    pub requests: Vec<Sent>,
    /// The standard input of every program and every SSH command that was started, in order.
    pub stdin: Vec<Vec<u8>>,
    /// The environment variables that the step set for every program that it started, in order.
    pub variables: Vec<Vec<(String, String)>>,
    /// Every node that was emitted.
    pub nodes: Vec<Node>,
    /// The number of nodes of every page.
    pub pages: Vec<usize>,
    /// The hosts and ports with which the step began to speak TLS.
    pub encrypted: Vec<(String, u16)>,
    /// Every artifact that was kept, by name.
    pub artifacts: BTreeMap<String, Vec<u8>>,
    /// How long the step slept.
    pub slept: Duration,
}

impl<T> Run<T> {
    /// The messages of the log, without levels and fields.
    pub fn messages(&self) -> Vec<&str> {
        self.log.iter().map(|entry| entry.message.as_str()).collect()
    }
}

/// A prepared host. Each method prepares one thing; [`Fake::run`] runs a step on it.
#[derive(Debug)]
pub struct Fake {
    state: State,
}

#[derive(Debug, Default)]
struct State {
    node: Option<Node>,
    execution: String,
    step: String,
    attempt: u32,
    wall: Duration,
    began: Duration,
    cancel_at: Option<Duration>,
    http: Vec<(String, String, Answer)>,
    exec: Vec<(Vec<String>, Program)>,
    ssh: Vec<(Vec<String>, Program)>,
    secrets: BTreeMap<String, String>,
    files: BTreeMap<String, BTreeMap<String, VecDeque<u8>>>,
    scratch: Option<Scratch>,
    log: Vec<Entry>,
    progress: Vec<(u64, u64)>,
    requests: Vec<Sent>,
    stdin: Vec<Vec<u8>>,
    variables: Vec<Vec<(String, String)>>,
    subsystem: Option<Subsystem>,
    tcp: BTreeMap<(String, u16), Peer>,
    nodes: Vec<Node>,
    pages: Vec<usize>,
    artifacts: BTreeMap<String, Vec<u8>>,
    slept: Duration,
}

/// Gives what comes back for what was written.
type Answers = dyn FnMut(&[u8]) -> Vec<u8>;
/// What a peer's secret is proved by.
type Proves = dyn FnMut(&str, &str) -> Proof;

/// What plays a subsystem.
struct Subsystem(Box<Answers>);

impl std::fmt::Debug for Subsystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subsystem")
    }
}

/// What plays the other side of a connection.
struct Peer {
    refusal: Option<Refusal>,
    answer: Box<Answers>,
    encrypted: bool,
    proof: Option<Box<Proves>>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peer")
    }
}

/// A directory that goes with the run.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a directory that cannot be removed; the operating system's temp folder holds it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

thread_local! {
    static HOST: RefCell<Option<State>> = const { RefCell::new(None) };
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// A host without anything: no node, no answers, a minute of wall clock time.
    pub fn new() -> Self {
        Self {
            state: State {
                execution: "01JD0000000000000000000000".to_owned(),
                step: "step".to_owned(),
                attempt: 1,
                wall: Duration::from_secs(60),
                ..State::default()
            },
        }
    }

    /// The node that the step is run for.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.state.node = Some(node);
        self
    }

    /// The number of the try, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.state.attempt = attempt;
        self
    }

    /// The wall clock limit, of which `sleep` takes.
    #[must_use]
    pub fn wall(mut self, wall: Duration) -> Self {
        self.state.wall = wall;
        self
    }

    /// What the clock says when the run begins, since the beginning of 1970; `sleep` moves it on.
    #[must_use]
    pub fn began(mut self, began: Duration) -> Self {
        self.state.began = began;
        self
    }

    /// The run is cancelled after this much sleep: zero for from the start.
    #[must_use]
    pub fn cancel_after(mut self, slept: Duration) -> Self {
        self.state.cancel_at = Some(slept);
        self
    }

    /// Answers one request with this method and address. Several of the same are answered in order.
    #[must_use]
    pub fn http(mut self, method: &str, url: &str, answer: Answer) -> Self {
        self.state.http.push((method.to_owned(), crate::http::Url::from(url).to_string(), answer));
        self
    }

    /// Plays one program with exactly these words: its name and its arguments.
    #[must_use]
    pub fn exec(mut self, words: &[&str], program: Program) -> Self {
        self.state.exec.push((words.iter().map(|word| (*word).to_owned()).collect(), program));
        self
    }

    /// Plays one SSH command with exactly these words.
    #[must_use]
    pub fn ssh(mut self, argv: &[&str], program: Program) -> Self {
        self.state.ssh.push((argv.iter().map(|word| (*word).to_owned()).collect(), program));
        self
    }

    /// Plays the node's subsystem `sftp`: `answer` is handed each piece that the step writes and gives what comes back.
    #[must_use]
    pub fn sftp(mut self, answer: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> Self {
        self.state.subsystem = Some(Subsystem(Box::new(answer)));
        self
    }

    /// Plays the other side of connections to a host and port: `answer` is handed each piece that the step writes, and first
    /// nothing at all, and gives what comes back.
    #[must_use]
    pub fn tcp(mut self, host: &str, port: u16, answer: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> Self {
        let peer = Peer { refusal: None, answer: Box::new(answer), encrypted: false, proof: None };
        self.state.tcp.insert((host.to_owned(), port), peer);
        self
    }

    /// Proves the secret that the grant binds to a host and port, where a peer was prepared: by `prove`, of the client's first
    /// message and the server's.
    ///
    /// # Panics
    /// Nobody was prepared at that host and port.
    #[must_use]
    pub fn scram(mut self, host: &str, port: u16, prove: impl FnMut(&str, &str) -> Proof + 'static) -> Self {
        let peer = self.state.tcp.get_mut(&(host.to_owned(), port));
        assert!(peer.is_some(), "nobody was prepared at {host}:{port}");
        if let Some(peer) = peer {
            peer.proof = Some(Box::new(prove));
        }
        self
    }

    /// No connection to a host and port comes about.
    #[must_use]
    pub fn no_tcp(mut self, host: &str, port: u16, refusal: Refusal) -> Self {
        let peer =
            Peer { refusal: Some(refusal), answer: Box::new(|_| Vec::new()), encrypted: false, proof: None };
        self.state.tcp.insert((host.to_owned(), port), peer);
        self
    }

    /// A secret that the step may reveal.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.state.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A file below a name; the path is empty when the name is the file itself.
    #[must_use]
    pub fn file(mut self, name: &str, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = VecDeque::from(bytes.into());
        self.state.files.entry(name.to_owned()).or_default().insert(path.to_owned(), bytes);
        self
    }

    /// Runs a step on this host.
    ///
    /// # Panics
    ///
    /// If an answer was prepared that the step never asked for.
    pub fn run<T>(self, step: impl FnOnce(&Context) -> T) -> Run<T> {
        let here = Installed::new(self.state);
        let result = step(&Context::new());
        let state = here.take();
        let left: Vec<String> = state
            .http
            .iter()
            .map(|(method, url, _)| format!("{method} {url}"))
            .chain(state.exec.iter().map(|(words, _)| format!("program {words:?}")))
            .chain(state.ssh.iter().map(|(words, _)| format!("ssh {words:?}")))
            .collect();
        let encrypted = state.tcp.into_iter().filter(|(_, peer)| peer.encrypted).map(|(place, _)| place);
        assert!(left.is_empty(), "prepared, and never asked for: {}", left.join(", "));
        Run {
            result,
            log: state.log,
            progress: state.progress,
            requests: state.requests,
            stdin: state.stdin,
            variables: state.variables,
            nodes: state.nodes,
            pages: state.pages,
            encrypted: encrypted.collect(),
            artifacts: state.artifacts,
            slept: state.slept,
        }
    }

    /// Runs a step's function as the runner does, with JSON in and JSON out.
    pub fn call<I: DeserializeOwned, O: Serialize>(
        self,
        step: fn(I, &Context) -> Result<O, Fail>,
        input: &Value,
    ) -> Run<Result<Value, Fail>> {
        self.run(|_| {
            let output = run::call(step, &input.to_string())?;
            Ok(serde_json::from_str(&output)?)
        })
    }

    /// Runs a node source's function as the runner does, with JSON in; the nodes are in [`Run::nodes`].
    pub fn discover<I: DeserializeOwned>(
        self,
        source: fn(I, &mut Nodes, &Context) -> Result<(), Fail>,
        input: &Value,
    ) -> Run<Result<(), Fail>> {
        self.run(|_| run::call_source(source, &input.to_string()))
    }
}

/// The host of this thread while it stands; it is taken away even when a test panics.
struct Installed;

impl Installed {
    fn new(state: State) -> Self {
        HOST.with(|host| {
            let former = host.borrow_mut().replace(state);
            assert!(former.is_none(), "a fake's run was started inside of another's");
        });
        Self
    }

    fn take(self) -> State {
        HOST.with(|host| host.borrow_mut().take()).unwrap_or_default()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        HOST.with(|host| host.borrow_mut().take());
    }
}
