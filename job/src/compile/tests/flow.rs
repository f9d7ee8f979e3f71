//! Gates, halts, jobs that run jobs, lists, groups and error handlers.

use super::*;
use crate::{
    document::{Action, Approvers, HaltOutcome},
    trigger,
};

const FLOW: &str = r#"
job: deploy
options:
  sites: { type: string, required: true }
steps:
  - name: ask
    approve: "Deploy to ${options.sites}?"
    timeout: 1h
  - name: ask_two
    approve: { question: Sure?, needed: 2, by: another }
  - name: nothing
    halt: succeeded
    message: "nothing to do for ${options.sites}"
    when: "options.sites == ''"
  - name: sites
    job: deploy_site
    with: { site: "${item}" }
    runner: { tags: [dmz] }
    nodes: "tags: ${item}"
    for_each: "options.sites.split(',')"
  - parallel:
      - name: a
        uses: remit/http-request@1
        with: { method: GET, url: "https://x.example/" }
        grant: { http: [{ host: x.example, methods: [GET], paths: [/] }] }
      - name: b
        uses: remit/http-request@1
        for_each: "['x', 'y']"
        with: { method: GET, url: "https://x.example/${item}" }
        grant: { http: [{ host: x.example, methods: [GET], paths: [/] }] }
        on_error:
          uses: remit/http-request@1
          with: { method: POST, url: "https://x.example/${item}", json: { text: "${error.outcome}: ${error.message}" } }
          grant: { http: [{ host: x.example, methods: [POST], paths: [/] }] }
          recover: true
  - name: after
    uses: remit/http-request@1
    when: "steps.a.outcome == 'succeeded' && steps.b.outcome == 'succeeded'"
    with: { method: GET, url: "https://x.example/" }
    grant: { http: [{ host: x.example, methods: [GET], paths: [/] }] }
"#;

#[test]
fn every_kind_of_step_compiles_and_reads_back() {
    let document = compiled(FLOW).unwrap();
    let step = |name: &str| document.step(&name.parse().unwrap()).unwrap().1;
    let Action::Gate(gate) = &step("ask").action else { panic!() };
    assert_eq!((gate.needed, gate.by), (1, Approvers::Anyone));
    let Action::Gate(gate) = &step("ask_two").action else { panic!() };
    assert_eq!((gate.needed, gate.by), (2, Approvers::Another));
    let Action::Halt(halt) = &step("nothing").action else { panic!() };
    assert_eq!(halt.outcome, HaltOutcome::Succeeded);
    let Action::Job(job) = &step("sites").action else { panic!() };
    assert_eq!((job.job.as_str(), job.tags.as_ref().unwrap().len()), ("deploy_site", 1));
    assert_eq!((step("a").group, step("b").group, step("after").group), (Some(1), Some(1), None));
    let handler = step("b").on_error.as_ref().unwrap();
    assert!(handler.recover);
    assert_eq!(step("b").effect(), handler.run.effect);
    assert_eq!(Document::from_slice(&document.to_vec()), Ok(document));
}

