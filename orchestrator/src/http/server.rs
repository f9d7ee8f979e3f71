//! Connections: accepted up to a number, each with TLS, HTTP/1.1 and small buffers, and ended in order.
//!
//! A parked poll costs its connection and nothing else: read buffers stay small, the router is shared, no state is copied
//! for a connection.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

use super::Metrics;

/// How long a caller may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a caller may take for a request's head, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(60);
/// How long what was sent may stay unconfirmed, and after which silence the other side is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest head of a request, and largest read buffer.
const BUFFER: usize = 16 << 10;
/// Most header lines.
const HEADERS: usize = 64;
/// How long connections may take to end once the server stops.
const LINGER: Duration = Duration::from_secs(10);

/// A server that listens and has not begun to accept.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens at `address`; port 0 lets the operating system choose.
    ///
    /// # Errors
    /// The operating system's: the port is taken, or not allowed.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the one place where the orchestrator listens")]
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener })
    }

    /// The address that it really listens at.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves at most `connections` at once until `stop`, then lets the requests that have begun come to their end.
    pub(crate) async fn serve(
        self,
        tls: Arc<rustls::ServerConfig>,
        connections: u32,
        router: Router,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        let free = Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS)));
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, mostly: what is open has to end first.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = stop.cancelled() => break,
            };
            let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
                metrics.connections_refused.add(1);
                continue;
            };
            let (acceptor, router) = (acceptor.clone(), router.clone());
            let (metrics, stop) = (Arc::clone(&metrics), stop.clone());
            tasks.spawn(async move {
                metrics.connections.add(1);
                metrics.connections_taken.add(1);
                connection(stream, acceptor, router, stop).await;
                metrics.connections.subtract(1);
                drop(permit);
            });
        }
        tasks.close();
        if tokio::time::timeout(LINGER, tasks.wait()).await.is_err() {
            tracing::warn!(open = tasks.len(), "connections were cut off");
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    // Answers are small and awaited: there is nothing to gather them with.
    let _ = stream.set_nodelay(true);
    // A caller whose host has vanished says nothing for ever: its connection ends when nothing is confirmed any more.
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, SILENCE);
    let _ = sockopt::set_tcp_user_timeout(&stream, u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX));
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let request: Request = request.map(Body::new);
        let answer = router.clone().call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
