//! Webhooks that run jobs, and executions that make themselves known: by webhook, by mail, by another job.

use std::path::Path;

use harness::{Authority, MailServer, Seen, Service, Stack, builder_trust, wait_for};
use remit_signing::webhook::{ID, SIGNATURE, TIMESTAMP, WebhookSecret};
use serde_json::Value;

use super::{apply, begin, ended, run, site};

/// A stack whose orchestrator reads this, and a local runner.
fn configured(folder: &Path, more: &str) -> Stack {
    let site = folder.join("site");
    std::fs::create_dir_all(site.join("orchestrator")).unwrap();
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nstate = \"orchestrator\"\n\n[store]\nkind = \"sqlite\"\npath = \"orchestrator/remit.db\"\n\n\
         [blobs]\nkind = \"directory\"\npath = \"orchestrator/blobs\"\n\n[logs]\npath = \"orchestrator/logs\"\n\n\
         [registry]\ntrust = \"registry-trust.toml\"\n\n{more}"
    );
    std::fs::write(site.join("orchestrator.toml"), config).unwrap();
    self::site(folder, "[ceiling]\n")
}

/// What a receiver got about an execution on an occasion.
fn told<'s>(seen: &'s [Seen], execution: &str, occasion: &str) -> Vec<&'s Seen> {
    let about = |seen: &&Seen| {
        let body: Value = serde_json::from_str(&seen.body).unwrap_or_default();
        body["execution"]["id"] == execution && body["occasion"] == occasion
    };
    seen.iter().filter(about).collect()
}

const DEPLOY: &str = r#"
job: deploy
options:
  service: { type: string, values: [web, api], required: true }
steps:
  - { name: one, uses: remit/transform@1, with: { value: "${options.service}" } }
"#;

#[test]
fn another_program_runs_a_job_by_a_signed_call_and_a_replay_is_refused_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    apply(&stack, folder.path(), DEPLOY);
    let made = stack
        .json(&["hook", "create", "push", "--job", "deploy", "--map", "service=/repository/name"])
        .unwrap();
    let secret = made["secret"].as_str().unwrap().to_owned();
    let (key, payload) = (folder.path().join("key"), folder.path().join("payload"));
    std::fs::write(&key, &secret).unwrap();
    std::fs::write(&payload, r#"{"repository": {"name": "api"}, "filter": ".*"}"#).unwrap();
    let call = |stack: &Stack, id: &str| {
        let [key, payload] = [&key, &payload].map(|path| path.display().to_string());
        stack
            .remit(&[
                "--output", "json", "hook", "call", "push", "--secret", &key, "--data", &payload, "--id", id,
            ])
            .unwrap()
    };
    let taken = call(&stack, "d-1");
    assert_eq!(taken.code, 0, "{taken:?}");
    let id = taken.json().unwrap()["execution"].as_str().unwrap().to_owned();
    let shown = ended(&stack, &id);
    assert_eq!(shown["steps"][0]["run"]["output"]["value"], "api", "{shown:#}");
    assert_eq!(shown["summary"]["origin"]["kind"], "webhook");
    stack.kill_orchestrator().unwrap();
    stack.restart_orchestrator().unwrap();
    let again = call(&stack, "d-1");
    assert_eq!(again.code, 3, "{again:?}");
    assert!(again.out.contains("was taken before") && again.out.contains(&id), "{again:?}");
    assert_eq!(call(&stack, "d-2").code, 0);
    // The secret is sealed, and after a change the old one opens nothing.
    assert!(stack.files_with(secret.as_bytes()).unwrap().is_empty());
    stack.json(&["hook", "rotate", "push"]).unwrap();
    let old = call(&stack, "d-3");
    assert_eq!(old.code, 6, "{old:?}");
}

#[test]
fn executions_make_themselves_known_by_a_signed_webhook_that_is_sent_again_until_it_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    authority.write(&folder.path().join("ca.pem")).unwrap();
    let service = Service::start(&authority, "127.0.0.1").unwrap();
    let ca = folder.path().join("ca.pem");
    let mut stack = configured(folder.path(), &format!("[notify]\nca = {ca:?}\n"));
    let url = format!("https://127.0.0.1:{}/ops", service.port());
    let made = stack.json(&["channel", "create", "ops", "--webhook", &url]).unwrap();
    let secret = WebhookSecret::parse(made["secret"].as_str().unwrap()).unwrap();
    assert_eq!(stack.json(&["channel", "test", "ops"]).unwrap()["delivered"], true);
    apply(
        &stack,
        folder.path(),
        r#"
job: work
options: { pick: { type: string, default: a } }
notify:
  - { when: [start, success, failure], channel: ops }
  - { when: [slow], over: 1s, channel: ops }
  - { when: [failure], channel: gone }
steps:
  - { name: nap, uses: remit/wait@1, with: { for: "${options.pick == 'slow' ? '3s' : '1ms'}" } }
  - { name: one, uses: remit/transform@1, with: { value: { a: 1, slow: 1 }, pick: { x: "/${options.pick}" } } }
"#,
    );
    let wait_told = |id: &str, occasion: &str| {
        wait_for(&format!("{occasion} of {id}"), || {
            let seen = service.seen();
            Ok(told(&seen, id, occasion).first().map(|seen| (*seen).clone()))
        })
        .unwrap()
    };
    let good = run(&stack, &["work"]);
    let good = good["summary"]["id"].as_str().unwrap().to_owned();
    let seen = wait_told(&good, "success");
    wait_told(&good, "start");
    let header = |name: &str| seen.headers.get(name).cloned().unwrap_or_default();
    let (id, sent) = (header(ID).parse().unwrap(), header(TIMESTAMP).parse().unwrap());
    assert!(secret.verify(&id, sent, seen.body.as_bytes(), &header(SIGNATURE)), "{seen:?}");
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!((&body["v"], &body["execution"]["outcome"]), (&1.into(), &"succeeded".into()), "{body:#}");
    assert!(body["text"].as_str().unwrap().contains("work in project demo"), "{body:#}");

    let slow = begin(&stack, &["work", "--option", "pick=slow"]);
    wait_told(&slow, "slow");
    ended(&stack, &slow);
    let bad = run(&stack, &["work", "--option", "pick=nothing"]);
    let bad = bad["summary"]["id"].as_str().unwrap().to_owned();
    wait_told(&bad, "failure");
    let failed = wait_for("the notice to a channel that is not there", || {
        let listed = stack.json(&["channel", "notices", "--state", "failed"])?;
        Ok(listed["items"].as_array().and_then(|items| items.first()).cloned())
    });
    let failed = failed.unwrap();
    assert_eq!((&failed["execution"], &failed["to"]), (&bad.as_str().into(), &"channel gone".into()));
    assert!(failed["error"].as_str().unwrap().contains("no channel gone"), "{failed:#}");

    // The receiver is away while an execution ends, and the orchestrator is killed meanwhile.
    let port = service.port();
    drop(service);
    let id = run(&stack, &["work"])["summary"]["id"].as_str().unwrap().to_owned();
    wait_for("a try that failed", || {
        let listed = stack.json(&["channel", "notices", "--state", "waiting"])?;
        let tried = listed["items"].as_array().into_iter().flatten().any(|notice| notice["tries"] != 0);
        Ok(tried.then_some(()))
    })
    .unwrap();
    stack.kill_orchestrator().unwrap();
    let service = Service::start_at(&authority, "127.0.0.1", port).unwrap();
    stack.restart_orchestrator().unwrap();
    wait_for("the success that was not told", || {
        Ok((!told(&service.seen(), &id, "success").is_empty()).then_some(()))
    })
    .unwrap();
}

