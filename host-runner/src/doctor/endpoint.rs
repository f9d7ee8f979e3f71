//! The daemons of this host that the owner named: whether each answers at its socket.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use remit_protocol::capability::http::EndpointName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::Finding;
use crate::{capability::http::socket_remedy, config::Config, launcher};

const WHAT: &str = "endpoint";
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How an answer begins.
const BEGINNING: &[u8] = b"HTTP/1.";

pub(super) async fn examine(config: &Config, say: &mut impl FnMut(Finding)) {
    let rules = config.ceiling.http.iter();
    let named = rules.filter_map(|rule| Some((rule.scope.endpoint()?, &rule.endpoint.as_ref()?.unix)));
    for (name, socket) in named.collect::<BTreeMap<_, _>>() {
        let late = |_| Err(io::ErrorKind::TimedOut.into());
        let answered = timeout(PATIENCE, ask(&name, socket)).await.unwrap_or_else(late);
        say(finding(&name, socket, answered));
    }
}

/// Asks for the head of the root, which no daemon takes for an order; true if the answer is HTTP.
async fn ask(name: &EndpointName, socket: &Path) -> io::Result<bool> {
    let mut stream = launcher::connect(socket).await?;
    let request = format!("HEAD / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", name.host());
    stream.write_all(request.as_bytes()).await?;
    let mut beginning = vec![0; BEGINNING.len()];
    match stream.read_exact(&mut beginning).await {
        Ok(_) => Ok(beginning == BEGINNING),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn finding(name: &EndpointName, socket: &Path, answered: io::Result<bool>) -> Finding {
    let at = format!("{name} at {}", socket.display());
    match answered {
        Ok(true) => Finding::good(WHAT, format!("{at} answers")),
        Ok(false) => {
            let found = format!("what listens for {at} does not speak HTTP");
            Finding::bad(WHAT, found, "correct `unix` in [[ceiling.http]]")
        }
        Err(error) => Finding::bad(WHAT, format!("{at}: {error}"), socket_remedy(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::net::UnixListener;

    use super::{super::Severity, *};

    async fn daemon(listener: UnixListener, answer: &'static [u8]) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 256];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    }

    #[tokio::test]
    async fn each_obstacle_has_its_own_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let name: EndpointName = "docker".parse().unwrap();
        let good = UnixListener::bind(root.join("good.sock")).unwrap();
        let other = UnixListener::bind(root.join("other.sock")).unwrap();
        drop(UnixListener::bind(root.join("dead.sock")).unwrap());
        symlink("good.sock", root.join("linked.sock")).unwrap();
        let check = async |socket: &str, severity: Severity, remedy: &str| {
            let socket = root.join(socket);
            let found = finding(&name, &socket, ask(&name, &socket).await);
            assert_eq!(found.severity, severity, "{found:?}");
            assert!(found.remedy.contains(remedy), "{found:?}");
        };
        let checks = async {
            check("good.sock", Severity::Good, "").await;
            check("other.sock", Severity::Bad, "correct `unix`").await;
            check("dead.sock", Severity::Bad, "nobody listens").await;
            check("none.sock", Severity::Bad, "no socket is there").await;
            check("linked.sock", Severity::Bad, "a link is on the way").await;
        };
        tokio::select! {
            () = daemon(good, b"HTTP/1.1 404 Not Found\r\n\r\n") => {}
            () = daemon(other, b"SSH-2.0-OpenSSH\r\n") => {}
            () = checks => {}
        }
    }
}
