//! What no guest can try: it is done to the runner's own rooms, which are the product's, with real files, processes and
//! sockets.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use remit_protocol::{
    AttemptId, ComponentPin, Digest, Epoch, Limits, RunnerId, Session, Size, Span,
    digest::Sized,
    endpoint::{ComponentBundle, Poll, PollAnswer},
    manifest::Kind,
};
use remit_signing::{
    KeyName, SigningKey,
    http::{Content, RequestParts, RequestSigner, SignedHeaders, UnverifiedRequest, sign_answer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use zeroize::Zeroizing;

use super::{
    World,
    bench::{Bench, Names, SECRET, Setup, Suite, noon},
    service,
};
use crate::{
    clock,
    component::{
        Components, Source,
        cache::Cache,
        compile::{Bounds, Compiler},
    },
    dial::{Dialer, address::Barred, tls::Trust as Roots},
    launcher::{Exit, Launch, Local, Program},
    orchestrator::{CallError, Caller, Client, Road},
    report::record::{self, Record},
    sandbox::Metering,
    state,
    trust::{
        NotBelieved, Trust,
        heads::{Heads, History},
    },
};

/// What one compile process may use here.
const BOUNDS: Bounds = Bounds { memory: Size::from_mib(2048), cpu_seconds: 2 };
/// What is kept of a process's output.
const MAX_OUTPUT: usize = 256 << 20;

/// Something that is done.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// The rows about an echoed credential, run by another process with its log at its loudest; the canary is looked for in it.
    Loudest,
    /// A text is looked for in the memory and the environment of the worker that uses the credential.
    Search(Needle),
    /// A component is compiled.
    Compile(Bomb),
    /// An answer to the runner's poll.
    Answer(Answered),
    /// What a pinned component comes as.
    Fetch(Fetched),
    /// The policy that is found after this one was believed.
    Policy(u64),
    /// What the runner remembers, in a file of this form.
    Memory(u32),
    /// A journal with a record of this kind in the middle.
    Journal(u8),
    /// A process that was taken over tries something, with a worker's bars or without.
    Probe(bool, Probe),
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needle {
    /// The value of the secret.
    Secret,
    /// A header of the guest's own.
    Mark,
}

/// A component to be compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bomb {
    /// An ordinary one.
    None,
    /// Half a million functions.
    Functions,
    /// One function that is all arithmetic over thousands of variables.
    Long,
}

/// Whose answer a poll gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// Its own.
    Own,
    /// The one that another runner got for the same words.
    Another,
    /// One that nobody signed.
    Unsigned,
}

/// What comes for a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    /// What was pinned.
    Right,
    /// Another component, rightly signed.
    Another,
    /// The right note, and other bytes of the same length.
    OtherBytes,
}

/// What is tried from within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// To reach the service.
    Connect,
    /// To read a secret's file.
    Secret,
    /// To look into the cache of native code.
    Cache,
    /// To put something into it.
    Plant,
    /// To read the runner's environment.
    Environment,
    /// To start a program.
    Start,
}

type Seen = (String, String);

fn seen(good: bool, text: impl Into<String>) -> Seen {
    (if good { "succeeded" } else { "refused" }.to_owned(), text.into())
}

impl Deed {
    /// Does it. What is seen is an outcome, and words.
    pub(super) async fn perform(&self, suite: &Suite, world: &World) -> Result<Seen> {
        match self {
            Self::Loudest => loudest(suite).await,
            Self::Search(needle) => search(suite, world, *needle).await,
            Self::Compile(bomb) => compile(suite, *bomb).await,
            Self::Answer(answered) => answer(*answered).await,
            Self::Fetch(fetched) => fetch(suite, *fetched).await,
            Self::Policy(version) => policy(*version),
            Self::Memory(form) => memory(*form),
            Self::Journal(kind) => Ok(journal(*kind)),
            Self::Probe(confined, probe) => probed(suite, world, *confined, *probe).await,
        }
    }
}

