//! What the launcher starts and connects to: what the owner's file lists, told to it once, before anything else is heard.
//!
//! Pure. Whoever takes over the supervisor or the broker can ask the launcher for anything; it asks back here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use remit_protocol::capability::{
    Ceiling,
    exec::{ArgPattern, ExecCeiling, Variables, matches_all, variable},
};
use serde::{Deserialize, Serialize};

use crate::{
    confine::Confinement,
    secrets::{PROGRAM_VARIABLES, ProviderConfig},
    worker,
};

/// The first argument of this program as a broker.
pub const BROKER: &str = "broker";
/// The beginning of the name of a directory that a program has of its own.
pub(super) const DIRECTORY: &str = "exec-";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Client {
    /// The supervisor: it starts this program as compile process, as worker and as the broker.
    Supervisor,
    /// The broker: it starts workers, the programs of the ceiling and those of providers.
    Broker,
}

/// What may be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Catalogue {
    program: PathBuf,
    scratch: PathBuf,
    /// Where the supervisor's own workers have their directories.
    workers: PathBuf,
    confinement: Confinement,
    ceiling: Vec<Listed>,
    /// Sockets of this host's daemons.
    sockets: BTreeSet<PathBuf>,
    providers: Vec<Provider>,
}

/// A program of the ceiling.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    path: PathBuf,
    args: Vec<ArgPattern>,
    cwd: Option<PathBuf>,
    env: BTreeMap<String, String>,
    variables: Vec<Variables>,
}

/// A program that gives secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Provider {
    path: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

/// An order as it is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) path: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) environment: &'a BTreeMap<String, String>,
    /// The variable that carries a secret.
    pub(super) secret: Option<&'a str>,
    pub(super) directory: &'a Path,
}

impl Catalogue {
    /// This program's own processes, which is `program`, with directories below `scratch`; workers begin only where they
    /// can be confined, if `confinement` says so.
    pub fn new(program: &Path, scratch: &Path, confinement: Confinement) -> Self {
        Self {
            program: program.to_owned(),
            scratch: scratch.to_owned(),
            workers: scratch.to_owned(),
            confinement,
            ceiling: Vec::new(),
            sockets: BTreeSet::new(),
            providers: Vec::new(),
        }
    }

    /// The same, with the directories of the supervisor's own workers below `workers`.
    #[must_use]
    pub fn with_workers(mut self, workers: &Path) -> Self {
        self.workers = workers.to_owned();
        self
    }

    /// The same, and what steps may start and call on this host.
    #[must_use]
    pub fn with_ceiling(mut self, ceiling: &Ceiling) -> Self {
        self.ceiling.extend(ceiling.exec.iter().map(Listed::from));
        let endpoints = ceiling.http.iter().filter_map(|rule| rule.endpoint.as_ref());
        self.sockets.extend(endpoints.map(|endpoint| endpoint.unix.clone()));
        self
    }

    /// The same, and what secrets providers may start.
    #[must_use]
    pub fn with_providers(mut self, providers: &[ProviderConfig]) -> Self {
        let programs = providers.iter().filter_map(|provider| match provider {
            ProviderConfig::Program { path, args, env, .. } => {
                Some(Provider { path: path.clone(), args: args.clone(), env: env.clone() })
            }
            _ => None,
        });
        self.providers.extend(programs);
        self
    }

    /// Whether `client` may have this started. The answer names nothing that the client has not said itself.
    pub(super) fn permits(&self, client: Client, wanted: Wanted<'_>) -> bool {
        if wanted.path == self.program && self.is_own(client, wanted) {
            return true;
        }
        client == Client::Broker
            && (self.ceiling.iter().any(|listed| listed.permits(wanted, &self.scratch))
                || self.providers.iter().any(|provider| provider.permits(wanted, &self.scratch)))
    }

    /// Whether `client` may have a connection to this socket. It is compared letter by letter: a path's components would hide
    /// `.` and doubled slashes.
    pub(super) fn connects(&self, client: Client, socket: &Path) -> bool {
        client == Client::Broker && self.sockets.iter().any(|own| own.as_os_str() == socket.as_os_str())
    }

    /// True for a broker: it is given what the owner's file says by the launcher, and by nobody else.
    pub(super) fn is_broker(&self, wanted: Wanted<'_>) -> bool {
        wanted.path == self.program && wanted.arguments.first().is_some_and(|first| first == BROKER)
    }

    /// True for a process of this program that `client` may have.
    fn is_own(&self, client: Client, wanted: Wanted<'_>) -> bool {
        let bare =
            wanted.environment.is_empty() && wanted.secret.is_none() && wanted.directory == Path::new("/");
        let Some((first, rest)) = wanted.arguments.split_first() else { return false };
        bare && match (first.as_str(), client) {
            ("worker", Client::Supervisor) => self.is_worker(wanted.arguments, &self.workers),
            ("worker", Client::Broker) => self.is_worker(wanted.arguments, &self.scratch),
            ("compile", Client::Supervisor) => rest.iter().all(|argument| is_for_compiling(argument)),
            (BROKER, Client::Supervisor) => rest.iter().all(|argument| argument.starts_with("--log")),
            _ => false,
        }
    }

