//! What it costs a component that its requests are made elsewhere: the same guest against the same service on loopback, once
//! in this process and once in a worker.

use std::path::Path;

use anyhow::{Context as _, Result};
use remit_protocol::{Size, capability::Ceiling, limits::LimitsPart};
use serde::Serialize;
use serde_json::json;

use super::{
    bench::{Bench, Setup, Suite},
    service::Service,
};

/// Microseconds of the middle request, as the guest's clock has it.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// In this process.
    pub direct_us: f64,
    /// In a worker, through the broker.
    pub broker_us: f64,
}

/// Measures `count` requests each way, over one connection.
///
/// # Errors
/// The suite is not there, or a request does not succeed.
pub async fn requests(folder: &Path, program: &Path, count: u32) -> Result<Cost> {
    let service = Service::start(None).await?;
    let direct_us = middle(&Suite::new(folder, program).in_this_process(), &service, count).await?;
    let broker_us = middle(&Suite::new(folder, program), &service, count).await?;
    Ok(Cost { direct_us, broker_us })
}

async fn middle(suite: &Suite, service: &Service, count: u32) -> Result<f64> {
    let rule = |private: serde_json::Value| json!([{"scheme": "http", "host": "a.example", "port": service.port(), "methods": ["GET"], "paths": ["/"], "private": private}]);
    let setup = Setup {
        guest: "http".to_owned(),
        requests: r#"{"http":[{"host":"granted"}]}"#.to_owned(),
        grant: json!({ "http": rule(json!(true)) }).to_string(),
        ceiling: Ceiling {
            http: serde_json::from_value(rule(json!(["127.0.0.0/8"])))?,
            ..Ceiling::default()
        },
        limits: LimitsPart {
            requests: Some(count.saturating_add(1)),
            ingress: Some(Size::from_mib(1024)),
            ..LimitsPart::default()
        },
        names: [("a.example".to_owned(), vec![vec![[127, 0, 0, 1].into()]])].into(),
        ..Setup::default()
    };
    let bench = Bench::load(suite, setup)?;
    let ended = bench.run(&format!("GET http a.example:{} / timed:{count}", service.port())).await;
    let output = ended.output.and_then(|output| output.as_str().map(str::to_owned));
    output.with_context(|| ended.message)?.parse().context("the guest told no number")
}
