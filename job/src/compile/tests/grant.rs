//! Grants: what a job has to write for an open request, and what a revision gives that the one before did not.

use remit_protocol::capability::Effect;

use super::*;
use crate::widened::widened;

#[test]
fn an_open_request_prints_what_to_write() {
    let text = "job: x\nsteps:\n- name: a\n  uses: remit/run-command@1\n  secrets: { word: keys/w }\n";
    let faults = compiled(text).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    let expect = "add to the step:\ngrant:\n  exec:\n    - { program: NAME, args: [\"{text}*\"] }\n  files:\n    - { name: NAME }\n    - { scratch: true }\n  reveal:\n    - { name: word }";
    assert_eq!(faults[0].remedy, expect);
    // What is printed can be pasted.
    let pasted =
        expect.strip_prefix("add to the step:\n").unwrap().replace("NAME", "uptime").replace('\n', "\n  ");
    let document = compiled(&format!("{text}  {pasted}\n").replace("name: uptime", "name: nodes")).unwrap();
    assert_eq!(action(&document, 0).effect, Effect::Effect);
    // A grant that is there gives exactly what it says.
    let document = compiled("job: x\nsteps:\n- name: a\n  uses: remit/run-command@1\n  grant: {}\n").unwrap();
    assert_eq!(action(&document, 0).grant, remit_protocol::capability::Grant::default());
}

#[test]
fn an_open_rule_carries_a_secret_only_if_the_job_says_so() {
    let job = |rule: &str, secrets: &str| {
        format!(
            "job: x\nsteps:\n- name: a\n  uses: remit/http-request@1\n  secrets: {secrets}\n  grant: {{ http: [{rule}] }}\n"
        )
    };
    let plain = "{ host: a.example, methods: [GET], paths: [/] }";
    let with = "{ host: a.example, methods: [GET], paths: [/], secret: { name: t, use: bearer } }";
    let secret =
        |text: &str| compiled(text).map(|document| action(&document, 0).grant.http[0].secret.is_some());
    assert_eq!(secret(&job(plain, "{}")), Ok(false));
    assert_eq!(secret(&job(with, "{ t: keys/t }")), Ok(true));
    assert!(secret(&job(plain, "{ t: keys/t }")).is_err());
    assert!(secret(&job(with, "{}")).is_err());
}

#[test]
fn what_a_revision_widens_is_said_in_words() {
    let widened = |new: &Document, old: &Document| -> Vec<String> {
        widened(new, old).iter().map(ToString::to_string).collect()
    };
    let old = compiled(EXAMPLE).unwrap();
    let check = |from: &str, to: &str, expect: &[&str]| {
        let new = compiled(&changed(from, to)).unwrap_or_else(|faults| panic!("{to}: {faults:#?}"));
        assert_eq!(widened(&new, &old), expect, "{to}");
    };
    assert_eq!(widened(&old, &old), Vec::<String>::new());
    check("methods: [POST, GET]", "methods: [GET]", &[]);
    check("    timeout: 1m", "    limits: { memory: 8MiB }", &[]);
    check("paths: [/services]", "paths: [/services/x]", &[]);
    check(
        "paths: [/services]",
        "paths: [/]",
        &["step report may now send http POST https://hooks.chat.example:443/"],
    );
    check(
        "methods: [POST], paths: [/services]",
        "methods: [POST, DELETE], paths: [/services]",
        &["step report may now send http POST,DELETE https://hooks.chat.example:443/services"],
    );
    check(
        "paths: [/services]",
        "paths: [/services], private: true",
        &[
            "step report may now send http POST https://hooks.chat.example:443/services, at private addresses,",
        ],
    );
    check(
        "secrets: { key: keys/prod/deploy-key }",
        "secrets: { key: [keys/prod/deploy-key, keys/prod/root] }",
        &["step drain may now use keys/prod/root as its secret key"],
    );
    let narrow = compiled(&changed("    timeout: 1m", "    limits: { memory: 8MiB }")).unwrap();
    assert_eq!(widened(&old, &narrow), ["step drain may now use memory up to 64MiB, before 8MiB"]);
    let renamed =
        compiled(&EXAMPLE.replace("- name: drain", "- name: empty").replace("steps.drain", "steps.empty"))
            .unwrap();
    assert_eq!(
        widened(&renamed, &old),
        [
            "step empty may now run commands on its node over ssh with the secret key",
            "step empty may now use keys/prod/deploy-key as its secret key"
        ]
    );
}
