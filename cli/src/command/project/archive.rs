//! A project as a folder of readable files, out of one orchestrator and into another.
//!
//! ```text
//! project.json                 the form of the archive, and the name
//! settings.json
//! jobs/<job>.yaml              as its author wrote it; with <job>.job.json and <job>.job.note where it was signed
//! sources/<source>.json        node sources that a component feeds
//! nodes.json                   the nodes that people loaded
//! hooks.json  channels.json    without their secrets: the import makes new ones and prints them
//! ```
//!
//! What is exported, imported and exported again is the same, but for what the importing side cannot have.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use remit_job::document::Document;
use remit_protocol::{
    HookName, JobName, ProjectName, digest,
    operator::{
        Applied, Apply, ApplyMode, ChannelCreated, ChannelView, HookCreated, HookView, JobSummary, JobView,
        NewChannel, NewHook, NewProject, NewSource, Page, Project, ProjectSettings, SourceView, path,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    command::job::signed_beside,
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::{Output, note},
};

/// The form of the archive that this version writes and reads.
const VERSION: u32 = 1;
/// Largest file of an archive.
const MAX_FILE: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    v: u32,
    project: ProjectName,
}

/// What an export wrote, or an import brought about.
#[derive(Debug, Default, Serialize)]
struct Done {
    jobs: usize,
    sources: usize,
    nodes: bool,
    hooks: usize,
    channels: usize,
    /// The secrets of what was made anew, by `hook NAME` or `channel NAME`: shown once.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, String>,
    /// What could not be brought about, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<String>,
}

fn text(done: &Done) -> String {
    let mut lines = vec![format!(
        "{} jobs, {} node sources, {} webhooks, {} channels{}",
        done.jobs,
        done.sources,
        done.hooks,
        done.channels,
        if done.nodes { ", nodes" } else { "" }
    )];
    lines.extend(done.secrets.iter().map(|(name, secret)| format!("secret of {name}: {secret}")));
    if !done.secrets.is_empty() {
        lines.push("These secrets are not shown again.".to_owned());
    }
    lines.join("\n")
}

fn write<T: Serialize + ?Sized>(file: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(Failure::input)?;
    bytes.push(b'\n');
    files::write(file, &bytes, false)
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let bytes = files::read(file, MAX_FILE)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::input(format_args!("{}: {error}", file.display())))
}

fn read_if_there<T: DeserializeOwned + Default>(file: &Path) -> Result<T> {
    if file.exists() { read(file) } else { Ok(T::default()) }
}

pub(super) async fn export(connection: &Connection, into: &Path, output: Output) -> Result<()> {
    let project = connection.project()?;
    if into.exists() {
        let remedy = "name a folder that is not there yet";
        return Err(Failure::input(format_args!("{} is there already", into.display())).with_remedy(remedy));
    }
    // Nothing is left behind under the name if the export breaks off.
    let mut beside = into.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let made = |folder: &Path| fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error));
    made(&beside.join("jobs"))?;
    made(&beside.join("sources"))?;
    let done = gather(connection, &project, &beside).await?;
    fs::rename(&beside, into).map_err(|error| Failure::file(into, &error))?;
    output.print(&done, |done| format!("project {project} is in {}: {}", into.display(), text(done)));
    Ok(())
}

