//! SQLite: one thread that writes in groups, a few that read.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

/// Most commands that wait for the writer; beyond it callers wait.
const QUEUE: usize = 4096;
/// Most commands in one transaction: bounds the time that the first of them waits for the last.
const GROUP: usize = 512;
/// Threads that read.
const READERS: usize = 3;
/// Pages in the write-ahead log before the writer moves them into the database: 16 MiB.
const CHECKPOINT_PAGES: u32 = 4096;

/// The tables, step by step. A number once given is never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_base.sql"),
    include_str!("../../migrations/sqlite/0002_transparency.sql"),
    include_str!("../../migrations/sqlite/0003_origin.sql"),
    include_str!("../../migrations/sqlite/0004_verdicts.sql"),
    include_str!("../../migrations/sqlite/0005_flow.sql"),
    include_str!("../../migrations/sqlite/0006_schedule.sql"),
    TRAIL,
    include_str!("../../migrations/sqlite/0008_notice.sql"),
    include_str!("../../migrations/sqlite/0009_settings.sql"),
    include_str!("../../migrations/sqlite/0010_artifact.sql"),
    include_str!("../../migrations/sqlite/0011_retry.sql"),
    include_str!("../../migrations/sqlite/0012_file.sql"),
    include_str!("../../migrations/sqlite/0013_sealed.sql"),
    LIST,
];

/// The migration after which the record's entries are linked lines.
const TRAIL: &str = include_str!("../../migrations/sqlite/0007_trail.sql");
/// The migration after which a list of jobs reads one table.
const LIST: &str = include_str!("../../migrations/sqlite/0014_job.sql");

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing.
    #[error("there is no {what} {name}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its name or id.
        name: String,
    },
    /// It is there already, or has changed since it was read.
    #[error("{what} {name}: {why}")]
    Conflict {
        /// What kind of thing.
        what: &'static str,
        /// Its name or id.
        name: String,
        /// Why it cannot be.
        why: &'static str,
    },
    /// The disk is full; nothing was recorded.
    #[error("the orchestrator's disk is full: nothing was recorded; free some space and try again")]
    Full,
    /// What is stored cannot be read as what it should be.
    #[error("the store is damaged ({0}); restore it from a backup")]
    Damaged(String),
    /// The disk or the database failed, or the store is closing.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

impl StoreError {
    pub(crate) fn not_found(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }

    pub(super) fn conflict(what: &'static str, name: impl ToString, why: &'static str) -> Self {
        Self::Conflict { what, name: name.to_string(), why }
    }

    pub(super) fn unavailable(doing: &str, error: &dyn std::fmt::Display) -> Self {
        Self::Unavailable(format!("{doing}: {error}"))
    }

    fn closing() -> Self {
        Self::Unavailable("it is closing".to_owned())
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                Code::DiskFull => Self::Full,
                Code::DatabaseCorrupt | Code::NotADatabase => Self::Damaged(error.to_string()),
                _ => Self::Unavailable(error.to_string()),
            },
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..) => Self::Damaged(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// A command for the writer: it works inside the open transaction, if there is one, and gives what is called with the
/// fate of the transaction when that is decided.
type Command = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Option<StoreError>) + Send>;
type Query = Box<dyn FnOnce(&mut Connection) + Send>;

/// The database: handles to its threads, which end when this is dropped.
#[derive(Debug)]
pub(super) struct Database {
    writer: Option<mpsc::Sender<Command>>,
    readers: Option<SyncSender<Query>>,
    threads: Vec<JoinHandle<()>>,
}

/// A place in the writer's queue, taken before a decision is made, so that commands stand in the order of decisions.
#[derive(Debug)]
pub(crate) struct Turn(mpsc::OwnedPermit<Command>);

