//! `remit-runner doctor`: what is wrong on this host, and what to do about it.
//!
//! *Invariant:* looking changes nothing: a runner that runs meanwhile keeps its session and its work.

mod endpoint;
mod kernel;
mod network;

use std::path::Path;

use remit_protocol::Timestamp;
use remit_signing::policy::Exemption;
use serde::Serialize;

use crate::{
    check::{check, directory},
    clock,
    config::Config,
    confine::Reach,
    sandbox::{Metering, compile},
    start::{self, Environment},
    state::{self, Identity, StateError},
    trust::heads,
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
    let (warnings, mistakes): (Vec<_>, Vec<_>) = check(path).into_iter().partition(|mistake| mistake.warning);
    for mistake in warnings {
        let found = format!("{}: {}", mistake.fault.place, mistake.fault.message);
        say(Finding::warning("configuration", found, &mistake.fault.remedy));
    }
    match mistakes.first() {
        None => say(Finding::good("configuration", "no mistake in runner.toml and trust.toml")),
        Some(first) => {
            let found = format!("{} mistakes, the first: {first}", mistakes.len());
            say(Finding::bad("configuration", found, "run `remit-runner check` and correct them"));
        }
    }
    let text = std::fs::read_to_string(path).ok()?;
    let config = Config::parse(&text, directory(path)).ok()?;
    if let Ok(policy) = start::trust(&config.runner.trust) {
        policy.exemptions().iter().for_each(|exemption| say(debt(exemption, clock::system())));
    }
    Some(config)
}

/// What runs without a review that the owner asks for: as long as it holds, and after that.
fn debt(exemption: &Exemption, now: Timestamp) -> Finding {
    const WHAT: &str = "exemption";
    let found = format!(
        "{}@{} runs without a review by {} until {}: {}",
        exemption.component,
        exemption.version,
        exemption.criteria,
        exemption.until.to_seconds_text(),
        exemption.reason
    );
    if exemption.holds(now) {
        return Finding::warning(WHAT, found, "have it reviewed, and remove [[exemption]] from trust.toml");
    }
    Finding::warning(
        WHAT,
        format!("{found} (it has run out)"),
        "remove [[exemption]] from trust.toml, or renew it",
    )
}

/// Whether calls are made that take as long as a parked poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thorough {
    /// They are: half a minute.
    Yes,
    /// They are left out.
    No,
}

/// Looks at everything else, one after the other; `say` hears of each finding at once, since some take seconds.
pub async fn examine(config: &Config, thorough: Thorough, mut say: impl FnMut(Finding)) {
    say(state_directory(config));
    if let Some(finding) = forked_log(config) {
        say(finding);
    }
    say(broker(config));
    say(disk(config));
    say(memory(config));
    say(address_space(config));
    say(compiler());
    kernel::examine(config, &mut say);
    endpoint::examine(config, &mut say).await;
    network::examine(config, thorough, &mut say).await;
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

/// What the broker process will be left with. Whether the kernel can hold it to that is told under `confinement`.
fn broker(config: &Config) -> Finding {
    const WHAT: &str = "broker process";
    let reach = Reach::of_broker(config, None);
    let found = match reach.shows(&config.runner.state).next() {
        Some(path) => format!("it reads {}, and in it this runner's key", path.display()),
        None => {
            let found = format!(
                "it reads {} places of the host and of runner.toml, and of the state directory the scratch and the store alone",
                reach.read.len()
            );
            return Finding::good(WHAT, found);
        }
    };
    Finding::warning(WHAT, found, "move the state directory, or what is read")
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

/// Nothing to say unless a transparency log has shown two histories.
fn forked_log(config: &Config) -> Option<Finding> {
    let evidence = heads::evidence(&config.runner.state)?;
    let found = format!("two histories were shown; both checkpoints are in {}", evidence.display());
    Some(Finding::bad(
        "transparency log",
        found,
        "nothing that needs the log runs: give both files to whoever runs the log, find out which history is true, then move the directory away and restart; if the shown one is, remove log/heads.json too",
    ))
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
    match compile(b"\0asm\x0d\0\x01\0", Metering::Off) {
        Ok(_) => Finding::good(WHAT, "native code can be made on this processor"),
        Err(error) => Finding::bad(WHAT, error.to_string(), "use a processor and a build that fit together"),
    }
}