/// What a process wrote, and how it ended.
async fn output(suite: &Suite, arguments: Vec<String>) -> Result<(Exit, Vec<u8>)> {
    let folder = tempfile::tempdir()?;
    let launch = Local::new(folder.path().to_owned());
    let program = Program {
        path: suite.program.clone(),
        arguments,
        environment: BTreeMap::new(),
        secret: None,
        directory: None,
        stdin: Vec::new(),
    };
    let mut running = launch.start(program).await?;
    let mut all = Vec::new();
    while let Some((_, piece)) = running.read().await? {
        if all.len() < MAX_OUTPUT {
            all.extend(piece);
        }
    }
    let exit = running.wait().await?;
    drop(running);
    launch.idle().await;
    Ok((exit, all))
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

async fn loudest(suite: &Suite) -> Result<Seen> {
    let folder = fs::canonicalize(&suite.folder)?.display().to_string();
    let words = ["--log", "trace", "conformance", "--suite", &folder, "--threat", "9", "--output", "json"];
    let (exit, all) = output(suite, words.map(str::to_owned).to_vec()).await?;
    let encoded = data_encoding::BASE64.encode(SECRET.as_bytes());
    let canary = holds(&all, SECRET.as_bytes()) || holds(&all, encoded.trim_end_matches('=').as_bytes());
    let text = String::from_utf8_lossy(&all);
    let loud = text.lines().filter(|line| line.contains(" TRACE ")).count();
    if exit != Exit::Code(0) || loud == 0 {
        let last = text.lines().last().unwrap_or_default();
        bail!("the loudest run ended with {exit} and wrote {loud} lines of trace: {last}");
    }
    let leak = text.lines().find(|line| line.contains(SECRET)).unwrap_or_default();
    Ok(seen(!canary, format!("{loud} lines at TRACE; the canary was seen: {canary} {leak}")))
}

/// The worker processes below this one.
fn workers() -> Vec<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_worker = |number: &u32| {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"worker")
    };
    numbers.filter(is_worker).collect()
}

/// What a process holds in memory of its own: not what is mapped from files, as the program's own text is.
fn memory_of(number: u32) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{number}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{number}/mem")).ok()?;
    let mut all = fs::read(format!("/proc/{number}/environ")).ok()?;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        // An empty address space behind a guard is not read: only what may be written holds anything.
        if !rights.starts_with("rw") || words.nth(3).is_some_and(|path| path.starts_with('/')) {
            continue;
        }
        let (from, to) = range.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut piece = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(piece.len()).min(piece.len());
            match memory.read_at(piece.get_mut(..wanted)?, at) {
                Ok(length) if length > 0 => {
                    let read = piece.get(..length)?;
                    if read.iter().any(|byte| *byte != 0) {
                        all.extend_from_slice(read);
                    }
                    at += length as u64;
                }
                _ => break,
            }
        }
    }
    Some(all)
}

/// The header by which the worker in question is known.
const MARK: &str = "canary-in-plain-sight";

async fn search(suite: &Suite, world: &World, needle: Needle) -> Result<Seen> {
    let suite = Suite::new(&suite.folder, &suite.program);
    let mut setup: Setup = super::http::encrypted(world, world.encrypted.port())?;
    setup.limits.requests = Some(100_000);
    setup.limits.egress = Some(Size::from_mib(1024));
    setup.limits.ingress = Some(Size::from_mib(1024));
    let bench = Bench::load(&suite, setup)?;
    let port = world.encrypted.port();
    let act = format!("GET https a.example:{port} /echo x-mark={MARK} timed:90000");
    let mut requests = world.encrypted.requests();
    let looking = async {
        requests.changed().await?;
        let found =
            tokio::task::spawn_blocking(|| workers().into_iter().map(memory_of).collect::<Option<Vec<_>>>());
        let found = found.await?;
        bench.cancel.within(std::time::Duration::ZERO);
        anyhow::Ok(found)
    };
    let (ended, found) = tokio::join!(bench.run(&act), looking);
    if ended.outcome != remit_protocol::Outcome::Cancelled {
        bail!("the guest ended too soon: {}: {}", ended.outcome, ended.message);
    }
    let Some(found) = found? else {
        return Ok(seen(true, "not even its own user may look into a worker"));
    };
    let ours: Vec<_> = found.iter().filter(|memory| holds(memory, MARK.as_bytes())).collect();
    let bytes: usize = ours.iter().map(|memory| memory.len()).sum();
    Ok(match needle {
        Needle::Mark => seen(!ours.is_empty(), format!("{} workers hold the guest's own header", ours.len())),
        Needle::Secret => {
            let leaks = ours.iter().filter(|memory| holds(memory, SECRET.as_bytes())).count();
            let good = leaks == 0 && !ours.is_empty();
            seen(
                good,
                format!("{leaks} of {} workers hold the value, in {bytes} bytes of memory", ours.len()),
            )
        }
    })
}

