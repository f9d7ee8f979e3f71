//! `remit project`.

mod archive;

use std::path::PathBuf;

use clap::Subcommand;
use remit_protocol::{
    Description, ProjectName,
    operator::{NewProject, Page, Project as View, ProjectSettings, path},
};

use crate::{
    connection::Connection,
    failure::{Failure, Result},
    files,
    output::{Output, harmless, table},
};

#[derive(Subcommand)]
pub(crate) enum Project {
    /// Make a project.
    Create {
        /// Its name.
        name: ProjectName,
        /// For people.
        #[arg(long, default_value = "")]
        description: Description,
    },
    /// List the projects that the token may see.
    List,
    /// Show the project: its README, variables, filters, history and quotas.
    Show,
    /// Take the settings from a TOML file, whole: what it leaves out has its default.
    Configure {
        /// The file. `remit project show --output json` shows what there is.
        file: PathBuf,
    },
    /// Write the project into a folder: settings, jobs, node sources, nodes, webhooks, channels. Never a secret.
    Export {
        /// The folder, which must not be there yet.
        into: PathBuf,
    },
    /// Make a project out of such a folder, or bring one up to what it says.
    Import {
        /// The folder.
        from: PathBuf,
        /// Save also jobs that grant more than they did.
        #[arg(long)]
        accept_wider: bool,
    },
}

impl Project {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        match self {
            Self::Create { name, description } => {
                let made: View = connection.post(path::PROJECTS, &NewProject { name, description }).await?;
                output.print(&made, |made| format!("project {} is there", made.name));
            }
            Self::List => {
                let page: Page<View> = connection.all(path::PROJECTS).await?;
                output.print(&page, |page| {
                    let row = |project: &View| {
                        vec![
                            project.name.to_string(),
                            project.created.to_string(),
                            project.description.to_string(),
                        ]
                    };
                    table(
                        &["PROJECT", "SINCE", "DESCRIPTION"],
                        &page.items.iter().map(row).collect::<Vec<_>>(),
                    )
                });
            }
            Self::Show => {
                let project = connection.project()?;
                let settings: ProjectSettings =
                    connection.get(&path::fill(path::PROJECT_SETTINGS, &[&project])).await?;
                output.print(&settings, |settings| text(&project, settings));
            }
            Self::Configure { file } => {
                let project = connection.project()?;
                let source = files::read_text(&file)?;
                let settings: ProjectSettings = toml::from_str(&source)
                    .map_err(|error| Failure::input(format_args!("{}: {error}", file.display())))?;
                let address = path::fill(path::PROJECT_SETTINGS, &[&project]);
                let settings: ProjectSettings = connection.put(&address, &settings).await?;
                output.print(&settings, |settings| text(&project, settings));
            }
            Self::Export { into } => archive::export(connection, &into, output).await?,
            Self::Import { from, accept_wider } => {
                archive::import(connection, &from, accept_wider, output).await?;
            }
        }
        Ok(())
    }
}

fn text(project: &ProjectName, settings: &ProjectSettings) -> String {
    let mut lines = vec![format!("project {project}  {}", settings.description)];
    if !settings.readme.is_empty() {
        lines.extend([String::new(), harmless(&settings.readme), String::new()]);
    }
    lines.extend(settings.variables.iter().map(|(name, value)| format!("project.{name} = {value}")));
    lines.extend(
        settings.default_filter.iter().map(|filter| format!("nodes, unless asked otherwise: {filter}")),
    );
    lines.extend(settings.filters.iter().map(|(name, filter)| format!("@{name} = {filter}")));
    let (history, quotas) = (settings.history, settings.quotas);
    lines.push(format!(
        "history: {} days, {} of each job at least, {} in all at most, {} of logs; artifacts {} days",
        history.days, history.keep, history.most, history.logs, history.artifacts
    ));
    lines.push(format!(
        "quotas: {} jobs, {} executions that have not ended, {} of artifacts",
        quotas.jobs, quotas.open_executions, quotas.artifacts
    ));
    lines.join("\n")
}
