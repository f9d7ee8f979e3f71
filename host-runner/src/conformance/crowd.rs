//! Many sandboxes at once: what each takes of the host's memory, and how a quiet step fares beside hostile ones.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use remit_protocol::{Outcome, Size, Span, capability::Ceiling, limits::LimitsPart};
use serde::Serialize;
use serde_json::json;
use tokio::{runtime::Runtime, time::Instant};

use super::{
    bench::{Bench, Setup, Suite},
    service::Service,
};
use crate::confine::Behind;

/// What live sandboxes take.
#[derive(Debug, Serialize)]
pub struct Live {
    /// How many were live at once.
    pub sandboxes: u32,
    /// KiB by which the runner and its workers grew for each, with the pages of its own memory that it had touched.
    pub each_kib: f64,
}

/// Keeps `count` sandboxes live at once, each of which has begun and waits.
///
/// # Errors
/// The suite is not there, or a guest does not begin.
pub async fn live(folder: &Path, program: &Path, count: u32) -> Result<Live> {
    let limits = LimitsPart { wall: Some(Span::from_secs(600)), ..LimitsPart::default() };
    let setup = Setup { slots: count, limits, ..Setup::default() };
    let bench = Arc::new(Bench::load(&Suite::new(folder, program), setup)?);
    // What is loaded once is not laid on any of them: workers as many as there will be have run.
    let first = run_all(&bench, 64, "nothing").await?;
    ensure!(first.iter().all(|outcome| *outcome == Outcome::Succeeded), "a guest ended as {first:?}");
    let before = resident()?;
    let began = bench.log.texts().len();
    let wanted = began + usize::try_from(count)?;
    let looking = async {
        while bench.log.texts().len() < wanted {
            bench.log.said.notified().await;
        }
        let after = resident();
        bench.cancel.within(Duration::ZERO);
        after
    };
    let (ended, after) = tokio::join!(run_all(&bench, count, "tell-and-sleep 600000"), looking);
    let (ended, after) = (ended?, after?);
    ensure!(ended.iter().all(|outcome| *outcome == Outcome::Cancelled), "a guest ended as {ended:?}");
    #[expect(clippy::cast_precision_loss, reason = "kibibytes")]
    let grown = after.saturating_sub(before) as f64;
    Ok(Live { sandboxes: count, each_kib: grown / f64::from(count) })
}

async fn run_all(bench: &Arc<Bench>, count: u32, act: &'static str) -> Result<Vec<Outcome>> {
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..count {
        let bench = Arc::clone(bench);
        runs.spawn(async move { bench.run(act).await.outcome });
    }
    let mut ended = Vec::new();
    while let Some(outcome) = runs.join_next().await {
        ended.push(outcome?);
    }
    Ok(ended)
}

/// KiB of this process and of its workers.
fn resident() -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let worker = words.split(|byte| *byte == 0).nth(1) == Some(b"worker");
        let own = entry.file_name().to_string_lossy() == std::process::id().to_string();
        if own || worker {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let number = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
            total += number.parse::<u64>().unwrap_or_default();
        }
    }
    Ok(total)
}

/// How long runs took, in microseconds.
#[derive(Debug, Serialize)]
pub struct Spread {
    /// The middle one.
    pub p50_us: f64,
    /// The 99th of a hundred.
    pub p99_us: f64,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Result<Self> {
        times.sort_unstable();
        let at = |part: usize| {
            let time = times.get(times.len() * part / 100).context("there were no runs")?;
            anyhow::Ok(time.as_secs_f64() * 1e6)
        };
        Ok(Self { p50_us: at(50)?, p99_us: at(99)? })
    }
}