impl Database {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut writer = Connection::open(path)?;
        set_up(&writer)?;
        migrate(&mut writer)?;
        writer.set_prepared_statement_cache_capacity(128);
        let (commands, queue) = mpsc::channel(QUEUE);
        let mut threads = vec![spawn("store-writer", move || write_loop(&mut writer, queue))?];
        let (queries, waiting) = sync_channel::<Query>(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..READERS {
            // Each connection belongs to its thread: without this flag every call would take a lock.
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut reader = Connection::open_with_flags(path, flags)?;
            reader.busy_timeout(Duration::from_secs(5))?;
            reader.pragma_update(None, "mmap_size", 256 << 20)?;
            reader.pragma_update(None, "wal_autocheckpoint", 0)?;
            reader.set_prepared_statement_cache_capacity(128);
            let waiting = Arc::clone(&waiting);
            threads.push(spawn("store-reader", move || read_loop(&mut reader, &waiting))?);
        }
        Ok(Self { writer: Some(commands), readers: Some(queries), threads })
    }

    /// Waits for a place in the writer's queue.
    pub(super) async fn turn(&self) -> Result<Turn, StoreError> {
        let writer = self.writer.clone().ok_or_else(StoreError::closing)?;
        writer.reserve_owned().await.map(Turn).map_err(|_| StoreError::closing())
    }

    /// Does `work` in a transaction of its own fate; the answer comes when it is on disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.turn().await?.write(work).await
    }

    /// Does `query` on a snapshot of what is committed.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, asked) = oneshot::channel();
        let readers = self.readers.as_ref().ok_or_else(StoreError::closing)?;
        let query: Query = Box::new(move |connection| {
            let found =
                connection.transaction().map_err(StoreError::from).and_then(|snapshot| query(&snapshot));
            let _ = answer.send(found);
        });
        readers
            .try_send(query)
            .map_err(|_| StoreError::Unavailable("too many questions at once; try again".to_owned()))?;
        asked.await.map_err(|_| StoreError::closing())?
    }
}

impl Turn {
    /// Queues `work` at once; the answer comes when it is on disk.
    pub(crate) fn write<T: Send + 'static>(
        self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let (answer, done) = oneshot::channel();
        let command: Command = Box::new(move |connection| {
            let result = connection.and_then(|connection| in_savepoint(connection, work));
            Box::new(move |fate| {
                // The caller may have gone away; what is committed stays.
                let _ = answer.send(fate.map_or(result, Err));
            })
        });
        self.0.send(command);
        async move { done.await.map_err(|_| StoreError::closing())? }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.writer = None;
        self.readers = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| StoreError::unavailable("starting a thread", &error))
}

fn set_up(writer: &Connection) -> Result<(), StoreError> {
    let mode: String = writer.query_row("pragma journal_mode = wal", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Unavailable(format!(
            "the database's journal is {mode:?}, not a write-ahead log"
        )));
    }
    writer.busy_timeout(Duration::from_secs(5))?;
    writer.pragma_update(None, "synchronous", "full")?;
    writer.pragma_update(None, "temp_store", "memory")?;
    writer.pragma_update(None, "cache_size", -64_000)?;
    // Only this connection checkpoints: two that do so at once have damaged databases.
    writer.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    Ok(())
}

/// Applies the migrations that the database has not seen, each in a transaction.
fn migrate(writer: &mut Connection) -> Result<(), StoreError> {
    let applied: usize = writer.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if applied > MIGRATIONS.len() {
        return Err(StoreError::Unavailable(
            "the data directory was written by a newer version of Remit; start that one".to_owned(),
        ));
    }
    for (number, sql) in MIGRATIONS.iter().enumerate().skip(applied) {
        let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        if *sql == TRAIL {
            super::audit::link(&tx)?;
        }
        tx.pragma_update(None, "user_version", number + 1)?;
        tx.commit()?;
    }
    Ok(())
}

/// Runs `work` so that its failure undoes only itself.
fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.prepare_cached("savepoint command")?.execute([])?;
    let result = work(connection);
    if result.is_err() {
        connection.prepare_cached("rollback to command")?.execute([])?;
    }
    connection.prepare_cached("release command")?.execute([])?;
    result
}

