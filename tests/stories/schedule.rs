//! Jobs that the clock begins, and jobs that are run later.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use harness::wait_for;
use remit_protocol::Timestamp;

use super::{apply, begin, ended, in_state, site};

const JOB: &str = r#"
job: tick
options: { n: { type: integer, default: 1 } }
schedules:
  - name: often
    cron: "*/10 * * * * *"
    zone: Europe/Berlin
    missed: once
    options: { n: 7 }
steps:
  - { name: one, uses: remit/transform@1, with: { value: "${options.n}" } }
"#;

#[test]
fn a_schedule_fires_once_for_each_time_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    apply(&stack, folder.path(), JOB);
    let fired = |stack: &harness::Stack, wanted: usize| {
        wait_for(&format!("{wanted} times of the schedule"), || {
            let listed = stack.json(&["execution", "list", "--job", "tick", "--state", "ended"])?;
            let items = listed["items"].as_array().unwrap().clone();
            Ok((items.len() >= wanted).then_some(items))
        })
        .unwrap()
    };
    fired(&stack, 1);
    stack.kill_orchestrator().unwrap();
    stack.restart_orchestrator().unwrap();
    let items = fired(&stack, 3);
    let due: BTreeSet<&str> = items.iter().map(|item| item["origin"]["due"].as_str().unwrap()).collect();
    assert_eq!(due.len(), items.len(), "{items:#?}");
    assert!(due.iter().all(|due| due.ends_with("0.000Z")), "{due:?}");
    for item in &items {
        assert_eq!((&item["origin"]["kind"], &item["origin"]["name"]), (&"schedule".into(), &"often".into()));
        assert_eq!(item["outcome"], "succeeded", "{item:#}");
    }
    let shown = ended(&stack, items[0]["id"].as_str().unwrap());
    assert_eq!(shown["steps"][0]["run"]["output"]["value"], 7, "{shown:#}");

    let listed = stack.json(&["schedule", "list", "--fires", "3"]).unwrap();
    let often = &listed["items"][0];
    assert_eq!(often["next"].as_array().unwrap().len(), 3, "{listed:#}");
    assert_eq!((&often["zone"], &often["missed"]), (&"Europe/Berlin".into(), &"once".into()));
    stack.json(&["schedule", "disable", "tick", "often"]).unwrap();
    let listed = stack.json(&["schedule", "list"]).unwrap();
    assert_eq!(listed["items"][0]["enabled"], false);
    assert_eq!(listed["items"][0]["next"], serde_json::json!([]));
    let missing = stack.remit(&["schedule", "enable", "tick", "nothing"]).unwrap();
    assert_eq!(missing.code, 7, "{missing:?}");
}

#[test]
fn a_cron_that_never_fires_is_refused_when_it_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    for (cron, expect) in [
        ("0 0 30 2 *", "never fires"),
        ("0 0 0 1 1 * 2020", "never fires"),
        ("0 0 0 1 1 * 2026", "never fires"),
        ("* * * * * *", "more often than every 10 s"),
        ("61 * * * *", "is not a cron expression"),
    ] {
        let file = folder.path().join("job.yaml");
        std::fs::write(&file, JOB.replace("*/10 * * * * *", cron)).unwrap();
        let refused = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.err.contains(expect) && refused.err.contains(" 6:"), "{cron}: {refused:?}");
    }
    let preview = stack.json(&[
        "schedule",
        "preview",
        "30 2 * * *",
        "--zone",
        "Europe/Berlin",
        "--from",
        "2026-03-28T12:00:00Z",
    ]);
    assert_eq!(preview.unwrap()["next"][0], "2026-03-29T01:00:00.000Z");
}

#[test]
fn a_job_is_run_later() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    #[expect(clippy::disallowed_methods, reason = "the programs read the clock of this machine")]
    let tomorrow = Timestamp::from_system(SystemTime::now() + Duration::from_secs(86_400)).to_seconds_text();
    let later = begin(&stack, &["one", "--at", &tomorrow]);
    let shown = in_state(&stack, &later, "waiting");
    assert_eq!(shown["summary"]["waiting"], format!("it is to begin at {tomorrow}"));
    stack.json(&["execution", "cancel", &later]).unwrap();
    ended(&stack, &later);
    let past = begin(&stack, &["one", "--at", "2020-01-01T00:00:00Z"]);
    assert_eq!(ended(&stack, &past)["summary"]["outcome"], "succeeded");
    let refused = stack.remit(&["job", "run", "one", "--at", "2126-01-01T00:00:00Z"]).unwrap();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("ahead"), "{refused:?}");
}
