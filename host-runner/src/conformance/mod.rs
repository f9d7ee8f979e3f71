//! `remit-runner conformance`: hostile components against this very program, on this very host.
//!
//! [`table`] is what is tried: each attack beside a twin that differs in one thing and has to succeed, so that a runner that
//! refuses everything does not pass. The guests are real components, signed and verified as all are, and run in worker
//! processes as a runner runs them; the services that they try to reach are real sockets on loopback, which count who
//! connects. What no guest can try is in [`house`]: the runner's own cache, compile process, trust and link, and a process
//! that plays a guest which broke out. The tests of the sandbox run the same table on the same [`mod@bench`].
//!
//! *Invariant:* nothing outside of this machine is called, and nothing is left behind. This is the one place of the crate
//! that listens, and only while the suite runs.

pub mod bench;
pub mod cost;
pub mod crowd;
mod deed;
mod endpoint;
mod house;
mod http;
pub mod probe;
mod sandbox;
mod service;
mod table;
mod tcp;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::{
    bench::{Bench, SECRET, Suite},
    service::{Daemon, Service},
    table::{Case, Try},
};
use crate::{
    confine,
    sandbox::{Ended, Metering},
};

/// KiB by which a guest may make the runner's own memory grow: what is on its way between it and its worker, and what the
/// allocator keeps. A runner that believed what floods say would hold hundreds of megabytes.
const MAX_GROWTH: u64 = 48 << 10;
/// How long a cancelled guest may go on here.
const GRACE: Duration = Duration::from_millis(50);

/// What guests find around them.
struct World {
    /// Plain HTTP under any name.
    plain: Service,
    /// TLS as `a.example`, by the authority in `ca_file`.
    encrypted: Service,
    /// TLS by the same authority, as somebody else.
    other: Service,
    /// A daemon of this host.
    daemon: Daemon,
    ca_file: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (ca_file, other_ca) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
        Ok(Self {
            plain: Service::start(None).await?,
            encrypted: Service::start(Some(service::server_tls("a.example", &ca_file)?)).await?,
            other: Service::start(Some(service::server_tls("other.example", &other_ca)?)).await?,
            daemon: Daemon::start(folder.path())?,
            ca_file,
            _folder: folder,
        })
    }

    async fn connections(&self) -> Result<u32> {
        let mut all = 0;
        for service in [&self.plain, &self.encrypted, &self.other] {
            all += service.connections().await?;
        }
        Ok(all + self.daemon.connections().await?)
    }
}

/// What one run looked like from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// What the guest was told to do.
    pub act: String,
    /// Its outcome; `not-loaded` if it did not get as far as a sandbox.
    pub outcome: String,
    /// How message, output, denials and log begin.
    pub said: String,
    /// Connections that the services saw.
    pub connections: u32,
    /// KiB by which the runner's own memory grew at most, where nothing else goes on in its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grown_kib: Option<u64>,
    /// Why this is not as it should be; empty if it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fault: String,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The number of the threat.
    pub threat: u8,
    /// What is tried.
    pub name: String,
    /// Whether attack and twin ended as they should.
    pub passed: bool,
    /// The attack.
    pub attack: Seen,
    /// The twin, which is permitted.
    pub twin: Seen,
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// This program's version.
    pub version: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// What the kernel confines a runner by, or what it lacks.
    pub confinement: String,
    /// Rows that passed.
    pub passed: usize,
    /// Rows that did not.
    pub failed: usize,
    /// All of them.
    pub rows: Vec<Row>,
}

/// Runs the suite, or the rows of one threat; `hear` is told of each row at once.
///
/// # Errors
/// A guest is missing, the services cannot be started, or there is no such threat.
pub async fn run(suite: &Suite, threat: Option<u8>, mut hear: impl FnMut(&Row)) -> Result<Report> {
    let world = World::start().await.context("the services of the suite")?;
    let mut rows = Vec::new();
    for case in table::cases(&world)?.into_iter().filter(|case| threat.is_none_or(|one| one == case.threat)) {
        let row = row(suite, &world, case).await?;
        hear(&row);
        rows.push(row);
    }
    anyhow::ensure!(!rows.is_empty(), "no row of the suite is about this threat");
    let passed = rows.iter().filter(|row| row.passed).count();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        confinement: confine::look().unwrap_or_else(str::to_owned),
        passed,
        failed: rows.len() - passed,
        rows,
    })
}

async fn row(suite: &Suite, world: &World, case: Case) -> Result<Row> {
    let attack = look(suite, world, &case.attack).await?;
    let twin = look(suite, world, &case.twin).await?;
    let passed = attack.fault.is_empty() && twin.fault.is_empty();
    Ok(Row { threat: case.threat, name: case.name, passed, attack, twin })
}