/// How a quiet step fares.
#[derive(Debug, Serialize)]
pub struct Neighbours {
    /// Alone.
    pub alone: Spread,
    /// Beside bare threads that compute, as many as there are processors and as far back as a neighbour is put that does: what
    /// the machine makes of it once no processor is idle, whoever computes.
    pub beside_bare: Spread,
    /// Beside one neighbour that does this.
    pub beside: Vec<(&'static str, Spread)>,
    /// Beside all of them.
    pub beside_all: Spread,
}

/// What neighbours do: compute, take memory, log, and call over HTTP, as much as they may.
const HOSTILE: [&str; 4] = ["computes", "takes memory", "floods its log", "floods a service"];
/// All of it is measured so often, by turns: what else the machine does meanwhile does not fall on one alone.
const ROUNDS: u32 = 5;
/// Between two runs of the quiet step.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a quiet step `runs` times alone, as often beside each hostile neighbour, and beside all of them, in the same runner.
///
/// # Errors
/// The suite is not there, or a run ends as it should not.
pub async fn neighbours(folder: &Path, program: &Path, runs: u32) -> Result<Neighbours> {
    let elsewhere = Elsewhere::start().await?;
    let port = elsewhere.service.port();
    let suite = Suite::new(folder, program);
    let names = [("a.example".to_owned(), vec![vec![[127, 0, 0, 1].into()]])].into();
    let quiet = Bench::load(&suite, Setup { slots: 8, names, ..Setup::default() })?;
    let (mut alone, mut beside_bare, mut beside_all) = (Vec::new(), Vec::new(), Vec::new());
    let mut beside = HOSTILE.map(|what| (what, Vec::new()));
    let runs = runs.div_ceil(ROUNDS);
    for _ in 0..ROUNDS {
        alone.extend(times(&quiet, runs).await?);
        {
            let _busy = Busy::begin()?;
            beside_bare.extend(times(&quiet, runs).await?);
        }
        for (what, found) in &mut beside {
            found.extend(fares(&quiet, &suite, &[*what], port, runs).await?);
        }
        beside_all.extend(fares(&quiet, &suite, &HOSTILE, port, runs).await?);
    }
    Ok(Neighbours {
        alone: Spread::of(alone)?,
        beside_bare: Spread::of(beside_bare)?,
        beside: beside
            .into_iter()
            .map(|(what, times)| Ok((what, Spread::of(times)?)))
            .collect::<Result<_>>()?,
        beside_all: Spread::of(beside_all)?,
    })
}

/// The service that is flooded: it is somebody else's, so it has a thread of its own.
struct Elsewhere {
    service: Service,
    runtime: Option<Runtime>,
}

impl Elsewhere {
    async fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let service = runtime.spawn(Service::start(None)).await??;
        Ok(Self { service, runtime: Some(runtime) })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Threads that only compute, one for each processor, until this is dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn begin() -> Result<Self> {
        let mut busy = Self { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..std::thread::available_parallelism()?.get() {
            let stop = Arc::clone(&busy.stop);
            let compute = move || {
                // None is left to others: that is what is measured.
                Behind::reserving(0).go();
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            busy.threads.push(std::thread::Builder::new().name("busy".to_owned()).spawn(compute)?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How the quiet step fares beside these neighbours.
async fn fares(
    quiet: &Bench,
    suite: &Suite,
    neighbours: &[&'static str],
    port: u16,
    runs: u32,
) -> Result<Vec<Duration>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut hostile = tokio::task::JoinSet::new();
    let mut cancels = Vec::new();
    for what in neighbours.iter().copied() {
        let (setup, act) = neighbour(what, port)?;
        let bench = quiet.beside(suite, setup)?;
        cancels.push(bench.cancel.clone());
        bench.log.forgets.store(true, Ordering::Relaxed);
        let stop = Arc::clone(&stop);
        hostile.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let ended = bench.run(&act).await;
                ensure!(
                    matches!(ended.outcome, Outcome::OverLimit(_) | Outcome::Succeeded | Outcome::Cancelled),
                    "the neighbour that {what} ended as {}: {}",
                    ended.outcome,
                    ended.message
                );
            }
            Ok(())
        });
    }
    let found = times(quiet, runs).await?;
    stop.store(true, Ordering::Relaxed);
    cancels.iter().for_each(|cancel| cancel.within(Duration::ZERO));
    while let Some(ended) = hostile.join_next().await {
        ended??;
    }
    Ok(found)
}

fn neighbour(what: &str, port: u16) -> Result<(Setup, String)> {
    let most = LimitsPart {
        wall: Some(Span::from_secs(600)),
        cpu: Some(Span::from_secs(600)),
        memory: Some(Size::from_mib(256)),
        log: Some(Size::from_mib(16)),
        requests: Some(100_000),
        egress: Some(Size::from_mib(1024)),
        ingress: Some(Size::from_mib(1024)),
        ..LimitsPart::default()
    };
    let plain = Setup { limits: most, ..Setup::default() };
    Ok(match what {
        "computes" => (plain, "loop".to_owned()),
        "takes memory" => (plain, "memory 300".to_owned()),
        "floods its log" => (plain, "log 100000000".to_owned()),
        _ => {
            let rule = |private: serde_json::Value| json!([{"scheme": "http", "host": "a.example", "port": port, "methods": ["GET"], "paths": ["/"], "private": private}]);
            let setup = Setup {
                guest: "http".to_owned(),
                requests: r#"{"http":[{"host":"granted"}]}"#.to_owned(),
                grant: json!({ "http": rule(json!(true)) }).to_string(),
                ceiling: Ceiling {
                    http: serde_json::from_value(rule(json!(["127.0.0.0/8"])))?,
                    ..Ceiling::default()
                },
                limits: most,
                ..Setup::default()
            };
            (setup, format!("GET http a.example:{port} / timed:90000"))
        }
    })
}

/// The times of some runs, one after the other with a pause between.
async fn times(bench: &Bench, runs: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for round in 0..runs.saturating_add(runs / 10) {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        let ended = bench.run("nothing").await;
        // The first ones map memory that later ones find.
        if round >= runs / 10 {
            times.push(begun.elapsed());
        }
        ensure!(
            ended.outcome == Outcome::Succeeded,
            "the quiet step ended as {}: {}",
            ended.outcome,
            ended.message
        );
    }
    Ok(times)
}
