//! What stands before any step is run: moving jobs in, choosing nodes, planning over many of them.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use remit_import::Format;
use remit_job::filter::NodeFilter;
use remit_protocol::node::Node;
use serde_json::{Value, json};

use super::{
    Row,
    baseline::{timed, timed_async},
    load, median,
};

/// Jobs of the file that is moved in.
const JOBS: u32 = 5_000;
/// Nodes that are chosen from.
const NODES: u32 = 100_000;
/// Measurements of one number.
const TIMES: usize = 5;

/// A filter with a pattern, tags and a negative, as people write them.
const FILTER: &str = "tags: web+linux name: web.* !rack: r1";

/// A job over all nodes for which there is no runner: it is planned, and then waits.
const PLANNED: &str = "job: planned
runner: { tags: [nowhere] }
nodes: { filter: \"tags: web\", threads: 64, rank: { by: rack } }
steps:
  - name: one
    uses: remit/transform@1
    per: node
    with: { value: \"${node.name}\" }
";

/// A job as exports have them.
fn job(number: u32) -> String {
    format!(
        "- name: job {number}
  group: ops/team{}
  description: 'restarts: the service'
  uuid: 00000000-0000-0000-0000-{number:012}
  runnerSelector: {{filter: 'dmz,linux', runnerFilterMode: TAGS}}
  options:
    - {{name: service, values: [web, api], enforced: true, required: true, value: web}}
    - {{name: hosts, multivalued: true, delimiter: ' ', regex: '[a-z0-9.-]+'}}
  nodefilters:
    filter: 'tags: web+linux !name: canary.*'
    dispatch: {{threadcount: '5', keepgoing: true, rankAttribute: rack}}
  schedule: {{time: {{seconds: '0', minute: '15', hour: '03'}}, month: '*', year: '*', weekday: {{day: '*'}}}}
  sequence:
    commands:
      - exec: systemctl restart ${{option.service}}
        errorhandler: {{exec: 'journalctl -n 50'}}
      - script: |
          #!/bin/sh
          for host in \"$@\"; do echo \"$host\"; done
        args: ${{option.hosts}}
      - jobref: {{name: job {}, group: ops/team{}, args: '-service ${{option.service}}'}}
",
        number % 50,
        number / 2,
        number / 2 % 50,
    )
}

/// The import of a large job file.
pub(super) fn import() -> Result<Row> {
    let text: String = (0..JOBS).map(job).collect();
    let (jobs, time) = timed(|| Ok(remit_import::jobs(&text, Format::Yaml, "keys/prod/ssh-key")?))?;
    let made = jobs.iter().filter(|job| job.source.is_some()).count();
    ensure!(made == usize::try_from(JOBS)?, "{made} of {JOBS} jobs were imported");
    // Every job is read back by our own reader; reading them alone is what the rest is compared with.
    let ((), read) = timed(|| {
        for job in &jobs {
            let source = job.source.as_deref().unwrap_or_default();
            black_box(remit_job::source::JobSource::parse(source).map_err(|_| anyhow::anyhow!("unread"))?);
        }
        Ok(())
    })?;
    let [value, baseline] = [time, read].map(|time| time.as_secs_f64());
    Ok(Row {
        id: "import-jobs",
        value,
        unit: "s",
        baseline,
        ratio: value / baseline,
        note: format!("{JOBS} jobs of Rundeck in YAML; baseline reads what came of them; goal ≤ 10 s"),
    })
}

fn nodes() -> Result<Vec<Value>> {
    let node = |number: u32| {
        let kind = if number.is_multiple_of(3) { "db" } else { "web" };
        json!({
            "name": format!("{kind}{number:06}"),
            "tags": [kind, "linux", format!("zone-{}", number % 7)],
            "attributes": {
                "hostname": format!("10.0.{}.{}", number / 256 % 256, number % 256),
                "osFamily": "unix",
                "rack": format!("r{}", number % 40),
                "username": "deploy",
            },
        })
    };
    Ok((0..NODES).map(node).collect())
}

/// A filter over many nodes.
pub(super) fn filter() -> Result<Row> {
    let nodes: Vec<Node> = serde_json::from_value(Value::Array(nodes()?))?;
    let (mut own, mut plain) = (Vec::new(), Vec::new());
    let mut found = 0;
    for _ in 0..TIMES {
        let (selected, time) = timed(|| Ok(black_box(NodeFilter::parse(FILTER)?.select(&nodes)).len()))?;
        found = selected;
        own.push(milliseconds(time));
        let same = |node: &&Node| node.name.as_str() == "web099999";
        let (_, time) = timed(|| Ok(black_box(nodes.iter().filter(same).count())))?;
        plain.push(milliseconds(time));
    }
    ensure!(found > 60_000, "the filter selects {found} nodes");
    let (value, baseline) = (median(own), median(plain));
    Ok(Row {
        id: "filter",
        value,
        unit: "ms",
        baseline,
        ratio: value / baseline,
        note: format!("{FILTER:?} over {NODES} nodes, p50; baseline compares each name; goal ≤ 50 ms"),
    })
}

/// The plan of an execution over many nodes, from the request to the answer: filter, rank, the node set as a blob, the
/// record, all of it durable.
pub(super) fn plan() -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let stack = load::stack(folder.path(), "[ceiling]\n")?;
    let nodes = nodes()?;
    let bytes = serde_json::to_vec(&nodes)?;
    load::load_nodes(&stack, &nodes)?;
    load::apply(&stack, folder.path(), "planned", PLANNED)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut own, mut written) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (planned, time) = runtime.block_on(timed_async(async {
            let url = format!("{}/api/v1/projects/demo/jobs/planned/executions", stack.url());
            let answer = stack.client()?.post(url).bearer_auth(stack.token()).json(&json!({})).send().await?;
            let status = answer.status();
            let answer: Value = answer.json().await?;
            ensure!(status.is_success(), "planning: {status}: {answer}");
            Ok(answer)
        }))?;
        let id = planned["execution"].as_str().context("no execution")?.to_owned();
        own.push(milliseconds(time));
        stack.json(&["execution", "cancel", &id])?;
        let ((), time) = timed(|| {
            let path = folder.path().join("nodes.json");
            std::fs::write(&path, &bytes)?;
            Ok(std::fs::File::open(&path)?.sync_all()?)
        })?;
        written.push(milliseconds(time));
    }
    let (value, baseline) = (median(own), median(written));
    Ok(Row {
        id: "plan",
        value,
        unit: "ms",
        baseline,
        ratio: value / baseline,
        note: format!(
            "POST to answer over {NODES} nodes, p50; baseline writes such a set to disk; goal ≤ 1000 ms"
        ),
    })
}

fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