async fn look(suite: &Suite, world: &World, wanted: &Try) -> Result<Seen> {
    if let Some(deed) = &wanted.deed {
        let before = world.connections().await?;
        let (outcome, text) = Box::pin(deed.perform(suite, world)).await?;
        let connections = world.connections().await? - before;
        let fault = fault(wanted, &outcome, connections, &text).unwrap_or_default();
        return Ok(Seen {
            act: wanted.act.clone(),
            outcome,
            said: beginning(&text, 200),
            connections,
            grown_kib: None,
            fault,
        });
    }
    // A guest that is not there is no refusal.
    suite.guest(&wanted.setup.guest)?;
    if suite.alone {
        // Compiling takes memory that is no guest's doing.
        suite.native(&wanted.setup.guest, Metering::Off)?;
    }
    let at_rest = peak_afresh().filter(|_| suite.alone);
    let before = world.connections().await?;
    let (outcome, text) = match Bench::load(suite, wanted.setup.clone()) {
        Err(error) => ("not-loaded".to_owned(), format!("{error:#}")),
        Ok(bench) => match bench.sandbox.warm(bench.prepared()).await {
            Err(error) => ("not-loaded".to_owned(), error.to_string()),
            Ok(()) => attempt(&bench, wanted).await?,
        },
    };
    let connections = world.connections().await? - before;
    let grown_kib = at_rest.zip(peak()).map(|(before, after)| after.saturating_sub(before));
    let mut fault = fault(wanted, &outcome, connections, &text).unwrap_or_default();
    if let Some(grown) = grown_kib.filter(|grown| *grown > MAX_GROWTH && fault.is_empty()) {
        fault = format!("the runner's memory grew by {grown} KiB");
    }
    let said = beginning(&text, 200);
    Ok(Seen { act: wanted.act.clone(), outcome, said, connections, grown_kib, fault })
}

/// How much memory this process has held at most, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The same, counted from now on.
fn peak_afresh() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    peak()
}

/// Runs as often as wanted; the last run speaks for all unless an earlier one ended otherwise.
async fn attempt(bench: &Bench, wanted: &Try) -> Result<(String, String)> {
    // Beside the run's own directory lies something that is worth reading.
    let outside = bench.scratch.path().join("outside.txt");
    std::fs::write(&outside, "outside")?;
    let mut last = (String::new(), String::new());
    for turn in 0..wanted.times {
        let ended = match wanted.cancelled {
            false => bench.run(&wanted.act).await,
            true => {
                let cancel = async {
                    tokio::task::yield_now().await;
                    bench.cancel.within(GRACE);
                };
                tokio::join!(bench.run(&wanted.act), cancel).0
            }
        };
        let next = (ended.outcome.to_string(), text(bench, &ended));
        if turn > 0 && (next.0 != last.0 || !next.1.contains(&wanted.says)) {
            return Ok(next);
        }
        last = next;
    }
    bench.sandbox.idle().await;
    std::fs::remove_file(&outside).context("what lay beside the run's directory is gone")?;
    let left = bench.left_behind();
    if !left.is_empty() {
        last.0 = format!("left behind: {left:?}");
    }
    Ok(last)
}

/// Everything that leaves a run: where a secret or an escape sequence would show.
fn text(bench: &Bench, ended: &Ended) -> String {
    let output = ended.output.as_ref().map(ToString::to_string).unwrap_or_default();
    let denials: Vec<_> = ended.denials.iter().map(ToString::to_string).collect();
    [&[ended.message.clone(), output][..], &denials, &bench.log.texts()].concat().join("\n")
}

/// The first characters of a text, without what a terminal would act upon: not even a failed row may do that.
fn beginning(text: &str, characters: usize) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(characters).collect()
}

/// Why what was seen is not what was wanted.
fn fault(wanted: &Try, outcome: &str, connections: u32, text: &str) -> Option<String> {
    let shown = beginning(text, 500);
    if outcome != wanted.outcome {
        return Some(format!("it ended as {outcome}, not as {}: {shown}", wanted.outcome));
    }
    if !text.contains(&wanted.says) {
        return Some(format!("nothing says {:?}: {shown}", wanted.says));
    }
    if wanted.connections.is_some_and(|wanted| wanted != connections) {
        return Some(format!("the services saw {connections} connections"));
    }
    let encoded = data_encoding::BASE64.encode(SECRET.as_bytes());
    if text.contains(SECRET) || text.contains(encoded.trim_end_matches('=')) {
        return Some("the secret was seen".to_owned());
    }
    let raw = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
    text.contains(raw).then(|| "control characters left the sandbox".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_wanted_is_a_fault() {
        let wanted = |connections| Try::new(bench::Setup::default(), "x", "failed", "denied").on(connections);
        fn check(wanted: &Try, outcome: &str, connections: u32, text: &str, expect: &str) {
            let found = fault(wanted, outcome, connections, text).unwrap_or_default();
            assert_eq!(found.is_empty(), expect.is_empty(), "{found}");
            assert!(found.contains(expect), "{found}");
        }
        check(&wanted(0), "failed", 0, "denied", "");
        check(&wanted(0), "succeeded", 0, "denied", "it ended as succeeded");
        check(&wanted(0), "failed", 0, "no", "nothing says");
        check(&wanted(0), "failed", 1, "denied", "1 connections");
        check(&wanted(0), "failed", 0, &format!("denied {SECRET}"), "secret");
        let encoded = data_encoding::BASE64.encode(SECRET.as_bytes());
        check(&wanted(0), "failed", 0, &format!("denied {encoded}"), "secret");
        check(&wanted(0), "failed", 0, "denied\u{1b}[2J", "control");
        check(&wanted(0), "failed", 0, "denied\u{202e}", "control");
    }
}
