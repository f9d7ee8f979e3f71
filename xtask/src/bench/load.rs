//! One orchestrator, one runner, real TLS: how long a trigger takes, how many there can be, how fast a fan-out is.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{Stack, builder_trust, wait_for};
use serde_json::{Value, json};

use super::{
    Row,
    baseline::{self, timed_async},
    median, process,
};

/// Clients that trigger at once.
const CLIENTS: u32 = 48;
/// Nodes of the fan-out.
const NODES: u32 = 20_000;

/// A trivial step, once.
const ONE: &str = "job: one
runner: { tags: [bench] }
steps:
  - name: one
    uses: remit/transform@1
    with: { value: 1 }
";

/// A trivial step on every node.
const FAN: &str = "job: fan
runner: { tags: [bench] }
nodes: { filter: \".*\", threads: 64 }
steps:
  - name: one
    uses: remit/transform@1
    per: node
    with: { value: \"${node.name}\" }
";

/// Starts a stack with one runner that carries the tag `bench`.
pub(crate) fn stack(folder: &Path, ceiling: &str) -> Result<Stack> {
    let trust = builder_trust()?;
    let mut stack = Stack::start(&folder.join("site"), &trust)?;
    stack.json(&["project", "create", "demo"])?;
    stack.publish_built_in()?;
    stack.runner("bench", &["bench"], ceiling, &trust)?;
    Ok(stack)
}

/// Saves a job.
pub(crate) fn apply(stack: &Stack, folder: &Path, name: &str, source: &str) -> Result<()> {
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, source)?;
    stack.json(&["job", "apply", &file.display().to_string()])?;
    Ok(())
}

/// Puts nodes into the project.
pub(crate) fn load_nodes(stack: &Stack, nodes: &[Value]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let url = format!("{}/api/v1/projects/demo/nodes", stack.url());
        let answer = stack
            .client()?
            .put(url)
            .bearer_auth(stack.token())
            .json(&json!({ "nodes": nodes }))
            .send()
            .await?;
        let status = answer.status();
        ensure!(status.is_success(), "loading nodes: {status}: {}", answer.text().await?);
        Ok(())
    })
}

/// An execution by id, once it has ended.
pub(crate) fn ended(stack: &Stack, id: &str) -> Result<Value> {
    wait_for("the end of the execution", || {
        let shown = stack.json(&["execution", "show", id])?;
        Ok((shown["summary"]["state"] == "ended").then_some(shown))
    })
}

/// Milliseconds from the record of the trigger to the record of the outcome.
pub(crate) fn span(shown: &Value) -> Result<f64> {
    let time = |field: &str| -> Result<u64> {
        let text = shown["summary"][field].as_str().with_context(|| format!("no {field}"))?;
        Ok(text.parse::<remit_protocol::Timestamp>()?.as_millis())
    };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
    Ok(time("ended")?.saturating_sub(time("created")?) as f64)
}

pub(crate) fn rows(seconds: u64) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let mut stack = stack(folder.path(), "[ceiling]\n")?;
    let runner = stack.runner_named("bench")?;
    let pid = runner.pid().context("the runner is not running")?;
    let broker = u32::try_from(runner.broker_pid()?.as_raw_nonzero().get())?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = (process::rss(pid)? + process::rss(broker)?) / 1024.0;
    apply(&stack, folder.path(), "one", ONE)?;
    apply(&stack, folder.path(), "fan", FAN)?;
    // The first run compiles the component.
    stack.json(&["job", "run", "one", "--follow"])?;
    let (fsync, round_trip) = (baseline::fsync()?, baseline::tls_round_trip()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let latency = runtime.block_on(latency(&stack))?;
    let goal = 3.0 * fsync + 5.0;
    let throughput = runtime.block_on(throughput(&stack, seconds))?;
    let fan_out = fan_out(&stack)?;
    Ok(vec![
        Row {
            id: "trigger-to-outcome",
            value: latency,
            unit: "ms",
            baseline: 3.0 * fsync + round_trip,
            ratio: latency / (3.0 * fsync + round_trip),
            note: format!(
                "p50, POST to End event; baseline 3 fsyncs of {fsync:.2} ms and a TLS round trip of {round_trip:.2} ms; goal ≤ {goal:.2} ms"
            ),
        },
        Row {
            id: "throughput",
            value: throughput,
            unit: "executions/s",
            baseline: 1000.0 / fsync,
            ratio: throughput / (1000.0 / fsync),
            note: format!("{CLIENTS} clients, durable; baseline one fsync each; goal ≥ 2000"),
        },
        Row {
            id: "fan-out",
            value: fan_out,
            unit: "nodes/s",
            baseline: 1e6 / baseline::fork_exec()?,
            ratio: fan_out / (1e6 / baseline::fork_exec()?),
            note: format!(
                "{NODES} nodes, 64 threads, one runner; baseline fork+exec of true one by one; goal ≥ 10000"
            ),
        },
        Row {
            id: "runner-rss",
            value: idle,
            unit: "MB",
            baseline: 40.0,
            ratio: idle / 40.0,
            note: "resident, idle, enrolled, supervisor and broker together; goal ≤ 40 MB".into(),
        },
    ])
}

