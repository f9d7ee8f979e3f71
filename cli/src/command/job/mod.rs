//! `remit job`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use remit_protocol::{
    ExecutionId, JobName,
    operator::{Applied, Apply, ApplyMode, Change, JobSummary, JobView, Page, path},
};
use serde_json::Value;

use super::execution::{Execution, Quiet, follow};

mod options;
pub(super) mod run;
mod sign;
mod typed;

use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::{Output, note, table},
};
pub(crate) use sign::signed_beside;

#[derive(Subcommand)]
pub(crate) enum Job {
    /// Save jobs from a YAML file, or from every .yaml file of a folder; with what `remit job sign` wrote beside them.
    Apply(ApplyJob),
    /// Compile a job and sign it, for runners that want signed jobs.
    Sign(sign::SignJob),
    /// List the jobs of the project.
    List,
    /// Show a job: its source, or with --output json the compiled document.
    Show {
        /// Its name.
        name: JobName,
    },
    /// Show what a job asks when it is run, and what may be given now.
    Options(options::OptionsOf),
    /// Run a job.
    Run(run::RunJob),
    /// Follow an execution until it ends; the exit code tells how.
    Follow {
        /// The execution's id.
        id: ExecutionId,
    },
    /// Cancel an execution.
    Cancel {
        /// The execution's id.
        id: ExecutionId,
        /// End it in the record at once, whether or not its runner answers.
        #[arg(long)]
        force: bool,
    },
    /// Delete a job; its executions stay.
    Delete {
        /// Its name.
        name: JobName,
    },
}

#[derive(Args)]
pub(crate) struct ApplyJob {
    /// A file or a folder.
    path: PathBuf,
    /// Save also what grants more than the last revision did.
    #[arg(long)]
    accept_wider: bool,
    /// Only say what would be saved.
    #[arg(long)]
    check: bool,
}

impl Job {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let project = connection.project()?;
        match self {
            Self::Apply(apply) => apply.run(connection, output).await?,
            Self::Sign(sign) => sign.run(connection, output).await?,
            Self::List => {
                let page: Page<JobSummary> = connection.all(&path::fill(path::JOBS, &[&project])).await?;
                output.print(&page, |page| {
                    let row = |job: &JobSummary| {
                        vec![
                            job.group.clone(),
                            job.job.to_string(),
                            job.revision.to_string(),
                            job.saved.to_seconds_text(),
                            job.saved_by.clone(),
                            job.description.clone(),
                        ]
                    };
                    let columns = ["GROUP", "JOB", "REVISION", "SAVED", "BY", "DESCRIPTION"];
                    table(&columns, &page.items.iter().map(row).collect::<Vec<_>>())
                });
            }
            Self::Show { name } => {
                let view: JobView = connection.get(&path::fill(path::JOB, &[&project, &name])).await?;
                output.print(&view, |view| {
                    format!(
                        "# {} revision {}, {}\n{}",
                        view.summary.job, view.summary.revision, view.digest.digest, view.source
                    )
                });
            }
            Self::Options(options) => options.run(connection, output).await?,
            Self::Run(run) => run.run(connection, output).await?,
            Self::Follow { id } => follow(connection, id, output, Quiet::No).await?,
            Self::Cancel { id, force } => Execution::Cancel { id, force }.run(connection, output).await?,
            Self::Delete { name } => {
                let _: Value = connection.delete(&path::fill(path::JOB, &[&project, &name])).await?;
                output.print(&serde_json::json!({ "deleted": name }), |_| format!("job {name} is deleted"));
            }
        }
        Ok(())
    }
}

impl ApplyJob {
    async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let address = path::fill(path::JOBS, &[&connection.project()?]);
        let mut failures = 0;
        let paths = sources(&self.path)?;
        let several = paths.len() > 1;
        for file in paths {
            let apply = Apply {
                source: files::read_text(&file)?,
                mode: if self.check { ApplyMode::Check } else { ApplyMode::Save },
                accept_wider: self.accept_wider,
                signed: sign::signed_beside(&file)?,
            };
            match connection.post::<Applied>(&address, &apply).await {
                Ok(applied) => {
                    output.print(&applied, applied_text);
                    applied.missing.iter().for_each(|sentence| note(sentence));
                }
                Err(mut failure) => {
                    failure.message = format!("{}: {}", file.display(), failure.message);
                    if !several {
                        return Err(failure);
                    }
                    note(&failure.to_string());
                    failures += 1;
                }
            }
        }
        if failures > 0 {
            return Err(Failure::new(Code::Input, format!("{failures} files were not applied"), ""));
        }
        Ok(())
    }
}

/// The file, or the YAML files of the folder in order of their names.
fn sources(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| Failure::file(path, &error))?;
    let yaml = |file: &PathBuf| file.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let mut found: Vec<_> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(yaml).collect();
    found.sort();
    if found.is_empty() {
        return Err(Failure::input(format_args!("{}: no .yaml file is here", path.display())));
    }
    Ok(found)
}

fn applied_text(applied: &Applied) -> String {
    let change = match applied.change {
        Change::Created => "created",
        Change::Updated => "updated",
        Change::Unchanged => "unchanged",
        Change::Checked => "checked, not saved",
    };
    let wider: String = applied
        .wider
        .iter()
        .map(|wider| format!("\n  wider: {}: {}", wider.step, wider.permission))
        .collect();
    format!("job {} revision {}: {change}  {}{wider}", applied.job, applied.revision, applied.digest.digest)
}
