use proptest::prelude::*;

use super::*;
use crate::{Format, Imported, jobs};

fn imported(text: &str) -> Vec<Imported> {
    jobs(text, Format::Yaml, "keys/k").unwrap()
}

fn sources(jobs: &[Imported]) -> Vec<JobSource> {
    jobs.iter().map(|job| JobSource::parse(job.source.as_deref().unwrap()).unwrap()).collect()
}

/// Imports, exports and imports again: the jobs are the same, and so is the file.
fn check_fixed(text: &str) {
    let first = imported(text);
    assert!(first.iter().all(|job| job.faults.is_empty()), "{first:?}");
    let exported = export(&sources(&first));
    let told: Vec<_> = exported.jobs.iter().flat_map(|job| &job.notices).collect();
    assert!(told.is_empty(), "{told:?}\n{text}");
    let second = imported(&exported.text);
    let texts = |jobs: &[Imported]| jobs.iter().map(|job| job.source.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&first), texts(&second), "{}", exported.text);
    assert_eq!(export(&sources(&second)).text, exported.text);
}

const CORPUS: &[&str] = &[
    "- {name: a, sequence: {commands: [{exec: uptime}]}}",
    r"
- name: web
  group: ops/web
  description: 'restarts: it'
  runnerSelector: {filter: 'linux,dmz', runnerFilterMode: TAGS}
  timeout: 1h30m
  multipleExecutions: true
  maxMultipleExecutions: '3'
  retry: {retry: '2', delay: 10s}
  loglimit: 10MB
  loglimitStatus: aborted
  timeZone: Europe/Berlin
  schedule: {time: {seconds: '0', minute: '15', hour: '03'}, month: '*', year: '*', weekday: {day: '2-6'}}
  options:
    - {name: who, values: [dev, prod], enforced: true, required: true, value: dev}
    - {name: free, values: [x, y], description: proposed}
    - {name: hosts, multivalued: true, delimiter: ';', value: 'a;b', required: true}
    - {name: more, multivalued: true, values: [p, q], enforced: true, multivalueAllSelected: true}
    - {name: day, isDate: true, dateFormat: 'DD.MM.YYYY', value: '${DATE-1:dd.MM.yyyy}'}
    - {name: tag, regex: '[a-z]+', value: 'v-${DATE:yyyyMMdd}'}
    - {name: list, enforced: true, valuesUrl: 'https://ci.example:8443/v?a=1'}
  nodefilters:
    filter: 'tags: ${option.who}+web !name: canary.*'
    dispatch: {threadcount: '${option.tag}', keepgoing: true, rankAttribute: rack, rankOrder: descending}
  sequence:
    keepgoing: true
    strategy: sequential
    commands:
      - exec: echo ${option.who} 'single ${option.free}' and ${node.name}
      - exec: 'ls ${HOME} ${option.hosts}'
      - {script: '#!/bin/bash -e

          echo $1 ${x}', args: '-x ${option.hosts} ''a b'''}
      - {script: 'print(1)', scriptInterpreter: 'sudo -u ''the user'' python3', args: ''}
      - exec: false
        errorhandler: {exec: 'echo ${option.tag}', keepgoingOnSuccess: true}
",
    r"
- name: parent
  loglimit: 200/node
  loglimitAction: truncate
  options: [{name: who, value: me}, {name: all, multivalued: true, delimiter: '|', value: a}]
  sequence:
    commands:
      - jobref: {name: child, group: g, args: '-who ${option.who} -list ''x;y z'' -more ${option.all}', nodefilters: {filter: 'tags: db'}}
      - {script: 'print(1)', scriptInterpreter: python3}
      - {script: 'echo $1', args: '${option.who}'}
- name: child
  group: g
  loglimit: '500'
  options: [{name: who}, {name: list, multivalued: true, delimiter: ';'}, {name: more, multivalued: true}]
  nodefilters: {filter: .*, dispatch: {successOnEmptyNodeFilter: true, rankAttribute: rack}}
  orchestrator: {type: rankTiered}
  sequence: {strategy: parallel, commands: [{exec: 'echo ${option.list}'}, {type: acme, nodeStep: true, configuration: {a: b}}]}
",
];

#[test]
fn what_was_imported_is_given_back() {
    for text in CORPUS {
        check_fixed(text);
    }
}

#[test]
fn log_filters_are_given_back() {
    let step = |filter: &str| {
        format!("- name: j\n  sequence: {{commands: [{{exec: a, plugins: {{LogFilter: [{filter}]}}}}]}}\n")
    };
    check_fixed(&step("{type: key-value-data}"));
    check_fixed(&step("{type: key-value-data, config: {regex: '^v (.*)$', name: v}}"));
    check_fixed(&step("{type: key-value-data, config: {regex: '(a|b)=(.*)'}}"));
    check_fixed(&step("{type: key-value-data, config: {regex: '(a)=(.*)', matchSubstrings: 'true'}}"));
    for regex in ["a+", "(a|b)", "x(a)(b)", "(a)b|c", "(?i)pw=([a-z]*)"] {
        check_fixed(&step(&format!("{{type: mask-log-output-regex, config: {{regex: '{regex}'}}}}")));
    }
    for regex in ["(k=)(v)", "(k)=(v)", "(?i)(k=)v+", "(a)b|c", "(k)"] {
        let config = format!("{{regex: '{regex}', maskOnlyValue: 'true'}}");
        check_fixed(&step(&format!("{{type: mask-log-output-regex, config: {config}}}")));
    }
    let read = sources(&jobs(&step("{type: key-value-data}"), Format::Yaml, "keys/k").unwrap());
    assert_eq!(read[0].steps[0].log.outputs[0].pattern.groups(), 2);
}

#[test]
fn conditional_steps_are_given_back() {
    let test = |key: &str, operator: &str, value: &str| {
        format!("{{key: '${{option.{key}}}', operator: '{operator}', value: '{value}'}}")
    };
    let (equal, size) = (test("env", "==", "prod"), test("n", ">=", "3"));
    let (has, pattern, other) =
        (test("list", "contains", "a"), test("env", "matches", "y(es)?"), test("n", "!=", "${option.env}"));
    let inner =
        format!("{{type: conditional, conditionGroups: [[{has}], [{pattern}]], subSteps: [{{exec: d}}]}}");
    for keepgoing in ["false", "true"] {
        for (groups, steps) in [
            (format!("[[{equal}]]"), "{exec: b}".to_owned()),
            (format!("[[{equal}, {size}], [{other}]]"), "{exec: b}, {exec: c}".to_owned()),
            (format!("[[{equal}], [{size}]]"), format!("{{exec: b}}, {inner}, {{exec: c}}")),
        ] {
            check_fixed(&format!(
                "- name: j
  options:
    - {{name: env, required: true}}
    - {{name: n}}
    - {{name: list, multivalued: true, required: true}}
  sequence:
    keepgoing: {keepgoing}
    commands:
      - exec: a
      - {{type: conditional, conditionGroups: {groups}, subSteps: [{steps}]}}
      - exec: z
"
            ));
        }
    }
}

#[test]
fn orchestrators_are_given_back() {
    for orchestrator in [
        "{type: subset, configuration: {count: '2'}}",
        "{type: maxPercentage, configuration: {percent: '10'}}",
        "{type: orchestrator-highest-lowest-attribute, configuration: {attribute: load, sort: lowest}}",
    ] {
        check_fixed(&format!(
            "- name: j\n  nodefilters: {{filter: .*}}\n  orchestrator: {orchestrator}\n  sequence: {{commands: [{{exec: a}}]}}\n"
        ));
    }
}

#[test]
fn what_has_no_counterpart_is_told() {
    fn check(job: &str, place: &str, part: &str) {
        let source = JobSource::parse(&format!("job: j\n{job}")).unwrap();
        let exported = export(&[source]);
        let told = &exported.jobs[0].notices;
        assert!(
            told.iter().any(|notice| notice.place == place && notice.message.contains(part)),
            "{part}: {told:?}"
        );
        assert!(jobs(&exported.text, Format::Yaml, "keys/k").is_ok(), "{}", exported.text);
    }
    let step = "steps: [{ name: a, uses: remit/http-request@1, with: { url: x } }]";
    check(step, "steps.a", "remit/http-request");
    check("steps: [{ name: a, approve: Really? }]", "steps.a", "a gate");
    check(&format!("options: {{ n: {{ type: integer, max: 3 }} }}\n{step}"), "options.n", "range");
    check(&format!("options: {{ n: {{ type: string, max_length: 3 }} }}\n{step}"), "options.n", "length");
    check(&format!("options: {{ s: {{ type: secret, values: [keys/a] }} }}\n{step}"), "options.s", "secret");
    check(
        "nodes: { filter: .* }\nsteps: [{ name: a, uses: remit/ssh-command@1, per: node, with: { argv: [sh, -c, \"echo \\\"$2 $1\\\"\", sh, \"${node.name}\", x] } }]",
        "steps.a",
        "not where Rundeck would have put them",
    );
    check(
        "steps: [{ name: a, uses: remit/transform@1, with: {} }, { name: b, when: on-failure, uses: remit/transform@1, with: {} }]",
        "steps.b",
        "condition",
    );
    check(&format!("notify: [{{ when: [failure], channel: ops }}]\n{step}"), "notify", "who is told");
    check(&format!("concurrency: 2\n{step}"), "concurrency", "one's turn");
    check(
        &format!("retry: {{ attempts: 2, outcomes: [failed], backoff: 2 }}\n{step}"),
        "retry.outcomes",
        "timeout",
    );
    check(&format!("retry: {{ attempts: 2, backoff: 2 }}\n{step}"), "retry.backoff", "longer");
    check(
        &format!("nodes: {{ filter: .*, tiers: [1, rest], max_failures: 1 }}\n{step}"),
        "nodes.tiers",
        "one tier",
    );
    check(&format!("nodes: {{ filter: .*, limit: \"10%\" }}\n{step}"), "nodes.limit", "only some");
    check(
        &format!("nodes: {{ filter: .*, spread: true, keep_going: true }}\n{step}"),
        "nodes.spread",
        "several",
    );
    check("steps: [{ name: a, job: other }]", "steps.a", "not exported with it");
}

/// Commands and values with everything that shells, templates and YAML read as something else.
fn piece() -> impl proptest::strategy::Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 ./:=;|&<>~%@,-]{0,12}",
        Just("${option.who}".to_owned()),
        Just("${option.hosts}".to_owned()),
        Just("${node.name}".to_owned()),
        Just("${node.rack}".to_owned()),
        Just("${HOME}".to_owned()),
        Just("\"a b\"".to_owned()),
        Just("'it is'".to_owned()),
        Just("\\\"".to_owned()),
        Just("'${option.who}'".to_owned()),
        Just("\"x ${option.hosts} y\"".to_owned()),
    ]
}

proptest! {
    /// Whatever the command, the jobs of the second import are those of the first.
    #[test]
    fn commands_are_a_fixed_point(
        pieces in proptest::collection::vec(piece(), 1..6),
        args in proptest::collection::vec(piece(), 0..4),
        default in "[a-z ,;$#'\"-]{0,10}",
        required in any::<bool>(),
    ) {
        let job = serde_json::json!([{
            "name": "j",
            "options": [
                {"name": "who", "value": default, "required": required},
                {"name": "hosts", "multivalued": true, "delimiter": "; "},
            ],
            "nodefilters": {"filter": "tags: ${option.who}"},
            "sequence": {"commands": [
                {"exec": pieces.concat()},
                {"script": pieces.concat(), "args": args.join(" ")},
            ]},
        }]);
        let first = jobs(&job.to_string(), Format::Json, "keys/k").unwrap();
        prop_assume!(first[0].source.is_some());
        let exported = export(&sources(&first));
        // A step that was only a placeholder, without a plugin's name, is a command that fails from then on.
        prop_assume!(exported.jobs[0].notices.is_empty());
        let second = jobs(&exported.text, Format::Yaml, "keys/k").unwrap();
        prop_assert_eq!(&first[0].source, &second[0].source, "{}", exported.text);
    }
}