#[test]
fn what_makes_no_sense_is_said_where_it_stands() {
    fn check(from: &str, to: &str, place: &str, part: &str) {
        assert!(FLOW.contains(from), "{from}");
        let faults = compiled(&FLOW.replacen(from, to, 1)).expect_err(to);
        let found = faults.iter().any(|fault| {
            fault.place == place
                && format!("{} {}", fault.message, fault.remedy).contains(part)
                && fault.line.is_some()
        });
        assert!(found, "{to:?}: {place} {part:?} is not in {faults:#?}");
    }
    check("needed: 2", "needed: 11", "steps.ask_two.approve.needed", "at most 10");
    check("needed: 2", "needed: 0", "steps.ask_two.approve.needed", "at least 1");
    check("by: another", "by: others", "steps.ask_two.approve.by", "another");
    check("question: Sure?, ", "", "steps.ask_two.approve", "`question` is missing");
    check("Deploy to ${options.sites}?", "Deploy to ${options.site}?", "steps.ask.approve", "options.sites");
    check("timeout: 1h", "retry: { attempts: 2 }", "steps.ask.retry", "no key `retry`");
    check("halt: succeeded", "halt: done", "steps.nothing.halt", "succeeded");
    check("job: deploy_site", "job: deploy", "steps.sites.job", "run itself");
    check("site: \"${item}\"", "site: \"${node.name}\"", "steps.sites.with.site", "run once");
    check("tags: ${item}", "tags: ${options.nosuch}", "steps.sites.nodes", "not an option");
    check("for_each: \"options.sites.split(',')\"", "timeout: 1h", "steps.sites.timeout", "no key");
    check("    for_each: \"options.sites.split(',')\"\n", "", "steps.sites.with.site", "for_each");
    check(
        "https://x.example/${item}\", json",
        "https://x.example/${items}\", json",
        "steps.b.on_error.with.url",
        "items",
    );
    check("${error.message}", "${error.text}", "steps.b.on_error.with.json.text", "outcome, message");
    check(
        "\"https://x.example/${item}\" }",
        "\"https://x.example/${error.message}\" }",
        "steps.b.with.url",
        "error handler",
    );
    check("['x', 'y']", "[steps.a.outcome]", "steps.b.for_each", "runs beside");
    check("      - name: a\n", "      - name: after\n", "steps.after.name", "twice");
    check("recover: true", "recover: 1", "steps.b.on_error.recover", "true or false");
    check("  - parallel:", "  - name: g\n    parallel:", "steps.g.name", "no key `name`");
}

#[test]
fn a_group_of_one_is_none() {
    let text = "job: j\nsteps:\n  - parallel:\n      - { name: a, halt: failed }\n";
    let faults = compiled(text).unwrap_err();
    assert!(faults.iter().any(|fault| fault.message.contains("nothing to run side by side")), "{faults:?}");
    let text =
        "job: j\nsteps:\n  - parallel:\n      - { name: a, halt: failed }\n      - { name: b, approve: b }\n";
    let faults = compiled(text).unwrap_err();
    assert!(faults.iter().any(|fault| fault.message.contains("a halt beside")), "{faults:?}");
}