async fn gather(connection: &Connection, project: &ProjectName, folder: &Path) -> Result<Done> {
    let at = |template: &str| path::fill(template, &[project]);
    let mut done = Done::default();
    write(&folder.join("project.json"), &Head { v: VERSION, project: project.clone() })?;
    let settings: ProjectSettings = connection.get(&at(path::PROJECT_SETTINGS)).await?;
    write(&folder.join("settings.json"), &settings)?;
    let jobs: Page<JobSummary> = connection.all(&at(path::JOBS)).await?;
    for job in jobs.items {
        let view: JobView = connection.get(&path::fill(path::JOB, &[project, &job.job])).await?;
        let file = |end: &str| folder.join("jobs").join(format!("{}{end}", job.job));
        files::write(&file(".yaml"), view.source.as_bytes(), false)?;
        if let Some(signed) = view.note {
            files::write(&file(".job.json"), &exact(&view.document, view.digest)?, false)?;
            files::write(&file(".job.note"), signed.as_bytes(), false)?;
        }
        done.jobs += 1;
    }
    let sources: Page<SourceView> = connection.all(&at(path::SOURCES)).await?;
    for source in sources.items {
        match source.config {
            Some(config) => {
                write(&folder.join("sources").join(format!("{}.json", source.name)), &config)?;
                done.sources += 1;
            }
            None if source.nodes > 0 => {
                let address = path::fill(path::SOURCE_NODES, &[project, &source.name]);
                let set: Value = connection.get(&address).await?;
                write(&folder.join("nodes.json"), &set)?;
                done.nodes = true;
            }
            None => {}
        }
    }
    let hooks: Page<HookView> = connection.all(&at(path::HOOKS)).await?;
    let hooks: Vec<NewHook> = hooks
        .items
        .into_iter()
        .map(|hook| NewHook { name: hook.name, job: hook.job, options: hook.options })
        .collect();
    done.hooks = hooks.len();
    write(&folder.join("hooks.json"), &hooks)?;
    let channels: Page<ChannelView> = connection.all(&at(path::CHANNELS)).await?;
    let channels: Vec<NewChannel> =
        channels.items.into_iter().map(|one| NewChannel { name: one.name, kind: one.kind }).collect();
    done.channels = channels.len();
    write(&folder.join("channels.json"), &channels)?;
    Ok(done)
}

/// The very bytes of a document, which the answer of the API holds in another order.
fn exact(document: &Value, expected: digest::Sized) -> Result<Vec<u8>> {
    let parsed: Document = serde_json::from_value(document.clone()).map_err(Failure::input)?;
    let bytes = parsed.to_vec();
    if expected.is(&bytes) {
        return Ok(bytes);
    }
    let remedy = "use a remit of the same version as the orchestrator";
    Err(Failure::input(format_args!("the document of job {} reads differently here", parsed.job))
        .with_remedy(remedy))
}

pub(super) async fn import(
    connection: &Connection,
    from: &Path,
    accept_wider: bool,
    output: Output,
) -> Result<()> {
    let head: Head = read(&from.join("project.json"))?;
    if head.v != VERSION {
        let message =
            format_args!("{}: the archive has form {}, this version reads {VERSION}", from.display(), head.v);
        return Err(Failure::input(message).with_remedy("use a newer remit"));
    }
    // Another name makes a copy.
    let project = connection.project().unwrap_or(head.project);
    let known: Page<Project> = connection.all(path::PROJECTS).await?;
    if known.items.iter().all(|known| known.name != project) {
        let new = NewProject { name: project.clone(), description: Default::default() };
        let _: Project = connection.post(path::PROJECTS, &new).await?;
    }
    let mut importing = Importing { connection, project, done: Done::default() };
    importing.settings(from).await?;
    importing.nodes(from).await?;
    importing.jobs(from, accept_wider).await?;
    importing.outside(from).await?;
    let Importing { project, done, .. } = importing;
    output.print(&done, |done| format!("project {project}: {}", text(done)));
    if done.failed.is_empty() {
        return Ok(());
    }
    for failed in &done.failed {
        note(failed);
    }
    let message = format!("{} things were not imported", done.failed.len());
    Err(Failure::new(Code::Input, message, "correct them and import again: what is there already stays"))
}

struct Importing<'c> {
    connection: &'c Connection,
    project: ProjectName,
    done: Done,
}