/// Triggers an execution. A project that is full is asked again, as a client should.
async fn trigger(client: &reqwest::Client, stack: &Target, key: &str) -> Result<String> {
    let answer = loop {
        let answer = client
            .post(format!("{}/api/v1/projects/demo/jobs/one/executions", stack.url))
            .bearer_auth(&stack.token)
            .json(&json!({ "idempotency_key": key }))
            .send()
            .await?;
        if answer.status() != reqwest::StatusCode::TOO_MANY_REQUESTS {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let status = answer.status();
    let body: Value = answer.json().await?;
    if !status.is_success() {
        bail!("trigger: {status}: {body}");
    }
    body["execution"].as_str().map(str::to_owned).context("no execution in the answer")
}

/// Where the orchestrator is.
struct Target {
    url: String,
    token: String,
}

impl Target {
    fn of(stack: &Stack) -> Self {
        Self { url: stack.url().to_owned(), token: stack.token().to_owned() }
    }
}

/// Milliseconds from the POST to the event that says it ended, at the median.
async fn latency(stack: &Stack) -> Result<f64> {
    let client = stack.client()?;
    let target = Target::of(stack);
    let mut times = Vec::new();
    for number in 0..200 {
        let ((), time) = timed_async(async {
            let id = trigger(&client, &target, &format!("latency-{number}")).await?;
            let mut events = client
                .get(format!("{}/api/v1/executions/{id}/events", target.url))
                .bearer_auth(&target.token)
                .send()
                .await?;
            let mut seen = String::new();
            while let Some(chunk) = events.chunk().await? {
                seen.push_str(&String::from_utf8_lossy(&chunk));
                if seen.contains("\"kind\":\"end\"") {
                    return Ok(());
                }
            }
            bail!("the events ended before the execution: {seen}")
        })
        .await?;
        times.push(time.as_secs_f64() * 1000.0);
    }
    Ok(median(times))
}

/// Executions that ended, a second, while clients trigger as fast as they are answered.
async fn throughput(stack: &Stack, seconds: u64) -> Result<f64> {
    let client = stack.client()?;
    let target = Arc::new(Target::of(stack));
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (client, target, stop, begun) = (client.clone(), target.clone(), stop.clone(), begun.clone());
        clients.spawn(async move {
            let mut last = None;
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                last = Some(trigger(&client, &target, &format!("load-{number}-{count}")).await?);
                begun.fetch_add(1, Ordering::Relaxed);
                count += 1;
            }
            Ok::<_, anyhow::Error>(last)
        });
    }
    let (outcome, time) = timed_async(async {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
        let mut last = Vec::new();
        while let Some(joined) = clients.join_next().await {
            last.extend(joined??);
        }
        // Only what ended counts: wait for the last of each client.
        for id in &last {
            loop {
                let url = format!("{}/api/v1/executions/{id}", target.url);
                let shown: Value = client.get(url).bearer_auth(&target.token).send().await?.json().await?;
                if shown["summary"]["state"] == "ended" {
                    ensure!(
                        shown["summary"]["outcome"] == "succeeded",
                        "an execution ended {}",
                        shown["summary"]["outcome"]
                    );
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(f64::from(begun.load(Ordering::Relaxed)))
    })
    .await?;
    Ok(outcome / time.as_secs_f64())
}

/// Nodes a second, from the record of the trigger to the record of the outcome.
fn fan_out(stack: &Stack) -> Result<f64> {
    let nodes: Vec<_> = (0..NODES).map(|number| json!({ "name": format!("node-{number:05}") })).collect();
    load_nodes(stack, &nodes)?;
    let triggered = stack.json(&["job", "run", "fan"])?;
    let id = triggered["execution"].as_str().context("no execution")?.to_owned();
    let shown = ended(stack, &id)?;
    let outcome = &shown["summary"]["outcome"];
    ensure!(*outcome == "succeeded", "the fan-out ended {outcome}");
    ensure!(
        shown["steps"][0]["counts"]["succeeded"] == NODES,
        "not every node succeeded: {}",
        shown["steps"][0]["counts"]
    );
    Ok(f64::from(NODES) / (span(&shown)? / 1000.0))
}