/// LEB128, as the binary format writes numbers.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(body.len()), body].concat()
}

/// A component whose one module has so many functions of this body, each from one number to another.
fn component(functions: usize, body: &[u8]) -> Vec<u8> {
    let own = [&leb(body.len())[..], body].concat();
    let types = section(1, &[1, 0x60, 1, 0x7e, 1, 0x7e]);
    let all = section(3, &[leb(functions), vec![0; functions]].concat());
    let code = section(10, &[leb(functions), own.repeat(functions)].concat());
    let module = [b"\0asm\x01\0\0\0", &types[..], &all, &code].concat();
    [b"\0asm\x0d\0\x01\0", &section(1, &module)[..]].concat()
}

impl Bomb {
    /// A component in the binary format.
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::None => component(1, &[0, 0x42, 1, 0x0b]),
            Self::Functions => {
                let mut body = vec![0, 0x42, 1];
                (0..12).for_each(|_| body.extend([0x42, 7, 0x7c]));
                body.push(0x0b);
                component(500_000, &body)
            }
            Self::Long => {
                const LOCALS: usize = 20_000;
                const SUMS: usize = 400_000;
                let mut body = [vec![1], leb(LOCALS), vec![0x7e]].concat();
                // Everything hangs on the argument, and the answer on everything: nothing can be left out or worked out ahead.
                for at in 0..SUMS {
                    let (one, two) = (at % LOCALS, at * 7 % LOCALS);
                    let own = [vec![0x20, 0, 0x42], leb(at % 8000 * 2 % 63), vec![0x7e, 0x7c]].concat();
                    let both = [vec![0x20], leb(one), vec![0x20], leb(two), vec![0x7c]].concat();
                    body.extend([both, own, vec![0x21], leb(1 + at * 13 % (LOCALS - 1))].concat());
                }
                body.extend([0x42, 0]);
                for at in 0..LOCALS {
                    body.extend([vec![0x20], leb(at), vec![0x7c]].concat());
                }
                body.push(0x0b);
                component(6, &body)
            }
        }
    }
}

async fn compile(suite: &Suite, bomb: Bomb) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let launch = Arc::new(Local::new(folder.path().to_owned()));
    let compiler = Compiler::new(suite.program.clone(), launch.clone()).within(BOUNDS);
    let made = compiler.native(&bomb.bytes(), Metering::Off).await;
    launch.idle().await;
    Ok(match made {
        Ok(code) => seen(true, format!("{} bytes of native code", code.len())),
        Err(error) => seen(false, error.to_string()),
    })
}

fn key(seed: u8) -> Result<SigningKey> {
    Ok(SigningKey::from_seed(KeyName::new("test/answers")?, &[seed; 32]))
}

fn signer(runner: u128) -> Result<RequestSigner> {
    Ok(RequestSigner::new(key(40)?, RunnerId::from_u128(runner), "a.example".parse()?))
}

