//! `remit nodes`: the nodes of a project, and the sources that they come from.

use std::path::PathBuf;

use clap::Subcommand;
use remit_protocol::{
    SourceName,
    manifest::Manifest,
    node::NodeSet,
    operator::{NewSource, NodePage, Page, SourceStatus, SourceView, path},
};
use serde::Deserialize;

use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::{Output, note, table},
    programs,
};

#[derive(Subcommand)]
pub(crate) enum Nodes {
    /// Load nodes from a resource model file (YAML, JSON or XML), in place of those that were loaded before.
    Load {
        /// The file.
        file: PathBuf,
    },
    /// List nodes.
    List {
        /// Which nodes, such as `tags: web+linux !name: canary.*`; absent: all.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Sources that runners ask for nodes.
    #[command(subcommand)]
    Source(Source),
}

#[derive(Subcommand)]
pub(crate) enum Source {
    /// Save a source from a file: name, uses, with, grant, runner_tags, every.
    Apply {
        /// A TOML file.
        file: PathBuf,
    },
    /// List sources with status, age and error.
    List,
    /// Ask the source's runner for the nodes now, and wait.
    Refresh {
        /// Its name.
        name: SourceName,
    },
    /// Delete a source and its nodes.
    Delete {
        /// Its name.
        name: SourceName,
    },
}

/// What `remit-runner step run` prints for a node source.
#[derive(Deserialize)]
struct Discovered {
    outcome: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    nodes: NodeSet,
}

/// Reads nodes with the built-in `remit/file-nodes` in the runner's own sandbox: one reader of these formats.
pub(super) fn read_nodes(file: &std::path::Path) -> Result<NodeSet> {
    let file = file.canonicalize().map_err(|error| Failure::file(file, &error))?;
    let Some(folder) = programs::components() else {
        return Err(Failure::new(
            Code::Unreachable,
            "the built-in components are not installed",
            "cargo xtask build",
        ));
    };
    let package = crate::package::Package::at(folder.join("file-nodes"));
    let manifest: Manifest = package.manifest()?;
    let mut command = programs::sister("remit-runner")?;
    command.args(["step", "run", "--component"]).arg(package.wasm_path());
    command.arg("--manifest").arg(package.manifest_path());
    command.arg("--input").arg(serde_json::json!({ "file": "nodes" }).to_string());
    command.arg("--grant").arg(serde_json::json!({ "files": [{ "name": "nodes" }] }).to_string());
    command.arg("--file").arg(format!("nodes={}", file.display()));
    let printed = command.output().map_err(|error| Failure::new(Code::Unreachable, error.to_string(), ""))?;
    let discovered: Discovered = serde_json::from_slice(&printed.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&printed.stderr).into_owned();
        Failure::new(Code::Failed, format!("{} did not run: {}", manifest.name, said.trim()), "")
    })?;
    if discovered.outcome != "succeeded" {
        return Err(Failure::input(format_args!("{}: {}", file.display(), discovered.message)));
    }
    discovered.nodes.check().map_err(|error| Failure::input(format_args!("{}: {error}", file.display())))?;
    Ok(discovered.nodes)
}

fn source_row(source: &SourceView) -> Vec<String> {
    let status = match source.status {
        SourceStatus::New => "new",
        SourceStatus::Refreshing => "refreshing",
        SourceStatus::Fresh => "fresh",
        SourceStatus::Failed => "failed",
    };
    vec![
        source.name.to_string(),
        match (&source.component, &source.job) {
            (Some(component), _) => component.to_string(),
            (None, Some(job)) => format!("job {job}"),
            (None, None) => "loaded".to_owned(),
        },
        status.to_owned(),
        source.nodes.to_string(),
        source.refreshed.map(|time| time.to_seconds_text()).unwrap_or_default(),
        source.error.clone().unwrap_or_default(),
    ]
}

const SOURCE_COLUMNS: [&str; 6] = ["SOURCE", "COMPONENT", "STATUS", "NODES", "REFRESHED", "ERROR"];

fn show_source(output: Output, source: &SourceView) {
    output.print(source, |source| table(&SOURCE_COLUMNS, &[source_row(source)]));
}