impl Importing<'_> {
    fn at(&self, template: &str) -> String {
        path::fill(template, &[&self.project])
    }

    fn failed(&mut self, what: String, failure: &Failure) {
        self.done.failed.push(format!("{what}: {failure}"));
    }

    async fn settings(&mut self, from: &Path) -> Result<()> {
        let settings: ProjectSettings = read(&from.join("settings.json"))?;
        let _: ProjectSettings = self.connection.put(&self.at(path::PROJECT_SETTINGS), &settings).await?;
        Ok(())
    }

    async fn nodes(&mut self, from: &Path) -> Result<()> {
        for file in files_of(&from.join("sources"), ".json")? {
            let source: NewSource = read(&file)?;
            let name = source.name.clone();
            match self.connection.post::<SourceView>(&self.at(path::SOURCES), &source).await {
                Ok(_) => self.done.sources += 1,
                Err(failure) => self.failed(format!("node source {name}"), &failure),
            }
        }
        let file = from.join("nodes.json");
        if file.exists() {
            let set: Value = read(&file)?;
            match self.connection.put::<SourceView>(&self.at(path::NODES), &set).await {
                Ok(_) => self.done.nodes = true,
                Err(failure) => self.failed("nodes".to_owned(), &failure),
            }
        }
        Ok(())
    }

    /// Jobs may name one another: those that are refused are tried again as long as others went in.
    async fn jobs(&mut self, from: &Path, accept_wider: bool) -> Result<()> {
        let mut rest = Vec::new();
        for file in files_of(&from.join("jobs"), ".yaml")? {
            let signed = signed_beside(&file)?;
            let source = files::read_text(&file)?;
            rest.push((file, Apply { source, mode: ApplyMode::Save, accept_wider, signed }));
        }
        loop {
            let (mut refused, mut failures) = (Vec::new(), Vec::new());
            let before = rest.len();
            for (file, apply) in rest {
                match self.connection.post::<Applied>(&self.at(path::JOBS), &apply).await {
                    Ok(_) => self.done.jobs += 1,
                    Err(failure) => {
                        failures.push((file.display().to_string(), failure));
                        refused.push((file, apply));
                    }
                }
            }
            if refused.is_empty() || refused.len() == before {
                for (file, failure) in failures {
                    self.failed(file, &failure);
                }
                return Ok(());
            }
            rest = refused;
        }
    }

    /// Webhooks and channels that are not there yet are made, with secrets of their own.
    async fn outside(&mut self, from: &Path) -> Result<()> {
        let known: Page<HookView> = self.connection.all(&self.at(path::HOOKS)).await?;
        let known: Vec<(HookName, JobName)> =
            known.items.into_iter().map(|hook| (hook.name, hook.job)).collect();
        for hook in read_if_there::<Vec<NewHook>>(&from.join("hooks.json"))? {
            if known.iter().any(|(name, _)| *name == hook.name) {
                continue;
            }
            match self.connection.post::<HookCreated>(&self.at(path::HOOKS), &hook).await {
                Ok(made) => {
                    self.done.hooks += 1;
                    self.done.secrets.insert(format!("hook {}", hook.name), made.secret.reveal().to_owned());
                }
                Err(failure) => self.failed(format!("webhook {}", hook.name), &failure),
            }
        }
        let known: Page<ChannelView> = self.connection.all(&self.at(path::CHANNELS)).await?;
        for channel in read_if_there::<Vec<NewChannel>>(&from.join("channels.json"))? {
            if known.items.iter().any(|one| one.name == channel.name) {
                continue;
            }
            match self.connection.post::<ChannelCreated>(&self.at(path::CHANNELS), &channel).await {
                Ok(made) => {
                    self.done.channels += 1;
                    if let Some(secret) = made.secret {
                        self.done
                            .secrets
                            .insert(format!("channel {}", channel.name), secret.reveal().to_owned());
                    }
                }
                Err(failure) => self.failed(format!("channel {}", channel.name), &failure),
            }
        }
        Ok(())
    }
}

/// The files of a folder with this end, in order of their names; none if it is not there.
fn files_of(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    found.sort();
    Ok(found)
}
