//! Signed runs, approvals and results, and what is remembered of runs.

use std::{collections::BTreeSet, time::Duration};

use remit_protocol::{
    AttemptId, ExecutionId, SectionNumber, StepIndex, Timestamp, assignment::ChildOf, digest::Sized,
};
use remit_signing::{
    Refusal, TrustPolicy, note,
    policy::{ChildRun, Firing, TrustMemory, Wanted},
    run::{ApproveNote, Order, ResultNote, RunNote},
    verify::{self, Signer, VerifiedRun},
};
use serde_json::json;

use crate::support::{at, key, now, policy_and};

/// alice and bob begin runs of `ops`, either of them; alice, bob and carol agree, two of them.
fn policy_with(lines: &str) -> TrustPolicy {
    let mut text = String::new();
    for (name, holder, kinds) in [
        ("run/alice", "alice", "\"run\", \"approve\""),
        ("run/bob", "bob", "\"run\", \"approve\""),
        ("approve/carol", "carol", "\"approve\""),
    ] {
        text.push_str(&format!(
            "[[key]]\nvkey = \"{}\"\nholder = \"{holder}\"\nkinds = [{kinds}]\n",
            key(name).vkey()
        ));
    }
    text.push_str(
        "[[initiator]]\nprojects = [\"ops\"]\nkeys = [\"run/alice\", \"run/bob\"]\nthreshold = 1\n\
         [[approver]]\nprojects = [\"ops\"]\nkeys = [\"run/alice\", \"run/bob\", \"approve/carol\"]\nthreshold = 1\n",
    );
    text.push_str(&format!("[[peer]]\nvkey = \"{}\"\n", key("peer").vkey()));
    policy_and(&format!("{text}{lines}"))
}

fn policy() -> TrustPolicy {
    policy_with("")
}

fn order() -> Order {
    Order {
        run: ExecutionId::from_u128(7),
        job: "ops/restart_web".parse().unwrap(),
        definition: Sized::of(b"document"),
        options: Sized::of(b"{}"),
        nodes: Some(Sized::of(b"nodes")),
    }
}

fn run() -> RunNote {
    RunNote {
        order: order(),
        sealed: Vec::new(),
        runner: None,
        issued: at("2026-11-20T23:00:00Z"),
        expires: at("2026-11-21T01:00:00Z"),
    }
}

fn approval() -> ApproveNote {
    let RunNote { order, issued, expires, .. } = run();
    ApproveNote { order, step: "ask".parse().unwrap(), issued, expires }
}

fn signed(text: &str, name: &str) -> Vec<u8> {
    note::sign(text, &[&key(name)]).unwrap()
}

fn verified(run: &RunNote) -> VerifiedRun {
    verify::run(&signed(&run.to_text(), "run/alice"), &policy(), now()).unwrap()
}

fn code<T: std::fmt::Debug>(found: Result<T, Refusal>) -> &'static str {
    found.unwrap_err().code.code()
}

#[test]
fn a_run_is_believed_or_refused_for_its_reason() {
    let pinned = RunNote { runner: Some("01JD3Z2V8B3F9J0XW8Q4C5T6R7".parse().unwrap()), ..run() };
    let typed = RunNote { sealed: vec![Sized::of(b"one"), Sized::of(b"two")], ..run() };
    for run in [run(), pinned, typed, RunNote { order: Order { nodes: None, ..order() }, ..run() }] {
        assert_eq!(*verified(&run).note(), run);
    }
    fn check(change: impl FnOnce(&mut RunNote), signer: &str, lines: &str, expect: &str) {
        let mut run = run();
        change(&mut run);
        let found = verify::run(&signed(&run.to_text(), signer), &policy_with(lines), now());
        assert_eq!(code(found), expect);
    }
    check(|_| {}, "stranger", "", "E_THRESHOLD");
    check(|_| {}, "approve/carol", "", "E_SCOPE");
    check(|_| {}, "ops/dave", "", "E_SCOPE");
    check(|run| run.order.job.project = "web".parse().unwrap(), "run/alice", "", "E_SCOPE");
    check(|run| run.expires = at("2026-11-21T00:00:00Z"), "run/alice", "", "E_WINDOW");
    check(|run| run.issued = at("2026-11-21T00:00:01Z"), "run/alice", "", "E_WINDOW");
    check(|run| run.expires = at("2026-11-22T00:00:00Z"), "run/alice", "", "E_SYNTAX");
    check(|run| run.sealed = vec![Sized::of(b"one"); 257], "run/alice", "", "E_SYNTAX");
    let revoked = format!("[revoked]\nkeys = [\"{}\"]", key("run/alice").vkey());
    check(|_| {}, "run/alice", &revoked, "E_REVOKED_KEY");
    let revoked = format!("[revoked]\nnotes = [\"{}\"]", verified(&self::run()).identity());
    check(|_| {}, "run/alice", &revoked, "E_REVOKED_NOTE");
    // A note of another kind by the same key is none of a run's.
    let found = verify::run(&signed(&approval().to_text(), "run/alice"), &policy(), now());
    assert_eq!(code(found), "E_SYNTAX");
}