fn write_loop(connection: &mut Connection, mut queue: mpsc::Receiver<Command>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.blocking_recv_many(&mut group, GROUP) > 0 {
        commit_group(connection, &mut group);
    }
    // A clean end leaves one file.
    let _ = connection.execute_batch("pragma wal_checkpoint(truncate)");
}

/// One transaction for all of `group`; then each hears what became of it.
fn commit_group(connection: &mut Connection, group: &mut Vec<Command>) {
    let mut replies = Vec::with_capacity(group.len());
    let begun =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::from);
    let fate = match begun {
        Ok(tx) => {
            for command in group.drain(..) {
                // A full disk rolls the whole transaction back: then nothing of the group counts.
                let open = if tx.is_autocommit() { Err(StoreError::Full) } else { Ok(&*tx) };
                replies.push(command(open));
            }
            if tx.is_autocommit() {
                Some(StoreError::Full)
            } else {
                tx.commit().map_err(StoreError::from).err()
            }
        }
        Err(error) => {
            replies.extend(group.drain(..).map(|command| command(Err(error.clone()))));
            Some(error)
        }
    };
    if let Some(error) = &fate {
        tracing::error!(%error, commands = replies.len(), "nothing of this group was recorded");
    }
    for reply in replies {
        reply(fate.clone());
    }
}

fn read_loop(connection: &mut Connection, waiting: &Mutex<Receiver<Query>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(query) => query(connection),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use remit_signing::trail;

    use super::*;

    /// A store as it was before a migration.
    fn before(migration: &str) -> Connection {
        let old = Connection::open_in_memory().unwrap();
        let applied = MIGRATIONS.iter().position(|sql| *sql == migration).unwrap();
        for sql in &MIGRATIONS[..applied] {
            old.execute_batch(sql).unwrap();
        }
        old.pragma_update(None, "user_version", applied).unwrap();
        old
    }

    #[test]
    fn entries_of_an_older_version_are_linked_when_it_is_opened() {
        let mut connection = before(TRAIL);
        for target in ["one", "two", "three"] {
            let values =
                "insert into audit (at, who, action, target, detail) values (1, 'ann', 'job.save', ?, '')";
            connection.execute(values, [target]).unwrap();
        }
        migrate(&mut connection).unwrap();
        let mut query = connection.prepare("select line from audit order by number").unwrap();
        let lines: Vec<String> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut targets = Vec::new();
        let linked = trail::verify(lines.iter().map(String::as_bytes), |entry| {
            targets.push(entry.event["target"].as_str().unwrap().to_owned());
        });
        assert_eq!(targets, ["one", "two", "three"]);
        let kept: [u8; 32] =
            connection.query_row("select digest from audit_head", [], |row| row.get(0)).unwrap();
        assert_eq!(&kept, linked.unwrap().unwrap().head.digest.as_bytes());
    }

    #[test]
    fn jobs_of_an_older_version_are_listed_by_their_newest_revision() {
        let mut connection = before(LIST);
        let revision =
            "insert into job_revision (project, job, revision, document, length, folder, description,
             saved, saved_by, source) values ('demo', ?, ?, x'00', 1, 'ops', ?, ?, 'ann', '')";
        for (job, number, description) in [("one", 1, "old"), ("one", 2, "new"), ("gone", 1, "deleted")] {
            connection.execute(revision, (job, number, description, number)).unwrap();
        }
        connection.execute("insert into job values ('demo', 'one', 2)", []).unwrap();
        migrate(&mut connection).unwrap();
        let listed: Vec<(String, String, u32)> = connection
            .prepare("select name, description, saved from job")
            .unwrap()
            .query_map([], |row| row.try_into())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(listed, [("one".to_owned(), "new".to_owned(), 2)]);
    }
}
