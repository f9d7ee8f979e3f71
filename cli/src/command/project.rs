//! `remit project`.

use clap::Subcommand;
use remit_protocol::{
    Description, ProjectName,
    operator::{NewProject, Page, Project as View, path},
};

use crate::{
    connection::Connection,
    failure::Result,
    output::{Output, table},
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
        }
        Ok(())
    }
}
