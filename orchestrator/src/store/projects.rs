//! Projects.

use remit_protocol::{Description, ProjectName, Timestamp, operator::ProjectSettings};
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, row};

/// The unit of jobs, nodes, access and history.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// What it is for, in words.
    pub description: Description,
    /// Since when it is there.
    pub created: Timestamp,
    /// What its administrators decided.
    pub settings: ProjectSettings,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Project> {
    Ok(Project {
        name: row::text(row, "name")?,
        description: row::text(row, "description")?,
        created: row::time(row, "created")?,
        settings: row::json(row, "settings")?,
    })
}

impl Store {
    /// Makes a project; a conflict if the name is taken.
    pub async fn create_project(&self, project: Project) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let made = tx
                    .prepare_cached("insert into project (name, description, created, settings) values (?, ?, ?, ?) on conflict do nothing")?
                    .execute(params![
                        project.name.as_str(),
                        project.description.as_str(),
                        project.created.as_millis(),
                        row::to_json(&project.settings)?
                    ])?;
                match made {
                    1 => Ok(()),
                    _ => Err(StoreError::conflict("project", project.name, "the name is taken")),
                }
            })
            .await
    }

    /// Takes the settings of a project, and with them what it is for.
    pub async fn configure_project(
        &self,
        name: &ProjectName,
        settings: ProjectSettings,
    ) -> Result<(), StoreError> {
        let name = name.clone();
        self.db
            .write(move |tx| {
                let done = tx
                    .prepare_cached("update project set settings = ?, description = ? where name = ?")?
                    .execute(params![
                        row::to_json(&settings)?,
                        settings.description.as_str(),
                        name.as_str()
                    ])?;
                if done == 1 { Ok(()) } else { Err(StoreError::not_found("project", name)) }
            })
            .await
    }

    /// The project of this name.
    pub async fn project(&self, name: &ProjectName) -> Result<Option<Project>, StoreError> {
        let name = name.clone();
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached("select * from project where name = ?")?
                    .query_row([name.as_str()], read);
                Ok(found.optional()?)
            })
            .await
    }

    /// Every project, by name.
    pub async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        self.db
            .read(|db| {
                let mut query = db.prepare_cached("select * from project order by name")?;
                let all = query.query_map([], read)?.collect::<Result<_, _>>()?;
                Ok(all)
            })
            .await
    }
}
