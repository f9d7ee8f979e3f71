//! How long the list of many jobs takes, over TLS and whole.

use anyhow::{Result, ensure};
use harness::{Stack, builder_trust};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Row,
    baseline::{self, timed_async},
    median,
};

/// How many jobs.
const JOBS: u32 = 10_000;
/// Clients that save jobs at once.
const CLIENTS: u32 = 16;
/// How often the list is read.
const READS: usize = 11;

/// `job-list`: 10,000 jobs, all of them, in pages of the largest size.
pub(crate) fn jobs() -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let stack = Stack::start(&folder.path().join("site"), &builder_trust()?)?;
    stack.json(&["project", "create", "demo"])?;
    stack.publish_built_in()?;
    let round_trip = baseline::tls_round_trip()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let millis = runtime.block_on(async {
        fill(&stack).await?;
        let client = stack.client()?;
        let mut times = Vec::with_capacity(READS);
        for _ in 0..READS {
            let (count, time) = timed_async(read(&client, &stack)).await?;
            ensure!(count == usize::try_from(JOBS)?, "{count} jobs were listed");
            times.push(time.as_secs_f64() * 1000.0);
        }
        Ok(median(times))
    })?;
    Ok(Row {
        id: "job-list",
        value: millis,
        unit: "ms",
        baseline: 10.0 * round_trip,
        ratio: millis / (10.0 * round_trip),
        note: format!(
            "p50, all {JOBS} jobs of a project in 10 pages; baseline 10 TLS round trips; goal ≤ 50 ms"
        ),
    })
}

async fn fill(stack: &Stack) -> Result<()> {
    let client = stack.client()?;
    let mut savers = JoinSet::new();
    for first in 0..CLIENTS {
        let client = client.clone();
        let (url, token) = (format!("{}/api/v1/projects/demo/jobs", stack.url()), stack.token().to_owned());
        savers.spawn(async move {
            for number in (first..JOBS).step_by(usize::try_from(CLIENTS)?) {
                let source = format!(
                    "job: job_{number:05}\ngroup: ops/web\ndescription: One of many.\nsteps:\n  - {{ name: one, uses: remit/transform@1, with: {{ value: {number} }} }}\n"
                );
                let answer =
                    client.post(&url).bearer_auth(&token).json(&json!({ "source": source })).send().await?;
                let status = answer.status();
                ensure!(status.is_success(), "saving a job: {status}: {}", answer.text().await?);
            }
            Ok(())
        });
    }
    while let Some(saved) = savers.join_next().await {
        saved??;
    }
    Ok(())
}

/// A page, of which only the length counts: what is measured is the answer, not a client's use of it.
#[derive(Deserialize)]
struct Listed {
    items: Vec<IgnoredAny>,
    next: Option<String>,
}

async fn read(client: &reqwest::Client, stack: &Stack) -> Result<usize> {
    let (mut count, mut after) = (0, String::new());
    loop {
        let url = format!("{}/api/v1/projects/demo/jobs?limit=1000{after}", stack.url());
        let page: Listed =
            client.get(url).bearer_auth(stack.token()).send().await?.error_for_status()?.json().await?;
        count += page.items.len();
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(count),
        }
    }
}
