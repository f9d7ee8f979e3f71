//! One suite for every store back end: the same history, the same answers. A second back end joins in [`on_each`].

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
async fn projects_and_jobs() {
    on_each(async |store| {
        assert!(matches!(store.save_job(revision("a", "1")).await, Err(StoreError::NotFound { .. })));
        project(&store, "ops").await;
        let again = Project {
            name: "ops".parse().unwrap(),
            description: Description::default(),
            created: at(9),
            settings: Default::default(),
        };
        assert!(matches!(store.create_project(again).await, Err(StoreError::Conflict { .. })));
        assert_eq!(store.projects().await.unwrap().len(), 1);
        let first = store.save_job(revision("a", "1")).await.unwrap();
        assert_eq!(first, Saved { revision: Revision(1), new: true });
        assert_eq!(
            store.save_job(revision("a", "1")).await.unwrap(),
            Saved { revision: Revision(1), new: false }
        );
        assert_eq!(store.save_job(revision("a", "2")).await.unwrap().revision, Revision(2));
        let (ops, a) = ("ops".parse().unwrap(), "a".parse().unwrap());
        let newest = store.job(&ops, &a, None).await.unwrap().unwrap();
        assert_eq!((newest.revision, newest.source.as_str()), (Revision(2), "2"));
        assert_eq!(store.job(&ops, &a, Some(Revision(1))).await.unwrap().unwrap().source, "1");
        assert!(store.job(&ops, &a, Some(Revision(3))).await.unwrap().is_none());
        // A job that was deleted and comes back goes on counting; its old revisions stay readable.
        assert!(store.delete_job(&ops, &a).await.unwrap());
        assert!(!store.delete_job(&ops, &a).await.unwrap());
        assert!(store.jobs(&ops, None, 10).await.unwrap().is_empty());
        assert!(store.job(&ops, &a, Some(Revision(2))).await.unwrap().is_some());
        assert_eq!(store.save_job(revision("a", "2")).await.unwrap().revision, Revision(3));
    })
    .await;
}

