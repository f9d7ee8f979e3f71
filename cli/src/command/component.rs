//! `remit component`: what the registry holds.

use clap::Subcommand;
use remit_protocol::{
    ComponentName, ComponentVersion,
    operator::{ComponentSummary, ComponentView, Page, path},
};

use crate::{
    connection::Connection,
    failure::{Failure, Result},
    output::{Output, harmless, table},
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
                let invalid = || Failure::input(format_args!("{component:?} is not namespace/name@version"));
                let (name, version) = component.split_once('@').ok_or_else(invalid)?;
                let name: ComponentName = name.parse().map_err(Failure::input)?;
                let version: ComponentVersion = version.parse().map_err(Failure::input)?;
                let address = path::fill(path::COMPONENT, &[&name.namespace(), &name.name(), &version]);
                let view: ComponentView = connection.get(&address).await?;
                output.print(&view, view_text);
            }
        }
        Ok(())
    }
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
    lines.extend(view.requests.iter().map(|asked| {
        format!(
            "asks for {}: {}{}",
            asked.capability,
            harmless(&asked.rule),
            if asked.open { "  OPEN" } else { "" }
        )
    }));
    lines.extend(view.imports.iter().map(|import| format!("imports {}", harmless(import))));
    lines.push(format!(
        "limits: memory {}, wall {}, log {}",
        view.limits.memory, view.limits.wall, view.limits.log
    ));
    lines.join("\n")
}
