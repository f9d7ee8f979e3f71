//! A service on loopback that counts who connects, and echoes what it was sent.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

pub(crate) struct Service {
    pub(crate) port: u16,
    connections: Arc<AtomicU32>,
    _serving: JoinSet<()>,
}

impl Service {
    #[expect(clippy::disallowed_methods, reason = "a service of the test")]
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicU32>::default();
        let counter = connections.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(async move {
                    let mut request = Vec::new();
                    while stream.read_buf(&mut request).await.is_ok_and(|length| length > 0) {
                        if request.ends_with(b"\r\n\r\n") {
                            let length = request.len();
                            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                            let answer = [head.as_bytes(), &request].concat();
                            if stream.write_all(&answer).await.is_err() {
                                return;
                            }
                            request.clear();
                        }
                    }
                });
            }
        });
        Self { port, connections, _serving: serving }
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }
}
