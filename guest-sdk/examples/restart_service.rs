//! Restarts a service through the site's control API and waits until it is healthy.
use std::time::Duration;

use remit_sdk::{Context, Fail, JsonSchema, http, log, step};
use serde::{Deserialize, Serialize};

/// Which service, and how long it may take.
#[derive(Deserialize, JsonSchema)]
struct Input {
    /// Service name as the control API knows it.
    service: String,
    /// Give up after this many polls, one a second.
    #[serde(default = "thirty")]
    polls: u32,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    restarted_at: String,
    polls: u32,
}

#[step]
fn restart_service(input: Input, context: &Context) -> Result<Output, Fail> {
    // No token here: the runner adds it to requests that match the rule `control`.
    let service = http::url("https://control.corp.example/v1/services")?.segment(&input.service);
    http::post(service.segment("restart")).idempotent(context).send()?.error_for_status()?;
    for polls in 1..=input.polls {
        let status: Status = http::get(&service).send()?.json()?;
        context.progress(polls, input.polls);
        if status.healthy {
            return Ok(Output { restarted_at: status.since, polls });
        }
        log::info!("not healthy yet", service = input.service, polls = polls);
        context.sleep(Duration::from_secs(1))?; // ends the step as `cancelled`, not `failed`, when it is cancelled
    }
    Err(Fail::new("service did not become healthy").with("service", input.service))
}

fn thirty() -> u32 {
    30
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    since: String,
}
