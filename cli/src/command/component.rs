//! `remit component`: what the registry holds.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use remit_protocol::{
    ComponentName, ComponentVersion, Digest,
    operator::{ComponentSummary, ComponentView, Page, path},
};
use remit_signing::{
    component::ComponentNote,
    note::{NoteKind, UnverifiedNote},
};
use serde::Serialize;

use crate::{
    command::{log, note},
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::{Output, harmless, table},
    package::Package,
};

#[derive(Subcommand)]
pub(crate) enum Component {
    /// List the published components.
    List,
    /// Show one: signers, requests, imports, limits.
    Show {
        /// `namespace/name@version`.
        component: String,
    },
    /// Keep `@1` and `@1.4` from selecting a version; jobs that run it go on doing so.
    Yank {
        /// `namespace/name@version`.
        component: String,
        /// Let them select it again.
        #[arg(long)]
        undo: bool,
    },
    /// Fetch one to look at it: wasm, manifest, note, the log's proof and what reviewers say, as a package.
    Fetch {
        /// `namespace/name@version`.
        component: String,
        /// Where it goes.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Serialize)]
struct Fetched {
    component: String,
    digest: Digest,
    bytes: usize,
    verdicts: usize,
    package: PathBuf,
}

impl Component {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        match self {
            Self::List => {
                let page: Page<ComponentSummary> = connection.all(path::COMPONENTS).await?;
                output.print(&page, |page| {
                    let row = |component: &ComponentSummary| {
                        vec![
                            format!("{}@{}", component.name, component.version),
                            component.digest.to_string(),
                            component.published.to_seconds_text(),
                            harmless(&component.description),
                        ]
                    };
                    let columns = ["COMPONENT", "DIGEST", "PUBLISHED", "DESCRIPTION"];
                    table(&columns, &page.items.iter().map(row).collect::<Vec<_>>())
                });
            }
            Self::Show { component } => {
                let view: ComponentView = connection.get(&address(path::COMPONENT, &component)?).await?;
                output.print(&view, view_text);
            }
            Self::Yank { component, undo } => {
                let template = if undo { path::COMPONENT_UNYANK } else { path::COMPONENT_YANK };
                let view: ComponentView =
                    connection.post(&address(template, &component)?, &serde_json::json!({})).await?;
                output.print(&view, |_| match undo {
                    true => format!("{component} is selected again"),
                    false => format!(
                        "{component} is selected by no moving reference any more; exact ones still do"
                    ),
                });
            }
            Self::Fetch { component, out } => {
                let fetched = fetch(connection, &component, &out).await?;
                output.print(&fetched, |fetched| {
                    format!(
                        "{}  {}\n{} bytes and {} verdicts in {}\nnext: remit step inspect {} --trust trust.toml",
                        fetched.component,
                        fetched.digest,
                        fetched.bytes,
                        fetched.verdicts,
                        fetched.package.display(),
                        fetched.package.display()
                    )
                });
            }
        }
        Ok(())
    }
}

/// The address of a component, written `namespace/name@version`.
fn address(template: &str, component: &str) -> Result<String> {
    let invalid = || Failure::input(format_args!("{component:?} is not namespace/name@version"));
    let (name, version) = component.split_once('@').ok_or_else(invalid)?;
    let name: ComponentName = name.parse().map_err(Failure::input)?;
    let version: ComponentVersion = version.parse().map_err(Failure::input)?;
    Ok(path::fill(template, &[&name.namespace(), &name.name(), &version]))
}

/// Fetches a component as a package. Its bytes have to be the ones that its note names; who signed is for `inspect`.
async fn fetch(connection: &Connection, component: &str, out: &Path) -> Result<Fetched> {
    let view: ComponentView = connection.get(&address(path::COMPONENT, component)?).await?;
    let refused = |refusal: remit_signing::Refusal| note::refused(&refusal);
    let unverified = UnverifiedNote::parse_as(NoteKind::Component, view.note.as_bytes()).map_err(refused)?;
    let says = ComponentNote::parse(&unverified).map_err(refused)?;
    let wasm = connection.bytes(&address(path::COMPONENT_WASM, component)?, says.component.length).await?;
    if !says.component.is(&wasm) || !says.manifest.is(view.manifest_json.as_bytes()) {
        return Err(Failure::new(
            Code::Refused,
            "what came is not what its note names",
            "something between registry and here alters it: ask its publisher for the package",
        ));
    }
    let package = Package::at(out);
    files::write(&package.wasm_path(), &wasm, false)?;
    files::write(&package.manifest_path(), view.manifest_json.as_bytes(), false)?;
    files::write(&package.note_path(), view.note.as_bytes(), false)?;
    for verdict in &view.verdicts {
        files::write(&package.verdict_path(&verdict.note_id), verdict.note.as_bytes(), false)?;
    }
    log::keep_proof(connection, view.note.as_bytes(), &package.proof_path()).await?;
    Ok(Fetched {
        component: format!("{}@{}", view.summary.name, view.summary.version),
        digest: says.component.digest,
        bytes: wasm.len(),
        verdicts: view.verdicts.len(),
        package: out.to_owned(),
    })
}

fn view_text(view: &ComponentView) -> String {
    let summary = &view.summary;
    let mut lines = vec![
        format!("{}@{}  {}  {} bytes", summary.name, summary.version, summary.digest, summary.length),
        harmless(&summary.description),
        format!("note {}  threshold {}", view.note_id, view.threshold),
    ];
    lines
        .extend(view.signers.iter().map(|signer| format!("signed by {} with {}", signer.holder, signer.key)));
    if let Some(refused) = &view.refused {
        lines.push(format!("refused by the registry's policy now: {}", harmless(refused)));
    }
    lines.extend(view.verdicts.iter().map(|verdict| {
        let holders: Vec<String> = verdict.signers.iter().map(|signer| harmless(&signer.holder)).collect();
        format!(
            "verdict {} by {} ({}) of {}@{}{}: note {}",
            if verdict.pass { "pass" } else { "FAIL" },
            harmless(&verdict.criteria),
            if holders.is_empty() {
                "nobody whom the registry knows now".to_owned()
            } else {
                holders.join(", ")
            },
            verdict.name,
            verdict.version,
            if verdict.since.is_some() { ", a change" } else { "" },
            verdict.note_id
        )
    }));
    lines.extend(view.requests.iter().map(|asked| {
        format!(
            "asks for {}: {}{}",
            asked.capability,
            harmless(&asked.rule),
            if asked.open { "  OPEN" } else { "" }
        )
    }));
    lines.extend(view.imports.iter().map(|import| format!("imports {}", harmless(import))));
    lines.push(format!("limits: {}", view.limits.words()));
    lines.join("\n")
}
