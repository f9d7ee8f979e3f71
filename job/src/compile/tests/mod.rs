mod flow;
mod typed;

use remit_protocol::{
    Outcome, SectionNumber, StepIndex,
    assignment::{NodesView, StartMode, StepView},
    capability::Effect,
    manifest::StepFile,
    node::Node,
    operator::NewSource,
};
use serde_json::{Value, json};

use super::*;
use crate::{condition, options, sections, trigger, widened::widened};

const EXAMPLE: &str = include_str!("../example.yaml");

/// The components of the example, and some that the bad jobs use.
fn component(selector: &ComponentSelector) -> Option<ResolvedComponent> {
    let object = json!({"type": "object"});
    let (file, input) = match selector.name().as_str() {
        "remit/ssh-command" => (
            json!({"name": "remit/ssh-command", "version": "1.2.0", "kind": "step", "description": "d", "effect": "effect",
                   "limits": {"wall": "1h"}, "ssh": [{"target": "node", "secret": {"name": "key", "use": "ssh-key"}}]}),
            json!({"type": "object", "required": ["argv"], "additionalProperties": false,
                   "properties": {"argv": {"type": "array"}, "sudo": {"type": ["boolean", "null"]}}}),
        ),
        "acme/restart-service" => (
            json!({"name": "acme/restart-service", "version": "1.4.2", "kind": "step", "description": "d", "effect": "idempotent",
                   "limits": {"memory": "32MiB", "wall": "2m"},
                   "http": [{"id": "control", "host": "control.corp.example", "methods": ["GET", "POST"], "paths": ["/v1/services"],
                             "private": true, "secret": {"name": "token", "use": "bearer"}}]}),
            json!({"type": "object", "required": ["service"],
                   "properties": {"service": {"type": "string"}, "polls": {"type": "integer"}}}),
        ),
        "remit/http-request" => (
            json!({"name": "remit/http-request", "version": "1.0.3", "kind": "step", "description": "d", "effect": "effect",
                   "http": [{"host": "granted", "private": true}]}),
            object,
        ),
        "remit/run-command" => (
            json!({"name": "remit/run-command", "version": "1.0.0", "kind": "step", "description": "d", "effect": "effect",
                   "exec": [{"program": "granted"}], "files": [{"path": "granted"}, {"scratch": true}], "reveal": [{"name": "word"}]}),
            object,
        ),
        "remit/transform" => (
            json!({"name": "remit/transform", "version": "1.0.0", "kind": "step", "description": "d", "effect": "pure"}),
            object,
        ),
        "remit/file-nodes" => (
            json!({"name": "remit/file-nodes", "version": "1.0.0", "kind": "node-source", "description": "d", "effect": "read",
                   "files": [{"name": "inventory"}]}),
            object,
        ),
        _ => return None,
    };
    let file: StepFile = serde_json::from_value(file).unwrap();
    let manifest = file.into_manifest(vec![], input, json!({}));
    selector.selects(&manifest.version).then(|| ResolvedComponent {
        version: manifest.version.clone(),
        digest: Digest::of(selector.name().as_str().as_bytes()),
        manifest,
    })
}

fn compiled(text: &str) -> Result<Document, Vec<Fault>> {
    compile(&JobSource::parse(text)?, &"ops".parse().unwrap(), &component)
}

fn action(document: &Document, at: usize) -> &ComponentAction {
    document.steps[at].components().next().unwrap()
}

#[test]
fn the_example_compiles_to_explicit_grants() {
    let document = compiled(EXAMPLE).unwrap();
    let drain = action(&document, 0);
    assert_eq!(drain.version.to_string(), "1.2.0");
    assert_eq!(
        serde_json::to_value(&drain.grant).unwrap(),
        json!({"ssh": [{"target": "node", "secret": {"name": "key", "use": "ssh-key"}}]})
    );
    assert_eq!(drain.effect, Effect::Effect);
    let restart = action(&document, 1);
    assert_eq!(
        serde_json::to_value(&restart.grant).unwrap(),
        json!({"http": [{"host": "control.corp.example", "port": 443, "methods": ["GET", "POST"], "paths": ["/v1/services"],
                         "private": true, "secret": {"name": "token", "use": "bearer"}}]})
    );
    assert_eq!(restart.effect, Effect::Idempotent);
    assert_eq!(restart.limits.memory.to_string(), "32MiB");
    let report = action(&document, 2);
    assert_eq!(
        serde_json::to_value(&report.grant).unwrap(),
        json!({"http": [{"host": "hooks.chat.example", "port": 443, "methods": ["POST"], "paths": ["/services"]}]})
    );
    assert_eq!(
        restart.agrees_with(&component(&"acme/restart-service@1.4".parse().unwrap()).unwrap().manifest),
        Ok(())
    );
    assert!(
        restart.agrees_with(&component(&"remit/http-request@1".parse().unwrap()).unwrap().manifest).is_err()
    );
}

