//! `remit-runner doctor`: what is wrong on this host, and what to do about it.

use std::{path::Path, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    check::{check, directory},
    clock,
    config::Config,
    confine::{self, Confinement},
    dial::{DialError, proxy::ProxyError},
    orchestrator::{CallError, Caller, Client, NoRoad, Road},
    sandbox::compile,
    start::{self, Environment},
    state::{self, Identity, StateError},
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Good,
    /// It works, though not well.
    Warning,
    /// It does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, severity: Severity::Good, found: found.into(), remedy: String::new() }
    }

    fn warning(what: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self { what, severity: Severity::Warning, found: found.into(), remedy: remedy.to_owned() }
    }

    fn bad(what: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self { what, severity: Severity::Bad, found: found.into(), remedy: remedy.to_owned() }
    }
}

/// Looks at the owner's files; without a configuration there is nothing else to look at.
pub fn configuration(path: &Path, mut say: impl FnMut(Finding)) -> Option<Config> {
    let mistakes = check(path);
    match mistakes.first() {
        None => say(Finding::good("configuration", "no mistake in runner.toml and trust.toml")),
        Some(first) => {
            let found = format!("{} mistakes, the first: {first}", mistakes.len());
            say(Finding::bad("configuration", found, "run `remit-runner check` and correct them"));
        }
    }
    let text = std::fs::read_to_string(path).ok()?;
    Config::parse(&text, directory(path)).ok()
}

/// Looks at everything else, one after the other; `say` hears of each finding at once, since some take seconds.
pub async fn examine(config: &Config, mut say: impl FnMut(Finding)) {
    say(state_directory(config));
    say(disk(config));
    say(memory(config));
    say(address_space(config));
    say(compiler());
    say(kernel());
    say(confinement(config));
    for finding in network(config).await {
        say(finding);
    }
}

fn state_directory(config: &Config) -> Finding {
    const WHAT: &str = "state directory";
    let path = &config.runner.state;
    if let Err(error) = state::check_private(path, 0o700) {
        return match error {
            StateError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Finding::bad(
                WHAT,
                format!("{} is not there", path.display()),
                "run `remit-runner enrol` with a ticket",
            ),
            error => Finding::bad(WHAT, error.to_string(), "correct owner and mode"),
        };
    }
    match Identity::read(path) {
        Ok(identity) => Finding::good(WHAT, format!("enrolled as {}", identity.name)),
        Err(StateError::NotEnrolled(_)) => {
            Finding::bad(WHAT, "not enrolled", "run `remit-runner enrol` with a ticket")
        }
        Err(error) => Finding::bad(WHAT, error.to_string(), "restore the state directory, or enrol anew"),
    }
}

fn confinement(config: &Config) -> Finding {
    const WHAT: &str = "confinement";
    match (confine::look(), config.runner.confinement) {
        (Ok(found), _) => Finding::good(WHAT, found),
        (Err(lacking), Confinement::Required) => Finding::bad(
            WHAT,
            lacking,
            "use a kernel that has it, or write `confinement = \"where-possible\"` into [runner]",
        ),
        (Err(lacking), Confinement::WherePossible) => {
            Finding::warning(WHAT, lacking, "the owner does without: `confinement` in [runner]")
        }
    }
}

/// Room below this is soon used up by native code and reports that wait.
const LITTLE_ROOM: u64 = 256 << 20;
/// Room below this does not hold a journal.
const NO_ROOM: u64 = 1 << 20;

fn disk(config: &Config) -> Finding {
    const WHAT: &str = "disk";
    const REMEDY: &str = "make room: without it no step begins that must not be run twice";
    let path = &config.runner.state;
    let room = match rustix::fs::statvfs(path) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return Finding::bad(WHAT, format!("{}: {error}", path.display()), REMEDY),
    };
    let found = format!("{} MiB are free at {}", room >> 20, path.display());
    match room {
        _ if room < NO_ROOM => Finding::bad(WHAT, found, REMEDY),
        _ if room < LITTLE_ROOM => Finding::warning(WHAT, found, REMEDY),
        _ => Finding::good(WHAT, found),
    }
}

/// Looks at the secrets providers. Call it while the program has one thread.
pub fn providers(config: &Config, environment: &Environment) -> Finding {
    const WHAT: &str = "secrets providers";
    match start::providers(config, environment) {
        Ok(_) => Finding::good(WHAT, format!("{} can be opened", config.providers.len())),
        Err(error) => Finding::bad(WHAT, error.to_string(), "correct [[provider]] in runner.toml"),
    }
}

fn memory(config: &Config) -> Finding {
    const WHAT: &str = "memory";
    let info = rustix::system::sysinfo();
    let total = u64::from(info.mem_unit).saturating_mul(info.totalram as u64);
    let each = config.ceiling.limits.or_most().memory.bytes();
    let wanted = each.saturating_mul(config.runner.slots.into());
    let found = format!(
        "{} slots of at most {} MiB, and the host has {} MiB",
        config.runner.slots,
        each >> 20,
        total >> 20
    );
    if wanted > total {
        Finding::warning(
            WHAT,
            found,
            "if all steps took their limit at once, it would not suffice: lower `slots`, or `memory` in [ceiling]",
        )
    } else {
        Finding::good(WHAT, found)
    }
}

fn address_space(config: &Config) -> Finding {
    const WHAT: &str = "address space";
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    match limit {
        None => {
            Finding::good(WHAT, format!("unlimited, as {} pooled sandboxes want it", config.runner.slots))
        }
        Some(bytes) => Finding::warning(
            WHAT,
            format!("limited to {} MiB", bytes >> 20),
            "sandboxes reserve address space that they do not use: remove LimitAS or `ulimit -v`, or steps start slowly",
        ),
    }
}

