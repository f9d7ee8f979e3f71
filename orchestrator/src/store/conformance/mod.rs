//! One suite for every store back end: the same history, the same answers. A second back end joins in [`on_each`].

mod artifacts;
mod audit;
mod blobs;
mod components;
mod executions;
mod hooks;
mod jobs;
mod nodes;
mod notices;
mod results;
mod runners;
mod schedules;
mod sealed;
mod tiles;
mod tokens;
mod trails;
mod verdicts;

use std::collections::BTreeSet;

use remit_job::{notify::Target, schedule::Schedule};
use remit_protocol::{
    AttemptId, ComponentSelector, Description, Digest, Epoch, ExecutionId, NodeIndex, Origin, Outcome,
    Revision, RunnerId, SectionNumber, Session, StepIndex, TicketId, Timestamp, TokenId,
    capability::Effect,
    digest,
    manifest::Kind,
    notice::Occasion,
    operator::{self, Access, InstanceRole, Projects},
    report::{Artifact, ArtifactForm, StepEnded},
};
use serde_json::json;

use super::*;
use crate::execution::{
    AttemptRecord, AttemptState, Change, ExecutionState, Happening, Head, Notice, Place, Purpose,
    SectionRecord, SectionState, Work,
};

/// Runs `test` on a fresh store of each back end.
async fn on_each<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    let directory = tempfile::tempdir().unwrap();
    test(Store::open(directory.path()).unwrap()).await;
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000 + seconds * 1000)
}

fn execution(number: u128) -> ExecutionId {
    ExecutionId::from_parts(at(u64::try_from(number).unwrap()), number)
}

async fn project(store: &Store, name: &str) {
    let project = Project {
        name: name.parse().unwrap(),
        description: Description::default(),
        created: at(0),
        settings: Default::default(),
    };
    store.create_project(project).await.unwrap();
}

fn revision(job: &str, source: &str) -> NewRevision {
    NewRevision {
        project: "ops".parse().unwrap(),
        job: job.parse().unwrap(),
        document: digest::Sized::of(source.as_bytes()),
        note: None,
        source: source.to_owned(),
        group: "g".to_owned(),
        description: "d".to_owned(),
        schedules: Vec::new(),
        by: "ann".to_owned(),
        at: at(1),
    }
}

fn head(job: &str) -> Head {
    Head {
        project: "ops".parse().unwrap(),
        job: job.parse().unwrap(),
        revision: Revision(1),
        document: digest::Sized::of(b"document"),
        note: None,
        purpose: Purpose::Job,
        options: Default::default(),
        files: Vec::new(),
        run_note: None,
        sealed: None,
        started_by: "ann".to_owned(),
        origin: Origin::Operator,
        variables: serde_json::Map::new(),
        tags: BTreeSet::new(),
        nodes: None,
        timeout: None,
        not_before: None,
        at_once: None,
        most_queued: None,
        queued_until: None,
        log_limit: None,
        retries: 0,
        parent: None,
        again: None,
    }
}

fn moved(state: ExecutionState, began: Option<Timestamp>, ended: Option<Timestamp>) -> Change {
    Change::Execution { state, began, ended, stop: None }
}

fn section(state: SectionState) -> SectionRecord {
    let work = Work::Steps { first: StepIndex(0), count: 1, effect: Effect::Effect, nodes: None };
    let place = Place { number: SectionNumber(0), after: vec![], work, tier: 0, threads: None };
    SectionRecord { place, state, epoch: Epoch(0), losses: 0, not_before: None }
}

fn told(state: ExecutionState) -> Happening {
    Happening::Execution { state }
}

fn new(id: ExecutionId, job: &str) -> NewExecution {
    NewExecution {
        id,
        head: head(job),
        sealed: Vec::new(),
        at: at(1),
        key: None,
        changes: vec![
            moved(ExecutionState::Running, None, None),
            Change::Planned(section(SectionState::Ready)),
        ],
        happenings: vec![told(ExecutionState::Running)],
    }
}

async fn create(store: &Store, new: NewExecution) -> Result<Created, StoreError> {
    Store::create_execution(store.turn().await.unwrap(), new).await
}

async fn record(
    store: &Store,
    id: ExecutionId,
    version: u64,
    changes: Vec<Change>,
    happenings: Vec<Happening>,
) -> Result<(), StoreError> {
    let commit = Commit { execution: id, version, at: at(2), changes, happenings };
    Store::record(store.turn().await.unwrap(), vec![commit]).await.unwrap().remove(0)
}

fn result(attempt: AttemptId, node: Option<u32>, outcome: Outcome) -> Change {
    let ended = StepEnded {
        step: StepIndex(0),
        node: node.map(NodeIndex),
        outcome,
        tries: 1,
        started: at(1),
        ended: at(2),
        output: Some(json!({"a": [1, null]})),
        message: "m".to_owned(),
        usage: None,
        remit: Some(Digest::of(b"remit")),
        artifacts: Vec::new(),
    };
    Change::StepEnded { attempt: Some(attempt), ended: Box::new(ended) }
}

#[tokio::test]
async fn a_command_that_fails_undoes_only_itself() {
    on_each(async |store| {
        let name = |number: u32| format!("p{}", number / 2).parse().unwrap();
        let projects = (0..400).map(|number| Project {
            name: name(number),
            description: Description::default(),
            created: at(0),
            settings: Default::default(),
        });
        let made =
            futures_util::future::join_all(projects.map(|project| store.create_project(project))).await;
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 200);
        assert_eq!(store.projects().await.unwrap().len(), 200);
    })
    .await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    create(&store, new(execution(1), "a")).await.unwrap();
    let before = store.execution(execution(1)).await.unwrap();
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.execution(execution(1)).await.unwrap(), before);
}

#[tokio::test]
async fn a_damaged_or_newer_database_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    let path = directory.path().join("remit.db");
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 999).unwrap();
    drop(newer);
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Unavailable(_))));
    std::fs::write(&path, b"this is no database, whatever its name says it is").unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Damaged(_))));
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_what_was_recorded_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    project(&store, "ops").await;
    store.db.write(|tx| Ok(tx.pragma_update(None, "max_page_count", 60)?)).await.unwrap();
    let big = NewRevision { source: "x".repeat(1 << 20), ..revision("big", "1") };
    assert_eq!(store.save_job(big).await, Err(StoreError::Full));
    store.db.write(|tx| Ok(tx.pragma_update(None, "max_page_count", 1_000_000)?)).await.unwrap();
    assert_eq!(store.save_job(revision("small", "1")).await.map(|saved| saved.new), Ok(true));
    assert_eq!(store.jobs(&"ops".parse().unwrap(), None, 10).await.unwrap().len(), 1);
}