#[test]
fn a_filter_covers_no_more_nodes_than_the_limit() {
    fn check(limit: &str, nodes: &[Node], expect: bool) {
        let document = compiled(&changed("  threads:", &format!("{limit}  threads:"))).unwrap();
        let resolved = trigger::resolve(&document, &scope(&json!({"service": "api", "batch": 7}))).unwrap();
        assert_eq!(resolved.nodes.unwrap().covers(nodes), expect, "{limit:?} {nodes:?}");
    }
    let web = |name: &str| node(name, "a", &["web", "linux"]);
    let (two, other) = ([web("web1"), web("web2")], [node("db1", "a", &["db", "linux"])]);
    check("", &two, true);
    check("", &other, false);
    check("  limit: 2\n", &two, true);
    check("  limit: 1\n", &two, false);
    check("  limit: 1\n", &two[..1], true);
    // Of how many it is a part, nobody signed.
    check("  limit: \"10%\"\n", &two, true);
}

#[test]
fn a_document_reads_back_as_it_was() {
    let document = compiled(EXAMPLE).unwrap();
    let bytes = document.to_vec();
    let again = Document::from_slice(&bytes).unwrap();
    assert_eq!(again, document);
    assert_eq!(again.to_vec(), bytes);
    assert_eq!(Digest::of(&compiled(EXAMPLE).unwrap().to_vec()), Digest::of(&bytes));
}

fn scope(options: &Value) -> crate::expression::Scope {
    let execution = crate::expression::ExecutionView {
        id: remit_protocol::ExecutionId::from_u128(1),
        job: "restart_web".parse().unwrap(),
        revision: remit_protocol::Revision(1),
        started_by: "ada".to_owned(),
    };
    crate::expression::Scope::new(&"ops".parse().unwrap(), &execution, options.as_object().unwrap())
}

fn node(name: &str, rack: &str, tags: &[&str]) -> Node {
    Node {
        name: name.parse().unwrap(),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        attributes: [("rack".to_owned(), rack.to_owned())].into(),
    }
}

#[test]
fn the_example_is_evaluated_as_its_author_means() {
    let document = compiled(EXAMPLE).unwrap();
    let given = json!({"service": "api", "batch": "7"});
    let (empty, outputs) = (crate::expression::Scope::default(), std::collections::BTreeMap::new());
    let around = options::Outside { scope: &empty, nodes: &[], outputs: &outputs };
    let values = options::check(&document.options, given.as_object().unwrap(), &around);
    let values = Value::Object(values.unwrap());
    assert_eq!(values, json!({"service": "api", "batch": 7}));
    let mut scope = scope(&values);

    let resolved = trigger::resolve(&document, &scope).unwrap();
    let nodes = resolved.nodes.unwrap();
    assert_eq!((nodes.threads(100), resolved.timeout.map(|t| t.to_string())), (7, Some("30m".to_owned())));
    let all = [
        node("web2", "b", &["web", "linux"]),
        node("canary1", "a", &["web", "linux"]),
        node("web1", "a", &["web", "linux"]),
        node("db1", "a", &["db", "linux"]),
    ];
    assert_eq!(nodes.select(&all), [2, 0]);

    let on_node = scope.with_node(&all[0]);
    assert_eq!(action(&document, 0).with.render(&on_node), Ok(json!({"argv": ["sudo", "lb-drain", "web2"]})));

    let when = &document.steps[1].when;
    let drained = |outcome| {
        let mut scope = on_node.clone();
        scope.set_step(&"drain".parse().unwrap(), &StepView { outcome, outputs: None, nodes: None });
        condition::holds(when, [outcome], &scope)
    };
    assert_eq!(drained(Outcome::Succeeded), Ok(true));
    assert_eq!(drained(Outcome::Failed), Ok(false));

    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let view = NodesView { succeeded: names(&["web1"]), failed: names(&["web2", "web3"]) };
    scope.set_step(
        &"restart".parse().unwrap(),
        &StepView { outcome: Outcome::Failed, outputs: None, nodes: Some(view) },
    );
    let input = action(&document, 2).with.render(&scope).unwrap();
    assert_eq!(input["json"]["text"], json!("api: 1 restarted, 2 failed"));
    assert_eq!(condition::holds(&document.steps[2].when, [Outcome::Failed], &scope), Ok(true));
}

#[test]
fn the_example_has_two_sections() {
    let document = compiled(EXAMPLE).unwrap();
    let plan = sections::plan(&document);
    let shape: Vec<_> = plan.iter().map(|s| (s.number, s.first, s.steps, s.effect, s.start())).collect();
    assert_eq!(
        shape,
        [
            (SectionNumber(0), StepIndex(0), 2, Effect::Effect, StartMode::Guarded),
            (SectionNumber(1), StepIndex(2), 1, Effect::Effect, StartMode::Guarded),
        ]
    );
    assert_eq!(plan[0].of(&document).len(), 2);
}

/// Changes the one place where `from` stands in the example.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(EXAMPLE.matches(from).count(), 1, "{from:?} has to stand once in the example");
    EXAMPLE.replacen(from, to, 1)
}