fn compiler() -> Finding {
    const WHAT: &str = "compiler";
    // The smallest component: eight bytes of preamble.
    match compile(b"\0asm\x0d\0\x01\0") {
        Ok(_) => Finding::good(WHAT, "native code can be made on this processor"),
        Err(error) => Finding::bad(WHAT, error.to_string(), "use a processor and a build that fit together"),
    }
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 7) {
        Finding::good("kernel", format!("{release}: dirty pages of a sandbox can be found quickly"))
    } else {
        Finding::warning(
            "kernel",
            format!("{release}: steps end more slowly"),
            "Linux 6.7 or newer makes it faster",
        )
    }
}

async fn network(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let orchestrator = &config.orchestrator;
    let identity = Identity::read(&config.runner.state);
    let pin = identity.as_ref().ok().and_then(|identity| identity.ca);
    let dialer =
        match start::dialer(&orchestrator.url, orchestrator.proxy.as_ref(), orchestrator.ca_file.as_ref()) {
            Ok(dialer) => dialer,
            Err(error) => {
                return vec![Finding::bad(
                    "network",
                    error.to_string(),
                    "correct [orchestrator] in runner.toml",
                )];
            }
        };
    let road = match Road::new(orchestrator.url.clone(), dialer, pin, orchestrator.ca_file.as_ref()) {
        Ok(road) => road,
        Err(error) => {
            return vec![Finding::bad("network", error.to_string(), "correct ca_file in runner.toml")];
        }
    };
    let connection = connection(&road, config).await;
    let broken = connection.severity == Severity::Bad;
    findings.push(connection);
    if broken {
        return findings;
    }
    let caller = Caller::new(road);
    let before = clock::system();
    match caller.hello().await {
        Ok(hello) => {
            findings.push(Finding::good("orchestrator", format!("answers, protocol {}", hello.protocol)));
            findings.push(clock_skew(before, hello.now));
        }
        Err(error) => findings.push(Finding::bad("orchestrator", error.to_string(), call_remedy(&error))),
    }
    if let Ok(identity) = identity {
        findings.push(hold(caller, identity).await);
    }
    findings
}

async fn connection(road: &Road, config: &Config) -> Finding {
    const WHAT: &str = "connection";
    let way = match &config.orchestrator.proxy {
        Some(proxy) => format!("through the proxy {}", proxy.authority()),
        None => "directly".to_owned(),
    };
    match road.connect().await {
        Ok(stream) => {
            let (_, tls) = stream.get_ref();
            let chain = tls.peer_certificates().unwrap_or_default();
            let issuer =
                chain.last().map(|der| remit_protocol::Digest::of(der).to_string()).unwrap_or_default();
            Finding::good(WHAT, format!("{} {way}, TLS; the last certificate shown is {issuer}", road.url()))
        }
        Err(error) => {
            let remedy = match &error {
                NoRoad::Dial { source: DialError::Resolve { .. }, .. } => {
                    "the name does not resolve here: correct DNS, or set `proxy` if names are resolved there"
                }
                NoRoad::Dial { source: DialError::Connect { .. }, .. } | NoRoad::Slow { .. } => {
                    "open the firewall for outbound HTTPS to this address, or set `proxy`"
                }
                NoRoad::Dial { source: DialError::Proxy(ProxyError::Credentials { .. }), .. } => {
                    "write `proxy = \"http://user:password@host:port\"`, with what the proxy's owner gave you"
                }
                NoRoad::Dial { source: DialError::Proxy(_), .. } => {
                    "ask the proxy's owner to allow CONNECT to it"
                }
                NoRoad::Dial { source: DialError::Tls(_), .. } => {
                    "if TLS is inspected on the way, name the inspecting authority's certificate as `ca_file`"
                }
                _ => "correct [orchestrator] in runner.toml",
            };
            Finding::bad(WHAT, error.to_string(), remedy)
        }
    }
}

fn call_remedy(error: &CallError) -> &'static str {
    match error {
        CallError::Cut(_) => {
            "something between this host and the orchestrator answers in its place: exempt it there"
        }
        _ => "see the message",
    }
}

fn clock_skew(ours: remit_protocol::Timestamp, theirs: remit_protocol::Timestamp) -> Finding {
    const WHAT: &str = "clock";
    let skew = ours.since(theirs).max(theirs.since(ours));
    let found = format!("{} s apart from the orchestrator's", skew.as_secs());
    if skew < Duration::from_secs(30) {
        Finding::good(WHAT, found)
    } else {
        let remedy = "requests are corrected for it, but signatures expire by this host's clock: run NTP";
        Finding::warning(WHAT, found, remedy)
    }
}

/// Whether a request that is answered late survives: the way there may cut what is silent. Asked without a session, so
/// nothing of a running runner is disturbed; a refusal that comes back signed is a good answer.
async fn hold(caller: Caller, identity: state::Identity) -> Finding {
    const WHAT: &str = "signed request";
    let signer = remit_signing::http::RequestSigner::new(identity.key, identity.runner, identity.audience);
    let client = Arc::new(Client::new(caller, signer, identity.answer_key, clock::system, clock::random));
    let begun = Instant::now();
    let nothing = remit_protocol::Digest::of(b"doctor");
    match client.blob(remit_protocol::digest::Sized { digest: nothing, length: 0 }).await {
        Ok(_) | Err(CallError::Refused { .. }) => {
            Finding::good(WHAT, format!("believed and answered in {} ms", begun.elapsed().as_millis()))
        }
        Err(error) => Finding::bad(
            WHAT,
            error.to_string(),
            "exempt the orchestrator from whatever rewrites requests or answers",
        ),
    }
}
