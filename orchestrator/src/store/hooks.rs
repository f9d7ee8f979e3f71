//! Webhooks that come in, and which of their deliveries were taken.

use std::collections::BTreeMap;

use remit_protocol::{
    DeliveryId, ExecutionId, HookName, JobName, OptionName, ProjectName, Timestamp, operator::HookMapping,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, row};

/// A webhook as it is kept; its secrets are sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// The project.
    pub project: ProjectName,
    /// Its name.
    pub name: HookName,
    /// The job that it runs.
    pub job: JobName,
    /// Which parts of the payload become options.
    pub mapping: BTreeMap<OptionName, HookMapping>,
    /// What callers sign with.
    pub secret: Vec<u8>,
    /// What they signed with before, and until when that is good.
    pub previous: Option<(Vec<u8>, Timestamp)>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Since when its secret is what it is.
    pub rotated: Timestamp,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Hook> {
    let previous: Option<Vec<u8>> = row.get("previous")?;
    Ok(Hook {
        project: row::text(row, "project")?,
        name: row::text(row, "name")?,
        job: row::text(row, "job")?,
        mapping: row::json(row, "mapping")?,
        secret: row.get("secret")?,
        previous: previous.zip(row::maybe_time(row, "previous_until")?),
        created: row::time(row, "created")?,
        created_by: row.get("created_by")?,
        rotated: row::time(row, "rotated")?,
    })
}

impl Store {
    /// Makes a webhook; a conflict if the name is taken.
    pub async fn create_hook(&self, hook: Hook) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let made = tx
                    .prepare_cached(
                        "insert into hook values (?, ?, ?, ?, ?, null, null, ?, ?, ?) on conflict do nothing",
                    )?
                    .execute(params![
                        hook.project.as_str(),
                        hook.name.as_str(),
                        hook.job.as_str(),
                        row::to_json(&hook.mapping)?,
                        hook.secret,
                        hook.created.as_millis(),
                        hook.created_by,
                        hook.rotated.as_millis()
                    ])?;
                match made {
                    1 => Ok(()),
                    _ => Err(StoreError::conflict("webhook", hook.name, "the name is taken")),
                }
            })
            .await
    }

    /// The webhooks of a project, by name.
    pub async fn hooks(&self, project: &ProjectName) -> Result<Vec<Hook>, StoreError> {
        let project = project.clone();
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached("select * from hook where project = ? order by name")?;
                Ok(query.query_map([project.as_str()], read)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// A webhook.
    pub async fn hook(&self, project: &ProjectName, name: &HookName) -> Result<Option<Hook>, StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached("select * from hook where project = ? and name = ?")?
                    .query_row([project.as_str(), name.as_str()], read);
                Ok(found.optional()?)
            })
            .await
    }

    /// Gives a webhook another secret; the one before is good until `overlap`, if it is to be.
    pub async fn rotate_hook(
        &self,
        project: &ProjectName,
        name: &HookName,
        secret: Vec<u8>,
        now: Timestamp,
        overlap: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .write(move |tx| {
                let done = tx
                    .prepare_cached(
                        "update hook set previous = iif(?1 is null, null, secret), previous_until = ?1, secret = ?2, rotated = ?3
                         where project = ?4 and name = ?5",
                    )?
                    .execute(params![
                        overlap.map(Timestamp::as_millis),
                        secret,
                        now.as_millis(),
                        project.as_str(),
                        name.as_str()
                    ])?;
                if done == 1 { Ok(()) } else { Err(StoreError::not_found("webhook", name)) }
            })
            .await
    }

    /// Takes a webhook away; what it took stays known, should one of its name be made again. True if it was there.
    pub async fn delete_hook(&self, project: &ProjectName, name: &HookName) -> Result<bool, StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .write(move |tx| {
                let gone = tx
                    .prepare_cached("delete from hook where project = ? and name = ?")?
                    .execute([project.as_str(), name.as_str()])?;
                Ok(gone == 1)
            })
            .await
    }

    /// The execution that a delivery began, if it was taken.
    pub async fn delivered(
        &self,
        project: &ProjectName,
        name: &HookName,
        id: &DeliveryId,
    ) -> Result<Option<ExecutionId>, StoreError> {
        let (project, name, id) = (project.clone(), name.clone(), id.clone());
        self.db.read(move |db| taken(db, &project, &name, &id)).await
    }

    /// Forgets deliveries that were sent before `before`: their times are not believed any more. Gives their number.
    pub async fn forget_deliveries(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.db
            .write(move |tx| {
                Ok(tx.prepare_cached("delete from delivery where sent < ?")?.execute([before.as_millis()])?)
            })
            .await
    }
}

fn taken(
    db: &Connection,
    project: &ProjectName,
    hook: &HookName,
    id: &DeliveryId,
) -> Result<Option<ExecutionId>, StoreError> {
    let found = db
        .prepare_cached("select execution from delivery where project = ? and hook = ? and id = ?")?
        .query_row([project.as_str(), hook.as_str(), id.as_str()], |row| {
            row::id(row, "execution", ExecutionId::from_u128)
        });
    Ok(found.optional()?)
}

/// Takes a delivery for an execution that is being made: each once.
pub(super) fn take(
    tx: &Connection,
    project: &ProjectName,
    (hook, delivery, sent): (&HookName, &DeliveryId, Timestamp),
    execution: ExecutionId,
) -> Result<(), StoreError> {
    let made = tx
        .prepare_cached("insert into delivery values (?, ?, ?, ?, ?) on conflict do nothing")?
        .execute(params![
            project.as_str(),
            hook.as_str(),
            delivery.as_str(),
            sent.as_millis(),
            row::key(execution.to_u128())
        ])?;
    match made {
        1 => Ok(()),
        _ => Err(StoreError::conflict("delivery", delivery, "it was taken before")),
    }
}
