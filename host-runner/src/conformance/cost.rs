//! What it costs that things are done elsewhere: a component's requests, with the same guest against the same service on
//! loopback once in this process and once in a worker; and compiling in a process of its own.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use remit_protocol::{Digest, Size, capability::Ceiling, limits::LimitsPart};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    bench::{Bench, Setup, Suite},
    service::Service,
};
use crate::{
    component::{cache::Cache, compile::Compiler},
    confine::Confinement,
    launcher::{Catalogue, Client, Launch as _, Launcher, Remote},
    sandbox::Metering,
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

/// What compiling takes.
#[derive(Debug, Serialize)]
pub struct Compiling {
    /// Bytes of the component.
    pub bytes: usize,
    /// Milliseconds of the middle run, from the order to the launcher to native code in the cache.
    pub p50_ms: f64,
}

/// Compiles a component `runs` times, each time in a process of its own, and keeps what comes out.
///
/// # Errors
/// It does not compile.
pub async fn compiling(program: &Path, component: &[u8], runs: u32) -> Result<Compiling> {
    let folder = tempfile::tempdir()?;
    let catalogue = Catalogue::new(program, folder.path(), Confinement::WherePossible);
    let launcher = Launcher::start(program, &catalogue, Client::Supervisor, &[])?;
    let launch = Arc::new(Remote::new(launcher, folder.path().to_owned())?);
    let cache = Cache::new(folder.path().to_owned(), Zeroizing::new([1; 32]), Size::from_mib(1024));
    let compiler = Compiler::new(program.to_owned(), launch.clone());
    let mut times = Vec::new();
    for round in 0..runs {
        let begun = Instant::now();
        let native = compiler.native(component, Metering::Off).await?;
        cache.put(Digest::of(&round.to_le_bytes()), &native)?;
        times.push(begun.elapsed());
    }
    launch.idle().await;
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(Compiling { bytes: component.len(), p50_ms: middle.as_secs_f64() * 1e3 })
}
