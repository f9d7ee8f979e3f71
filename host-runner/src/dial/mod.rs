//! How a connection leaves the runner: resolve once, judge every address, dial what was judged, prove the name by TLS.
//!
//! [`Dialer`] is shared by the egress door, SSH and the client of the orchestrator; each says how strictly addresses are
//! judged.
//!
//! *Must not know:* remits, HTTP beyond a proxy's `CONNECT`, secrets of jobs.
//! *Invariant:* the address that is dialled is one that was judged: between the judgement and the connection, no name is
//! looked up again.

pub mod address;
pub mod proxy;
pub mod resolve;
pub mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use self::{
    address::{Barred, Prohibited},
    proxy::{Proxy, ProxyError},
    resolve::Lookup,
    tls::{TlsError, Trust},
};

/// How long one address may take before the next is tried.
const PER_ADDRESS: Duration = Duration::from_secs(5);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// A connection, encrypted or not.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection that was made.
pub type BoxConnection = Box<dyn Connection>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or the resolver failed.
    #[error("the name {host} could not be resolved: {why}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// An address that must not be dialled.
    #[error(transparent)]
    Prohibited(#[from] Prohibited),
    /// Nobody answered at any address.
    #[error("no connection to {host}:{port}: {source}")]
    Connect {
        /// The name.
        host: String,
        /// The port.
        port: u16,
        /// The last address's error.
        source: std::io::Error,
    },
    /// The proxy did not let it through.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Makes connections.
pub struct Dialer {
    lookup: Arc<dyn Lookup>,
    proxy: Option<Proxy>,
    trust: Trust,
    barred: Barred,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("barred", &self.barred).finish_non_exhaustive()
    }
}

impl Dialer {
    /// A dialer that resolves with `lookup`, reaches outside through `proxy` where a rule says so, and trusts `trust`.
    pub fn new(lookup: Arc<dyn Lookup>, proxy: Option<Proxy>, trust: Trust, barred: Barred) -> Self {
        Self { lookup, proxy, trust, barred }
    }

    /// Where nothing of a step may go: the orchestrator. Whoever connects to it adds its addresses.
    pub fn barred(&self) -> &Barred {
        &self.barred
    }

    /// Connects on behalf of a step to `host`, a checked name: public addresses, private ones only inside `private`.
    ///
    /// # Errors
    /// [`DialError::Prohibited`] if any address of the name is not permitted: the others are not tried.
    pub async fn guarded(&self, host: &str, port: u16, private: &[IpNet]) -> Result<TcpStream, DialError> {
        self.barred.check_name(host, port)?;
        outside(host)?;
        let found = self.resolve(host).await?;
        address::judge(host, port, &found, private, &self.barred)?;
        connect(host, port, &found).await
    }

    /// Connects on behalf of a step to `host`, where the owner listed every permitted range, public ones too: one list a
    /// place. Says which place it is, the first one that permits all addresses of the name.
    ///
    /// # Errors
    /// [`DialError::Prohibited`] if there is no such place.
    pub async fn listed(
        &self,
        host: &str,
        port: u16,
        places: &[&[IpNet]],
    ) -> Result<(TcpStream, usize), DialError> {
        let found = self.resolve(host).await?;
        let place = Self::place_of(host, &found, places)?;
        Ok((connect(host, port, &found).await?, place))
    }

    /// Which place permits `host`, without connecting: somebody else will, on behalf of a step. An address only, since
    /// nobody knows what a name means there.
    ///
    /// # Errors
    /// As [`Dialer::listed`].
    pub fn place(&self, host: IpAddr, places: &[&[IpNet]]) -> Result<usize, DialError> {
        Self::place_of(&host.to_string(), &[host], places)
    }

    fn place_of(host: &str, found: &[IpAddr], places: &[&[IpNet]]) -> Result<usize, DialError> {
        let mut refused = None;
        for (index, permitted) in places.iter().enumerate() {
            match address::judge_listed(host, found, permitted) {
                Ok(()) => return Ok(index),
                Err(prohibited) => refused = Some(prohibited),
            }
        }
        match refused {
            Some(prohibited) => Err(prohibited.into()),
            None => {
                Err(DialError::Resolve { host: host.to_owned(), why: "no place is permitted".to_owned() })
            }
        }
    }

