//! Who owns the orchestrator owns nothing: a real runner against an orchestrator that has every key of the real one.
//!
//! Each row of [`misbehaviours`] is handed to the runner. No sandbox may be made, the listener that the ceiling names
//! may not be called, the runner's own record has to hold the code, and honest work has to go on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod families;
mod log;
mod misbehaviours;
mod orchestrator;
mod runs;
mod work;

use harness::{Authority, Service, Stack, wait_for};

use self::{
    families::FAMILIES,
    misbehaviours::{Expect, LOGGED, REVIEWED, Row, SIGNED, TYPED, number, open},
    orchestrator::Orchestrator,
    runs::RUNS,
};

/// What the owner permits: one host with one path, one program with one argument, one secret for one host.
fn ceiling(folder: &std::path::Path, port: u16, more: &str) -> String {
    format!(
        "{more}[ceiling]\n\n[[ceiling.http]]\nhost = \"localhost\"\nport = {port}\nmethods = [\"GET\", \"POST\"]\npaths = [\"/v1\"]\n\
         private = [\"127.0.0.0/8\"]\n\n\
         [[ceiling.http]]\nhost = \"api.example\"\nmethods = [\"GET\"]\npaths = [\"/v1\"]\n\n\
         [[ceiling.exec]]\nprogram = \"uname\"\npath = \"/usr/bin/uname\"\nargs = [\"-s\"]\n\n\
         [[ceiling.secrets]]\npath = \"keys/prod/token\"\nuse = \"bearer\"\nhosts = [\"api.example\"]\n\n\
         [[ceiling.secrets]]\npath = \"keys/prod/absent\"\nuse = \"bearer\"\nhosts = [\"api.example\"]\n\n\
         [[ceiling.secrets]]\npath = \"keys/typed/db\"\nuse = \"env\"\nprograms = [\"uname\"]\n\n\
         [[provider]]\nmount = \"keys/typed\"\nkind = \"sealed\"\n\n\
         [[provider]]\nmount = \"keys/prod\"\nkind = \"directory\"\npath = {:?}\n",
        folder.join("secrets")
    )
}

/// Runs the rows against a runner whose `runner.toml` has `more` in it, and whose `trust.toml` has what `trust` adds.
fn against(phase: u32, more: &str, trust: impl FnOnce(&Stack) -> String, rows: &[Row]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/token"), "a-token-that-must-not-leave").unwrap();
    let listener = Service::start(&Authority::new().unwrap(), "localhost").unwrap();
    let mut stack = Stack::start(&folder.path().join("site"), &work::trust()).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    let ceiling = ceiling(folder.path(), listener.port(), more);
    let policy = work::trust() + &trust(&stack);
    stack.runner("local", &[], &ceiling, &policy).unwrap();
    stack.runner_named("local").unwrap().terminate().unwrap();
    let address = stack.url().trim_start_matches("https://").parse().unwrap();
    stack.kill_orchestrator().unwrap();

    let hostile = Orchestrator::take_over(&stack.data(), address).unwrap();
    stack.start_runner("local").unwrap();
    let (mut refused, mut wrong) = (Vec::new(), Vec::new());
    let made = rows.iter().enumerate().map(|(row, (name, make, expect))| {
        let mut work = make(number(phase, row));
        work.prepare(&hostile);
        (name, work, expect)
    });
    for (name, work, expect) in made.collect::<Vec<_>>() {
        let attempt = work.attempt();
        let polls = hostile.polls();
        work.hand_out(&hostile);
        if *expect == Expect::Silence {
            wait_for(&format!("{name}: the runner asking again"), || {
                Ok((hostile.polls() >= polls + 2).then_some(()))
            })
            .unwrap();
            assert_eq!(hostile.fate(&attempt), None, "{name}");
            assert!(!hostile.has_run(&attempt), "{name}");
            continue;
        }
        let fate = wait_for(&format!("{name}: an end"), || Ok(hostile.fate(&attempt))).unwrap();
        let expected = match expect {
            Expect::Refused(code) => {
                refused.push((attempt, *code));
                format!("refused({code})")
            }
            Expect::Fault => "host-fault".to_owned(),
            _ => "succeeded".to_owned(),
        };
        let ran = *expect == Expect::Succeeds;
        if fate.outcome != expected || fate.ran != ran || fate.message.contains('\u{1b}') {
            wrong.push(format!(
                "{name}: expected {expected}, came {} (ran: {}): {}",
                fate.outcome, fate.ran, fate.message
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(listener.connections(), 0, "nobody called");
    assert_eq!(hostile.redirected(), 0, "nobody was led elsewhere");
    let runner = stack.runner_named("local").unwrap();
    assert!(runner.pid().is_some());
    runner.terminate().unwrap();
    let trail = std::fs::read_to_string(runner.folder.join("state/audit/000001.jsonl")).unwrap();
    for (attempt, code) in refused {
        let recorded = trail.lines().any(|line| {
            line.contains("\"kind\":\"refused\"")
                && line.contains(&attempt)
                && line.contains(&format!("\"code\":\"{code}\""))
        });
        assert!(recorded, "{attempt} {code} is not in the record");
    }
    let log = runner.log();
    for secret in ["a-token-that-must-not-leave", "what-was-typed-must-not-leave", "panicked"] {
        assert!(!log.contains(secret) && !trail.contains(secret), "{secret}");
    }
}

#[test]
fn an_owned_orchestrator_widens_nothing() {
    let rows = open();
    assert!(rows.len() + SIGNED.len() + LOGGED.len() + REVIEWED.len() > 110);
    against(1, "", |_| String::new(), &rows);
}

#[test]
fn where_runs_are_signed_it_neither_begins_nor_orders_them() {
    against(3, "require_signed = [\"job\", \"run\", \"approve\"]\n\n", |_| String::new(), RUNS);
}

#[test]
fn where_jobs_run_jobs_it_neither_begins_nor_ends_them() {
    against(7, "require_signed = [\"job\", \"run\", \"approve\"]\n\n", |_| String::new(), FAMILIES);
}

#[test]
fn what_somebody_typed_it_cannot_take_elsewhere() {
    against(6, "", |_| String::new(), TYPED);
}

#[test]
fn where_jobs_are_signed_it_does_not_even_choose_them() {
    against(2, "require_signed = [\"job\"]\n\n", |_| String::new(), SIGNED);
}

#[test]
fn where_the_log_is_required_it_takes_nothing_back() {
    let log = |stack: &Stack| {
        let key = stack.json(&["log", "key"]).unwrap()["key"].as_str().unwrap().to_owned();
        format!("\n[log]\nrequire = \"required\"\nkeys = [{key:?}]\n")
    };
    against(4, "", log, LOGGED);
}

#[test]
fn where_reviewers_have_a_say_it_speaks_for_none_of_them() {
    against(5, "", |_| work::review(), REVIEWED);
}
