//! Services on loopback that guests try to reach: they count who connects and answer as their path says.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Result;
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, UnixListener, UnixSocket},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::dial::{BoxConnection, tls};

/// Largest request that is read.
const MAX_REQUEST: usize = 256 << 10;

/// Where those come from who ask how many connections there were. They are not counted.
const ASKING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A service; it ends when this is dropped.
pub(super) struct Service {
    port: u16,
    connections: Arc<AtomicU32>,
    /// How often somebody has come from [`ASKING`].
    asked: watch::Sender<u32>,
    requests: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Service {
    /// Starts it; with TLS where a configuration is given.
    #[expect(
        clippy::disallowed_methods,
        reason = "the suite's own listener on loopback; a runner that runs has none"
    )]
    pub(super) async fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let connections = Arc::new(AtomicU32::new(0));
        let (asked, requests) = (watch::Sender::new(0), watch::Sender::new(0));
        let (asking, hearing) = (asked.clone(), requests.clone());
        let (counter, acceptor) = (Arc::clone(&connections), tls.map(TlsAcceptor::from));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, from)) = listener.accept().await {
                if from.ip() == ASKING {
                    asking.send_modify(|times| *times += 1);
                    continue;
                }
                counter.fetch_add(1, Ordering::SeqCst);
                let (acceptor, hearing) = (acceptor.clone(), hearing.clone());
                open.spawn(async move {
                    let stream: BoxConnection = match acceptor {
                        None => Box::new(stream),
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    converse(stream, port, &hearing).await;
                });
            }
        });
        Ok(Self { port, connections, asked, requests, _tasks: tasks })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Told of each request from now on.
    pub(super) fn requests(&self) -> watch::Receiver<u64> {
        self.requests.subscribe()
    }

    /// Connections so far: also those that were made and are still to be accepted, since who asks stands behind them.
    pub(super) async fn connections(&self) -> Result<u32> {
        let mut asked = self.asked.subscribe();
        let before = *asked.borrow_and_update();
        let socket = TcpSocket::new_v4()?;
        socket.bind((ASKING, 0).into())?;
        let _asking = socket.connect((Ipv4Addr::LOCALHOST, self.port).into()).await?;
        asked.wait_for(|times| *times > before).await?;
        Ok(self.connections.load(Ordering::SeqCst))
    }
}

/// A daemon at a socket in a folder of its own; it counts as a [`Service`] does.
pub(super) struct Daemon {
    folder: PathBuf,
    connections: Arc<AtomicU32>,
    asked: watch::Sender<u32>,
    _tasks: JoinSet<()>,
}

impl Daemon {
    /// Starts it at `daemon.sock` in `folder`, beside a link to it and a file that is no socket.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let folder = std::fs::canonicalize(folder)?;
        let listener = UnixListener::bind(folder.join("daemon.sock"))?;
        std::os::unix::fs::symlink("daemon.sock", folder.join("linked.sock"))?;
        std::fs::write(folder.join("file.sock"), "no socket")?;
        let connections = Arc::new(AtomicU32::new(0));
        let asked = watch::Sender::new(0);
        let (asking, counter) = (asked.clone(), Arc::clone(&connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, from)) = listener.accept().await {
                // A guest's connection has no name: only who asks has bound one.
                if from.as_pathname().is_some() {
                    asking.send_modify(|times| *times += 1);
                    continue;
                }
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(async move { converse(Box::new(stream), 0, &watch::Sender::new(0)).await });
            }
        });
        Ok(Self { folder, connections, asked, _tasks: tasks })
    }

    /// What stands beside it, or its own socket.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// As [`Service::connections`].
    pub(super) async fn connections(&self) -> Result<u32> {
        let mut asked = self.asked.subscribe();
        let before = *asked.borrow_and_update();
        let own = self.folder.join(format!("asking-{before}.sock"));
        let socket = UnixSocket::new_stream()?;
        socket.bind(&own)?;
        let _asking = socket.connect(self.path("daemon.sock")).await?;
        asked.wait_for(|times| *times > before).await?;
        std::fs::remove_file(own)?;
        Ok(self.connections.load(Ordering::SeqCst))
    }
}