#[test]
fn a_run_begins_once_and_its_id_stands_for_one_order() {
    let mut memory = TrustMemory::default();
    let (one, two) = (AttemptId::from_u128(1), AttemptId::from_u128(2));
    let mut begin = |run: &RunNote, section, attempt, once, at: Timestamp| {
        memory
            .begin(&Wanted::Signed(verified(run)), SectionNumber(section), attempt, once, at)
            .map_err(|refusal| refusal.code.code())
    };
    let again = Order { options: Sized::of(b"{\"a\":1}"), ..order() };
    let (first, other) = (run(), RunNote { order: again, ..run() });
    assert_eq!(begin(&first, 0, one, false, now()), Ok(()));
    assert_eq!(begin(&first, 0, two, false, now()), Ok(()), "what may be repeated");
    assert_eq!(begin(&first, 1, one, true, now()), Ok(()));
    assert_eq!(begin(&first, 1, one, true, now()), Ok(()), "the same attempt");
    assert_eq!(begin(&first, 1, two, true, now()), Err("E_REPLAY"));
    assert_eq!(begin(&first, 2, two, true, now()), Ok(()));
    assert_eq!(begin(&other, 0, one, false, now()), Err("E_RUN_FORK"));
    // Forgotten only when nobody can believe the note any more, however far clocks are apart.
    let late = |seconds| first.expires.plus(Duration::from_secs(seconds));
    assert_eq!(begin(&first, 1, two, true, late(24 * 3600 - 1)), Err("E_REPLAY"));
    assert_eq!(begin(&first, 1, two, true, late(24 * 3600)), Ok(()));
}

/// A memory that is full begins no further run, and goes on with those that it knows.
#[test]
fn runs_that_cannot_be_remembered_do_not_begin() {
    let (note, expires) = (verified(&run()).identity(), run().expires);
    let known = |count: u128| -> TrustMemory {
        let one = json!({"note": note, "expires": expires, "begun": {}});
        let ids = (0..count).map(|at| (ExecutionId::from_u128(7 + at).to_string(), one.clone()));
        let mut memory = serde_json::to_value(TrustMemory::default()).unwrap();
        memory["runs"] = ids.collect::<serde_json::Map<_, _>>().into();
        serde_json::from_value(memory).unwrap()
    };
    let begin = |mut memory: TrustMemory, run: &RunNote| {
        let run = Wanted::Signed(verified(run));
        memory.begin(&run, SectionNumber(0), AttemptId::from_u128(1), false, now())
    };
    let other = RunNote { order: Order { run: ExecutionId::from_u128(1), ..order() }, ..run() };
    assert!(begin(known(99_999), &other).is_ok());
    assert!(begin(known(100_000), &run()).is_ok(), "one that it knows");
    let found = begin(known(100_000), &other).unwrap_err();
    assert_eq!(found.code.code(), "E_REPLAY");
    assert!(found.detail.contains("100000 signed runs"), "{}", found.detail);
}

/// A schedule's time is believed for a day, and nobody signed it.
#[test]
fn why_a_run_may_begin_says_who_began_it() {
    let signed = Wanted::Signed(verified(&run()));
    assert_eq!(signed.signers().iter().map(|one| one.holder.as_str()).collect::<Vec<_>>(), ["alice"]);
    let scheduled = Wanted::Scheduled(Firing {
        run: ExecutionId::from_u128(1),
        job: "ops/restart_web".to_owned(),
        schedule: "nightly".to_owned(),
        due: now(),
        note: remit_protocol::Digest::of(b"the job's note"),
    });
    assert!(scheduled.signers().is_empty());
    assert_eq!(Wanted::LATEST, Duration::from_secs(86_400));
}

