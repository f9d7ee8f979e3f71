//! Something between a runner and its orchestrator that is slow, or cuts what is silent or large.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What it does to connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// It ends a connection on which nothing went either way for so long.
    pub cuts_silence: Option<Duration>,
    /// It passes every piece on only after this.
    pub delay: Duration,
    /// It resets so many connections after so many bytes toward the runner: `(connections, bytes)`.
    pub resets: (u32, u64),
    /// The same for bytes toward the orchestrator.
    pub resets_up: (u32, u64),
}

#[derive(Default)]
struct Shared {
    faults: Mutex<Faults>,
    connections: AtomicU32,
    cut: AtomicU32,
    reset: AtomicU32,
}

/// The middlebox; it ends when this is dropped.
pub struct Middlebox {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Middlebox {
    /// Stands before the service at `url`, `https://host:port`.
    #[expect(clippy::disallowed_methods, reason = "a test's own listener")]
    pub fn before(url: &str, faults: Faults) -> Result<Self> {
        let target: SocketAddr =
            url.strip_prefix("https://").context("not an address of HTTPS")?.trim_end_matches('/').parse()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { faults: Mutex::new(faults), ..Shared::default() });
        let kept = shared.clone();
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                kept.connections.fetch_add(1, Ordering::SeqCst);
                let shared = kept.clone();
                tokio::task::spawn(async move {
                    // A side that is gone is what this is made for.
                    let _ = relay(near, target, &shared).await;
                });
            }
        });
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    /// Its address, to be used in place of the orchestrator's.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Behaves otherwise from now on, for connections that come.
    pub fn becomes(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Connections that came.
    pub fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Silent connections that it cut.
    pub fn cut(&self) -> u32 {
        self.shared.cut.load(Ordering::SeqCst)
    }

    /// Connections that it reset in the middle of a request or an answer.
    pub fn reset(&self) -> u32 {
        self.shared.reset.load(Ordering::SeqCst)
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn relay(mut near: TcpStream, target: SocketAddr, shared: &Shared) -> std::io::Result<()> {
    let faults = *shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
    let mut far = TcpStream::connect(target).await?;
    let (mut up, mut down) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let (mut toward_runner, mut toward_orchestrator) = (0_u64, 0_u64);
    let forever = Duration::from_secs(3600);
    loop {
        tokio::select! {
            read = near.read(&mut up) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                tokio::time::sleep(faults.delay).await;
                far.write_all(&up[..length]).await?;
                toward_orchestrator += length as u64;
                if toward_orchestrator > faults.resets_up.1 && shared.reset.load(Ordering::SeqCst) < faults.resets_up.0 {
                    shared.reset.fetch_add(1, Ordering::SeqCst);
                    near.set_zero_linger()?;
                    return Ok(());
                }
            }
            read = far.read(&mut down) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                tokio::time::sleep(faults.delay).await;
                near.write_all(&down[..length]).await?;
                toward_runner += length as u64;
                if toward_runner > faults.resets.1 && shared.reset.load(Ordering::SeqCst) < faults.resets.0 {
                    shared.reset.fetch_add(1, Ordering::SeqCst);
                    // Without lingering, the end is a reset and not an orderly close.
                    near.set_zero_linger()?;
                    return Ok(());
                }
            }
            () = tokio::time::sleep(faults.cuts_silence.unwrap_or(forever)) => {
                shared.cut.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
        }
    }
}