    /// A worker as it is started by [`worker::arguments`]: with a directory that is its own, or with none.
    fn is_worker(&self, arguments: &[String], scratch: &Path) -> bool {
        let directory = arguments.iter().find_map(|argument| argument.strip_prefix("--scratch="));
        let directory = directory.map(Path::new);
        directory.is_none_or(|directory| is_below(directory, scratch, worker::SCRATCH))
            && arguments == worker::arguments(self.confinement, directory)
    }
}

impl From<&ExecCeiling> for Listed {
    fn from(rule: &ExecCeiling) -> Self {
        Self {
            path: rule.path.clone(),
            args: rule.args.clone(),
            cwd: rule.cwd.clone(),
            env: rule.env.clone(),
            variables: rule.variables.clone(),
        }
    }
}

impl Listed {
    fn permits(&self, wanted: Wanted<'_>, scratch: &Path) -> bool {
        let place = match &self.cwd {
            Some(cwd) => wanted.directory == cwd,
            None => is_below(wanted.directory, scratch, DIRECTORY),
        };
        let owners = self.env.iter().all(|(name, value)| wanted.environment.get(name) == Some(value));
        let others = wanted.environment.keys().filter(|name| !self.env.contains_key(*name));
        let taken = |name: &String| self.variables.iter().any(|variables| variables.matches(name));
        self.path == wanted.path
            && matches_all(&self.args, wanted.arguments)
            && place
            && owners
            && others.into_iter().all(taken)
            && wanted.secret.is_none_or(variable)
    }
}

impl Provider {
    fn permits(&self, wanted: Wanted<'_>, scratch: &Path) -> bool {
        let owners = self.env.iter().all(|(name, value)| {
            PROGRAM_VARIABLES.contains(&name.as_str()) || wanted.environment.get(name) == Some(value)
        });
        let others = wanted.environment.keys().filter(|name| !self.env.contains_key(*name));
        self.path == wanted.path
            && self.args == wanted.arguments
            && wanted.secret.is_none()
            && is_below(wanted.directory, scratch, DIRECTORY)
            && owners
            && others.into_iter().all(|name| PROGRAM_VARIABLES.contains(&name.as_str()))
    }
}

/// True for what a compile process may be told: what it counts, and to take less than it may.
fn is_for_compiling(argument: &str) -> bool {
    argument == "--fuel" || argument.starts_with("--memory=") || argument.starts_with("--cpu-seconds=")
}