#[test]
fn what_is_remembered_of_runs_survives_being_written() {
    let mut memory = TrustMemory::default();
    memory
        .begin(&Wanted::Signed(verified(&run())), SectionNumber(1), AttemptId::from_u128(1), true, now())
        .unwrap();
    let text = serde_json::to_string(&memory).unwrap();
    let mut again: TrustMemory = serde_json::from_str(&text).unwrap();
    assert_eq!(again, memory);
    let found = again.begin(
        &Wanted::Signed(verified(&run())),
        SectionNumber(1),
        AttemptId::from_u128(2),
        true,
        now(),
    );
    assert_eq!(code(found), "E_REPLAY");
}

#[test]
fn a_gate_opens_for_enough_holders_who_did_not_begin_the_run() {
    fn check(signers: &[&str], needed: u32, began_by: &str, lines: &str, expect: Result<usize, &str>) {
        let began: BTreeSet<Signer> = match began_by {
            "" => BTreeSet::new(),
            name => verify::run(&signed(&run().to_text(), name), &policy(), now()).unwrap().signers().clone(),
        };
        let notes: Vec<Vec<u8>> = signers.iter().map(|name| signed(&approval().to_text(), name)).collect();
        let notes = notes.iter().map(Vec::as_slice);
        let found = verify::approvals(notes, (&order(), "ask", needed), &began, &policy_with(lines), now());
        let found = found.map(|signers| signers.len()).map_err(|refusal| refusal.code.code());
        assert_eq!(found, expect, "{signers:?} {needed} {began_by}");
    }
    check(&["approve/carol"], 1, "", "", Ok(1));
    check(&["approve/carol"], 1, "run/alice", "", Ok(1));
    check(&["run/alice"], 1, "run/alice", "", Err("E_GATE"));
    check(&["run/alice"], 1, "run/bob", "", Ok(1));
    check(&["approve/carol", "approve/carol"], 2, "", "", Err("E_GATE"));
    check(&["approve/carol", "run/bob"], 2, "run/alice", "", Ok(2));
    check(&["stranger"], 1, "", "", Err("E_GATE"));
    check(&["ops/dave"], 1, "", "", Err("E_GATE"));
    check(&[], 1, "", "", Err("E_GATE"));
    check(&[], 0, "", "", Err("E_GATE"));
    let revoked = format!("[revoked]\nkeys = [\"{}\"]", key("approve/carol").vkey());
    check(&["approve/carol"], 1, "", &revoked, Err("E_GATE"));
}

/// Who is missing is told: a holder who began the run is named as the reason only where there is one.
#[test]
fn a_gate_that_stays_shut_says_what_is_missing() {
    let began = verify::run(&signed(&run().to_text(), "run/alice"), &policy(), now()).unwrap();
    let check = |signers: &[&str], expect: &str| {
        let notes: Vec<Vec<u8>> = signers.iter().map(|name| signed(&approval().to_text(), name)).collect();
        let asked = (&order(), "ask", 3);
        let found =
            verify::approvals(notes.iter().map(Vec::as_slice), asked, began.signers(), &policy(), now());
        assert_eq!(found.unwrap_err().detail, expect);
    };
    check(&["approve/carol"], "1 of 3 needed approvers agree at ask.");
    let own = " Who began the run does not count.";
    check(&["run/alice"], &format!("0 of 3 needed approvers agree at ask.{own}"));
    check(&["run/alice", "approve/carol"], &format!("1 of 3 needed approvers agree at ask.{own}"));
}

#[test]
fn an_approval_is_for_one_gate_of_one_run() {
    fn check(change: impl FnOnce(&mut ApproveNote), expect: &str) {
        let mut approval = approval();
        change(&mut approval);
        let note = signed(&approval.to_text(), "approve/carol");
        let gate = (&order(), "ask", 1);
        assert_eq!(code(verify::approvals([&note[..]], gate, &BTreeSet::new(), &policy(), now())), expect);
    }
    check(|note| note.step = "other".parse().unwrap(), "E_GATE");
    check(|note| note.order.run = ExecutionId::from_u128(8), "E_GATE");
    check(|note| note.order.options = Sized::of(b"{\"all\":true}"), "E_GATE");
    check(|note| note.order.nodes = Some(Sized::of(b"more nodes")), "E_GATE");
    check(|note| note.order.nodes = None, "E_GATE");
    check(|note| note.order.definition = Sized::of(b"other"), "E_GATE");
    check(|note| note.expires = at("2026-11-21T00:00:00Z"), "E_WINDOW");
    check(|note| note.expires = at("2026-11-22T00:00:00Z"), "E_SYNTAX");
    let run = signed(&run().to_text(), "run/alice");
    let found = verify::approvals([&run[..]], (&order(), "ask", 1), &BTreeSet::new(), &policy(), now());
    assert_eq!(code(found), "E_SYNTAX");
}

