//! Runners: who they are, where they may work, and the counters that tell a restart from a copy.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{
    Description, RunnerId, RunnerName, Session, Tag, TicketId, Timestamp, operator::Projects,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, row};

/// A runner that is to be made.
#[derive(Debug, Clone)]
pub struct NewRunner {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: RunnerName,
    /// The runner that jobs without tags run on.
    pub local: bool,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// The projects that it works for.
    pub projects: Projects,
    /// For people.
    pub description: Description,
    /// When it is made.
    pub at: Timestamp,
}

/// A ticket by which a runner enrols, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTicket {
    /// Its id.
    pub id: TicketId,
    /// For which runner.
    pub runner: RunnerId,
    /// The public half of the key that the ticket carries.
    pub key: [u8; 32],
    /// Until when it can be used.
    pub expires: Timestamp,
}

/// A runner introduces itself with a ticket; the caller has verified both signatures.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The ticket.
    pub ticket: TicketId,
    /// The runner's own public key.
    pub key: [u8; 32],
    /// When.
    pub at: Timestamp,
}

/// A runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: RunnerName,
    /// The runner that jobs without tags run on.
    pub local: bool,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// The projects that it works for.
    pub projects: Projects,
    /// For people.
    pub description: Description,
    /// False: it gets no work.
    pub enabled: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Its public key, once it has enrolled.
    pub key: Option<[u8; 32]>,
    /// When it enrolled.
    pub enrolled: Option<Timestamp>,
    /// The newest session.
    pub session: Session,
    /// Since when it is locked: it came with a session counter that is not ours, so there are two of it.
    pub locked: Option<Timestamp>,
    /// When it was last heard of, to the minute; the scheduler knows better while it runs.
    pub seen: Option<Timestamp>,
    /// Its version.
    pub version: String,
    /// Its host's name.
    pub hostname: String,
    /// What it can do beyond the base.
    pub features: BTreeSet<String>,
    /// How many sandboxes it runs at once.
    pub slots: u32,
    /// Until when a ticket for it is good, if one waits to be used.
    pub ticket_expires: Option<Timestamp>,
}

/// What is to change; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct RunnerChange {
    /// Its tags.
    pub tags: Option<BTreeSet<Tag>>,
    /// Its projects.
    pub projects: Option<Projects>,
    /// The words for people.
    pub description: Option<Description>,
    /// Whether jobs without tags run on it.
    pub local: Option<bool>,
    /// Whether it gets work.
    pub enabled: Option<bool>,
    /// Lifts the lock: the next session is taken with whatever counter the runner has.
    pub unlock: bool,
}

/// What opening a session came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The session is open under this number.
    Opened(Session),
    /// The counters differ: somebody copied or restored the runner. It is locked until a person unlocks it.
    Locked,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Runner> {
    Ok(Runner {
        id: row::id(row, "id", RunnerId::from_u128)?,
        name: row::text(row, "name")?,
        local: row.get("local")?,
        tags: row::json(row, "tags")?,
        projects: row::json(row, "projects")?,
        description: row::text(row, "description")?,
        enabled: row.get("enabled")?,
        created: row::time(row, "created")?,
        key: row.get("key")?,
        enrolled: row::maybe_time(row, "enrolled")?,
        session: Session(row.get("session")?),
        locked: row::maybe_time(row, "locked")?,
        seen: row::maybe_time(row, "seen")?,
        version: row.get("version")?,
        hostname: row.get("hostname")?,
        features: row::json(row, "features")?,
        slots: row.get("slots")?,
        ticket_expires: row::maybe_time(row, "ticket_expires")?,
    })
}

const SELECT: &str =
    "select r.*, (select max(expires) from ticket t where t.runner = r.id and t.used is null)
    as ticket_expires from runner r";

fn by_id(tx: &Connection, id: RunnerId) -> Result<Runner, StoreError> {
    tx.prepare_cached(&format!("{SELECT} where id = ?"))?
        .query_row([row::key(id.to_u128())], read)
        .optional()?
        .ok_or_else(|| StoreError::not_found("runner", id))
}

