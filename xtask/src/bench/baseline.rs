//! What everything is compared with: one fsync, one program started, one round trip to another process, or over TLS.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use harness::{Authority, Service};

use super::{Row, median};
use crate::shell::program;

/// Time that `work` takes.
#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let made = work()?;
    Ok((made, begun.elapsed()))
}

/// What the processors of this machine have done since it began, in the kernel's ticks.
pub(crate) struct Processors {
    all: f64,
    stolen: f64,
}

impl Processors {
    /// What `/proc/stat` says now.
    pub(crate) fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        // The last two are counted in the first already.
        let ticks: Vec<f64> = line.split_whitespace().take(8).flat_map(str::parse).collect();
        let [.., stolen] = ticks.as_slice() else { anyhow::bail!("/proc/stat has no line `cpu`") };
        Ok(Self { all: ticks.iter().sum(), stolen: *stolen })
    }

    /// How much of their time since then other machines on the same hardware took, in hundredths.
    pub(crate) fn stolen_since(&self) -> Result<f64> {
        let now = Self::now()?;
        let all = now.all - self.all;
        Ok(if all > 0.0 { (now.stolen - self.stolen) * 100.0 / all } else { 0.0 })
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Milliseconds of one append and fsync, at the median.
pub(crate) fn fsync() -> Result<f64> {
    let mut file = tempfile::tempfile()?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let ((), time) = timed(|| {
            file.write_all(&[7; 512])?;
            Ok(file.sync_data()?)
        })?;
        times.push(millis(time));
    }
    Ok(median(times))
}

pub(crate) fn fsync_row() -> Result<Row> {
    let value = fsync()?;
    Ok(Row {
        id: "fsync",
        value,
        unit: "ms",
        baseline: value,
        ratio: 1.0,
        note: "append 512 B and fsync, p50".into(),
    })
}

/// Microseconds to start `true` and wait for it, at the median.
pub(crate) fn fork_exec() -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..300 {
        let (_, time) = timed(|| Ok(program("/bin/true").status()?))?;
        times.push(millis(time) * 1000.0);
    }
    Ok(median(times))
}

/// Keeps the processors awake until it is dropped: what they take to come out of their idle state is the machine's.
pub(crate) struct Awake(Vec<Child>);

impl Awake {
    /// A process for each of them that gives way to all others, and ends with this one.
    pub(crate) fn keep() -> Result<Self> {
        let mut awake = Self(Vec::new());
        for _ in 0..std::thread::available_parallelism()?.get() {
            let mut spin = program("nice");
            spin.args(["-n", "19", "sh", "-c", "while kill -0 $PPID; do :; done"]).stderr(Stdio::null());
            awake.0.push(spin.spawn()?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for spin in &mut self.0 {
            let _ = spin.kill();
            let _ = spin.wait();
        }
    }
}

/// Microseconds until a process that only waits for bytes has sent them back, over pipes, at the median.
pub(crate) fn round_trip() -> Result<f64> {
    let mut cat = program("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut there, mut back) = cat.stdin.take().zip(cat.stdout.take()).context("it has no pipes")?;
    let mut times = Vec::new();
    for _ in 0..3000 {
        let ((), time) = timed(|| {
            there.write_all(&[7; 64])?;
            Ok(back.read_exact(&mut [0; 64])?)
        })?;
        times.push(millis(time) * 1000.0);
    }
    drop(there);
    cat.wait()?;
    Ok(median(times))
}

/// Microseconds to start Python's interpreter and end it, at the median.
pub(crate) fn interpreter() -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..50 {
        let (_, time) = timed(|| Ok(program("python3").args(["-c", "pass"]).status()?))?;
        times.push(millis(time) * 1000.0);
    }
    Ok(median(times))
}

/// Milliseconds of one request and answer on an open TLS connection to loopback, at the median.
pub(crate) fn tls_round_trip() -> Result<f64> {
    let authority = Authority::new()?;
    let service = Service::start(&authority, "localhost")?;
    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca.pem");
    authority.write(&ca)?;
    // Installed already if another measurement came first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let certificates = reqwest::Certificate::from_pem_bundle(&std::fs::read(&ca)?)?;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], service.port()));
        let client =
            reqwest::Client::builder().tls_certs_only(certificates).resolve("localhost", address).build()?;
        let url = format!("https://localhost:{}/", service.port());
        let mut times = Vec::new();
        for _ in 0..300 {
            let ((), time) = timed_async(async {
                client.get(&url).send().await?.bytes().await?;
                Ok(())
            })
            .await?;
            times.push(millis(time));
        }
        Ok(median(times))
    })
}

/// Time that a future takes.
#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
pub(crate) async fn timed_async<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let made = work.await?;
    Ok((made, begun.elapsed()))
}