impl Nodes {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let project = connection.project()?;
        match self {
            Self::Load { file } => {
                let nodes = read_nodes(&file)?;
                let view: SourceView = connection.put(&path::fill(path::NODES, &[&project]), &nodes).await?;
                output.print(&view, |view| format!("{} nodes loaded into {project}", view.nodes));
            }
            Self::List { filter } => {
                let mut items = Vec::new();
                let mut after = None;
                let total = loop {
                    let query = query(&[
                        ("filter", filter.as_deref()),
                        ("after", after.as_deref()),
                        ("limit", Some("1000")),
                    ]);
                    let page: NodePage =
                        connection.get(&format!("{}{query}", path::fill(path::NODES, &[&project]))).await?;
                    items.extend(page.items);
                    match page.next {
                        Some(next) => after = Some(next),
                        None => break page.total,
                    }
                };
                output.print(&NodePage { items, total, next: None }, |page| {
                    let row = |node: &remit_protocol::node::Node| {
                        let tags: Vec<_> = node.tags.iter().map(ToString::to_string).collect();
                        let attribute = |name| node.attribute(name).unwrap_or_default().to_owned();
                        vec![
                            node.name.to_string(),
                            attribute("hostname"),
                            attribute("username"),
                            tags.join(","),
                        ]
                    };
                    let rows: Vec<_> = page.items.iter().map(row).collect();
                    format!(
                        "{}\n{} nodes",
                        table(&["NODE", "HOSTNAME", "USERNAME", "TAGS"], &rows),
                        page.total
                    )
                });
            }
            Self::Source(source) => source.run(connection, output, &project).await?,
        }
        Ok(())
    }
}

/// A query string of the parameters that have a value.
pub(crate) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let encoded: Vec<_> = parameters
        .iter()
        .filter_map(|(name, value)| value.map(|value| path::fill(&format!("{name}={{}}"), &[&value])))
        .collect();
    if encoded.is_empty() { String::new() } else { format!("?{}", encoded.join("&")) }
}

impl Source {
    async fn run(
        self,
        connection: &Connection,
        output: Output,
        project: &remit_protocol::ProjectName,
    ) -> Result<()> {
        let at = |template: &str, name: &SourceName| path::fill(template, &[project, name]);
        match self {
            Self::Apply { file } => {
                let text = files::read_text(&file)?;
                let source: NewSource = toml::from_str(&text)
                    .map_err(|error| Failure::input(format_args!("{}: {error}", file.display())))?;
                let saved: SourceView =
                    connection.post(&path::fill(path::SOURCES, &[project]), &source).await?;
                saved.missing.iter().for_each(|sentence| note(sentence));
                show_source(output, &saved);
            }
            Self::List => {
                let page: Page<SourceView> = connection.all(&path::fill(path::SOURCES, &[project])).await?;
                output.print(&page, |page| {
                    table(&SOURCE_COLUMNS, &page.items.iter().map(source_row).collect::<Vec<_>>())
                });
            }
            Self::Refresh { name } => {
                let begun: SourceView = connection.post(&at(path::SOURCE_REFRESH, &name), &()).await?;
                // The results of a job are there when the answer is.
                if let Some(execution) = begun.execution.filter(|_| begun.job.is_none()) {
                    note(&format!("asking the runner: execution {execution}"));
                    super::execution::follow(connection, execution, output, super::execution::Quiet::Yes)
                        .await?;
                }
                let page: Page<SourceView> = connection.all(&path::fill(path::SOURCES, &[project])).await?;
                let Some(now) = page.items.into_iter().find(|source| source.name == name) else {
                    return Err(Failure::new(Code::NotFound, format!("the source {name} is gone"), ""));
                };
                show_source(output, &now);
                if now.status == SourceStatus::Failed {
                    return Err(Failure::new(Code::Failed, now.error.unwrap_or_default(), ""));
                }
            }
            Self::Delete { name } => {
                let _: serde_json::Value = connection.delete(&at(path::SOURCE, &name)).await?;
                output
                    .print(&serde_json::json!({ "deleted": name }), |_| format!("source {name} is deleted"));
            }
        }
        Ok(())
    }
}