impl Store {
    /// Makes a runner; a conflict if the name is taken.
    pub async fn create_runner(&self, new: NewRunner) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let made = tx
                    .prepare_cached(
                        "insert into runner (id, name, local, tags, projects, description, enabled, created)
                         values (?, ?, ?, ?, ?, ?, 1, ?) on conflict (name) do nothing",
                    )?
                    .execute(params![
                        row::key(new.id.to_u128()),
                        new.name.as_str(),
                        new.local,
                        row::to_json(&new.tags)?,
                        row::to_json(&new.projects)?,
                        new.description.as_str(),
                        new.at.as_millis()
                    ])?;
                if made == 1 {
                    Ok(())
                } else {
                    Err(StoreError::conflict("runner", new.name, "the name is taken"))
                }
            })
            .await
    }

    /// Makes a ticket for a runner; older unused tickets of it are void.
    pub async fn create_ticket(&self, ticket: NewTicket) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                by_id(tx, ticket.runner)?;
                let runner = row::key(ticket.runner.to_u128());
                tx.prepare_cached("delete from ticket where runner = ? and used is null")?
                    .execute([runner])?;
                tx.prepare_cached("insert into ticket values (?, ?, ?, ?, null)")?.execute(params![
                    row::key(ticket.id.to_u128()),
                    runner,
                    ticket.key,
                    ticket.expires.as_millis()
                ])?;
                Ok(())
            })
            .await
    }

    /// The ticket, used or not: [`Self::enrol`] says whether it still counts.
    pub async fn ticket(&self, id: TicketId) -> Result<Option<NewTicket>, StoreError> {
        self.db
            .read(move |db| {
                let found = db.prepare_cached("select * from ticket where id = ?")?.query_row(
                    params![row::key(id.to_u128())],
                    |row| {
                        Ok(NewTicket {
                            id: row::id(row, "id", TicketId::from_u128)?,
                            runner: row::id(row, "runner", RunnerId::from_u128)?,
                            key: row.get("key")?,
                            expires: row::time(row, "expires")?,
                        })
                    },
                );
                Ok(found.optional()?)
            })
            .await
    }

    /// Takes a runner in: uses up the ticket and keeps the runner's key, both or neither.
    ///
    /// The same runner key with the same ticket again is answered as before, so that a lost answer can be repeated.
    pub async fn enrol(&self, enrolment: Enrolment) -> Result<Runner, StoreError> {
        self.db
            .write(move |tx| {
                let ticket = row::key(enrolment.ticket.to_u128());
                let at = enrolment.at.as_millis();
                let found: Option<(u128, Option<u64>, u64)> = tx
                    .prepare_cached("select runner, used, expires from ticket where id = ?")?
                    .query_row([ticket], |row| {
                        Ok((row::id(row, "runner", |id| id)?, row.get("used")?, row.get("expires")?))
                    })
                    .optional()?;
                let (id, used, expires) =
                    found.ok_or_else(|| StoreError::not_found("ticket", enrolment.ticket))?;
                let runner = by_id(tx, RunnerId::from_u128(id))?;
                if used.is_some() {
                    if runner.key == Some(enrolment.key) && runner.session == Session(0) {
                        return Ok(runner);
                    }
                    return Err(StoreError::conflict(
                        "ticket",
                        enrolment.ticket,
                        "it was used; make a new one",
                    ));
                }
                if expires <= at {
                    return Err(StoreError::conflict(
                        "ticket",
                        enrolment.ticket,
                        "it has expired; make a new one",
                    ));
                }
                tx.prepare_cached("update ticket set used = ? where id = ?")?.execute(params![at, ticket])?;
                tx.prepare_cached(
                    "update runner set key = ?, enrolled = ?, session = 0, confirmed = 0, locked = null, sealing = null
                     where id = ?",
                )?
                .execute(params![enrolment.key, at, row::key(id)])?;
                by_id(tx, runner.id)
            })
            .await
    }

    /// Opens the next session if `last` is a session that only this runner can know as its newest; if not, locks it.
    ///
    /// That is the newest session, or an older one down to the newest that was ever used: an answer that got lost on
    /// its way left a session behind that the runner has not heard of.
    pub async fn open_session(
        &self,
        id: RunnerId,
        last: Session,
        facts: SessionFacts,
    ) -> Result<Opening, StoreError> {
        self.db
            .write(move |tx| {
                let runner = by_id(tx, id)?;
                let key = row::key(id.to_u128());
                if runner.locked.is_some() {
                    return Ok(Opening::Locked);
                }
                let confirmed: Option<u64> = tx
                    .prepare_cached("select confirmed from runner where id = ?")?
                    .query_row([key], |row| row.get(0))?;
                if confirmed.is_some_and(|confirmed| !(Session(confirmed)..=runner.session).contains(&last)) {
                    tx.prepare_cached("update runner set locked = ? where id = ?")?
                        .execute(params![facts.at.as_millis(), key])?;
                    return Ok(Opening::Locked);
                }
                let session = runner.session.max(last).next();
                tx.prepare_cached(
                    "update runner set session = ?, confirmed = coalesce(confirmed, 0), seen = ?, version = ?,
                     hostname = ?, features = ?, slots = ?, sealing = ? where id = ?",
                )?
                .execute(params![
                    session.0,
                    facts.at.as_millis(),
                    facts.version,
                    facts.hostname,
                    row::to_json(&facts.features)?,
                    facts.slots,
                    facts.sealing,
                    key
                ])?;
                Ok(Opening::Opened(session))
            })
            .await
    }

    /// Records that the runner uses this session: it will never come back with an older one.
    pub async fn confirm_session(&self, id: RunnerId, session: Session) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                tx.prepare_cached("update runner set confirmed = ?1 where id = ?2 and session = ?1")?
                    .execute(params![session.0, row::key(id.to_u128())])?;
                Ok(())
            })
            .await
    }

    /// Changes tags, projects, whether it gets work, or lifts the lock.
    pub async fn change_runner(&self, id: RunnerId, change: RunnerChange) -> Result<Runner, StoreError> {
        self.db
            .write(move |tx| {
                let old = by_id(tx, id)?;
                tx.prepare_cached(
                    "update runner set tags = ?1, projects = ?2, enabled = ?3, locked = iif(?4, null, locked),
                     confirmed = iif(?4, null, confirmed), description = ?5, local = ?6 where id = ?7",
                )?
                .execute(params![
                    row::to_json(&change.tags.unwrap_or(old.tags))?,
                    row::to_json(&change.projects.unwrap_or(old.projects))?,
                    change.enabled.unwrap_or(old.enabled),
                    change.unlock,
                    change.description.unwrap_or(old.description).as_str(),
                    change.local.unwrap_or(old.local),
                    row::key(id.to_u128())
                ])?;
                by_id(tx, id)
            })
            .await
    }

    /// Takes a runner away, with its tickets. Its id is never used again.
    pub async fn delete_runner(&self, id: RunnerId) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let key = row::key(id.to_u128());
                tx.prepare_cached("delete from ticket where runner = ?")?.execute([key])?;
                let gone = tx.prepare_cached("delete from runner where id = ?")?.execute([key])?;
                if gone == 1 { Ok(()) } else { Err(StoreError::not_found("runner", id)) }
            })
            .await
    }

    /// Records when runners were last heard of; the scheduler tells at most once a minute.
    pub async fn runners_seen(&self, seen: Vec<(RunnerId, Timestamp)>) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let mut update = tx.prepare_cached("update runner set seen = ? where id = ?")?;
                for (id, at) in seen {
                    update.execute(params![at.as_millis(), row::key(id.to_u128())])?;
                }
                Ok(())
            })
            .await
    }

    /// The runner with this id.
    pub async fn runner(&self, id: RunnerId) -> Result<Option<Runner>, StoreError> {
        self.db
            .read(move |db| match by_id(db, id) {
                Ok(runner) => Ok(Some(runner)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            })
            .await
    }

    /// The runner of this name.
    pub async fn runner_by_name(&self, name: &RunnerName) -> Result<Option<Runner>, StoreError> {
        let name = name.clone();
        self.db
            .read(move |db| {
                let found =
                    db.prepare_cached(&format!("{SELECT} where name = ?"))?.query_row([name.as_str()], read);
                Ok(found.optional()?)
            })
            .await
    }

    /// The notes on the keys to which secrets for these runners are sealed, as far as there are such.
    pub async fn sealing_notes(
        &self,
        runners: Vec<RunnerId>,
    ) -> Result<BTreeMap<RunnerId, String>, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached("select sealing from runner where id = ?")?;
                let mut notes = BTreeMap::new();
                for id in runners {
                    let found: Option<Option<String>> =
                        query.query_row([row::key(id.to_u128())], |row| row.get(0)).optional()?;
                    notes.extend(found.flatten().map(|note| (id, note)));
                }
                Ok(notes)
            })
            .await
    }

    /// Every runner, by name.
    pub async fn runners(&self) -> Result<Vec<Runner>, StoreError> {
        self.db
            .read(|db| {
                let mut query = db.prepare_cached(&format!("{SELECT} order by name"))?;
                let all = query.query_map([], read)?.collect::<Result<_, _>>()?;
                Ok(all)
            })
            .await
    }
}

/// What a runner says of itself when it opens a session.
#[derive(Debug, Clone)]
pub struct SessionFacts {
    /// Its version.
    pub version: String,
    /// Its host's name.
    pub hostname: String,
    /// What it can do beyond the base.
    pub features: BTreeSet<String>,
    /// How many sandboxes it runs at once.
    pub slots: u32,
    /// The note on the key to which secrets for it are sealed.
    pub sealing: Option<String>,
    /// When.
    pub at: Timestamp,
}