/// One mistake in the example: where it is reported and a part of what is said.
#[test]
fn each_mistake_says_where_why_and_what_to_do() {
    let mut wrong = Vec::new();
    let mut check = |from: &str, to: &str, line: u32, place: &str, part: &str| {
        let text = changed(from, to);
        let faults = compiled(&text).expect_err(to);
        let found = faults.iter().any(|fault| {
            fault.line == Some(line)
                && fault.column.is_some()
                && fault.place == place
                && format!("{} {}", fault.message, fault.remedy).contains(part)
        });
        if !found {
            let given: Vec<_> = faults
                .iter()
                .map(|f| format!("  {:?} {}: {} / {}", f.line, f.place, f.message, f.remedy))
                .collect();
            wrong.push(format!(
                "{to:?} should give line {line}, {place}, {part:?}; it gave\n{}",
                given.join("\n")
            ));
        }
    };
    // The head.
    check("job: restart_web", "job: Restart-Web", 2, "job", "[a-z][a-z0-9_]*");
    check("job: restart_web", "job: 5", 2, "job", "put it in quotes");
    check("job: restart_web", "jobs: restart_web", 2, "jobs", "did you mean `job`?");
    check("group: ops/web", "group: ops//web", 3, "group", "ops/web");
    check("group: ops/web", "group: [ops]", 3, "group", "not a text");
    check("group: ops/web", "job: again", 3, "job", "stands twice");
    check("description: Drain", "descripton: Drain", 4, "descripton", "did you mean `description`?");
    check("description: Drain", "colour: Drain", 4, "colour", "the keys here are");
    check("  tags: [dmz, linux]", "  tags: [dmz, dmz]", 6, "runner.tags", "twice");
    check("  tags: [dmz, linux]", "  tags: dmz", 6, "runner.tags", "not a list");
    check("  tags: [dmz, linux]", "  tags: [\"a b\"]", 6, "runner.tags[0]", "tag");
    check("  override: true", "  override: yes", 7, "runner.override", "write true or false");
    check("  override: true", "  overide: true", 7, "runner.overide", "did you mean `override`?");
    check("strategy: node-first", "strategy: nodes-first", 16, "strategy", "did you mean `node-first`?");
    check("strategy: node-first", "strategy: random", 16, "strategy", "write one of");
    check("timeout: 30m", "timeout: 30", 17, "timeout", "put it in quotes");
    check("timeout: 30m", "timeout: 30minutes", 17, "timeout", "not a duration");
    check("timeout: 30m", "timeout: 0s", 17, "timeout", "between");
    check("timeout: 30m", "timeout: 400d", 17, "timeout", "between");
    check("timeout: 30m", "timeout: steps.drain.outcome", 17, "timeout", "before any step");
    check("timeout: 30m", "timeout: options.limit", 17, "timeout", "not an option");
    // Options.
    check("  service: {", "  Service: {", 9, "options.Service", "option name");
    check(
        "type: string, values: [web, api]",
        "type: text, values: [web, api]",
        9,
        "options.service.type",
        "write one of",
    );
    check(
        "type: string, values: [web, api]",
        "type: strng, values: [web, api]",
        9,
        "options.service.type",
        "did you mean `string`?",
    );
    check(
        "type: string, values: [web, api]",
        "values: [web, api]",
        9,
        "options.service",
        "`type` is missing",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, value: [web, api]",
        9,
        "options.service.value",
        "did you mean `values`?",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, values: [web, web]",
        9,
        "options.service.values",
        "twice",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, values: [1, 2]",
        9,
        "options.service.values[0]",
        "quotes",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, min: 1",
        9,
        "options.service.min",
        "the keys here are",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, pattern: \"(\"",
        9,
        "options.service.pattern",
        "not a regular expression",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, pattern: \"(?=a)\"",
        9,
        "options.service.pattern",
        "look-around",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, pattern: \"(a{1000}){1000}\"",
        9,
        "options.service.pattern",
        "larger than",
    );
    check(
        "type: string, values: [web, api]",
        "type: string, pattern: w, default: x",
        9,
        "options.service.default",
        "pattern",
    );
    check("required: true }", "required: sure }", 9, "options.service.required", "true or false");
    check(
        "required: true }",
        "required: true, default: db }",
        9,
        "options.service.default",
        "give one of web, api",
    );
    check("default: 5, min: 1", "default: 0, min: 1", 10, "options.batch.default", "give 1 or more");
    check("default: 5, min: 1", "default: 51, min: 1", 10, "options.batch.default", "give 50 or less");
    check("default: 5, min: 1", "default: \"5\", min: 1", 10, "options.batch.default", "without quotes");
    check("default: 5, min: 1", "default: 5, min: 1.5", 10, "options.batch.min", "whole number");
    check("default: 5, min: 1", "default: 60, min: 60", 10, "options.batch.min", "above the most");
    check("default: 5, min: 1", "values: [99], default: 5, min: 1", 10, "options.batch.values", "outside");
    // Nodes.
    check(
        "  filter: \"tags: web+linux !name: canary.*\"",
        "  filter: \"tags: web name: (\"",
        12,
        "nodes.filter",
        "character 11",
    );
    check(
        "  filter: \"tags: web+linux !name: canary.*\"",
        "  filter: \"tags:\"",
        12,
        "nodes.filter",
        "no value",
    );
    check(
        "  filter: \"tags: web+linux !name: canary.*\"",
        "  filter: \"tags: ${options.tier}\"",
        12,
        "nodes.filter",
        "options: { tier: { type: string } }",
    );
    check(
        "  filter: \"tags: web+linux !name: canary.*\"",
        "  filter: \"tags: ${node.name}\"",
        12,
        "nodes.filter",
        "only there",
    );
    check(
        "  filter: \"tags: web+linux !name: canary.*\"",
        "  filer: \".*\"",
        12,
        "nodes.filer",
        "did you mean `filter`?",
    );
    check("  filter: \"tags: web+linux !name: canary.*\"", "", 13, "nodes", "`filter` is missing");
    check("threads: \"options.batch\"", "threads: 0", 13, "nodes.threads", "at least 1");
    check("threads: \"options.batch\"", "threads: 1001", 13, "nodes.threads", "at most 1000");
    check("threads: \"options.batch\"", "threads: -1", 13, "nodes.threads", "not negative");
    check("threads: \"options.batch\"", "threads: 1.5", 13, "nodes.threads", "whole number");
    check(
        "threads: \"options.batch\"",
        "threads: options.bach",
        13,
        "nodes.threads",
        "did you mean `options.batch`?",
    );
    check("threads: \"options.batch\"", "threads: options.", 13, "nodes.threads", "cannot be read");
    check(
        "rank: { by: rack, order: ascending }",
        "rank: { order: ascending }",
        15,
        "nodes.rank",
        "`by` is missing",
    );
    check("rank: { by: rack, order: ascending }", "rank: { by: \" \" }", 15, "nodes.rank.by", "attribute");
    check("order: ascending", "order: asc", 15, "nodes.rank.order", "write one of");
    // Steps.
    check("  - name: drain", "  - name: Drain", 19, "steps[0].name", "step name");
    check("  - name: drain", "  - names: drain", 19, "steps[0].names", "did you mean `name`?");
    check("  - name: restart", "  - name: drain", 26, "steps[1].name", "twice");
    check(
        "uses: remit/ssh-command@1",
        "use: remit/ssh-command@1",
        20,
        "steps.drain.use",
        "did you mean `uses`?",
    );
    check(
        "uses: remit/ssh-command@1",
        "uses: remit/ssh-command",
        20,
        "steps.drain.uses",
        "namespace/name@version",
    );
    check("uses: remit/ssh-command@1", "uses: remit/ssh-command@2", 20, "steps.drain.uses", "no component");
    check("uses: remit/ssh-command@1", "uses: remit/sshcommand@1", 20, "steps.drain.uses", "step publish");
    check("uses: remit/ssh-command@1", "uses: remit/file-nodes@1", 20, "steps.drain.uses", "node source");
    check("    when: always", "    when: allways", 38, "steps.report.when", "does not exist");
    check("    when: always", "    when: options.flag", 38, "steps.report.when", "not an option");
    check(
        "    when: always",
        "    when: steps.report.outcome == ''",
        38,
        "steps.report.when",
        "not run before",
    );
    check(
        "    when: always",
        "    when: steps.restar.outcome == ''",
        38,
        "steps.report.when",
        "did you mean `steps.restart`?",
    );
    check(
        "    when: always",
        "    when: steps.restart.outputs.x",
        38,
        "steps.report.when",
        "nodes.succeeded",
    );
    check("    when: always", "    when: steps.restart == 1", 38, "steps.report.when", "as a whole");
    check("    when: always", "    when: node.name == 'x'", 38, "steps.report.when", "nodes.filter");
    check("    when: always", "    per: nodes", 38, "steps.report.per", "did you mean `node`?");
    check(
        "    when: \"steps.drain.outcome == 'succeeded'\"",
        "    when: \"size(steps.drain.nodes.failed) == 0\"",
        29,
        "steps.restart.when",
        "not complete yet",
    );
    check(
        "    when: \"steps.drain.outcome == 'succeeded'\"",
        "    when: \"steps.drain.outcome = 'x'\"",
        29,
        "steps.restart.when",
        "cannot be read",
    );
    check("    timeout: 1m", "    timeout: 2h", 25, "steps.drain.timeout", "write 1h or less");
    check("    timeout: 1m", "    timeout: 0ms", 25, "steps.drain.timeout", "between");
    check("    timeout: 1m", "    timeout: 48h", 25, "steps.drain.timeout", "or less");
    check(
        "    timeout: 1m",
        "    limits: { memory: 600MiB }",
        25,
        "steps.drain.limits.memory",
        "512MiB or less",
    );
    check(
        "    timeout: 1m",
        "    limits: { memori: 6MiB }",
        25,
        "steps.drain.limits.memori",
        "did you mean `memory`?",
    );
    check("    timeout: 1m", "    limits: { memory: 6MB }", 25, "steps.drain.limits", "not a size");
    check("retry: { attempts: 3,", "retry: { attempts: 0,", 35, "steps.restart.retry.attempts", "at least 1");
    check(
        "retry: { attempts: 3,",
        "retry: { attempts: 101,",
        35,
        "steps.restart.retry.attempts",
        "at most 100",
    );
    check("retry: { attempts: 3,", "retry: {", 35, "steps.restart.retry", "`attempts` is missing");
    check(
        "outcomes: [failed, timed-out]",
        "outcomes: []",
        35,
        "steps.restart.retry.outcomes",
        "outcomes: [failed]",
    );
    check(
        "outcomes: [failed, timed-out]",
        "outcomes: [fail]",
        35,
        "steps.restart.retry.outcomes[0]",
        "did you mean `failed`?",
    );
    check(
        "outcomes: [failed, timed-out]",
        "outcomes: [refused]",
        35,
        "steps.restart.retry.outcomes[0]",
        "write one of",
    );
    check("delay: 5s", "delay: 2h", 35, "steps.restart.retry.delay", "longer than 1h");
    check("backoff: 2", "backoff: 0.5", 35, "steps.restart.retry.backoff", "between 1 and 10");
    check("backoff: 2", "backoff: 11", 35, "steps.restart.retry.backoff", "between 1 and 10");
    check(
        "    timeout: 1m",
        "    retry: { attempts: 2, outcomes: [lost] }",
        25,
        "steps.drain.retry.outcomes",
        "a person decides",
    );
    // Inputs.
    check(
        "argv: [sudo, lb-drain, \"${node.name}\"]",
        "argv: [sudo, \"${node.name\"]",
        23,
        "steps.drain.with.argv[1]",
        "not closed",
    );
    check(
        "argv: [sudo, lb-drain, \"${node.name}\"]",
        "argv: [\"${options.nosuch}\"]",
        23,
        "steps.drain.with.argv[0]",
        "not an option",
    );
    check(
        "argv: [sudo, lb-drain, \"${node.name}\"]",
        "argv: [\"${1 +}\"]",
        23,
        "steps.drain.with.argv[0]",
        "cannot be read",
    );
    check(
        "argv: [sudo, lb-drain, \"${node.name}\"]",
        "argv: sudo",
        23,
        "steps.drain.with.argv",
        "write array",
    );
    check(
        "argv: [sudo, lb-drain, \"${node.name}\"]",
        "args: [sudo]",
        23,
        "steps.drain.with.args",
        "did you mean `argv`?",
    );
    check(
        "argv: [sudo, lb-drain, \"${node.name}\"]",
        "sudo: true",
        22,
        "steps.drain.with",
        "`argv` is missing",
    );
    check(
        "text: \"${options.service}:",
        "text: \"${node.name}:",
        43,
        "steps.report.with.json.text",
        "per: node",
    );
    check(
        "text: \"${options.service}:",
        "text: \"${steps.drain.outputs}:",
        43,
        "steps.report.with.json.text",
        "nodes.succeeded",
    );
    check(
        "text: \"${options.service}:",
        "text: \"${[1].map(x, [2].map(y, y))}:",
        43,
        "steps.report.with.json.text",
        "inside a macro",
    );
    // Secrets.
    check(
        "secrets: { key: keys/prod/deploy-key }",
        "secrets: { key: prod/deploy-key }",
        24,
        "steps.drain.secrets.key",
        "keys/",
    );
    check(
        "secrets: { key: keys/prod/deploy-key }",
        "secrets: { Key: keys/prod/deploy-key }",
        24,
        "steps.drain.secrets.Key",
        "secret name",
    );
    check(
        "secrets: { key: keys/prod/deploy-key }",
        "secrets: { key: [] }",
        24,
        "steps.drain.secrets.key",
        "no path",
    );
    check(
        "secrets: { key: keys/prod/deploy-key }",
        "secrets: { key: [keys/a, keys/a] }",
        24,
        "steps.drain.secrets.key",
        "twice",
    );
    check(
        "secrets: { key: keys/prod/deploy-key }",
        "secrets: { kee: keys/a }",
        24,
        "steps.drain.secrets.kee",
        "did you mean `key`?",
    );
    check(
        "    secrets: { key: keys/prod/deploy-key }\n",
        "",
        19,
        "steps.drain.grant.ssh[0]",
        "secrets: { key: keys/… }",
    );
    check(
        "secrets: { token: keys/prod/control-token }",
        "secrets: { token: [keys/a, keys/b] }",
        32,
        "steps.restart.secrets.token",
        "only ssh",
    );
    check(
        "secrets: { token: keys/prod/control-token }",
        "secrets: { token: keys/a, more: keys/b }",
        32,
        "steps.restart.secrets.more",
        "no rule",
    );
    // Grants.
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ id: contrl }",
        34,
        "steps.restart.grant.http[0].id",
        "did you mean `control`?",
    );
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ id: control, methods: [PUT] }",
        34,
        "steps.restart.grant.http[0]",
        "cannot be given",
    );
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ id: control, methods: [] }",
        34,
        "steps.restart.grant.http[0]",
        "allow nothing",
    );
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ id: control, methods: [get] }",
        34,
        "steps.restart.grant.http[0].methods",
        "GET",
    );
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ id: control, paths: [/] }",
        34,
        "steps.restart.grant.http[0]",
        "cannot be given",
    );
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ id: control, host: x.example }",
        34,
        "steps.restart.grant.http[0].host",
        "the keys here are",
    );
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ host: evil.example, methods: [GET], paths: [/] }",
        34,
        "steps.restart.grant.http[0]",
        "it requests http GET,POST https://control.corp.example",
    );
    check(
        "{ id: control, methods: [POST, GET] }",
        "{ hosts: evil.example }",
        34,
        "steps.restart.grant.http[0].hosts",
        "did you mean `host`?",
    );
    check(
        "http: [{ id: control, methods: [POST, GET] }]",
        "exec: [{ program: sh }]",
        34,
        "steps.restart.grant.exec[0]",
        "cannot be given",
    );
    check(
        "http: [{ id: control, methods: [POST, GET] }]",
        "ssh: [{ target: node }]",
        34,
        "steps.restart.grant.ssh[0]",
        "cannot be given",
    );
    check(
        "http: [{ id: control, methods: [POST, GET] }]",
        "files: [{ name: inventory }]",
        34,
        "steps.restart.grant.files[0]",
        "cannot be given",
    );
    check(
        "http: [{ id: control, methods: [POST, GET] }]",
        "reveal: [{ name: token }]",
        34,
        "steps.restart.grant.reveal[0]",
        "cannot be given",
    );
    check(
        "http: [{ id: control, methods: [POST, GET] }]",
        "htp: []",
        34,
        "steps.restart.grant.htp",
        "did you mean `http`?",
    );
    check(
        "http: [{ id: control, methods: [POST, GET] }]",
        "limits: {}",
        34,
        "steps.restart.grant.limits",
        "beside `grant:`",
    );
    check(
        "http: [{ id: control, methods: [POST, GET] }]",
        "http: all",
        34,
        "steps.restart.grant.http",
        "not a list",
    );
    check("host: hooks.chat.example", "host: \"*.example\"", 45, "steps.report.grant.http[0]", "two labels");
    check("host: hooks.chat.example", "host: 10.0.0.1", 45, "steps.report.grant.http[0]", "address");
    check("host: hooks.chat.example", "host: granted", 45, "steps.report.grant.http[0]", "");
    check(
        "methods: [POST], paths: [/services]",
        "methods: [POST]",
        45,
        "steps.report.grant.http[0]",
        "paths",
    );
    check(
        "methods: [POST], paths: [/services]",
        "methods: [POST], paths: [/a/../b]",
        45,
        "steps.report.grant.http[0]",
        "..",
    );
    check(
        "methods: [POST], paths: [/services]",
        "methods: [CONNECT], paths: [/]",
        45,
        "steps.report.grant.http[0]",
        "CONNECT",
    );
    check(
        "methods: [POST], paths: [/services]",
        "methods: [POST], paths: [/], secret: { name: hook, use: bearer }",
        45,
        "steps.report.grant.http[0]",
        "secrets: { hook: keys/… }",
    );
    check(
        "    grant:\n      http: [{ host: hooks.chat.example, methods: [POST], paths: [/services] }]\n",
        "",
        36,
        "steps.report",
        "host: HOST",
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_mistakes_are_reported_at_once_in_order() {
    let text = EXAMPLE
        .replace("group: ops/web", "grup: ops/web")
        .replace("type: integer", "type: int")
        .replace("order: ascending", "order: up")
        .replace("timeout: 1m", "timeout: soon")
        .replace("attempts: 3", "attempts: many");
    let lines: Vec<_> = compiled(&text).unwrap_err().iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [Some(3), Some(10), Some(15), Some(25), Some(35)]);
}