#[test]
fn what_a_job_says_of_its_executions_is_checked() {
    fn check(keys: &str, place: &str, part: &str) {
        let yaml = format!("job: j\n{keys}\nsteps: [{{ name: a, halt: failed }}]\n");
        match compiled(&yaml) {
            Ok(document) => {
                assert_eq!(place, "", "{keys}");
                let found = serde_json::to_string(&document).unwrap();
                assert!(found.contains(part), "{keys}: {found}");
            }
            Err(faults) => {
                let found = faults
                    .iter()
                    .any(|f| f.place == place && format!("{} {}", f.message, f.remedy).contains(part));
                assert!(found, "{keys}: {faults:?}");
                assert!(faults.iter().all(|fault| fault.line.is_some()), "{faults:?}");
            }
        }
    }
    check("concurrency: 2", "", r#""concurrency":{"limit":2,"when_full":"queue"}"#);
    check("concurrency: { limit: 1, when_full: refuse }", "", r#"{"limit":1,"when_full":"refuse"}"#);
    check("concurrency: { limit: 1, most_queued: 5, expires: 1h }", "", r#""most_queued":5,"expires":"1h""#);
    check("concurrency: { when_full: queue }", "concurrency", "`limit` is missing");
    check("concurrency: 0", "concurrency.limit", "at least 1 and at most 1000");
    check("concurrency: { limit: 1, when_full: drop }", "concurrency.when_full", "queue, refuse");
    check("concurrency: { limit: 1, most_queued: 0 }", "concurrency.most_queued", "at most 10000");
    check("concurrency: { limit: 1, expires: 99d }", "concurrency.expires", "not between");
    check(
        "concurrency: { limit: 1, when_full: refuse, expires: 1h }",
        "concurrency.expires",
        "nothing waits",
    );
    let halt = r#""log_limit":{"most":{"lines":500},"at_limit":{"halt":"over-limit"}}"#;
    check("log_limit: { lines: 500 }", "", halt);
    check("log_limit: { lines: 500, at_limit: halt }", "", halt);
    let failed = r#"{"most":{"bytes":"10MiB"},"at_limit":{"halt":"failed"}}"#;
    check("log_limit: { bytes: 10MiB, outcome: failed }", "", failed);
    let truncate = r#"{"most":{"lines_per_node":200},"at_limit":"truncate"}"#;
    check("log_limit: { lines_per_node: 200, at_limit: truncate }", "", truncate);
    check("log_limit: { at_limit: halt }", "log_limit", "0 of `lines`, `bytes` and `lines_per_node`");
    check("log_limit: { lines: 5, bytes: 1MiB }", "log_limit", "write one of them");
    check("log_limit: { lines: 0 }", "log_limit.lines", "at least 1 and at most 1000000000");
    check("log_limit: { lines: -1 }", "log_limit.lines", "write a number from 1");
    check("log_limit: { lines_per_node: 2000000000 }", "log_limit.lines_per_node", "at most 1000000000");
    check("log_limit: { bytes: 1B }", "log_limit.bytes", "at least 1KiB and at most 1024GiB");
    check("log_limit: { bytes: many }", "log_limit.bytes", "such as 64MiB");
    check("log_limit: { lines: 5, at_limit: drop }", "log_limit.at_limit", "halt, truncate");
    check(
        "log_limit: { lines: 5, outcome: succeeded }",
        "log_limit.outcome",
        "over-limit, failed, cancelled",
    );
    check("log_limit: { lines: 5, at_limit: truncate, outcome: failed }", "log_limit.outcome", "goes with");
    check("retry: { attempts: 3, delay: 1m }", "", r#""retry":{"attempts":3"#);
    check("retry: { attempts: 0 }", "retry.attempts", "at least 1");
    check("retry: { delay: 1m }", "retry", "`attempts` is missing");
}

#[test]
fn how_nodes_are_gone_through_is_checked() {
    fn check(keys: &str, place: &str, part: &str) {
        let yaml = format!(
            "job: j\nnodes: {{ filter: .*, {keys} }}\nsteps: [{{ name: a, uses: remit/transform@1, per: node, with: {{ value: 1 }} }}]\n"
        );
        match compiled(&yaml) {
            Ok(document) => {
                assert_eq!(place, "", "{keys}");
                let found = serde_json::to_string(&document.nodes).unwrap();
                assert!(found.contains(part), "{keys}: {found}");
            }
            Err(faults) => {
                let says =
                    |f: &Fault| f.place == place && format!("{} {}", f.message, f.remedy).contains(part);
                assert!(faults.iter().any(says), "{keys}: {faults:?}");
            }
        }
    }
    check("limit: 5", "", r#""limit":5"#);
    check("limit: \"10%\"", "", r#""limit":"10%""#);
    check("limit: 0", "nodes.limit", "0 nodes are none");
    check("limit: \"200%\"", "nodes.limit", "from 1% to 100%");
    check("threads: \"10%\"", "", r#""threads":"10%""#);
    check("threads: \"0%\"", "nodes.threads", "from 1% to 100%");
    check("tiers: [1, \"10%\", rest]", "", r#""tiers":{"sizes":[1,"10%"]}"#);
    check("tiers: [1, \"10%\"], max_failures: \"5%\"", "", r#""max_failures":"5%""#);
    check("tiers: [rest]", "nodes.tiers", "2 to 100 tiers");
    check("tiers: [rest, 1]", "nodes.tiers[0]", "percentage");
    check("tiers: [0, rest]", "nodes.tiers", "a node or more");
    check("tiers: rank, rank: { by: rack }", "", r#""tiers":"rank""#);
    check("tiers: rank", "nodes.tiers", "add `rank");
    check("tiers: rack", "nodes.tiers", "rank");
    check("max_failures: 1", "nodes.max_failures", "there are none");
    check("on_empty: fail", "", r#""on_empty":"fail""#);
    check("on_empty: skip", "nodes.on_empty", "succeed, fail");
    check("rank: { order: random }", "", r#""order":"random""#);
    check("rank: { order: random, by: rack }", "nodes.rank.by", "remove `by`");
    check("rank: { order: ascending }", "nodes.rank", "`by` is missing");
    check("spread: true, keep_going: true", "", r#""spread":true"#);
    check("spread: true", "nodes.spread", "keep_going: true");
}

#[test]
fn tiers_end_where_the_job_says() {
    fn check(keys: &str, racks: &str, expect: &[u32]) {
        let yaml = format!(
            "job: j\nnodes: {{ filter: .*, {keys} }}\nsteps: [{{ name: a, uses: remit/transform@1, per: node, with: {{ value: 1 }} }}]\n"
        );
        let nodes = compiled(&yaml).unwrap().nodes.unwrap();
        let node = |(at, rack): (usize, char)| remit_protocol::node::Node {
            name: format!("n{at}").parse().unwrap(),
            tags: Default::default(),
            attributes: [("rack".to_owned(), rack.to_string())].into(),
        };
        let set: Vec<_> = racks.chars().enumerate().map(node).collect();
        assert_eq!(trigger::tiers(&nodes, &set), expect, "{keys} {racks}");
    }
    check("threads: 1", "aaaa", &[]);
    check("tiers: [1, rest]", "aaaa", &[1, 4]);
    check("tiers: [1, \"50%\", rest]", "aaaaaaaa", &[1, 5, 8]);
    check("tiers: [5, 5]", "aaaa", &[]);
    check("tiers: [2, 2]", "aaaa", &[2, 4]);
    check("tiers: [1]", "", &[]);
    check("tiers: rank, rank: { by: rack }", "aabccc", &[2, 3, 6]);
    check("tiers: rank, rank: { by: rack }", "aaa", &[]);
}

#[test]
fn what_becomes_of_lines_is_checked() {
    fn check(log: &str, place: &str, part: &str) {
        let yaml = format!(
            "job: j\nsteps: [{{ name: a, uses: remit/transform@1, with: {{ value: 1 }}, log: {log} }}]\n"
        );
        match compiled(&yaml) {
            Ok(document) => {
                assert_eq!(place, "", "{log}");
                let found = serde_json::to_string(&document.steps[0].log).unwrap();
                assert!(found.contains(part), "{log}: {found}");
            }
            Err(faults) => {
                let says =
                    |f: &Fault| f.place == place && format!("{} {}", f.message, f.remedy).contains(part);
                assert!(faults.iter().any(says), "{log}: {faults:?}");
            }
        }
    }
    check("{ outputs: [{ pattern: 'v (.*)', name: v }] }", "", r#""name":"v""#);
    check("{ outputs: [{ pattern: '(.*?)=(.*)' }], mask: ['p=(.*)'], keep: 5 }", "", r#""keep":5"#);
    check("{ outputs: [{ pattern: 'v', name: v }] }", "steps.a.log.outputs[0].pattern", "0 groups");
    check("{ outputs: [{ pattern: '(v)' }] }", "steps.a.log.outputs[0].pattern", "two groups");
    check("{ outputs: [{ pattern: '(v)', name: 'a b' }] }", "steps.a.log.outputs[0].name", "letters");
    check("{ outputs: [{ name: v }] }", "steps.a.log.outputs[0]", "`pattern` is missing");
    check("{ mask: ['('] }", "steps.a.log.mask[0]", "regular expression");
    check("{ keep: 0 }", "steps.a.log.keep", "no lines");
    check("{ limit: 5 }", "steps.a.log.limit", "no key");
    let gate = compiled("job: j\nsteps: [{ name: a, approve: x, log: { keep: 1 } }]\n").unwrap_err();
    assert_eq!(gate[0].place, "steps.a.log", "{gate:?}");
}