/// A service that answers one signed poll, and the runner's own client that makes it.
#[expect(
    clippy::disallowed_methods,
    reason = "the suite's own listener on loopback; a runner that runs has none"
)]
async fn answer(answered: Answered) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let ca_file = folder.path().join("ca.pem");
    let tls = tokio_rustls::TlsAcceptor::from(service::server_tls("a.example", &ca_file)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let names = HashMap::from([("a.example".to_owned(), vec![vec![[127, 0, 0, 1].into()]])]);
    let barred = Barred::new("a.example", port);
    let dialer = Arc::new(Dialer::new(Arc::new(Names::new(names)), None, Roots::untrusting(), barred));
    let road = Road::new(format!("https://a.example:{port}").parse()?, dialer, None, Some(&ca_file))?;
    let client = Client::new(Caller::new(road), signer(1)?, key(41)?.public(), noon, clock::random);
    let poll = Poll {
        session: Session(1),
        ack: 0,
        free: 1,
        draining: false,
        hold: Span::from_secs(1),
        attempts: None,
    };
    let serving = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = tls.accept(stream).await?;
        let mut bytes = Vec::new();
        while service::whole(&bytes).is_none() {
            if stream.read_buf(&mut bytes).await? == 0 {
                bail!("the client went away");
            }
        }
        stream.write_all(&reply(&bytes, answered)?).await?;
        stream.shutdown().await?;
        anyhow::Ok(())
    };
    let (answer, served) = tokio::join!(client.poll(&poll), serving);
    served?;
    Ok(match answer {
        Ok(_) => seen(true, "the answer was taken"),
        Err(error) => seen(false, error.to_string()),
    })
}

/// The bytes that answer a poll.
fn reply(request: &[u8], answered: Answered) -> Result<Vec<u8>> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n").context("no request")?;
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = SignedHeaders::collect(fields.map(|(name, value)| (name, value.as_bytes())))?;
    let own = UnverifiedRequest::read(headers)?.signature().to_owned();
    // Another runner says the very same, and its answer was kept.
    let parts = RequestParts {
        method: "POST",
        path: remit_protocol::endpoint::POLL,
        query: None,
        content: Content { content_type: "application/json", body: body.as_bytes() },
    };
    let other = signer(2)?.sign(&parts, Session(1), 1, noon(), [9; 16])?;
    let words = serde_json::to_vec(&PollAnswer { first: 1, commands: Vec::new(), now: noon() })?;
    let content = Content { content_type: "application/json", body: &words };
    let bound = if answered == Answered::Another { &other.signature } else { &own };
    let signed = sign_answer(&key(41)?, 200, &content, bound, noon())?;
    let mut head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n",
        words.len()
    );
    if answered != Answered::Unsigned {
        signed.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    }
    Ok([head.as_bytes(), b"\r\n", &words].concat())
}

/// An orchestrator that hands out one component.
struct Shop {
    bundle: ComponentBundle,
    bytes: Vec<u8>,
}

#[async_trait]
impl History for Shop {
    async fn consistency(&self, _: u64, _: u64) -> Result<Vec<Digest>, CallError> {
        Err(CallError::Cut("there is no log here".to_owned()))
    }

    async fn proof(&self, _: Digest) -> Result<String, CallError> {
        Err(CallError::Cut("there is no log here".to_owned()))
    }
}

#[async_trait]
impl Source for Shop {
    async fn bundle(&self, _: &ComponentPin) -> Result<ComponentBundle, CallError> {
        Ok(self.bundle.clone())
    }

    async fn bytes(&self, _: Sized) -> Result<Bytes, CallError> {
        Ok(self.bytes.clone().into())
    }
}

async fn fetch(suite: &Suite, fetched: Fetched) -> Result<Seen> {
    let http = r#"{"http":[{"host":"granted"}]}"#;
    let wanted = suite.packed("pure", Kind::Step, None, "{}", Limits::default(), None)?;
    let name = if fetched == Fetched::Another { "http" } else { "pure" };
    let requests = if fetched == Fetched::Another { http } else { "{}" };
    let packed = suite.packed(name, Kind::Step, None, requests, Limits::default(), None)?;
    let pin = ComponentPin {
        name: "test/pure".parse()?,
        version: "1.0.0".parse()?,
        digest: Digest::of(&wanted.bytes),
    };
    let mut bytes = packed.bytes.clone();
    if let (Fetched::OtherBytes, Some(last)) = (fetched, bytes.last_mut()) {
        *last ^= 1;
    }
    let bundle = ComponentBundle {
        digest: pin.digest,
        length: bytes.len() as u64,
        manifest: String::from_utf8(packed.manifest)?,
        note: String::from_utf8(packed.note)?,
        proof: None,
        verdicts: Vec::new(),
    };
    let folder = tempfile::tempdir()?;
    let bench = Bench::load(suite, Setup::default())?;
    let cache = Cache::new(folder.path().to_owned(), Zeroizing::new([1; 32]), Size::from_mib(512));
    let launch: Arc<dyn Launch> = Arc::new(Local::new(folder.path().to_owned()));
    let trust = Arc::new(Trust::fixed(wanted.policy, noon));
    let compiler = Compiler::new(suite.program.clone(), launch);
    let components = Components::new(trust, Heads::nowhere(), bench.sandbox.clone(), cache, compiler);
    Ok(match components.get(&pin, Metering::Off, &Shop { bundle, bytes }).await {
        Ok(_) => seen(true, "it is loaded"),
        Err(error) => seen(false, error.to_string()),
    })
}