#[test]
fn executions_make_themselves_known_by_mail_over_starttls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    authority.write(&folder.path().join("ca.pem")).unwrap();
    let (certificate, key) = (folder.path().join("mail.crt"), folder.path().join("mail.key"));
    authority.write_server("localhost", &certificate, &key).unwrap();
    let mail = MailServer::start(&folder.path().join("mail"), Some((&certificate, &key))).unwrap();
    let smtp = format!(
        "[smtp]\nhost = \"localhost\"\nport = {}\nca = {:?}\nfrom = \"Remit <remit@corp.example>\"\n",
        mail.port(),
        folder.path().join("ca.pem")
    );
    let stack = configured(folder.path(), &smtp);
    stack
        .json(&["channel", "create", "people", "--email", "ada@corp.example", "--email", "ben@corp.example"])
        .unwrap();
    apply(
        &stack,
        folder.path(),
        "job: work\nnotify:\n  - { when: [failure], channel: people }\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: {}, pick: { x: /x } } }\n",
    );
    let id = run(&stack, &["work"])["summary"]["id"].as_str().unwrap().to_owned();
    let mails = wait_for("a mail", || Ok(Some(mail.mails()?).filter(|mails| !mails.is_empty()))).unwrap();
    let text = &mails[0];
    assert!(text.contains("Subject: [demo] work in project demo has ended: failed"), "{text}");
    assert!(text.contains("ada@corp.example") && text.contains("ben@corp.example"), "{text}");
    assert!(text.contains(&format!("remit execution show {id}")), "{text}");
    assert!(text.contains("Message-ID: <notice-1.demo@corp.example>"), "{text}");
}

#[test]
fn mail_takes_a_server_and_a_channel_takes_an_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let trust = builder_trust().unwrap();
    let stack = Stack::start(&folder.path().join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    let refused = stack.remit(&["channel", "create", "people", "--email", "ada@corp.example"]).unwrap();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("[smtp]"), "{refused:?}");
    let refused = stack.remit(&["channel", "create", "ops", "--webhook", "http://169.254.169.254/"]).unwrap();
    assert_eq!(refused.code, 3, "{refused:?}");
    let made = stack.json(&["token", "create", "boss", "--role", "admin"]).unwrap();
    let token = made["token"].as_str().unwrap();
    let mut remit = stack.remit_command();
    let arguments = ["channel", "create", "ops", "--webhook", "https://hooks.example/"];
    let output = remit.env("REMIT_TOKEN", token).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}

#[test]
fn another_job_makes_an_execution_known_and_does_not_begin_a_third() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: tell\noptions:\n  occasion: { type: string }\n  job: { type: string }\n  outcome: { type: string, default: none }\n\
         notify:\n  - { when: [success], job: work }\n\
         steps:\n  - { name: say, uses: remit/transform@1, with: { value: \"${options.job}: ${options.occasion}, ${options.outcome}\" } }\n",
    );
    apply(
        &stack,
        folder.path(),
        "job: work\nnotify:\n  - { when: [success], job: tell }\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    let id = run(&stack, &["work"])["summary"]["id"].as_str().unwrap().to_owned();
    let told = wait_for("the job that tells", || {
        let listed = stack.json(&["execution", "list", "--job", "tell", "--state", "ended"])?;
        Ok(listed["items"].as_array().and_then(|items| items.first()).cloned())
    });
    let told = told.unwrap();
    assert_eq!(told["origin"], serde_json::json!({"kind": "notification", "execution": id}), "{told:#}");
    let shown = ended(&stack, told["id"].as_str().unwrap());
    assert_eq!(shown["steps"][0]["run"]["output"]["value"], "work: success, succeeded", "{shown:#}");
    let listed = stack.json(&["execution", "list", "--job", "work"]).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed:#}");
}
