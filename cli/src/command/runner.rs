//! `remit runner`: the runners as the orchestrator knows them. Their owner's side is the program `remit-runner`.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Subcommand};
use remit_protocol::{
    Description, ProjectName, RunnerName, Tag,
    operator::{EditRunner, NewRunner, Page, Projects, RunnerView, TicketIssued, TrailView, path},
};

use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::{Output, table},
    pins::{self, Pin, Pins},
};

#[derive(Subcommand)]
pub(crate) enum Runner {
    /// Make a runner and print the one-use ticket with which its host enrols.
    Create {
        /// Its name.
        name: RunnerName,
        #[command(flatten)]
        assignment: Assignment,
        /// For people.
        #[arg(long, default_value = "")]
        description: Description,
        /// It gets the work of jobs that name no tags.
        #[arg(long)]
        local: bool,
    },
    /// List the runners.
    List,
    /// Show one runner.
    Show {
        /// Its name.
        name: RunnerName,
    },
    /// Change tags, projects or description.
    Edit {
        /// Its name.
        name: RunnerName,
        #[command(flatten)]
        assignment: Assignment,
        /// For people.
        #[arg(long)]
        description: Option<Description>,
        /// Whether it gets the work of jobs that name no tags.
        #[arg(long)]
        local: Option<bool>,
    },
    /// Let it take work again.
    Enable {
        /// Its name.
        name: RunnerName,
    },
    /// Give it no more work; what runs goes on.
    Disable {
        /// Its name.
        name: RunnerName,
    },
    /// Issue a new one-use ticket, to enrol its host again.
    Ticket {
        /// Its name.
        name: RunnerName,
    },
    /// Show the signed end of its own record, as far as it was seen here: `remit audit verify --head` wants it.
    Trail {
        /// Its name.
        name: RunnerName,
        /// Where the signed note goes.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Believe a runner by the key that its owner has told you: secrets that you type are sealed to pinned runners only.
    Pin {
        /// Its name.
        name: RunnerName,
        /// Its identity key or the fingerprint of that, as `remit-runner identity` prints it.
        key: String,
        /// In the place of another key that was pinned before.
        #[arg(long)]
        replace: bool,
    },
    /// List the runners whose keys are pinned.
    Pins,
    /// Believe a runner no more.
    Unpin {
        /// Its name.
        name: RunnerName,
    },
    /// Delete it; its host cannot come back without a new runner.
    Delete {
        /// Its name.
        name: RunnerName,
    },
}

#[derive(Args)]
pub(crate) struct Assignment {
    /// A tag; a job's runner has to carry all that the job names. May be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// A project whose work it gets. May be repeated.
    #[arg(long = "for-project", value_name = "NAME", conflicts_with = "all_projects")]
    projects: Vec<ProjectName>,
    /// It gets the work of every project.
    #[arg(long)]
    all_projects: bool,
}

impl Assignment {
    /// The projects that were named; `--project` alone counts too.
    fn projects(&self, connection: &Connection) -> Result<Projects> {
        if self.all_projects {
            return Ok(Projects::All);
        }
        if !self.projects.is_empty() {
            return Ok(Projects::Only(self.projects.iter().cloned().collect()));
        }
        match connection.project() {
            Ok(project) => Ok(Projects::Only(BTreeSet::from([project]))),
            Err(_) => Err(Failure::input("the runner would get no work: no project is named")
                .with_remedy("give --project NAME, --for-project NAME (more than once), or --all-projects")),
        }
    }
}

fn ticket_text(issued: &TicketIssued) -> String {
    format!(
        "ticket for runner {} (one use, until {}):\n\n{}\n\nor paste this on the runner's host:\n\n{}",
        issued.runner.name,
        issued.expires,
        issued.ticket.reveal(),
        issued.enrol.reveal()
    )
}

fn projects_text(projects: &Projects) -> String {
    match projects {
        Projects::All => "all".to_owned(),
        Projects::Only(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn row(runner: &RunnerView) -> Vec<String> {
    vec![
        runner.name.to_string(),
        word(&runner.status),
        runner.last_seen.map(|seen| seen.to_seconds_text()).unwrap_or_else(|| "never".to_owned()),
        runner.version.clone().unwrap_or_default(),
        runner.tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        projects_text(&runner.projects),
        format!("{}/{}", runner.slots.saturating_sub(runner.free), runner.slots),
    ]
}

const COLUMNS: [&str; 7] = ["RUNNER", "STATUS", "LAST CHECK-IN", "VERSION", "TAGS", "PROJECTS", "BUSY"];

fn show(output: Output, runner: &RunnerView) {
    output.print(runner, |runner| table(&COLUMNS, &[row(runner)]));
}

/// The newest signed end of a runner's own record, and what does not fit to it.
async fn trail(
    connection: &Connection,
    name: &RunnerName,
    out: Option<PathBuf>,
    output: Output,
) -> Result<()> {
    let page: Page<TrailView> = connection.get(&path::fill(path::RUNNER_TRAIL, &[name])).await?;
    let Some(newest) = page.items.iter().find(|trail| trail.current).or(page.items.first()) else {
        return Err(Failure::new(
            Code::Nothing,
            format!("no signed end of the record of {name} was seen yet"),
            "a runner sends it when it has begun, and once a minute while there is news",
        ));
    };
    if let Some(out) = &out {
        files::write(out, newest.note.as_bytes(), false)?;
    }
    output.print(&page, |page| {
        let line = |trail: &TrailView| {
            let against = if trail.against.is_some() { "  A SHORTER OR OTHER END CAME LATER" } else { "" };
            let old = if trail.current { "" } else { "  by an earlier key" };
            format!("{} entries, seen at {}{old}{against}", trail.entries, trail.at.to_seconds_text())
        };
        page.items.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    if page.items.iter().any(|trail| trail.against.is_some()) {
        return Err(Failure::new(
            Code::Refused,
            format!("the record of {name} was cut off or rewritten"),
            "both signed ends are in --output json: compare them with the record on its host",
        ));
    }
    Ok(())
}

impl Runner {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let at = |template: &str, name: &RunnerName| path::fill(template, &[name]);
        match self {
            Self::Create { name, assignment, description, local } => {
                let projects = assignment.projects(connection)?;
                let tags = assignment.tags.into_iter().collect();
                let issued: TicketIssued = connection
                    .post(path::RUNNERS, &NewRunner { name, tags, projects, description, local })
                    .await?;
                output.print(&issued, ticket_text);
            }
            Self::List => {
                let page: Page<RunnerView> = connection.all(path::RUNNERS).await?;
                output.print(&page, |page| table(&COLUMNS, &page.items.iter().map(row).collect::<Vec<_>>()));
            }
            Self::Show { name } => {
                show(output, &connection.get(&at(path::RUNNER, &name)).await?);
            }
            Self::Edit { name, assignment, description, local } => {
                let named = assignment.all_projects || !assignment.projects.is_empty();
                let edit = EditRunner {
                    projects: if named { Some(assignment.projects(connection)?) } else { None },
                    tags: (!assignment.tags.is_empty()).then(|| assignment.tags.into_iter().collect()),
                    description,
                    local,
                };
                show(output, &connection.patch(&at(path::RUNNER, &name), &edit).await?);
            }
            Self::Enable { name } => {
                show(output, &connection.post(&at(path::RUNNER_ENABLE, &name), &()).await?);
            }
            Self::Disable { name } => {
                show(output, &connection.post(&at(path::RUNNER_DISABLE, &name), &()).await?);
            }
            Self::Ticket { name } => {
                let issued: TicketIssued = connection.post(&at(path::RUNNER_TICKET, &name), &()).await?;
                output.print(&issued, ticket_text);
            }
            Self::Trail { name, out } => trail(connection, &name, out, output).await?,
            Self::Pin { name, key, replace } => {
                let key = pins::fingerprint(&key)?;
                let pin = Pin { orchestrator: connection.url().to_owned(), runner: name, key };
                Pins::read()?.pin(pin.clone(), replace)?;
                output.print(&pin, |pin| format!("{} is pinned: {}", pin.runner, pin.key));
            }
            Self::Pins => {
                let pins = Pins::read()?.at(connection.url());
                output.print(&pins, |pins| {
                    let row = |pin: &Pin| vec![pin.runner.to_string(), pin.key.to_string()];
                    table(&["RUNNER", "KEY"], &pins.iter().map(row).collect::<Vec<_>>())
                });
            }
            Self::Unpin { name } => {
                Pins::read()?.unpin(connection.url(), &name)?;
                output.print(&serde_json::json!({ "unpinned": name }), |_| {
                    format!("{name} is not pinned any more")
                });
            }
            Self::Delete { name } => {
                let _: serde_json::Value = connection.delete(&at(path::RUNNER, &name)).await?;
                output
                    .print(&serde_json::json!({ "deleted": name }), |_| format!("runner {name} is deleted"));
            }
        }
        Ok(())
    }
}
