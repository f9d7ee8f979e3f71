//! Mistakes in a job file: where each is reported, why it is one, and what to write instead.

use super::*;

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