#[test]
fn who_began_may_agree_only_where_the_policy_says_anyone() {
    let text = crate::support::policy_text();
    let lines = format!(
        "[[key]]\nvkey = \"{}\"\nholder = \"alice\"\nkinds = [\"run\", \"approve\"]\n\
         [[initiator]]\nprojects = [\"ops\"]\nkeys = [\"run/alice\"]\nthreshold = 1\n\
         [[approver]]\nprojects = [\"ops\"]\nkeys = [\"run/alice\"]\nthreshold = 1\nby = \"anyone\"\n",
        key("run/alice").vkey()
    );
    let policy = TrustPolicy::from_toml(&format!("{text}{lines}")).unwrap();
    let began = verify::run(&signed(&run().to_text(), "run/alice"), &policy, now()).unwrap();
    let note = signed(&approval().to_text(), "run/alice");
    assert!(verify::approvals([&note[..]], (&order(), "ask", 1), began.signers(), &policy, now()).is_ok());
    let faults =
        TrustPolicy::from_toml(&format!("{text}{}", lines.replace("anyone", "everyone"))).unwrap_err();
    assert!(
        faults.iter().any(|fault| fault.to_string().contains("neither \"another\" nor \"anyone\"")),
        "{faults:?}"
    );
}

#[test]
fn a_result_is_a_believed_runners_about_this_run() {
    let steps = br#"{"drain":{"outcome":"succeeded"}}"#;
    let note = ResultNote {
        order: order(),
        section: SectionNumber(3),
        attempt: AttemptId::from_u128(9),
        steps: Sized::of(steps),
        at: now(),
    };
    let own = key("own").vkey();
    let check = |note: &ResultNote, steps: &[u8], signer: &str, lines: &str| {
        let bytes = signed(&note.to_text(), signer);
        verify::result(&bytes, steps, &order(), &own, &policy_with(lines))
    };
    for signer in ["own", "peer"] {
        let found = check(&note, steps, signer, "").unwrap();
        assert_eq!((found.note(), found.steps()), (&note, &steps[..]));
    }
    for signer in ["stranger", "run/alice", "acme/alice"] {
        assert_eq!(code(check(&note, steps, signer, "")), "E_THRESHOLD", "{signer}");
    }
    assert_eq!(code(check(&note, b"{}", "own", "")), "E_LENGTH");
    let flipped = String::from_utf8(steps.to_vec()).unwrap().replace("drain", "brain");
    assert_eq!(code(check(&note, flipped.as_bytes(), "own", "")), "E_DIGEST");
    let elsewhere = ResultNote { order: Order { run: ExecutionId::from_u128(8), ..order() }, ..note.clone() };
    assert_eq!(code(check(&elsewhere, steps, "own", "")), "E_ORDER");
    let revoked = format!("[revoked]\nkeys = [\"{}\"]", key("peer").vkey());
    assert_eq!(code(check(&note, steps, "peer", &revoked)), "E_THRESHOLD");
}

#[test]
fn a_time_of_a_schedule_begins_one_run() {
    let mut memory = TrustMemory::default();
    let due = at("2026-11-21T00:00:00Z");
    let note = remit_protocol::Digest::of(b"the job's note");
    let mut begin = |run: u128, due: Timestamp, section, attempt: u128, once, now: Timestamp| {
        let firing = Firing {
            run: ExecutionId::from_u128(run),
            job: "ops/restart_web".to_owned(),
            schedule: "nightly".to_owned(),
            due,
            note,
        };
        let (section, attempt) = (SectionNumber(section), AttemptId::from_u128(attempt));
        memory
            .begin(&Wanted::Scheduled(firing), section, attempt, once, now)
            .map_err(|refusal| refusal.code.code())
    };
    assert_eq!(begin(1, due, 0, 1, false, now()), Ok(()));
    assert_eq!(begin(1, due, 1, 2, true, now()), Ok(()), "the next section of the same run");
    assert_eq!(begin(1, due, 1, 3, true, now()), Err("E_REPLAY"));
    assert_eq!(begin(2, due, 0, 4, false, now()), Err("E_REPLAY"), "another run for the same time");
    assert_eq!(begin(2, at("2026-11-22T00:00:00Z"), 0, 4, false, at("2026-11-22T00:00:00Z")), Ok(()));
}