/// True for a directory right below `scratch` whose name begins so.
fn is_below(directory: &Path, scratch: &Path, prefix: &str) -> bool {
    let name = directory.strip_prefix(scratch).ok().and_then(Path::to_str);
    // The text itself is looked at: a path's components would hide `.` and doubled slashes.
    name.is_some_and(|name| name.starts_with(prefix) && !name.contains('/'))
        && !directory.as_os_str().as_encoded_bytes().ends_with(b"/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalogue() -> Catalogue {
        let rule = |value| serde_json::from_value(value).unwrap();
        let ceiling = Ceiling {
            exec: vec![
                rule(json!({"program": "kubectl", "path": "/usr/bin/kubectl", "args": ["get", "{text}"],
                    "env": {"LANG": "C"}, "variables": ["REMIT_*"]})),
                rule(json!({"program": "make", "path": "/usr/bin/make", "cwd": "/srv/site"})),
            ],
            http: vec![
                serde_json::from_value(json!({"endpoint": "docker", "unix": "/run/docker.sock",
                    "methods": ["GET"], "paths": ["/"], "components": ["remit/docker-nodes"]}))
                .unwrap(),
            ],
            ..Ceiling::default()
        };
        let provider = json!({"kind": "program", "mount": "keys/p", "path": "/usr/bin/give",
            "args": ["--prod"], "env": {"REGION": "eu"}});
        Catalogue::new(Path::new("/usr/bin/remit-runner"), Path::new("/state/scratch"), Confinement::Required)
            .with_workers(Path::new("/state/workers"))
            .with_ceiling(&ceiling)
            .with_providers(&[serde_json::from_value(provider).unwrap()])
    }

    struct Order(
        &'static str,
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
        &'static str,
    );

    fn check(client: Client, order: &Order, secret: Option<&str>, expect: bool) {
        let Order(path, arguments, environment, directory) = order;
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let wanted = Wanted {
            path: Path::new(path),
            arguments: &arguments,
            environment: &environment,
            secret,
            directory: Path::new(directory),
        };
        assert_eq!(catalogue().permits(client, wanted), expect, "{client:?} {wanted:?}");
    }

    const OWN: &str = "/usr/bin/remit-runner";
    const PLACE: &str = "/state/scratch/exec-1";

    #[test]
    fn each_client_has_the_processes_that_are_its_own() {
        fn own(arguments: &'static [&'static str], supervisor: bool, broker: bool) {
            let order = Order(OWN, arguments, &[], "/");
            check(Client::Supervisor, &order, None, supervisor);
            check(Client::Broker, &order, None, broker);
        }
        own(&["worker", "--confinement=required"], true, true);
        own(&["worker", "--confinement=required", "--scratch=/state/scratch/worker-a"], false, true);
        own(&["worker", "--confinement=required", "--scratch=/state/workers/worker-a"], true, false);
        own(&["compile"], true, false);
        own(&["compile", "--memory=1GiB", "--cpu-seconds=300", "--fuel"], true, false);
        own(&["broker"], true, false);
        own(&["broker", "--log=debug", "--log-form=json"], true, false);
        for arguments in [
            &["worker"] as &[_],
            &["worker", "--confinement=where-possible"],
            &["worker", "--confinement=required", "--scratch=/state"],
            &["worker", "--confinement=required", "--scratch=/state/scratch/journal"],
            &["worker", "--confinement=required", "--scratch=/state/scratch/worker-a/../../journal"],
            &["worker", "--confinement=required", "--scratch=/state/scratch/worker-a", "--scratch=/state"],
            &["worker", "--scratch=/state/scratch/worker-a", "--confinement=required"],
            &["broker", "--config=/tmp/runner.toml"],
            &["compile", "--help"],
            &["compile", "--memory"],
            &["run", "--config=/tmp/runner.toml"],
            &["secret", "list"],
            &["launch"],
            &[],
        ] {
            own(arguments, false, false);
        }
        check(Client::Supervisor, &Order(OWN, &["compile"], &[("LD_PRELOAD", "/tmp/x")], "/"), None, false);
        check(Client::Supervisor, &Order(OWN, &["compile"], &[], "/state/scratch/exec-1"), None, false);
    }

    #[test]
    fn the_broker_has_what_the_owner_lists_and_nobody_else_has() {
        let lang = &[("LANG", "C")];
        let good = Order("/usr/bin/kubectl", &["get", "pods"], lang, PLACE);
        check(Client::Broker, &good, None, true);
        check(Client::Broker, &good, Some("TOKEN"), true);
        check(Client::Supervisor, &good, None, false);
        check(Client::Broker, &good, Some("LD_PRELOAD"), false);
        check(Client::Broker, &Order("/usr/bin/make", &[], &[], "/srv/site"), None, true);
        let more = &[("LANG", "C"), ("REMIT_A", "x")];
        check(Client::Broker, &Order("/usr/bin/kubectl", &["get", "pods"], more, PLACE), None, true);
        for bad in [
            Order("/bin/sh", &["-c", "id"], &[], PLACE),
            Order("/usr/bin/kubectl", &["delete", "pods"], lang, PLACE),
            Order("/usr/bin/kubectl", &["get", "-o"], lang, PLACE),
            Order("/usr/bin/kubectl", &["get", "pods"], &[], PLACE),
            Order("/usr/bin/kubectl", &["get", "pods"], &[("LANG", "de")], PLACE),
            Order("/usr/bin/kubectl", &["get", "pods"], &[("LANG", "C"), ("LD_PRELOAD", "/x")], PLACE),
            Order("/usr/bin/kubectl", &["get", "pods"], lang, "/srv/site"),
            Order("/usr/bin/kubectl", &["get", "pods"], lang, "/state/scratch/exec-1/../../journal"),
            Order("/usr/bin/kubectl", &["get", "pods"], lang, "/state/scratch/worker-1"),
            Order("/usr/bin/make", &[], &[], PLACE),
        ] {
            check(Client::Broker, &bad, None, false);
        }
    }

    #[test]
    fn the_broker_is_connected_to_what_the_owner_names() {
        let check = |client, socket: &str, expect: bool| {
            assert_eq!(catalogue().connects(client, Path::new(socket)), expect, "{client:?} {socket}");
        };
        check(Client::Broker, "/run/docker.sock", true);
        check(Client::Supervisor, "/run/docker.sock", false);
        for other in [
            "/run/podman.sock",
            "/run/./docker.sock",
            "/run//docker.sock",
            "/run/docker.sock/",
            "docker.sock",
            "",
        ] {
            check(Client::Broker, other, false);
        }
    }

    #[test]
    fn a_provider_is_started_as_it_is_listed() {
        let asked = &[("REGION", "eu"), ("REMIT_SECRET_PATH", "keys/p/a"), ("REMIT_SECRET_NAME", "a")];
        check(Client::Broker, &Order("/usr/bin/give", &["--prod"], asked, PLACE), None, true);
        check(Client::Supervisor, &Order("/usr/bin/give", &["--prod"], asked, PLACE), None, false);
        check(Client::Broker, &Order("/usr/bin/give", &["--prod"], asked, PLACE), Some("TOKEN"), false);
        check(Client::Broker, &Order("/usr/bin/give", &["--test"], asked, PLACE), None, false);
        check(Client::Broker, &Order("/usr/bin/give", &["--prod"], &[("REGION", "us")], PLACE), None, false);
        let more = &[("REGION", "eu"), ("LD_PRELOAD", "/x")];
        check(Client::Broker, &Order("/usr/bin/give", &["--prod"], more, PLACE), None, false);
    }
}