async fn converse(mut stream: BoxConnection, port: u16, requests: &watch::Sender<u64>) {
    let mut bytes = Vec::new();
    loop {
        // The whole of a request: one that breaks off in its body gets no answer.
        let end = loop {
            if let Some(end) = whole(&bytes) {
                break end;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(length) if length > 0 && bytes.len() < MAX_REQUEST => {
                    bytes.extend(piece.iter().take(length));
                }
                _ => return,
            }
        };
        let request = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        bytes.drain(..end);
        requests.send_modify(|count| *count += 1);
        if stream.write_all(&answer(&request, port)).await.is_err() {
            return;
        }
    }
}

fn find(bytes: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
}

/// Where the first request in `bytes` ends, if it is there as a whole: head, and a body by length or in chunks.
pub(super) fn whole(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n", 0)? + 4;
    let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        // The bodies of the suite hold no line that is a lone zero.
        let last = if bytes.get(head..)?.starts_with(b"0\r\n") {
            head
        } else {
            find(bytes, b"\r\n0\r\n", head)? + 2
        };
        // After the zero: nothing or trailers, and an empty line.
        return find(bytes, b"\r\n\r\n", last).map(|at| at + 4);
    }
    let length = field(&text, "content-length: ").trim().parse().unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}

fn field<'r>(request: &'r str, name: &str) -> &'r str {
    request.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
}

/// What a path is answered with: the guest decides by its path what it meets.
fn answer(request: &str, port: u16) -> Vec<u8> {
    let credential = field(request, "authorization: Bearer ");
    let redirect = |place: &str| {
        format!("HTTP/1.1 302 Found\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let plain =
        |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let encoded = data_encoding::BASE64.encode(format!("x{credential}").as_bytes());
    match path.split('?').next().unwrap_or_default() {
        "/metadata" => redirect("http://169.254.169.254/latest"),
        "/elsewhere" => redirect(&format!("http://b.example:{port}/")),
        "/home" => redirect(&format!("http://a.example:{port}/v1")),
        "/echo" => plain(&format!("<{credential}>")),
        "/base64" => plain(&format!("<{encoded}>")),
        "/chunks" => {
            let (first, second) = credential.split_at(credential.len() / 2);
            let piece = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            let (first, second) = (piece(&format!("<{first}")), piece(&format!("{second}>")));
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{first}{second}0\r\n\r\n")
                .into_bytes()
        }
        "/upgrade" => {
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_vec()
        }
        "/fields" => {
            format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(33_000)).into_bytes()
        }
        "/flood" => plain(&"z".repeat(4 << 20)),
        "/split" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!".to_vec(),
        _ => plain(&format!("host={} credential={}", field(request, "host: "), !credential.is_empty())),
    }
}

/// A server's configuration for `name`, and its authority's certificate at `ca_file`.
pub(super) fn server_tls(name: &str, ca_file: &Path) -> Result<Arc<rustls::ServerConfig>> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(ca_file, parameters.self_signed(&ca_key)?.pem())?;
    let issuer = rcgen::Issuer::new(parameters, ca_key);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_a_whole() {
        fn check(bytes: &str, expect: Option<&str>) {
            let found = whole(bytes.as_bytes()).map(|end| &bytes[end..]);
            assert_eq!(found, expect, "{bytes:?}");
        }
        check("GET / HTTP/1.1\r\nhost: a\r\n", None);
        check("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", Some("GET"));
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", None);
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET", Some("GET"));
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{chunked}1\r\nx\r\n"), None);
        check(&format!("{chunked}1\r\nx\r\n0\r\n"), None);
        check(&format!("{chunked}1\r\nx\r\n0\r\n\r\nGET"), Some("GET"));
        check(&format!("{chunked}0\r\n\r\n"), Some(""));
        check(&format!("{chunked}1\r\nx\r\n0\r\nx-a: b\r\n\r\nGET"), Some("GET"));
    }
}
