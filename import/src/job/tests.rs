use serde_json::json;

use super::*;
use crate::{Format, jobs};

fn one(text: &str) -> Imported {
    jobs(text, Format::Yaml, "keys/prod/deploy-key").unwrap().remove(0)
}

/// A job with these members, and one step unless it has its own.
fn job(members: &str) -> Imported {
    let sequence = if members.contains("sequence") { "" } else { ", sequence: {commands: [{exec: uptime}]}" };
    one(&format!("- {{name: j, {members}{sequence}}}"))
}

#[test]
fn a_job_becomes_a_job_file() {
    let imported = one("- name: Restart Web!
  group: ops
  description: \"restarts: it\"
  runnerSelector: {filter: 'DMZ,linux', runnerFilterMode: TAGS}
  options:
    - {name: who-is, values: [web, no], enforced: true, required: true, value: web}
  nodefilters:
    filter: 'tags: web+linux !name: canary.*'
    dispatch: {threadcount: '5', keepgoing: true, rankAttribute: rack, rankOrder: descending}
  timeout: 1m30s
  sequence:
    commands:
      - exec: systemctl restart ${option.who-is}
");
    assert_eq!(imported.faults, []);
    assert_eq!(imported.name, "restart_web_");
    let source = JobSource::parse(imported.source.as_deref().unwrap()).unwrap();
    assert_eq!(source.group, "ops");
    assert_eq!(source.runner.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["dmz", "linux"]);
    let text = imported.source.unwrap();
    for part in [
        "timeout: \"90s\"",
        "threads: 5",
        "order: \"descending\"",
        "- \"false\"",
        r#"- "systemctl restart \"$1\"""#,
        r#"- "${options.who_is}""#,
        "key: \"keys/prod/deploy-key\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_has_no_counterpart_fails_when_it_is_run() {
    fn check(step: &str, part: &str) {
        let imported = job(&format!("sequence: {{commands: [{step}]}}"));
        assert_eq!(imported.faults, [], "{step}");
        let found = imported.notices.iter().find(|notice| notice.kind == Kind::Placeholder);
        assert!(found.unwrap().message.contains(part), "{step}: {found:?}");
        assert!(imported.source.unwrap().contains("/this step was not imported"), "{step}");
    }
    check("{type: acme-plugin, configuration: {a: '${x.y}'}}", "acme-plugin");
    check("{type: '$${a.b}', configuration: null}", "plugin");
    check("{jobref: {name: other}}", "not in this file");
    check("{jobref: {name: j, project: far}}", "project \"far\"");
    check("{jobref: {name: j, nodeStep: 'true'}}", "once for each node");
    check("{scripturl: 'http://x/y'}", "http://x/y");
    check("{script: \"echo @option.who@\"}", "pastes a value");
    check("{exec: 'echo ${data.x}'}", "no counterpart");
    check("{conditionGroups: [[{key: a, operator: '==', value: b}]], subSteps: [{exec: a}]}", "no reference");
    check("{conditionGroups: [[{key: '${job.name}', operator: '==', value: b}]]}", "without `subSteps`");
}

#[test]
fn a_log_limit_is_kept() {
    /// What the limit comes to in YAML, and the places that are told of.
    fn check(members: &str, expect: &str, told: &[&str]) {
        let imported = job(members);
        assert_eq!(imported.faults, [], "{members}");
        let source = imported.source.unwrap();
        assert!(source.contains(&format!("log_limit:\n{expect}")), "{members}: {source}");
        let about = |notice: &&Notice| notice.place.starts_with("loglimit");
        let found: Vec<_> = imported.notices.iter().filter(about).map(|n| n.message.as_str()).collect();
        assert_eq!(found.len(), told.len(), "{members}: {found:?}");
        assert!(found.iter().zip(told).all(|(found, part)| found.contains(part)), "{members}: {found:?}");
    }
    let halt = "at_limit: \"halt\"\n  outcome: \"failed\"\n";
    check("loglimit: '500'", &format!("  lines: 500\n  {halt}"), &[]);
    check("loglimit: 200/node, loglimitAction: halt", &format!("  lines_per_node: 200\n  {halt}"), &[]);
    check(
        "loglimit: 10MB, loglimitAction: truncate, loglimitStatus: failed",
        "  bytes: \"10MiB\"\n  at_limit: \"truncate\"\n",
        &["64 bytes"],
    );
    check("loglimit: 3Gb", "  bytes: \"3GiB\"\n", &["64 bytes"]);
    check("loglimit: 123b", "  bytes: \"1KiB\"\n", &["is 1KiB", "64 bytes"]);
    check("loglimit: 1M/node", "  bytes: \"1MiB\"\n", &["whole log", "64 bytes"]);
    check("loglimit: '99999999999'", "  lines: 1000000000\n", &["highest"]);
    check("loglimit: 7/node, loglimitAction: truncate", "  lines_per_node: 7\n", &["room for the others"]);
    check(
        "loglimit: '5', loglimitStatus: aborted",
        "  lines: 5\n  at_limit: \"halt\"\n  outcome: \"cancelled\"\n",
        &[],
    );
    check("loglimit: '5', loglimitStatus: too loud", &format!("  lines: 5\n  {halt}"), &["too loud"]);
    assert!(!job("loglimit: ''").source.unwrap().contains("log_limit"));
}

#[test]
fn log_filters_are_kept() {
    /// Filters of the job and of its one step; the step's log as the document has it, and parts of what is told.
    fn check(of_job: &str, of_step: &str, expect: Value, told: &[&str]) {
        let imported = job(&format!(
            "sequence: {{pluginConfig: {{LogFilter: {of_job}}}, commands: [{{exec: a, plugins: {{LogFilter: {of_step}}}}}]}}"
        ));
        assert_eq!(imported.faults, [], "{of_job} {of_step}");
        let source = JobSource::parse(imported.source.as_deref().unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&source.steps[0].log).unwrap(), expect, "{of_job} {of_step}");
        for part in told {
            let found = imported.notices.iter().any(|notice| notice.message.contains(part));
            assert!(found, "{part}: {:?}", imported.notices);
        }
    }
    let data = json!({"outputs": [{"pattern": r"^RUNDECK:DATA:\s*([^\s]+?)\s*=\s*(.+)$"}]});
    check("[{type: key-value-data}]", "[]", data.clone(), &["outputs.log.KEY"]);
    check("[]", "[{type: key-value-data, config: {logData: 'true'}}]", data, &["table"]);
    check(
        "[{type: mask-passwords, config: {replacement: '***', color: blue}}]",
        "[{type: key-value-data, config: {regex: 'v (.*)', name: v}}]",
        json!({"outputs": [{"pattern": "^(?:v (.*))$", "name": "v"}]}),
        &["mask-passwords"],
    );
    check(
        "[{type: mask-log-output-regex, config: {regex: 'a+', replacement: '[X]'}}]",
        "[{type: mask-log-output-regex, config: {regex: '(k=)(.*)', maskOnlyValue: 'true', replacement: '***'}}]",
        json!({"mask": ["a+", "(?:k=)(.*)"]}),
        &["`***`"],
    );
    let several = "{regex: '(a)=(b)', matchSubstrings: true, allowMultipleMatches: true}";
    check(
        &format!("[{{type: key-value-data, config: {several}}}]"),
        "[]",
        json!({"outputs": [{"pattern": "(a)=(b)"}]}),
        &["the first is read"],
    );
    for (filter, why) in [
        ("{type: acme}", "acme"),
        ("{type: quiet-output, config: {regex: a}}", "quiet-output"),
        ("{type: key-value-data, config: {regex: '(?=a)(b)'}}", "not a regular expression"),
        ("{type: key-value-data, config: {regex: '(b)'}}", "1 groups"),
        ("{type: key-value-data, config: {regex: '(b)', name: a-b}}", "is no name"),
        ("{type: mask-log-output-regex, config: {}}", "no pattern"),
    ] {
        check(&format!("[{filter}]"), "[]", json!({}), &[why]);
        check("[]", filter, json!({}), &[why]);
    }
}

#[test]
fn a_conditional_step_becomes_steps_with_a_condition() {
    fn check(keepgoing: bool, expect: &[(&str, &str)]) {
        let imported = job(&format!(
            "options: [{{name: env, required: true}}], sequence: {{keepgoing: {keepgoing}, commands: [{{exec: a}}, \
             {{type: conditional, conditionGroups: [[{{key: '${{option.env}}', operator: '==', value: prod}}]], subSteps: [\
             {{exec: b}}, {{type: conditional, conditionGroups: [[{{key: '${{option.env}}', operator: contains, value: p}}]], \
             subSteps: [{{type: acme}}]}}]}}, {{exec: c}}]}}"
        ));
        assert_eq!(imported.faults, []);
        let source = JobSource::parse(imported.source.as_deref().unwrap()).unwrap();
        let steps = source.steps.iter().map(|step| (step.name.to_string(), String::from(step.when.clone())));
        let expect: Vec<_> =
            expect.iter().map(|(name, when)| ((*name).to_owned(), (*when).to_owned())).collect();
        assert_eq!(steps.collect::<Vec<_>>(), expect);
        let placeholders: Vec<_> = imported
            .notices
            .iter()
            .filter(|n| n.kind == Kind::Placeholder)
            .map(|n| n.place.as_str())
            .collect();
        assert_eq!(placeholders, ["steps[1].subSteps[1].subSteps[0]"]);
    }
    let (prod, both) = ("options.env == \"prod\"", "options.env == \"prod\" && options.env.contains(\"p\")");
    let (first, second) = (format!("on-success && {prod}"), format!("on-success && {both}"));
    check(
        false,
        &[("step_1", "on-success"), ("step_2", &first), ("step_3", &second), ("step_4", "on-success")],
    );
    check(true, &[("step_1", "on-success"), ("step_2", prod), ("step_3", both), ("step_4", "always")]);
}

#[test]
fn a_condition_is_as_long_after_a_hundred_steps_as_after_one() {
    let before = "{exec: a}, ".repeat(100);
    let imported = job(&format!(
        "options: [{{name: env, required: true}}], sequence: {{keepgoing: false, commands: [{before}\
         {{type: conditional, conditionGroups: [[{{key: '${{option.env}}', operator: '==', value: prod}}]], subSteps: [{{exec: b}}]}}]}}"
    ));
    assert_eq!(imported.faults, []);
    let source = JobSource::parse(imported.source.as_deref().unwrap()).unwrap();
    assert_eq!(String::from(source.steps[100].when.clone()), "on-success && options.env == \"prod\"");
    assert!(imported.notices.iter().all(|notice| notice.kind != Kind::Placeholder), "{:?}", imported.notices);
}

#[test]
fn what_is_lost_is_told() {
    fn check(members: &str, place: &str) {
        let imported = job(members);
        assert_eq!(imported.faults, [], "{members}");
        assert!(
            imported.notices.iter().any(|notice| notice.place == place),
            "{members}: {:?}",
            imported.notices
        );
    }
    check("schedule: {crontab: '0 0 0 * * ? *'}", "schedule");
    check("notification: {onfailure: {email: {recipients: a@b.c}}}", "notification");
    check("retry: '${option.a}'", "retry");
    check("executionEnabled: false", "executionEnabled");
    check("nodefilters: {filter: '!tags: a !name: b'}", "nodefilters");
    check("options: [{name: a, required: 'false'}]", "options.a");
    check("options: [{name: a, valuesUrl: 'http://x/${option.b.value}'}]", "options.a");
    check("sequence: {commands: [{exec: a, plugins: {LogFilter: [{type: x}]}}]}", "steps[0]");
}

#[test]
fn how_many_at_once_and_how_often_is_kept() {
    fn check(members: &str, part: &str, there: bool) {
        let imported = job(members);
        assert_eq!(imported.faults, [], "{members}");
        let source = imported.source.unwrap();
        assert_eq!(source.contains(part), there, "{members}: {source}");
    }
    check("loglevel: INFO", "concurrency:\n  limit: 1\n  when_full: \"refuse\"\n", true);
    check("multipleExecutions: true", "concurrency", false);
    check("multipleExecutions: true, maxMultipleExecutions: '3'", "limit: 3", true);
    check("retry: 3", "retry:\n  attempts: 4\n", true);
    check("retry: {retry: '2', delay: 10s}", "retry:\n  attempts: 3\n  delay: \"10s\"\n", true);
    check("retry: 0", "retry", false);
}

#[test]
fn an_orchestrator_says_which_nodes_and_in_which_portions() {
    fn check(orchestrator: &str, dispatch: &str, part: &str) {
        let imported = job(&format!(
            "orchestrator: {orchestrator}, nodefilters: {{filter: .*, dispatch: {{{dispatch}}}}}"
        ));
        assert_eq!(imported.faults, [], "{orchestrator}");
        let source = imported.source.unwrap();
        assert!(source.contains(part), "{orchestrator}: {source}");
    }
    check("{type: subset, configuration: {count: '2'}}", "", "  rank:\n    order: \"random\"\n  limit: 2\n");
    check("{type: maxPercentage, configuration: {percent: '10'}}", "", "threads: \"10%\"");
    check("{type: rankTiered}", "rankAttribute: rack", "tiers: \"rank\"");
    check(
        "{type: orchestrator-highest-lowest-attribute, configuration: {attribute: load, sort: lowest}}",
        "",
        "    by: \"load\"\n    order: \"ascending\"\n  limit: 1\n",
    );
    check("{type: subset, configuration: {count: '2'}}", "", "on_empty: \"fail\"");
    check("{type: acme}", "successOnEmptyNodeFilter: true", "keep_going: false\n");
    let lost = job("orchestrator: {type: acme}, nodefilters: {filter: .*}").notices;
    assert!(lost.iter().any(|notice| notice.place == "orchestrator"), "{lost:?}");
}

#[test]
fn a_check_is_never_dropped_silently() {
    fn check(members: &str, part: &str) {
        let imported = job(members);
        assert_eq!(imported.source, None, "{members}");
        assert!(imported.faults[0].message.contains(part), "{members}: {:?}", imported.faults);
    }
    check("options: [{name: a, regex: '(?=x)'}]", "regex");
    check(
        "options: [{name: a, enforced: true, valuesUrl: 'http://x/${option.b.value}'}]",
        "come from elsewhere",
    );
    check("options: [{name: a, enforced: true}]", "lists none");
    check("nodefilters: {filter: 'a', dispatch: {excludePrecedence: false}}", "excludePrecedence");
    check("runnerSelector: {filter: '${option.x}', runnerFilterMode: TAGS}", "runnerSelector");
    check("timeout: 10 m", "timeout");
    check("loglimit: lots", "log limit");
    check("loglimit: 0", "log limit");
    check("loglimit: 10X", "log limit");
    check("loglimit: 10/NODE", "log limit");
    check("loglimit: 10, loglimitAction: pause", "loglimitAction");
    check("sequence: {strategy: ruleset, commands: [{exec: a}]}", "strategy");
    check("sequence: {commands: []}", "no steps");
}

#[test]
fn secrets_do_not_travel() {
    let imported = job("options: [{name: pw, secure: true, value: hunter2, storagePath: keys/pw}]");
    assert!(!imported.source.unwrap().contains("hunter2"));
    assert!(!format!("{:?}", imported.notices).contains("hunter2"));
}

#[test]
fn names_do_not_collide() {
    let text =
        "- {name: a b, sequence: {commands: [{exec: x}]}}\n- {name: a_b, sequence: {commands: [{exec: x}]}}";
    let names: Vec<_> = jobs(text, Format::Yaml, "keys/k").unwrap().into_iter().map(|job| job.name).collect();
    assert_eq!(names, ["a_b", "a_b_2"]);
}

#[test]
fn scripts_keep_their_text() {
    let imported = job(
        "nodefilters: {filter: .*}, sequence: {commands: [{script: \"#!/bin/bash\\necho ${HOME}\\n\", args: '-x \"a b\"'}]}",
    );
    let text = imported.source.unwrap();
    for part in
        [r#"stdin: "\#!/bin/bash\necho $${HOME}\n""#.replace("\\#", "#").as_str(), "- \"a b\"", "mktemp"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn durations_are_added_up_as_they_were() {
    fn check(text: &str, expect: Option<u64>) {
        assert_eq!(seconds(text), expect, "{text}");
    }
    check("90", Some(90));
    check("1d2h3m15s", Some(93_795));
    check("1h30", Some(3_630));
    check("10 m", Some(0));
    check("5H", Some(0));
    check("99999999999999999999s", None);
}

#[test]
fn a_file_is_a_list_of_jobs() {
    for text in ["", "a: 1", "- 1", "just text"] {
        assert!(jobs(text, Format::Yaml, "keys/k").is_err(), "{text:?}");
    }
    assert_eq!(jobs("[]", Format::Yaml, "keys/k").unwrap().len(), 0);
    let json = r#"[{"name": "j", "sequence": {"commands": [{"exec": "uptime"}]}}]"#;
    assert!(jobs(json, Format::Json, "keys/k").unwrap()[0].source.is_some());
    assert!(jobs(&"[".repeat(5000), Format::Json, "keys/k").is_err());
}

#[test]
fn options_keep_their_types() {
    fn check(option: &str, parts: &[&str]) {
        let imported = job(&format!("options: [{option}]"));
        assert_eq!(imported.faults, [], "{option}");
        let text = imported.source.unwrap();
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    check(
        "{name: a, multivalued: true, values: [x, y], enforced: true, value: 'x,y'}",
        &["type: \"list\"", "values:\n      - \"x\"", "default:\n      - \"x\"\n      - \"y\""],
    );
    check(
        "{name: a, multivalued: true, delimiter: '|', required: true, regex: '[a-z]'}",
        &["min_items: 1", "pattern: \"[a-z]\""],
    );
    check("{name: a, values: [x, y]}", &["open: true"]);
    check(
        "{name: a, isDate: true, dateFormat: 'YYYY-MM-DD', value: '${DATE-1:yyyy-MM-dd}'}",
        &["type: \"date\"", "format: \"%Y-%m-%d\"", "default: \"${date('%Y-%m-%d', '-1d')}\""],
    );
    check("{name: a, value: 'b-${DATE:yyyyMMdd}'}", &["default: \"b-${date('%Y%m%d')}\""]);
    check("{name: a, required: true}", &["min_length: 1"]);
}

#[test]
fn values_from_an_address_are_fetched_by_a_job_of_their_own() {
    let text = "- {name: j, options: [{name: v, enforced: true, valuesUrl: 'https://ci.example:8443/v?a=1'}], sequence: {commands: [{exec: x}]}}";
    let imported = jobs(text, Format::Yaml, "keys/k").unwrap();
    assert_eq!(imported.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["j", "j_v_values"]);
    assert_eq!(imported[1].faults, []);
    let source = imported[1].source.as_deref().unwrap();
    for part in ["host: \"ci.example\"", "port: 8443", "url: \"https://ci.example:8443/v?a=1\""] {
        assert!(source.contains(part), "{part}: {source}");
    }
    assert!(imported[0].source.as_deref().unwrap().contains("job: \"j_v_values\""));
}

/// Texts with everything that some part of the import takes apart.
fn odd() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let parts = prop_oneof![
        "\\PC{0,6}",
        Just("${".to_owned()),
        Just("}".to_owned()),
        Just("${option.a}".to_owned()),
        Just("${DATE+1:yyyy".to_owned()),
        Just("$${".to_owned()),
        Just("@option.a@".to_owned()),
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just(": !x:".to_owned()),
        Just("0 0/5 1-5 ? * 6#3,L *".to_owned()),
        Just("1h9999999999999999999d".to_owned()),
        Just("%Y%".to_owned()),
        Just("https://u:p@h:x/?".to_owned()),
        Just("50%,a@b".to_owned()),
    ];
    proptest::collection::vec(parts, 0..4).prop_map(|parts| parts.concat())
}

proptest::proptest! {
    #[test]
    fn no_job_brings_the_import_down(text in proptest::collection::vec(odd(), 12), flag in proptest::prelude::any::<bool>()) {
        let part = |at: usize| text[at].as_str();
        let job = serde_json::json!([{
            "name": part(0), "group": part(1), "timeout": part(2), "timeZone": part(3),
            "runnerSelector": {"filter": part(4), "runnerFilterMode": "TAGS"},
            "notifyAvgDurationThreshold": part(5),
            "notification": {"onavgduration": {"recipients": part(6), "urls": part(7)}},
            "schedule": {"crontab": part(8)},
            "options": [{
                "name": "a", "multivalued": flag, "delimiter": part(1), "value": part(9), "isDate": !flag,
                "dateFormat": part(10), "valuesUrl": part(7), "regex": part(11),
            }],
            "nodefilters": {"filter": part(2), "filterExclude": part(4), "dispatch": {"threadcount": part(5)}},
            "sequence": {"commands": [
                {"exec": part(9), "errorhandler": {"script": part(10), "args": part(11)}},
                {"script": part(8), "args": part(3), "scriptInterpreter": part(6)},
                {"jobref": {"name": part(0), "group": part(1), "args": part(2), "nodefilters": {"filter": part(4)}}},
            ]},
        }]);
        let made = jobs(&job.to_string(), Format::Json, "keys/k").unwrap();
        let sources: Vec<_> =
            made.iter().filter_map(|job| job.source.as_deref()).map(|text| JobSource::parse(text).unwrap()).collect();
        crate::export(&sources);
    }

    #[test]
    fn no_text_brings_the_readers_down(text in odd(), raw in "\\PC{0,80}") {
        for text in [&text, &raw] {
            for format in [Format::Yaml, Format::Json, Format::Xml] {
                let _ = jobs(text, format, "keys/k");
            }
            let _ = crate::access(text, Some("demo"));
            let xml = format!("<joblist><job><name>{text}</name><sequence><command><exec>{text}</exec></command></sequence></job></joblist>");
            let _ = jobs(&xml, Format::Xml, "keys/k");
        }
    }
}