    /// Connects on the runner's own behalf, wherever the name leads, and says where that was.
    ///
    /// # Errors
    /// The name does not resolve, or nobody answers.
    pub async fn trusted(&self, host: &str, port: u16) -> Result<(TcpStream, SocketAddr), DialError> {
        let found = self.resolve(host).await?;
        let stream = connect(host, port, &found).await?;
        let peer = stream.peer_addr().map_err(|source| DialError::Connect {
            host: host.to_owned(),
            port,
            source,
        })?;
        Ok((stream, peer))
    }

    /// Connects on behalf of a step through the runner's proxy, which resolves the name.
    ///
    /// # Errors
    /// No proxy is configured, it is not reachable, or it refuses. An address in place of a name is refused here, and so
    /// is the orchestrator.
    pub async fn through_proxy(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        self.barred.check_name(host, port)?;
        outside(host)?;
        if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
            return Err(ProxyError::Literal(host.to_owned()).into());
        }
        let proxy = self.proxy.as_ref().ok_or(ProxyError::Absent)?;
        self.tunnel(proxy, host, port).await
    }

    /// Connects to the orchestrator: through the runner's proxy if it has one, else directly. Its addresses are barred from
    /// then on; behind a proxy they are not known, and its name alone is barred.
    ///
    /// # Errors
    /// As [`trusted`](Self::trusted), and what the proxy refuses.
    pub async fn own(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        match &self.proxy {
            Some(proxy) => self.tunnel(proxy, host, port).await,
            None => {
                let found = self.resolve(host).await?;
                // All of them: the next call may find another one in front.
                found.iter().for_each(|address| self.barred.add(*address, port));
                connect(host, port, &found).await
            }
        }
    }

    async fn tunnel(&self, proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let (mut stream, _) = self.trusted(proxy.host(), proxy.port()).await?;
        proxy.connect(&mut stream, host, port).await?;
        Ok(stream)
    }

    /// Encrypts `stream` and proves that the other side is `host`: by the runner's trusted certificates, or only by those
    /// in `ca_file`.
    ///
    /// # Errors
    /// The certificates cannot be read, the handshake fails, or the other side is somebody else.
    pub async fn encrypt(
        &self,
        stream: TcpStream,
        host: &str,
        ca_file: Option<&Path>,
    ) -> Result<BoxConnection, DialError> {
        let config = self.trust.config(ca_file).await?;
        Ok(Box::new(tls::connect(stream, host, config).await?))
    }

    /// As [`encrypt`](Self::encrypt), and proves to the other side who calls: by the certificate and the private key in `pem`.
    ///
    /// # Errors
    /// [`TlsError::Own`] if `pem` holds no such thing.
    pub async fn encrypt_as(
        &self,
        stream: TcpStream,
        host: &str,
        ca_file: Option<&Path>,
        pem: &[u8],
    ) -> Result<BoxConnection, DialError> {
        let config = self.trust.config(ca_file).await?;
        let config = tls::identified(&config, pem).map_err(TlsError::Own)?;
        Ok(Box::new(tls::connect(stream, host, config).await?))
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, DialError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let failed = |why: String| DialError::Resolve { host: host.to_owned(), why };
        let found = self.lookup.addresses(host).await.map_err(|error| failed(error.to_string()))?;
        if found.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(found) }
    }
}

/// Names below `alt` are none of the DNS (RFC 9476): no resolver and no proxy is asked for one on behalf of a step.
fn outside(host: &str) -> Result<(), DialError> {
    if host == "alt" || host.ends_with(".alt") {
        let why = "names below `alt` are not in the DNS".to_owned();
        return Err(DialError::Resolve { host: host.to_owned(), why });
    }
    Ok(())
}

async fn connect(host: &str, port: u16, addresses: &[IpAddr]) -> Result<TcpStream, DialError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in addresses.iter().take(MAX_ADDRESSES) {
        match tokio::time::timeout(PER_ADDRESS, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => {
                // Without effect on correctness, so a failure is none.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Connect { host: host.to_owned(), port, source: last })
}

#[cfg(test)]
pub(crate) mod tests;
