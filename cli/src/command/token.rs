//! `remit token`.

use clap::{Subcommand, ValueEnum};
use remit_protocol::{
    Span, TokenId, TokenName,
    operator::{Access, InstanceRole, NewToken, Page, ProjectRole, TokenCreated, TokenView, path},
};

use crate::{
    connection::Connection,
    failure::Result,
    output::{Output, table},
};

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// See a project.
    Viewer,
    /// See and run.
    Operator,
    /// See, run, and change jobs and nodes.
    Editor,
    /// Everything in a project.
    Admin,
    /// Everything everywhere.
    InstanceAdmin,
    /// Publish components.
    Publisher,
    /// Read the metrics.
    Metrics,
}

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Make a token; it is printed once.
    Create {
        /// A name, for people.
        name: TokenName,
        /// What it may do; the project roles are for --project.
        #[arg(long, value_enum)]
        role: Role,
        /// How long it is good; absent: the orchestrator's default.
        #[arg(long, value_name = "SPAN")]
        expires_in: Option<Span>,
    },
    /// List the tokens.
    List,
    /// Revoke a token at once.
    Revoke {
        /// Its id.
        id: TokenId,
    },
}

fn access_text(access: &Access) -> String {
    let word = |role: serde_json::Result<serde_json::Value>| {
        role.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    match access {
        Access::Project { project, role } => format!("{} of {project}", word(serde_json::to_value(role))),
        Access::Instance { role } => format!("instance {}", word(serde_json::to_value(role))),
    }
}

impl Token {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        match self {
            Self::Create { name, role, expires_in } => {
                let project = |role| connection.project().map(|project| Access::Project { project, role });
                let access = match role {
                    Role::Viewer => project(ProjectRole::Viewer)?,
                    Role::Operator => project(ProjectRole::Operator)?,
                    Role::Editor => project(ProjectRole::Editor)?,
                    Role::Admin => project(ProjectRole::Admin)?,
                    Role::InstanceAdmin => Access::Instance { role: InstanceRole::Admin },
                    Role::Publisher => Access::Instance { role: InstanceRole::Publisher },
                    Role::Metrics => Access::Instance { role: InstanceRole::Metrics },
                };
                let made: TokenCreated =
                    connection.post(path::TOKENS, &NewToken { name, access, expires_in }).await?;
                output.print(&made, |made| {
                    format!(
                        "{}\n\nThis is shown once. Its id, to revoke it: {}",
                        made.token.reveal(),
                        made.view.id
                    )
                });
            }
            Self::List => {
                let page: Page<TokenView> = connection.all(path::TOKENS).await?;
                output.print(&page, |page| {
                    let row = |token: &TokenView| {
                        let until = token
                            .expires
                            .map_or_else(|| "for ever".to_owned(), |time| time.to_seconds_text());
                        let state = token.revoked.map_or(until, |_| "revoked".to_owned());
                        let access = access_text(&token.access);
                        vec![token.id.to_string(), token.name.to_string(), access, state]
                    };
                    table(&["ID", "NAME", "MAY", "UNTIL"], &page.items.iter().map(row).collect::<Vec<_>>())
                });
            }
            Self::Revoke { id } => {
                let _: serde_json::Value = connection.delete(&path::fill(path::TOKEN, &[&id])).await?;
                output.print(&serde_json::json!({ "revoked": id }), |_| format!("token {id} is revoked"));
            }
        }
        Ok(())
    }
}