fn firing(run: u128, minute: u64) -> Wanted {
    Wanted::Scheduled(Firing {
        run: ExecutionId::from_u128(run),
        job: "ops/restart_web".to_owned(),
        schedule: "nightly".to_owned(),
        due: now().plus(Duration::from_secs(60 * minute)),
        note: remit_protocol::Digest::of(b"the job's note"),
    })
}

fn child(parent: &Wanted, run: u128, step: u32, item: u32, options: &[u8]) -> Wanted {
    let run = ExecutionId::from_u128(run);
    let order = Order { run, options: Sized::of(options), ..order() };
    Wanted::Child(ChildRun { order, parent: Box::new(parent.clone()), step: StepIndex(step), item })
}

#[test]
fn a_step_of_a_run_begins_one_other_run_for_each_item() {
    let mut memory = TrustMemory::default();
    let mut begin = |run: &Wanted, attempt: u128, once| {
        let attempt = AttemptId::from_u128(attempt);
        // What is written is what is read again before the next.
        memory = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
        memory.begin(run, SectionNumber(0), attempt, once, now()).map_err(|refusal| refusal.code.code())
    };
    let root = Wanted::Signed(verified(&run()));
    let one = child(&root, 20, 1, 0, b"{}");
    assert_eq!(begin(&one, 1, true), Ok(()));
    assert_eq!(begin(&one, 1, true), Ok(()), "the same attempt");
    assert_eq!(begin(&one, 2, true), Err("E_REPLAY"));
    assert_eq!(
        begin(&child(&root, 21, 1, 0, b"{}"), 3, false),
        Err("E_REPLAY"),
        "another for the same place"
    );
    assert_eq!(begin(&child(&root, 21, 1, 1, b"{}"), 3, false), Ok(()), "the next item");
    assert_eq!(begin(&child(&root, 22, 2, 0, b"{}"), 4, false), Ok(()), "another step");
    assert_eq!(begin(&child(&root, 20, 1, 0, b"{ }"), 5, false), Err("E_RUN_FORK"), "other options");
    assert_eq!(begin(&child(&root, 20, 3, 0, b"{}"), 5, false), Err("E_RUN_FORK"), "for another place");
    // The runs above are remembered with it, although nothing of them began here.
    let below = child(&one, 30, 0, 0, b"{}");
    assert_eq!(begin(&below, 6, true), Ok(()));
    let twin = child(&child(&root, 23, 1, 0, b"{}"), 31, 0, 0, b"{}");
    assert_eq!(begin(&twin, 7, true), Err("E_REPLAY"), "its parent is another run for the same place");
    let forked = RunNote { expires: at("2026-11-21T00:59:59Z"), ..run() };
    let other = child(&Wanted::Signed(verified(&forked)), 32, 5, 0, b"{}");
    assert_eq!(begin(&other, 8, false), Err("E_RUN_FORK"), "another note on the run that began it all");
    assert_eq!(begin(&child(&firing(40, 0), 41, 0, 0, b"{}"), 9, true), Ok(()));
    assert_eq!(begin(&child(&firing(42, 0), 43, 0, 0, b"{}"), 10, true), Err("E_REPLAY"), "a time twice");
    assert_eq!(begin(&firing(42, 0), 10, true), Err("E_REPLAY"));
    let at = |step, item| memory.child_at(&ChildOf { execution: root.id(), step: StepIndex(step), item });
    assert_eq!((at(1, 0), at(1, 1)), (Some(one.id()), Some(ExecutionId::from_u128(21))));
    assert_eq!((at(1, 2), at(5, 0)), (None, None), "nothing, or nothing that was accepted");
}

#[test]
fn a_child_is_wanted_by_whom_its_root_is() {
    let root = Wanted::Signed(verified(&run()));
    let below = child(&child(&root, 20, 1, 0, b"{}"), 30, 0, 0, b"{}");
    assert_eq!(below.signers(), root.signers());
    assert_eq!(below.id(), ExecutionId::from_u128(30));
    assert!(child(&firing(40, 0), 41, 0, 0, b"{}").signers().is_empty());
    // It is remembered as long as what began it.
    let mut memory = TrustMemory::default();
    let mut begin =
        |attempt, at| memory.begin(&below, SectionNumber(0), AttemptId::from_u128(attempt), true, at);
    begin(1, now()).unwrap();
    let late = |seconds| run().expires.plus(Duration::from_secs(seconds));
    assert_eq!(code(begin(2, late(24 * 3600 - 1))), "E_REPLAY");
    begin(2, late(24 * 3600)).unwrap();
}
