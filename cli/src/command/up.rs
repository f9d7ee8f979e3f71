//! `remit up`: orchestrator and local runner on one machine, over loopback TLS: the same path as everywhere.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use clap::Args;
use remit_protocol::{
    Description, Namespace, ProjectName, RunnerName,
    operator::{
        ComponentSummary, NewProject, NewRunner, Page, Project, Projects, RunnerView, TicketIssued, path,
    },
};
use remit_signing::{Vkey, policy::Holder};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

use super::step;
use crate::{
    connection::{Connection, Profile, Target},
    failure::{Code, Failure, Result},
    files,
    output::{Output, note},
    package::Package,
    programs,
};

#[derive(Args)]
pub(crate) struct Up {
    /// Where everything is kept.
    #[arg(long, default_value = "remit-data", value_name = "DIR")]
    data: PathBuf,
    /// The loopback address to listen on.
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
    listen: std::net::SocketAddr,
    /// The built-in components; default: those beside this program.
    #[arg(long, value_name = "DIR")]
    components: Option<PathBuf>,
}

/// What `remit-orchestrator serve` prints when it is ready.
#[derive(Deserialize)]
struct Ready {
    url: String,
    ca: PathBuf,
    token_file: PathBuf,
}

/// The project and the runner that `up` makes.
const PROJECT: &str = "default";
const RUNNER: &str = "local";

impl Up {
    pub(crate) async fn run(self, output: Output) -> Result<()> {
        if !self.listen.ip().is_loopback() {
            return Err(Failure::input(format_args!("{} is not a loopback address", self.listen))
                .with_remedy("remit up serves this machine only; for others, run remit-orchestrator with a configuration"));
        }
        std::fs::create_dir_all(&self.data).map_err(|error| Failure::file(&self.data, &error))?;
        let data = self.data.canonicalize().map_err(|error| Failure::file(&self.data, &error))?;
        let components = self.components.clone().or_else(programs::components).ok_or_else(|| {
            Failure::new(
                Code::Unreachable,
                "the built-in components are not installed",
                "cargo xtask build, or --components DIR",
            )
        })?;
        let trust = data.join("trust.toml");
        if !trust.exists() {
            files::write(&trust, built_in_trust(&components)?.as_bytes(), false)?;
        }
        let first = !data.join("profile.toml").exists();
        let (mut orchestrator, ready) = self.orchestrator(&data, &trust).await?;
        let token = files::read_text(&ready.token_file)?.trim().to_owned();
        let target = Target {
            url: Some(ready.url.clone()),
            token: Some(token.clone()),
            ca: Some(ready.ca.clone()),
            project: Some(PROJECT.to_owned()),
        };
        let connection = Connection::open(&target)?;
        prepare(&connection, &components).await?;
        let mut runner = runner(&connection, &data, &ready, &trust).await?;
        let profile = Profile {
            url: Some(ready.url.clone()),
            token: Some(token.clone()),
            ca: Some(ready.ca),
            project: target.project,
        };
        let profile_path = data.join("profile.toml");
        let text = toml::to_string(&profile).map_err(Failure::input)?;
        files::write(&profile_path, text.as_bytes(), true)?;
        let shown = serde_json::json!({
            "url": ready.url, "profile": profile_path, "token": first.then_some(&token), "project": PROJECT,
        });
        output.print(&shown, |_| {
            let once = if first { format!("admin token (shown once): {token}\n") } else { String::new() };
            format!(
                "Remit is up at {}\n{once}in another terminal:\n  export REMIT_PROFILE={}\n  remit runner list\nCtrl-C ends it.",
                ready.url,
                profile_path.display()
            )
        });
        supervise(&mut orchestrator, &mut runner).await
    }

    async fn orchestrator(&self, data: &Path, trust: &Path) -> Result<(Child, Ready)> {
        let mut command = Command::from(programs::sister("remit-orchestrator")?);
        command
            .arg("serve")
            .arg("--data")
            .arg(data.join("orchestrator"))
            .arg("--listen")
            .arg(self.listen.to_string());
        command
            .arg("--trust")
            .arg(trust)
            .arg("--end-with-parent")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command.process_group(0);
        let mut child =
            command.spawn().map_err(|error| Failure::new(Code::Unreachable, error.to_string(), ""))?;
        let stopped = || {
            Failure::new(Code::Unreachable, "remit-orchestrator did not start", "its message stands above")
        };
        let out = child.stdout.take().ok_or_else(stopped)?;
        let mut lines = BufReader::new(out).lines();
        let line = lines.next_line().await.ok().flatten().ok_or_else(stopped)?;
        let ready = serde_json::from_str(&line).map_err(|_| stopped())?;
        Ok((child, ready))
    }
}