#[test]
fn jobs_that_are_no_jobs() {
    fn check(text: &str, part: &str) {
        let faults = compiled(text).expect_err(text);
        assert!(faults.iter().any(|fault| fault.message.contains(part)), "{text:?}: {faults:#?}");
        assert!(faults.iter().all(|fault| fault.line.is_some()), "{text:?}: {faults:#?}");
    }
    check("", "empty");
    check("[]", "not a map");
    check("just text", "not a map");
    check("job: x", "`steps` is missing");
    check("job: x\nsteps: []", "no steps");
    check("job: x\nsteps: {}", "not a list");
    check("job: x\nsteps: [1]", "not a map");
    check("job: x\nsteps: [{}]", "`name` is missing");
    check(
        "job: x\nsteps: [{ name: a, uses: remit/ssh-command@1, with: { argv: [] }, secrets: { key: keys/k } }]",
        "without a node",
    );
    check("job: x\nsteps: [{ name: a, uses: remit/transform@1, per: node }]", "nothing about nodes");
    check("job: x\nsteps: [{ name: a, uses: remit/transform@1, with: [1] }]", "not a map");
    check("job: x\noptions: [a]\nsteps: [{ name: a, uses: remit/transform@1 }]", "not a map of options");
    check("job: x\noptions: { a: string }\nsteps: [{ name: a, uses: remit/transform@1 }]", "not a map");
    let scheduled = |schedule: &str, part: &str| {
        let options = "options: { n: { type: integer, required: true } }";
        check(
            &format!(
                "job: x\n{options}\nschedules: {schedule}\nsteps: [{{ name: a, uses: remit/transform@1 }}]"
            ),
            part,
        );
    };
    scheduled("daily", "not a list");
    scheduled("[{}]", "`name` is missing");
    scheduled("[{ name: a }]", "`cron` is missing");
    scheduled("[{ name: a, cron: 0 3 * * }]", "is not a cron expression");
    scheduled("[{ name: a, cron: 0 0 31 2 *, options: { n: 1 } }]", "never fires");
    scheduled("[{ name: a, cron: 0 3 * * *, zone: Berlin, options: { n: 1 } }]", "not a time zone");
    scheduled("[{ name: a, cron: 0 3 * * *, missed: twice }]", "not one of the words");
    scheduled("[{ name: a, cron: 0 3 * * *, most: 3, options: { n: 1 } }]", "`missed: all` only");
    scheduled(
        "[{ name: a, cron: 0 3 * * *, missed: all, most: 0, options: { n: 1 } }]",
        "not between 1 and 100",
    );
    scheduled("[{ name: a, cron: 0 3 * * * }]", "has to have a value");
    scheduled("[{ name: a, cron: 0 3 * * *, options: { n: many } }]", "whole number");
    scheduled("[{ name: a, cron: 0 3 * * *, options: { m: 1, n: 1 } }]", "no option \"m\"");
    scheduled("[{ name: a, cron: 0 3 * * *, options: [1] }]", "not a map of values");
    let twice = "{ name: a, cron: 0 3 * * *, options: { n: 1 } }";
    scheduled(&format!("[{twice}, {twice}]"), "stands twice");
    let many: String = (0..21).map(|at| twice.replace("name: a", &format!("name: a{at}")) + ", ").collect();
    scheduled(&format!("[{many}]"), "21 schedules");
    let told = |entry: &str, part: &str| {
        check(&format!("job: x\nnotify: {entry}\nsteps: [{{ name: a, uses: remit/transform@1 }}]"), part);
    };
    told("ops", "not a list");
    told("[{ channel: ops }]", "`when` is missing");
    told("[{ when: [], channel: ops }]", "no occasion is named");
    told("[{ when: [error], channel: ops }]", "not one of the words");
    told("[{ when: [failure] }]", "not to whom, or to two");
    told("[{ when: [failure], channel: ops, job: y }]", "not to whom, or to two");
    told("[{ when: [failure], channel: \"o p s\" }]", "is not a channel name");
    told("[{ when: [failure], job: x }]", "through itself");
    told("[{ when: [failure], channel: ops, over: 10m }]", "`when: [slow]` only");
    told("[{ when: [slow], channel: ops, over: long }]", "is not a share of the average");
    let many = "{ when: [failure], channel: ops }, ".repeat(21);
    told(&format!("[{many}]"), "21 entries");
    check("job: x\n---\njob: y\n", "second document");
    check("job: *x\n", "not YAML");
    check("job: !x y\n", "tags");
    let many = (0..501).fold("job: x\nsteps:\n".to_owned(), |text, at| {
        format!("{text}- {{ name: s{at}, uses: remit/transform@1 }}\n")
    });
    check(&many, "501 steps");
    let many = (0..201)
        .fold("job: x\nsteps: [{ name: a, uses: remit/transform@1 }]\noptions:\n".to_owned(), |text, at| {
            format!("{text}  o{at}: {{ type: string }}\n")
        });
    check(&many, "201 options");
    let deep = format!(
        "job: x\nsteps: [{{ name: a, uses: remit/transform@1, with: {{ a: {}{} }} }}]",
        "[".repeat(27),
        "]".repeat(27)
    );
    check(&deep, "");
    assert!(JobSource::from_slice(b"job: \xff").is_err());
    assert!(JobSource::from_slice(&vec![b'#'; (1 << 20) + 1]).is_err());
}

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
fn a_document_from_elsewhere_is_checked_again() {
    let good: Value = serde_json::from_slice(&compiled(EXAMPLE).unwrap().to_vec()).unwrap();
    fn check(good: &Value, pointer: &str, value: Value, part: &str) {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value;
        let error = Document::from_slice(&serde_json::to_vec(&bad).unwrap()).expect_err(pointer).to_string();
        assert!(error.contains(part), "{pointer}: {error}");
    }
    assert!(Document::from_slice(&serde_json::to_vec(&good).unwrap()).is_ok());
    let component = "/steps/1/action/component";
    let at = |part: &str| format!("{component}/{part}");
    check(&good, "/v", json!(2), "form 2");
    check(&good, "/job", json!("No"), "job name");
    check(&good, "/steps", json!([]), "no steps");
    check(&good, "/nodes", Value::Null, "nothing about nodes");
    check(&good, "/nodes/threads", json!(0), "at least 1");
    check(&good, "/nodes/threads", json!("options.nosuch"), "not an option");
    check(&good, "/nodes/threads", json!("("), "");
    check(&good, "/nodes/filter", json!("name: ("), "not a regular expression");
    check(&good, "/timeout", json!("0s"), "between");
    check(&good, "/steps/1/name", json!("drain"), "twice");
    check(&good, "/steps/1/per", json!("once"), "");
    check(&good, "/steps/1/when", json!("steps.report.outcome == 'x'"), "not run before");
    check(&good, "/steps/1/when", json!("true ||"), "");
    check(&good, "/steps/1/retry/attempts", json!(0), "at least 1");
    check(&good, "/steps/1/retry/backoff", json!(0), "between 1 and 10");
    check(&good, "/steps/0/timeout", json!("25h"), "between");
    check(&good, "/steps/1/action", json!({"shell": {}}), "unknown variant");
    check(&good, &at("effect"), json!("read"), "retry class");
    check(&good, &at("effect"), json!("pure"), "retry class");
    check(&good, &at("kind"), json!("node-source"), "node source");
    check(&good, &at("digest"), json!("sha256:00"), "digest");
    check(&good, &at("with"), json!([]), "not a map");
    check(&good, &at("with"), json!({"a": "${nosuch}"}), "does not exist");
    check(&good, &at("with"), json!({"a": "${options.nosuch}"}), "not an option");
    check(&good, &at("secrets"), json!({}), "binds none");
    check(&good, &at("secrets"), json!({"token": ["keys/a"], "other": ["keys/b"]}), "no rule");
    check(&good, &at("secrets/token"), json!([]), "no path");
    check(&good, &at("limits/memory"), json!("600MiB"), "above");
    check(&good, &at("grant/http/0/host"), json!("granted"), "");
    check(&good, &at("grant/http/0/methods"), json!([]), "methods");
    let mut unknown = good.clone();
    unknown["extra"] = json!(1);
    assert!(Document::from_slice(&serde_json::to_vec(&unknown).unwrap()).is_err());
    assert!(Document::from_slice(b"{\"v\":1,\"v\":1}").is_err());
    assert!(Document::from_slice(b"").is_err());
    assert!(Document::from_slice(&vec![b' '; (1 << 20) + 1]).is_err());
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

#[test]
fn a_node_source_has_a_document_of_its_own() {
    let source = |change: serde_json::Value| -> NewSource {
        let mut whole = json!({
            "name": "site.files", "uses": "remit/file-nodes@1", "with": {}, "runner_tags": ["dmz"],
        });
        for (name, value) in change.as_object().unwrap() {
            whole[name] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    };
    let project = ProjectName::new("ops").unwrap();
    let files = component(&"remit/file-nodes@1".parse().unwrap()).unwrap();
    let made = discovery(&project, &source(json!({})), &files).unwrap();
    assert_eq!(made.job.as_str(), "source_site_files");
    assert_eq!(made.runner.tags.len(), 1);
    assert_eq!(Document::from_slice(&made.to_vec()), Ok(made.clone()));
    // Two steps of which one discovers are no document at all.
    let mut twice = made.clone();
    twice.steps.push(Step { name: "again".parse().unwrap(), ..made.steps[0].clone() });
    assert!(Document::from_slice(&twice.to_vec()).is_err());
    let step = component(&"remit/ssh-command@1".parse().unwrap()).unwrap();
    assert!(discovery(&project, &source(json!({})), &step).is_err());
    let ungranted = json!({"grant": {"http": [{"host": "a.example", "methods": ["GET"], "paths": ["/"]}]}});
    let faults = discovery(&project, &source(ungranted), &files).unwrap_err();
    assert!(faults[0].place == "grant", "{faults:?}");
}

#[test]
fn an_option_chooses_a_secret_among_those_that_are_listed() {
    let job = |option: &str| {
        format!(
            "job: x\noptions:\n  which: {option}\nnodes: {{ filter: .* }}\nsteps:\n- name: a\n  uses: remit/ssh-command@1\n  per: node\n  with: {{ argv: [id] }}\n  secrets: {{ key: \"${{options.which}}\" }}\n"
        )
    };
    let good = compiled(&job("{ type: secret, required: true, values: [keys/a, keys/b] }")).unwrap();
    let component = action(&good, 0);
    let of = |value: serde_json::Value| component.secrets_for(json!({"which": value}).as_object().unwrap());
    let key: remit_protocol::SecretName = "key".parse().unwrap();
    let paths: Vec<_> = component.secrets[&key].iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["keys/a", "keys/b"]);
    assert_eq!(of(json!("keys/b")).unwrap()[&key][0].as_str(), "keys/b");
    for other in [json!("keys/c"), json!(""), json!(null), json!(["keys/a"])] {
        assert!(of(other.clone()).unwrap_err().contains("the job lists keys/a, keys/b"), "{other}");
    }
    fn bad(job: &str, part: &str) {
        let faults = compiled(job).expect_err(part);
        let found = format!("{} {}", faults[0].message, faults[0].remedy);
        assert!(faults.len() == 1 && found.contains(part), "{faults:?}");
        assert_eq!(faults[0].place, "steps.a.secrets.key");
    }
    bad(&job("{ type: secret, values: [keys/a] }"), "required: true");
    bad(&job("{ type: string, required: true }"), "of the type `secret`");
    bad(&job("{ type: boolean }").replace("which: {", "other: {"), "type: secret");
    // A document that was changed on the way: other paths than the option's.
    let mut changed = serde_json::to_value(&good).unwrap();
    changed["steps"][0]["action"]["component"]["secrets"]["key"] = json!(["keys/a", "keys/root"]);
    let error = Document::from_slice(&serde_json::to_vec(&changed).unwrap()).unwrap_err();
    assert!(error.to_string().contains("not those of the option"), "{error}");
}

#[test]
fn the_clock_is_there_only_for_defaults() {
    let text = "job: x\noptions:\n  day: { type: date, default: \"${date('%Y-%m-%d')}\" }\nsteps:\n- name: a\n  uses: remit/transform@1\n  with: { value: \"${date('%Y')}\" }\n";
    let faults = compiled(text).unwrap_err();
    assert!(faults.len() == 1 && faults[0].message.contains("default of an option"), "{faults:?}");
}