fn found(error: &NotBelieved) -> Seen {
    seen(false, error.to_string())
}

/// Version 5 was believed; then the file is of this version.
fn policy(version: u64) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let (file, state) = (folder.path().join("trust.toml"), folder.path().join("state"));
    state::make_private(&state)?;
    fs::write(&file, "version = 5\n")?;
    let trust = Trust::open(&file, &state, noon)?;
    trust.belief().map_err(|error| anyhow::anyhow!("the policy is not believed: {error}"))?;
    drop(trust);
    fs::write(&file, format!("version = {version}\n"))?;
    let trust = Trust::open(&file, &state, noon)?;
    Ok(match trust.belief() {
        Ok(belief) => seen(true, format!("version {} is believed", belief.policy.version())),
        Err(error) => found(&error),
    })
}

/// What another version remembers.
fn memory(form: u32) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let (file, state) = (folder.path().join("trust.toml"), folder.path().join("state"));
    state::make_private(&state)?;
    fs::write(&file, "version = 5\n")?;
    Trust::open(&file, &state, noon)?.belief().map_err(|error| anyhow::anyhow!("{error}"))?;
    let kept: PathBuf = state.join("trust.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&kept)?)?;
    value["v"] = form.into();
    state::write_private(&kept, &serde_json::to_vec(&value)?)?;
    Ok(match Trust::open(&file, &state, noon) {
        Ok(_) => seen(true, "it is read"),
        Err(error) => seen(false, format!("{error:#}")),
    })
}

/// Three records, the second of this kind: nothing from the first that is not understood counts.
fn journal(kind: u8) -> Seen {
    let attempt = AttemptId::from_u128(1);
    let begun = Record::Begun { epoch: Epoch(1), first_event: 1, first_entry: 1 };
    let (mut bytes, mut second) = (Vec::new(), Vec::new());
    record::encode(attempt, &begun, &mut bytes);
    record::encode(attempt, &Record::Entry { number: 1, json: "{}" }, &mut second);
    // Head of eight bytes: length and checksum; then the kind.
    if let Some(place) = second.get_mut(8) {
        *place = kind;
    }
    let sum = crc32c::crc32c(second.get(8..).unwrap_or_default());
    if let Some(place) = second.get_mut(4..8) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    bytes.extend(second);
    record::encode(attempt, &Record::Gone, &mut bytes);
    let read = record::decode(&bytes).count();
    seen(read == 3, format!("{read} of 3 records are believed"))
}

async fn probed(suite: &Suite, world: &World, confined: bool, probe: Probe) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("api-token");
    fs::write(&secret, SECRET)?;
    let at = |path: &std::path::Path| path.display().to_string();
    let (what, at) = match probe {
        Probe::Connect => ("connect", format!("127.0.0.1:{}", world.plain.port())),
        Probe::Secret => ("read", at(&secret)),
        Probe::Cache => ("list", at(folder.path())),
        Probe::Plant => ("write", at(&folder.path().join("planted.native"))),
        Probe::Environment => ("read", format!("/proc/{}/environ", std::process::id())),
        Probe::Start => ("start", "/bin/true".to_owned()),
    };
    let mut arguments = vec!["probe".to_owned()];
    if confined {
        arguments.push("--confined".to_owned());
    }
    arguments.extend([what.to_owned(), at]);
    let (exit, said) = output(suite, arguments).await?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok(match exit {
        Exit::Code(0) => seen(said == "it was done", said),
        // What only an attacker would call.
        Exit::Signal(libc::SIGSYS) => seen(false, "refused: the kernel ended the process"),
        other => bail!("the probe ended with {other}: {said}"),
    })
}