/// A trust policy that believes the builder of the built-in components, for the namespace `remit` only.
fn built_in_trust(components: &Path) -> Result<String> {
    let text = files::read_text(&components.join("builder.vkey"))?;
    let vkey: Vkey = text.trim().parse().map_err(Failure::input)?;
    let namespace = Namespace::new("remit").map_err(Failure::input)?;
    let holder: Holder = "builder".parse().map_err(Failure::input)?;
    Ok(format!(
        "# Whose components run here. The built-in ones were signed when they were built on this machine.\nversion = 1\n\n{}",
        remit_signing::policy::publisher_lines(&namespace, &vkey, &holder)
    ))
}

/// Project, and the built-in components in the registry.
async fn prepare(connection: &Connection, components: &Path) -> Result<()> {
    let projects: Page<Project> = connection.all(path::PROJECTS).await?;
    if !projects.items.iter().any(|project| project.name.as_str() == PROJECT) {
        let name = ProjectName::new(PROJECT).map_err(Failure::input)?;
        let _: Project = connection
            .post(path::PROJECTS, &NewProject { name, description: Description::default() })
            .await?;
    }
    let published: Page<ComponentSummary> = connection.all(path::COMPONENTS).await?;
    let mut folders: Vec<_> = std::fs::read_dir(components)
        .map_err(|error| Failure::file(components, &error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|folder| folder.join("component.note").is_file())
        .collect();
    folders.sort();
    for folder in folders {
        let package = Package::at(folder);
        let manifest = package.manifest()?;
        let there =
            |summary: &ComponentSummary| summary.name == manifest.name && summary.version == manifest.version;
        if !published.items.iter().any(there) {
            step::publish_package(connection, &package).await?;
            note(&format!("published {}@{}", manifest.name, manifest.version));
        }
    }
    Ok(())
}

/// Enrols the local runner at the first start, and starts it.
async fn runner(connection: &Connection, data: &Path, ready: &Ready, trust: &Path) -> Result<Child> {
    let folder = data.join("runner");
    let config = folder.join("runner.toml");
    if !config.exists() {
        // An empty ceiling: the owner adds what may happen on this host.
        let text = format!(
            "# What is not here cannot happen on this host.\n[orchestrator]\nurl = {:?}\n\n[runner]\nstate = \"state\"\nslots = 16\ntrust = {:?}\n\n[ceiling]\n",
            ready.url,
            trust.display().to_string()
        );
        files::write(&config, text.as_bytes(), false)?;
    }
    let name = RunnerName::new(RUNNER).map_err(Failure::input)?;
    let runners: Page<RunnerView> = connection.all(path::RUNNERS).await?;
    let known = runners.items.iter().any(|runner| runner.name == name && runner.last_seen.is_some());
    if !known || !folder.join("state").exists() {
        let issued: TicketIssued = if runners.items.iter().any(|runner| runner.name == name) {
            connection.post(&path::fill(path::RUNNER_TICKET, &[&name]), &()).await?
        } else {
            let new = NewRunner {
                name,
                tags: std::collections::BTreeSet::new(),
                projects: Projects::All,
                description: Description::default(),
                local: true,
            };
            connection.post(path::RUNNERS, &new).await?
        };
        enrol(&config, &issued).await?;
    }
    let mut command = Command::from(programs::sister("remit-runner")?);
    command.arg("run").arg("--end-with-parent").arg("--config").arg(&config);
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command.spawn().map_err(|error| Failure::new(Code::Unreachable, error.to_string(), ""))
}

async fn enrol(config: &Path, issued: &TicketIssued) -> Result<()> {
    let failed =
        |error: std::io::Error| Failure::new(Code::Unreachable, format!("remit-runner enrol: {error}"), "");
    let mut command = Command::from(programs::sister("remit-runner")?);
    command.arg("enrol").arg("--config").arg(config).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(format!("{}\n", issued.ticket.reveal()).as_bytes()).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(Code::Unreachable, "the local runner could not enrol", ""))
    }
}

/// Waits for Ctrl-C or for one of the two to end; then ends both, the runner first.
async fn supervise(orchestrator: &mut Child, runner: &mut Child) -> Result<()> {
    let mut term =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(Failure::input)?;
    let ended = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        _ = term.recv() => None,
        _ = orchestrator.wait() => Some("remit-orchestrator"),
        _ = runner.wait() => Some("remit-runner"),
    };
    note("stopping …");
    stop(runner).await;
    stop(orchestrator).await;
    ended.map_or(Ok(()), |name| {
        Err(Failure::new(Code::Unreachable, format!("{name} ended by itself"), "its message stands above"))
    })
}

/// Asks a child to end, and ends it if it does not within half a minute.
async fn stop(child: &mut Child) {
    if let Some(pid) =
        child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
    {
        // It may have ended in the meantime; waiting tells.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(Duration::from_secs(30), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