#[tokio::test]
async fn a_components_version_is_never_moved() {
    on_each(async |store| {
        let component = |version: &str, bytes: &str, note: &str| Component {
            name: "a/b".parse().unwrap(),
            version: version.parse().unwrap(),
            digest: Digest::of(bytes.as_bytes()),
            length: 1,
            kind: Kind::Step,
            manifest: "{}".to_owned(),
            note: note.to_owned(),
            published: at(1),
            publisher: "ann".to_owned(),
            yanked: None,
        };
        let publish =
            async |version, bytes, note| store.publish_component(component(version, bytes, note)).await;
        assert_eq!(publish("1.0.0", "x", "n").await, Ok(Published::New));
        assert_eq!(publish("1.0.0", "x", "n").await, Ok(Published::Same));
        assert_eq!(publish("1.0.0", "x", "n2").await, Ok(Published::Resigned));
        assert!(matches!(publish("1.0.0", "y", "n").await, Err(StoreError::Conflict { .. })));
        publish("1.10.0", "z", "n").await.unwrap();
        publish("1.9.0", "y", "n").await.unwrap();
        publish("2.0.0-rc.1", "w", "n").await.unwrap();
        let select = async |text: &str| {
            let found = store.select_component(&ComponentSelector::new(text).unwrap()).await.unwrap();
            found.map(|component| component.version.to_string())
        };
        assert_eq!(select("a/b@1").await.as_deref(), Some("1.10.0"));
        assert_eq!(select("a/b@2").await, None);
        let (name, version) = ("a/b".parse().unwrap(), "1.10.0".parse().unwrap());
        store.yank_component(&name, &version, Some(at(2))).await.unwrap();
        assert_eq!(select("a/b@1").await.as_deref(), Some("1.9.0"));
        assert_eq!(select("a/b@1.10.0").await.as_deref(), Some("1.10.0"));
        let found = store.component_by_digest(Digest::of(b"x")).await.unwrap().unwrap();
        assert_eq!(found.note, "n2");
        assert_eq!(store.components().await.unwrap().len(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_ticket_is_used_once_and_a_copied_runner_is_locked() {
    on_each(async |store| {
        let id = RunnerId::from_parts(at(0), 1);
        let runner = |id| NewRunner {
            id,
            name: "r".parse().unwrap(),
            local: false,
            tags: BTreeSet::from(["dmz".parse().unwrap()]),
            projects: Projects::All,
            description: Description::default(),
            at: at(0),
        };
        store.create_runner(runner(id)).await.unwrap();
        let taken = store.create_runner(runner(RunnerId::from_parts(at(0), 2))).await;
        assert!(matches!(taken, Err(StoreError::Conflict { .. })));
        let ticket = |number| NewTicket {
            id: TicketId::from_parts(at(0), number),
            runner: id,
            key: [7; 32],
            expires: at(100),
        };
        let enrol =
            |number, key, at| Enrolment { ticket: TicketId::from_parts(self::at(0), number), key, at };
        store.create_ticket(ticket(1)).await.unwrap();
        store.create_ticket(ticket(2)).await.unwrap();
        assert!(store.ticket(ticket(1).id).await.unwrap().is_none());
        assert_eq!(store.ticket(ticket(2).id).await.unwrap(), Some(ticket(2)));
        assert!(matches!(store.enrol(enrol(2, [1; 32], at(100))).await, Err(StoreError::Conflict { .. })));
        let enrolled = store.enrol(enrol(2, [1; 32], at(5))).await.unwrap();
        assert_eq!(store.enrol(enrol(2, [1; 32], at(6))).await.unwrap(), enrolled);
        assert!(matches!(store.enrol(enrol(2, [2; 32], at(6))).await, Err(StoreError::Conflict { .. })));

        let facts = SessionFacts {
            version: "1".to_owned(),
            hostname: "h".to_owned(),
            features: BTreeSet::new(),
            slots: 3,
            at: at(7),
        };
        let open = async |last| store.open_session(id, Session(last), facts.clone()).await.unwrap();
        assert_eq!(open(0).await, Opening::Opened(Session(1)));
        // The answer was lost: nobody has used session 1.
        assert_eq!(open(0).await, Opening::Opened(Session(2)));
        store.confirm_session(id, Session(2)).await.unwrap();
        assert_eq!(open(2).await, Opening::Opened(Session(3)));
        assert_eq!(open(1).await, Opening::Locked);
        assert_eq!(open(3).await, Opening::Locked);
        store.change_runner(id, RunnerChange { unlock: true, ..RunnerChange::default() }).await.unwrap();
        assert_eq!(open(9).await, Opening::Opened(Session(10)));
        let changed =
            RunnerChange { enabled: Some(false), tags: Some(BTreeSet::new()), ..RunnerChange::default() };
        let changed = store.change_runner(id, changed).await.unwrap();
        assert_eq!((changed.enabled, changed.tags.len(), changed.slots), (false, 0, 3));
        store.delete_runner(id).await.unwrap();
        assert!(store.runner(id).await.unwrap().is_none());
        assert!(matches!(store.delete_runner(id).await, Err(StoreError::NotFound { .. })));
    })
    .await;
}

#[tokio::test]
async fn tokens_end_and_are_taken_back() {
    on_each(async |store| {
        let id = TokenId::from_parts(at(0), 1);
        let new = NewToken {
            id,
            name: "t".parse().unwrap(),
            hash: [3; 32],
            access: Access::Instance { role: InstanceRole::Admin },
            expires: Some(at(10)),
            by: "ann".to_owned(),
            at: at(0),
        };
        store.create_token(new).await.unwrap();
        store.tokens_used(vec![(id, at(5)), (id, at(4))]).await.unwrap();
        let token = store.token(id).await.unwrap().unwrap();
        assert_eq!((token.hash, token.last_used), ([3; 32], Some(at(5))));
        assert!(token.is_valid(at(9)) && !token.is_valid(at(10)));
        store.revoke_token(id, at(6)).await.unwrap();
        store.revoke_token(id, at(7)).await.unwrap();
        let token = store.tokens().await.unwrap().remove(0);
        assert_eq!((token.revoked, token.is_valid(at(7))), (Some(at(6)), false));
    })
    .await;
}

#[tokio::test]
async fn an_execution_moves_by_versions_and_tells_in_order() {
    on_each(async |store| {
        let id = execution(1);
        create(&store, new(id, "a")).await.unwrap();
        let handed = AttemptRecord {
            id: AttemptId::from_parts(at(1), 1),
            section: SectionNumber(0),
            epoch: Epoch(1),
            runner: RunnerId::from_parts(at(1), 2),
            session: Session(4),
            ranges: vec![(0, 3)],
            state: AttemptState::Leased,
            nonce: None,
            events: 0,
            leased: at(1),
            began: None,
            ended: None,
            message: String::new(),
            result: None,
        };
        let leased = SectionRecord { epoch: Epoch(1), ..section(SectionState::Leased) };
        let changes = vec![Change::Section(leased.clone()), Change::HandedOut(handed.clone())];
        record(&store, id, 1, changes.clone(), vec![]).await.unwrap();
        // What was decided on an older version is refused whole.
        let stale = record(&store, id, 1, changes, vec![]).await;
        assert!(matches!(stale, Err(StoreError::Conflict { .. })));
        assert!(record(&store, id, 2, vec![], vec![]).await.is_ok());
        assert!(record(&store, id, 3, vec![], vec![]).await.is_err());
        let begun = AttemptRecord {
            state: AttemptState::Started,
            nonce: Some(u64::MAX),
            began: Some(at(2)),
            ..handed
        };
        let changes = vec![
            Change::Attempt(begun.clone()),
            Change::Dispatched { attempt: begun.id, number: 1, nodes: vec![NodeIndex(2)] },
            result(begun.id, None, Outcome::Succeeded),
            Change::StepConcluded { step: StepIndex(0), outcome: Outcome::Succeeded },
            moved(ExecutionState::Ended(Outcome::Succeeded), Some(at(2)), Some(at(3))),
        ];
        let ended = told(ExecutionState::Ended(Outcome::Succeeded));
        assert_eq!(store.open_executions().await.unwrap(), [id]);
        record(&store, id, 2, changes, vec![told(ExecutionState::Running), ended.clone()]).await.unwrap();
        assert!(store.open_executions().await.unwrap().is_empty());
        let found = store.execution(id).await.unwrap().unwrap();
        assert_eq!((found.version, found.last_event), (3, 3));
        assert_eq!((found.sections, found.attempts), (vec![leased], vec![begun.clone()]));
        assert_eq!(found.steps[&StepIndex(0)], Outcome::Succeeded);
        assert_eq!((found.began, found.ended), (Some(at(2)), Some(at(3))));
        let feed = store.events_after(id, 2).await.unwrap();
        assert_eq!(feed, [FeedEntry { number: 3, at: at(2), what: ended }]);
        assert_eq!(store.dispatched(id).await.unwrap(), [(begun.id, vec![NodeIndex(2)])]);
        assert_eq!(store.execution_of(begun.id).await.unwrap(), Some(id));
        let results = store.results(id, ResultFilter { limit: 9, ..ResultFilter::default() }).await.unwrap();
        assert_eq!(results[0].ended.output, Some(json!({"a": [1, null]})));
    })
    .await;
}

#[tokio::test]
async fn the_same_key_makes_the_same_execution() {
    on_each(async |store| {
        let keyed = |number, job: &str, request: &[u8]| NewExecution {
            key: Some(("k".parse().unwrap(), Digest::of(request))),
            ..new(execution(number), job)
        };
        assert_eq!(create(&store, keyed(1, "a", b"x")).await, Ok(Created::New));
        assert_eq!(create(&store, keyed(2, "a", b"x")).await, Ok(Created::Before(execution(1))));
        assert!(matches!(create(&store, keyed(3, "a", b"y")).await, Err(StoreError::Conflict { .. })));
        assert_eq!(create(&store, keyed(4, "b", b"y")).await, Ok(Created::New));
        assert!(store.execution(execution(2)).await.unwrap().is_none());
        assert_eq!(store.forget_keys(execution(4)).await, Ok(1));
        assert_eq!(create(&store, keyed(5, "a", b"y")).await, Ok(Created::New));
        assert_eq!(create(&store, keyed(6, "b", b"y")).await, Ok(Created::Before(execution(4))));
    })
    .await;
}

#[tokio::test]
async fn executions_are_listed_in_pages_by_what_is_asked() {
    on_each(async |store| {
        for number in 1..=6 {
            create(&store, new(execution(number), if number % 2 == 0 { "even" } else { "odd" }))
                .await
                .unwrap();
        }
        let refused = Outcome::Refused(remit_protocol::RefusalCode::Signature);
        for (number, outcome) in [(1, Outcome::Failed), (2, refused)] {
            let end = moved(ExecutionState::Ended(outcome), Some(at(2)), Some(at(3)));
            record(&store, execution(number), 1, vec![end], vec![]).await.unwrap();
        }
        let list = async |filter: ExecutionFilter| {
            let found = store.executions(filter).await.unwrap();
            found.into_iter().map(|summary| summary.id).collect::<Vec<_>>()
        };
        let all = ExecutionFilter { limit: 100, ..ExecutionFilter::default() };
        let ids = |numbers: &[u128]| numbers.iter().map(|number| execution(*number)).collect::<Vec<_>>();
        assert_eq!(list(all.clone()).await, ids(&[6, 5, 4, 3, 2, 1]));
        assert_eq!(list(ExecutionFilter { limit: 2, ..all.clone() }).await, ids(&[6, 5]));
        assert_eq!(list(ExecutionFilter { before: Some(execution(3)), ..all.clone() }).await, ids(&[2, 1]));
        assert_eq!(
            list(ExecutionFilter { job: Some("odd".parse().unwrap()), ..all.clone() }).await,
            ids(&[5, 3, 1])
        );
        let outcome = |text: &str| ExecutionFilter { outcome: Some(text.to_owned()), ..all.clone() };
        assert_eq!(list(outcome("refused")).await, ids(&[2]));
        assert_eq!(list(outcome("failed")).await, ids(&[1]));
        assert!(list(outcome("%")).await.is_empty());
        let state = |state| ExecutionFilter { state: Some(state), ..all.clone() };
        assert_eq!(list(state(operator::ExecutionState::Ended)).await, ids(&[2, 1]));
        assert_eq!(list(state(operator::ExecutionState::Waiting)).await.len(), 4);
        let elsewhere = ExecutionFilter { project: Some("other".parse().unwrap()), ..all };
        assert!(list(elsewhere).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn results_of_many_nodes_come_in_pages() {
    on_each(async |store| {
        let id = execution(1);
        create(&store, new(id, "a")).await.unwrap();
        let attempt = AttemptId::from_parts(at(1), 1);
        let outcome = |node: u32| if node.is_multiple_of(100) { Outcome::Failed } else { Outcome::Succeeded };
        let changes = (0..10_000).map(|node| result(attempt, Some(node), outcome(node))).collect();
        record(&store, id, 1, changes, vec![]).await.unwrap();
        record(&store, id, 2, vec![result(attempt, Some(7), Outcome::Trapped)], vec![]).await.unwrap();
        let counts = &store.result_counts(id).await.unwrap()[&StepIndex(0)];
        assert_eq!(counts[&Outcome::Succeeded], 9899);
        assert_eq!((counts[&Outcome::Failed], counts[&Outcome::Trapped]), (100, 1));
        let failed =
            ResultFilter { outcome: Some("failed".to_owned()), limit: 60, ..ResultFilter::default() };
        let page = store.results(id, failed.clone()).await.unwrap();
        let last = page.last().map(|result| (result.ended.node, result.ended.step)).unwrap();
        assert_eq!((page.len(), last), (60, (Some(NodeIndex(5900)), StepIndex(0))));
        let rest = store.results(id, ResultFilter { after: Some(last), ..failed }).await.unwrap();
        assert_eq!((rest.len(), rest[0].ended.node), (40, Some(NodeIndex(6000))));
        assert_eq!(store.outcomes(id).await.unwrap().len(), 10_000);
    })
    .await;
}

#[tokio::test]
async fn sources_stand_in_their_order_and_keep_what_they_gave() {
    on_each(async |store| {
        let (ops, loaded) = ("ops".parse().unwrap(), "loaded".parse().unwrap());
        let source = |name: &str| NewSource {
            project: "ops".parse().unwrap(),
            name: name.parse().unwrap(),
            kind: SourceKind::Component,
            config: json!({"uses": "a/b@1"}),
            document: Some(digest::Sized::of(b"d")),
            every: None,
        };
        store.save_source(source("b")).await.unwrap();
        store.save_source(source("a")).await.unwrap();
        store.load_nodes(&ops, &loaded, digest::Sized::of(b"n"), 3, at(1)).await.unwrap();
        store.save_source(source("b")).await.unwrap();
        let names = async || {
            let all = store.sources(&ops).await.unwrap();
            all.iter().map(|source| source.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names().await, ["loaded", "b", "a"]);
        let wrong = store.load_nodes(&ops, &"a".parse().unwrap(), digest::Sized::of(b"n"), 3, at(1)).await;
        assert!(matches!(wrong, Err(StoreError::Conflict { .. })));

        // A refresh counts if it is the newest of its source.
        let refresh = |number| NewExecution {
            head: Head { purpose: Purpose::Source("a".parse().unwrap()), ..head("discover") },
            ..new(execution(number), "discover")
        };
        create(&store, refresh(1)).await.unwrap();
        create(&store, refresh(2)).await.unwrap();
        let gave = |bytes: &[u8], count| Change::SourceNodes {
            name: "a".parse().unwrap(),
            found: Ok((digest::Sized::of(bytes), count)),
        };
        record(&store, execution(2), 1, vec![gave(b"new", 2)], vec![]).await.unwrap();
        record(&store, execution(1), 1, vec![gave(b"old", 1)], vec![]).await.unwrap();
        let failed = Change::SourceNodes { name: "a".parse().unwrap(), found: Err("why".to_owned()) };
        record(&store, execution(2), 2, vec![failed], vec![]).await.unwrap();
        let found = store.sources(&ops).await.unwrap().remove(2);
        assert_eq!((found.nodes, found.count), (Some(digest::Sized::of(b"new")), 2));
        assert_eq!((found.error.as_deref(), found.execution), (Some("why"), Some(execution(2))));
        let listed = ExecutionFilter { limit: 9, ..ExecutionFilter::default() };
        assert!(store.executions(listed.clone()).await.unwrap().is_empty());
        assert_eq!(store.executions(ExecutionFilter { sources: true, ..listed }).await.unwrap().len(), 2);
        assert!(store.delete_source(&ops, &loaded).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn what_people_did_is_kept_in_order() {
    on_each(async |store| {
        for (second, action) in [(1, "job.save"), (2, "job.run"), (3, "runner.create")] {
            let new = NewAudit {
                at: at(second),
                who: "ann".to_owned(),
                action: action.to_owned(),
                target: "t".to_owned(),
                detail: String::new(),
            };
            store.audit(new).await.unwrap();
        }
        let jobs = AuditFilter { action: Some("job.".to_owned()), limit: 1, ..AuditFilter::default() };
        let newest = store.audit_entries(jobs.clone()).await.unwrap().remove(0);
        assert_eq!(newest.entry.action, "job.run");
        let rest = store.audit_entries(AuditFilter { before: Some(newest.number), ..jobs }).await.unwrap();
        assert_eq!(rest[0].entry.action, "job.save");
    })
    .await;
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

#[tokio::test]
async fn a_log_only_grows() {
    on_each(async |store| {
        let sign = |size: u64, root: &Digest| Ok(format!("{size} {root}"));
        let note = |number: u32| number.to_be_bytes().to_vec();
        assert_eq!(store.log_head().await.unwrap(), None);
        let append = async |notes| store.append_notes(notes, sign).await.unwrap();
        assert!(append(vec![]).await.is_empty());
        let empty = store.log_head().await.unwrap().unwrap();
        assert_eq!((empty.size, empty.root), (0, Digest::of(b"")));
        assert_eq!(append((0..300).map(note).collect()).await, (0..300).collect::<Vec<_>>());
        // What is there stays where it is, also twice in one batch.
        assert_eq!(append(vec![note(7), note(300), note(300), note(299)]).await, [7, 300, 300, 299]);
        let head = store.log_head().await.unwrap().unwrap();
        assert_eq!((head.size, &head.checkpoint), (301, &format!("301 {}", head.root)));
        let found = store.log_leaves(256, 300).await.unwrap();
        assert_eq!(found, (256..300).map(note).collect::<Vec<_>>());
        assert_eq!(store.log_tile(0, 1).await.unwrap().unwrap().len(), 45 * 32);
        assert_eq!(store.log_tile(1, 0).await.unwrap().unwrap().len(), 32);
        assert_eq!(store.log_tile(1, 1).await.unwrap(), None);
        let hash = remit_signing::log::leaf_hash(&note(5));
        let proof = store.prove_leaf(hash).await.unwrap().unwrap();
        assert_eq!((proof.index, proof.head.size), (5, 301));
        let verifies = remit_signing::log::verify_inclusion(&hash, 5, 301, &proof.hashes, &head.root);
        assert!(verifies);
        assert_eq!(store.prove_leaf(Digest::of(b"none")).await.unwrap(), None);
        assert!(store.prove_consistency(299, 301).await.unwrap().is_some());
        assert!(store.prove_consistency(299, 302).await.unwrap().is_none());
        assert!(store.prove_consistency(0, 301).await.unwrap().is_none());
        assert!(store.append_notes(vec![vec![0; 65_536]], sign).await.is_err());
        // A head that cannot be signed leaves nothing behind.
        let failing = |_: u64, _: &Digest| Err(StoreError::Full);
        assert_eq!(store.append_notes(vec![note(400)], failing).await, Err(StoreError::Full));
        assert_eq!(store.log_head().await.unwrap(), Some(head));
    })
    .await;
}

#[tokio::test]
async fn verdicts_come_with_what_they_began_from() {
    on_each(|store| async move {
        let wasm = |number: u8| Digest::of(&[number]);
        let verdict = |note: &str, component, since, pass| Verdict {
            component,
            since,
            pass,
            note: note.to_owned(),
            published: at(1),
            publisher: "ann".to_owned(),
        };
        for new in [
            verdict("full of 1", wasm(1), None, true),
            verdict("2 since 1", wasm(2), Some(wasm(1)), true),
            verdict("3 since 2", wasm(3), Some(wasm(2)), true),
            verdict("against 3", wasm(3), None, false),
            verdict("3 since 3", wasm(3), Some(wasm(3)), true),
            verdict("full of 9", wasm(9), None, true),
        ] {
            assert!(store.keep_verdict(new.clone()).await.unwrap());
            assert!(!store.keep_verdict(new).await.unwrap());
        }
        let behind = async |component, most| store.verdicts_behind(component, most).await.unwrap();
        let all = ["against 3", "3 since 3", "3 since 2", "2 since 1", "full of 1"];
        assert_eq!(behind(wasm(3), 48).await, all);
        assert_eq!(behind(wasm(3), 4).await, all[..4]);
        assert_eq!(behind(wasm(3), 1).await, all[..1]);
        assert_eq!(behind(wasm(2), 48).await, all[3..]);
        assert_eq!(behind(wasm(8), 48).await, [""; 0]);
        assert!(store.unlogged_notes().await.unwrap().contains(&b"full of 9".to_vec()));
    })
    .await;
}

fn schedule(name: &str, cron: &str) -> Schedule {
    serde_json::from_value(json!({"name": name, "cron": cron})).unwrap()
}

#[tokio::test]
async fn a_time_of_a_schedule_is_taken_once_and_only_forward() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let hourly = NewRevision { schedules: vec![schedule("hourly", "0 * * * *")], ..revision("a", "1") };
        store.save_job(hourly.clone()).await.unwrap();
        let ops = "ops".parse().unwrap();
        let stored = store.schedules(&ops, None).await.unwrap().remove(0);
        // Made at 11:06:41.
        assert_eq!(stored.next.unwrap().to_seconds_text(), "2026-11-18T12:00:00Z");
        assert_eq!((stored.done, stored.enabled, stored.execution), (at(1), true, None));
        assert_eq!(store.schedules_due(at(3199)).await.unwrap(), []);
        assert_eq!(store.schedules_due(at(3200)).await.unwrap().remove(0), stored);

        let fired = |number: u128, due: Timestamp| {
            let origin = Origin::Schedule { name: "hourly".parse().unwrap(), due };
            NewExecution { head: Head { origin, ..head("a") }, ..new(execution(number), "a") }
        };
        assert_eq!(create(&store, fired(1, at(3200))).await, Ok(Created::New));
        for (number, due) in [(2, at(3200)), (3, at(100))] {
            let again = create(&store, fired(number, due)).await;
            assert!(matches!(again, Err(StoreError::Conflict { what: "schedule", .. })), "{again:?}");
            assert_eq!(store.execution(execution(number)).await.unwrap(), None);
        }
        let stored = store.schedules(&ops, Some(&"a".parse().unwrap())).await.unwrap().remove(0);
        assert_eq!((stored.done, stored.execution), (at(3200), Some(execution(1))));
        assert_eq!(stored.next, Some(at(6800)));
        let listed = store.executions(ExecutionFilter { limit: 10, ..Default::default() }).await.unwrap();
        let origin = Origin::Schedule { name: "hourly".parse().unwrap(), due: at(3200) };
        assert_eq!(listed[0].origin, origin);

        // What is left out moves it on, and never back.
        let key = stored.key();
        store.pass_schedule(key.clone(), at(6800), Some("no such option".to_owned())).await.unwrap();
        store.pass_schedule(key.clone(), at(50), None).await.unwrap();
        let stored = store.schedules(&ops, None).await.unwrap().remove(0);
        assert_eq!((stored.done, stored.error.as_deref()), (at(6800), Some("no such option")));

        // The same times go on where they were; other times begin when they are saved.
        let again = NewRevision { source: "2".to_owned(), at: at(9000), ..hourly.clone() };
        store.save_job(again).await.unwrap();
        assert_eq!(store.schedules(&ops, None).await.unwrap()[0].done, at(6800));
        let other = vec![schedule("hourly", "30 * * * *"), schedule("second", "0 0 * * *")];
        let other = NewRevision { source: "3".to_owned(), at: at(9000), schedules: other, ..hourly.clone() };
        store.save_job(other).await.unwrap();
        let both = store.schedules(&ops, None).await.unwrap();
        assert_eq!(both.iter().map(|one| one.done).collect::<Vec<_>>(), [at(9000), at(9000)]);

        // Paused: nothing is due, and what came meanwhile is left out.
        assert!(store.enable_schedule(key.clone(), false, at(9001)).await.unwrap());
        assert!(!store.enable_schedule(key.clone(), false, at(9002)).await.unwrap());
        assert_eq!(store.schedules_due(at(20_000)).await.unwrap(), []);
        let off = create(&store, fired(4, at(19_000))).await;
        assert!(matches!(off, Err(StoreError::Conflict { .. })), "{off:?}");
        assert!(store.enable_schedule(key.clone(), true, at(20_000)).await.unwrap());
        assert_eq!(store.schedules(&ops, None).await.unwrap()[0].done, at(20_000));

        // They go with their job.
        store.delete_job(&ops, &"a".parse().unwrap()).await.unwrap();
        assert_eq!(store.schedules(&ops, None).await.unwrap(), []);
        let gone = store.enable_schedule(key, true, at(1)).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
        let gone = create(&store, fired(5, at(30_000))).await;
        assert!(matches!(gone, Err(StoreError::Conflict { .. })), "{gone:?}");
    })
    .await;
}

#[tokio::test]
async fn the_record_is_linked_and_what_is_too_long_is_shortened() {
    on_each(|store| async move {
        use remit_signing::trail;
        let entry = |action: &str, detail: &str| NewAudit {
            at: at(1),
            who: "ann".to_owned(),
            action: action.to_owned(),
            target: "x".to_owned(),
            detail: detail.to_owned(),
        };
        assert_eq!(store.audit_head().await.unwrap(), trail::Head::origin());
        for (action, detail) in [("a", ""), ("b", &*"long".repeat(10_000)), ("c", "more")] {
            store.audit(entry(action, detail)).await.unwrap();
        }
        let found = store.audit_lines(0, 10).await.unwrap();
        let mut kinds = Vec::new();
        let linked = trail::verify(found.lines.iter().map(String::as_bytes), |entry| {
            kinds.push((
                entry.kind().to_owned(),
                entry.event["who"].clone(),
                entry.event.get("detail").cloned(),
            ));
        });
        assert_eq!(linked.unwrap().unwrap().head, store.audit_head().await.unwrap());
        let said = |kind: &str, detail: Option<&str>| (kind.to_owned(), "ann".into(), detail.map(Into::into));
        assert_eq!(kinds, [said("a", None), said("b", Some("shortened")), said("c", Some("more"))]);
        let part = store.audit_lines(1, 1).await.unwrap();
        assert_eq!((&part.lines[..], part.last), (&found.lines[1..2], Some(2)));
        let end = store.audit_lines(3, 1).await.unwrap();
        assert_eq!((end.lines.len(), end.last), (0, None));
    })
    .await;
}

#[tokio::test]
async fn a_delivery_of_a_webhook_is_taken_once() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let ops: remit_protocol::ProjectName = "ops".parse().unwrap();
        let (name, delivery): (remit_protocol::HookName, remit_protocol::DeliveryId) =
            ("push".parse().unwrap(), "d-1".parse().unwrap());
        let hook = Hook {
            project: ops.clone(),
            name: name.clone(),
            job: "a".parse().unwrap(),
            mapping: [("n".parse().unwrap(), operator::HookMapping::Payload("/n".to_owned()))].into(),
            secret: vec![1],
            previous: None,
            created: at(1),
            created_by: "ann".to_owned(),
            rotated: at(1),
        };
        store.create_hook(hook.clone()).await.unwrap();
        assert!(matches!(store.create_hook(hook.clone()).await, Err(StoreError::Conflict { .. })));
        assert_eq!(store.hooks(&ops).await.unwrap().remove(0), hook);
        store.rotate_hook(&ops, &name, vec![2], at(2), Some(at(9))).await.unwrap();
        let rotated =
            Hook { secret: vec![2], previous: Some((vec![1], at(9))), rotated: at(2), ..hook.clone() };
        assert_eq!(store.hook(&ops, &name).await.unwrap(), Some(rotated));
        store.rotate_hook(&ops, &name, vec![3], at(3), None).await.unwrap();
        let rotated = Hook { secret: vec![3], rotated: at(3), ..hook };
        assert_eq!(store.hook(&ops, &name).await.unwrap(), Some(rotated));

        let called = |number: u128, hook: &str| {
            let (name, delivery) = (hook.parse().unwrap(), "d-1".parse().unwrap());
            let origin = Origin::Webhook { name, delivery, sent: at(1) };
            NewExecution { head: Head { origin, ..head("a") }, ..new(execution(number), "a") }
        };
        assert_eq!(create(&store, called(1, "push")).await, Ok(Created::New));
        let again = create(&store, called(2, "push")).await;
        assert!(matches!(again, Err(StoreError::Conflict { what: "delivery", .. })), "{again:?}");
        assert_eq!(store.execution(execution(2)).await.unwrap(), None);
        assert_eq!(store.delivered(&ops, &name, &delivery).await.unwrap(), Some(execution(1)));
        // Another webhook counts for itself, and one that is made again remembers.
        assert_eq!(create(&store, called(3, "other")).await, Ok(Created::New));
        assert!(store.delete_hook(&ops, &name).await.unwrap());
        assert!(!store.delete_hook(&ops, &name).await.unwrap());
        assert!(create(&store, called(4, "push")).await.is_err());
        assert_eq!(store.forget_deliveries(at(1)).await.unwrap(), 0);
        assert_eq!(store.forget_deliveries(at(2)).await.unwrap(), 2);
        let gone = store.rotate_hook(&ops, &name, vec![3], at(3), None).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
    })
    .await;
}

#[tokio::test]
async fn of_a_runners_record_the_longest_end_stays() {
    on_each(|store| async move {
        use remit_signing::trail::Head;
        let runner = RunnerId::from_u128(1);
        let end = |entries, text: &str, key: u8| TrailHead {
            key: [key; 32],
            head: Head { entries, digest: Digest::of(text.as_bytes()) },
            note: format!("{entries} {text}"),
            at: at(entries),
            against: None,
        };
        let keep = async |head: TrailHead| store.keep_trail(runner, head).await.unwrap();
        assert_eq!(keep(end(5, "a", 1)).await, Kept::Newest);
        assert_eq!(keep(end(5, "a", 1)).await, Kept::Same);
        assert_eq!(keep(end(7, "b", 1)).await, Kept::Newest);
        assert_eq!(keep(end(6, "c", 1)).await, Kept::Against { entries: 7, first: true });
        assert_eq!(keep(end(7, "d", 1)).await, Kept::Against { entries: 7, first: false });
        assert_eq!(keep(end(8, "e", 1)).await, Kept::Newest);
        assert_eq!(keep(end(2, "f", 2)).await, Kept::Newest);
        let found = store.trails(runner).await.unwrap();
        let shown: Vec<_> =
            found.iter().map(|head| (head.key[0], head.head.entries, head.against.clone())).collect();
        assert_eq!(shown, [(1, 8, Some("6 c".to_owned())), (2, 2, None)]);
        assert!(store.trails(RunnerId::from_u128(2)).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_notice_waits_until_it_is_sent_or_given_up() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let ops: remit_protocol::ProjectName = "ops".parse().unwrap();
        let notice = |occasion, part: &str, entry| Notice {
            occasion,
            part: part.to_owned(),
            entry,
            target: Target::Channel("ops".parse().unwrap()),
        };
        let start = notice(Occasion::Start, "", 0);
        let mut first = new(execution(1), "a");
        first.changes.push(Change::Notice(start.clone()));
        assert_eq!(create(&store, first).await, Ok(Created::New));
        // The same again is the same; another part or entry is another.
        store.add_notice(execution(1), start, at(5)).await.unwrap();
        store.add_notice(execution(1), notice(Occasion::Retry, "0/2", 0), at(5)).await.unwrap();
        store.add_notice(execution(1), notice(Occasion::Retry, "0/3", 0), at(6)).await.unwrap();
        store.add_notice(execution(1), notice(Occasion::Retry, "0/3", 1), at(6)).await.unwrap();
        assert_eq!(store.notices(&ops, None, None, 10).await.unwrap().len(), 4);
        let due = store.notices_due(at(5), 10).await.unwrap();
        assert_eq!(due.iter().map(|one| (one.at, one.tries)).collect::<Vec<_>>(), [(at(1), 0), (at(5), 0)]);

        store.notice_tried(due[0].number, Tried::Again(at(50), "x".to_owned()), at(5)).await.unwrap();
        store.notice_tried(due[1].number, Tried::Sent, at(5)).await.unwrap();
        assert_eq!(store.notices_due(at(5), 10).await.unwrap(), []);
        let due = store.notices_due(at(50), 10).await.unwrap();
        assert_eq!((due.len(), due[2].tries, due[2].error.as_deref()), (3, 1, Some("x")));
        store.notice_tried(due[2].number, Tried::Failed("y".to_owned()), at(51)).await.unwrap();
        let failed = store.notices(&ops, Some(operator::NoticeState::Failed), None, 10).await.unwrap();
        assert_eq!((failed.len(), failed[0].tries, failed[0].error.as_deref()), (1, 2, Some("y")));
        // What waits is kept, however old.
        assert_eq!(store.forget_notices(at(51)).await.unwrap(), 1);
        assert_eq!(store.forget_notices(at(9999)).await.unwrap(), 1);
        assert_eq!(store.notices(&ops, None, None, 10).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn jobs_come_in_pages_by_name() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let ops: remit_protocol::ProjectName = "ops".parse().unwrap();
        for name in ["c", "a", "b", "b_2"] {
            store.save_job(revision(name, name)).await.unwrap();
        }
        let names = async |after: Option<&str>, limit| {
            let after = after.map(|after| after.parse().unwrap());
            let page = store.jobs(&ops, after, limit).await.unwrap();
            page.into_iter().map(|job| job.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(None, 10).await, ["a", "b", "b_2", "c"]);
        assert_eq!(names(None, 2).await, ["a", "b"]);
        assert_eq!(names(Some("b"), 2).await, ["b_2", "c"]);
        assert_eq!(names(Some("c"), 2).await, [""; 0]);
        assert_eq!(store.count_jobs(&ops).await, Ok(4));
    })
    .await;
}

#[tokio::test]
async fn what_has_ended_can_be_forgotten_wholly_and_what_has_not_stays() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let (over, open) = (execution(1), execution(2));
        let key = ("k".parse().unwrap(), Digest::of(b"request"));
        create(&store, NewExecution { key: Some(key.clone()), ..new(over, "a") }).await.unwrap();
        create(&store, new(open, "a")).await.unwrap();
        let attempt = AttemptId::from_parts(at(1), 7);
        let ended = ExecutionState::Ended(Outcome::Succeeded);
        let changes = vec![
            result(attempt, None, Outcome::Succeeded),
            Change::StepConcluded { step: StepIndex(0), outcome: Outcome::Succeeded },
            moved(ended, Some(at(1)), Some(at(2))),
        ];
        record(&store, over, 1, changes, vec![told(ended)]).await.unwrap();
        assert_eq!(store.forget_executions(vec![over, open, execution(9)]).await, Ok(vec![over]));
        assert_eq!(store.execution(over).await.unwrap(), None);
        assert_eq!(store.events_after(over, 0).await.unwrap(), []);
        let all = ResultFilter { limit: 10, ..ResultFilter::default() };
        assert_eq!(store.results(over, all).await.unwrap(), []);
        assert!(store.execution(open).await.unwrap().is_some());
        // The same request is still the same: it does not run again.
        let again = create(&store, NewExecution { key: Some(key), ..new(execution(3), "a") }).await;
        assert_eq!(again, Ok(Created::Before(over)));
    })
    .await;
}

#[tokio::test]
async fn artifacts_are_what_the_attempt_brought_and_count_once() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let id = execution(1);
        create(&store, new(id, "a")).await.unwrap();
        let (first, second) = (AttemptId::from_parts(at(1), 7), AttemptId::from_parts(at(1), 8));
        let quota = remit_protocol::Size::from_bytes(10);
        let bytes = |text: &str| digest::Sized::of(text.as_bytes());
        let brought = async |attempt, text: &str| {
            let upload = Upload { attempt, project: "ops".parse().unwrap(), bytes: bytes(text), at: at(1) };
            store.keep_upload(upload, quota).await.unwrap()
        };
        assert!(brought(first, "abcdef").await);
        assert!(!brought(first, "ghijkl").await, "more than the quota");
        assert!(brought(second, "abcdef").await, "the same bytes count once");
        assert!(brought(second, "ghij").await);
        let ops = "ops".parse().unwrap();
        assert_eq!(store.artifact_bytes(&ops).await, Ok(10));
        let ended = |attempt, node, artifacts: &[(&str, &str)]| {
            let Change::StepEnded { mut ended, .. } = result(attempt, node, Outcome::Failed) else {
                unreachable!()
            };
            let artifact = |(name, text): &(&str, &str)| Artifact {
                name: name.parse().unwrap(),
                form: ArtifactForm::Text,
                bytes: bytes(text),
            };
            ended.artifacts = artifacts.iter().map(artifact).collect();
            Change::StepEnded { attempt: Some(attempt), ended }
        };
        let changes = vec![
            ended(first, None, &[("a", "abcdef"), ("b", "ghij")]),
            ended(first, Some(3), &[("a", "abcdef")]),
        ];
        record(&store, id, 1, changes, vec![]).await.unwrap();
        let names = async |name: Option<&str>, after| {
            let found = store.artifacts(id, name.map(|name| name.parse().unwrap()), after, 10).await.unwrap();
            let place = |kept: &KeptArtifact| (kept.node.map(|node| node.0), kept.artifact.name.to_string());
            found.iter().map(place).collect::<Vec<_>>()
        };
        let (one, on_node) = ((None, "a".to_owned()), (Some(3), "a".to_owned()));
        assert_eq!(
            names(None, None).await,
            [one.clone(), on_node.clone()],
            "b was brought for another attempt"
        );
        let after: ArtifactPlace = (StepIndex(0), None, "a".parse().unwrap());
        assert_eq!(names(None, Some(after.clone())).await, std::slice::from_ref(&on_node));
        assert_eq!(names(Some("b"), None).await, []);
        assert!(store.artifact(id, after).await.unwrap().is_some());
        // A later attempt's result takes the place of an earlier one's, and so does what it kept.
        record(&store, id, 2, vec![ended(second, None, &[("b", "ghij")])], vec![]).await.unwrap();
        assert_eq!(names(None, None).await, [(None, "b".to_owned()), on_node]);
        assert!(store.blobs_in_use().await.unwrap().contains(&bytes("ghij").digest));
        assert_eq!(store.forget_artifacts(&ops, at(0)).await, Ok(0));
        assert_eq!(store.forget_artifacts(&ops, at(1_000)).await, Ok(2));
        assert_eq!(
            store.artifact_bytes(&ops).await,
            Ok(0),
            "no attempt is open that could name what it brought"
        );
    })
    .await;
}

#[tokio::test]
async fn blobs_that_something_names_are_in_use() {
    on_each(|store| async move {
        project(&store, "ops").await;
        store.save_job(revision("a", "document of a job")).await.unwrap();
        create(&store, new(execution(1), "a")).await.unwrap();
        let used = store.blobs_in_use().await.unwrap();
        assert!(used.contains(&Digest::of(b"document of a job")) && used.contains(&Digest::of(b"document")));
        let stored = store.blobs().put(b"nobody's".to_vec()).await.unwrap();
        let kept = store.blobs().put(b"document".to_vec()).await.unwrap();
        let none = std::time::Duration::ZERO;
        assert_eq!(store.blobs().sweep(used.clone(), Timestamp::default(), none).await.unwrap(), 0);
        let later = at(1_000_000_000);
        assert_eq!(store.blobs().sweep(used, later, none).await.unwrap(), 1);
        assert!(!store.blobs().has(stored.digest).await.unwrap());
        assert!(store.blobs().has(kept.digest).await.unwrap());
    })
    .await;
}
