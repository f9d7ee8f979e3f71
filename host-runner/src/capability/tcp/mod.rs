//! `tcp`: connections to hosts and ports of the remit, through the same door as HTTP: a name is resolved once, every address is
//! judged, and what was judged is dialled. The host speaks TLS; the component sees what is inside.
//!
//! *Invariant:* no byte goes over a connection that is only to connect; under `tls: always` none goes unencrypted; what
//! came in the clear is never read after encryption began. A secret is used at the exact host that the owner named for it,
//! under TLS, and the component has what was made of it, never the secret.

mod scram;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::{
    capability::{
        Denial, Side,
        tcp::{TcpMode, TcpPermit, TcpScope},
    },
    report::Limit,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use wasmtime::component::{HasSelf, Linker, Resource};

pub(crate) use self::scram::Proof;
use super::{
    Fault,
    bindings::remit::tcp::connect::{self, Host, HostConnection},
};
use crate::{
    broker::{Answer, Broker, Call, Handle, Held, Used},
    dial::{BoxConnection, DialError, address::Prohibited, tls::TlsError},
    sandbox::State,
};

/// How long a connection, and its encryption, may take to come about.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of one write.
const MAX_WRITE: usize = 1 << 20;
/// Most bytes of one read.
const MAX_READ: u32 = 64 << 10;

/// How much of what has come last is kept, where a secret may be proved to it.
const HEARD: usize = 4 << 10;

/// A connection, as the guest holds it.
pub struct Connection(Handle);

/// A connection that a run has made.
pub(crate) struct Made {
    permit: TcpPermit,
    host: String,
    stream: Stream,
    /// What has come last, under TLS, where the rule has a secret.
    heard: Vec<u8>,
    /// The secret was proved: once is enough.
    proved: bool,
}

impl Made {
    fn new(permit: TcpPermit, host: String, stream: Stream) -> Self {
        Self { permit, host, stream, heard: Vec::new(), proved: false }
    }

    /// Keeps what has come, if a secret may be proved to it.
    fn hear(&mut self, bytes: &[u8]) {
        if self.permit.secret.is_some() && !self.proved && matches!(self.stream, Stream::Encrypted(_)) {
            self.heard.extend_from_slice(bytes);
            let old = self.heard.len().saturating_sub(HEARD);
            self.heard.drain(..old);
        }
    }

    /// What is lacking for a byte to go over it, if anything is.
    fn without_bytes(&self) -> Option<Denial> {
        let scope = &self.permit.scope;
        matches!(self.stream, Stream::Idle).then(|| Denial {
            permission: format!("bytes over {scope}"),
            side: Side::Grant,
            remedy: format!("grant:\n  tcp: [{{ host: {}, port: {} }}]", scope.host, scope.port),
        })
    }
}

enum Stream {
    /// Nothing goes over it.
    Idle,
    Plain(TcpStream),
    Encrypted(BoxConnection),
    /// An encryption that was begun and did not come about.
    Broken,
}

/// Links `remit:tcp/connect`.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    connect::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// True if what has come holds the other side's message: as it is, or in base64 as protocols of lines carry it (RFC 4954).
fn holds(heard: &[u8], asked: &str) -> bool {
    let coded = STANDARD.encode(asked);
    [asked, &coded]
        .iter()
        .any(|text| !text.is_empty() && heard.windows(text.len()).any(|part| part == text.as_bytes()))
}

/// The rule that permits a connection, or what is lacking. Of several that match, the one for the exact name holds; if they
/// differ in how the connection is used, nobody can say which was meant.
fn decide<'a>(permits: &'a [TcpPermit], host: &str, port: u16) -> Result<&'a TcpPermit, Denial> {
    let matching = || permits.iter().filter(|permit| permit.scope.matches(host, port));
    let exact = matching().find(|permit| permit.scope.host.exact().is_some());
    let Some(best) = exact.or_else(|| matching().next()) else {
        return Err(Denial {
            permission: format!("tcp {host}:{port}"),
            side: Side::Grant,
            remedy: format!("grant:\n  tcp: [{{ host: {host}, port: {port} }}]"),
        });
    };
    let rivals = |permit: &&TcpPermit| {
        let differs = permit.scope.mode != best.scope.mode || permit.secret != best.secret;
        differs && (permit.scope.host.exact().is_some() || exact.is_none())
    };
    match matching().find(rivals) {
        None => Ok(best),
        Some(other) => Err(Denial {
            permission: format!(
                "tcp {host}:{port} by rules that differ ({} and {})",
                best.scope, other.scope
            ),
            side: Side::Grant,
            remedy: "# one `tcp` rule for this host and port".to_owned(),
        }),
    }
}

/// What the owner could change so that the connection comes about, if it is the owner's to change.
fn denial(scope: &TcpScope, host: &str, error: &DialError) -> Option<Denial> {
    let port = scope.port;
    let (permission, remedy) = match error {
        DialError::Prohibited(prohibited) => {
            let remedy = match prohibited {
                Prohibited::Unlisted { address, .. } => format!(
                    "[[ceiling.tcp]]\nhost = \"{}\"\nport = {port}\nprivate = [\"{}\"]   # and `private: true` in the job's grant",
                    scope.host,
                    ipnet::IpNet::from(*address),
                ),
                _ => "# nothing allows this: such a place is never called on behalf of a step".to_owned(),
            };
            (format!("tcp {host}:{port}: {prohibited}"), remedy)
        }
        DialError::Tls(TlsError::Certificate { .. } | TlsError::NoRoots(_)) => (
            format!("tcp {host}:{port}: {error}"),
            format!(
                "[[tls]]\nname = \"NAME\"\nca_file = \"CERTIFICATES.pem\"\n\n# and in the [[ceiling.tcp]] of {}:\ntrust = \"NAME\"",
                scope.host
            ),
        ),
        DialError::Tls(TlsError::File { .. }) => (
            format!("tcp {host}:{port}: {error}"),
            "# a file of certificates in PEM that the runner can read".to_owned(),
        ),
        _ => return None,
    };
    Some(Denial { permission, side: Side::Ceiling, remedy })
}

/// What the guest is told: without addresses, rules or files.
fn guest_words(host: &str, port: u16, error: &DialError) -> String {
    let why = match error {
        DialError::Resolve { .. } => "the name could not be resolved",
        DialError::Connect { source, .. } => match source.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused",
            std::io::ErrorKind::TimedOut => "nobody answers",
            _ => "it cannot be reached",
        },
        DialError::Tls(TlsError::Certificate { .. }) => "its certificate is not acceptable",
        DialError::Tls(TlsError::Handshake { .. }) => "TLS with it failed",
        DialError::Prohibited(_) | DialError::Proxy(_) | DialError::Tls(_) => {
            "it may not be called from here"
        }
    };
    format!("{host}:{port}: {why}")
}

impl Broker {
    /// Tells the record what was lacking and the guest that it did not work.
    fn undialled(&self, scope: &TcpScope, host: &str, error: &DialError) -> Fault {
        tracing::debug!(%error, "a component's connection did not come about");
        match denial(scope, host, error) {
            Some(denial) if matches!(error, DialError::Prohibited(_)) => Fault::denied(&self.account, denial),
            denial => {
                if let Some(denial) = denial {
                    self.account.deny(denial);
                }
                Fault::failed(guest_words(host, scope.port, error))
            }
        }
    }

    async fn encrypted(&mut self, stream: TcpStream, made: (&TcpPermit, &str)) -> Result<Stream, Fault> {
        let (permit, host) = made;
        let dialer = &self.config.dialer;
        let shaken = timeout(PATIENCE, dialer.encrypt(stream, host, permit.ca_file.as_deref()));
        let shaken = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Fault::cancelled()),
            shaken = shaken => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => Ok(Stream::Encrypted(stream)),
            Ok(Err(error)) => Err(self.undialled(&permit.scope, host, &error)),
            Err(_) => {
                Err(Fault::failed(format_args!("{host}:{}: TLS with it took too long", permit.scope.port)))
            }
        }
    }

    pub(crate) async fn connect(&mut self, host: String, port: u16) -> Result<Handle, Fault> {
        // Refused connections count too: a component that asks in a loop comes to an end.
        self.account.charge(Limit::Requests, 1)?;
        let host = host.to_ascii_lowercase();
        let permit = match decide(self.remit.tcp(), &host, port) {
            Ok(permit) => permit.clone(),
            Err(denial) => return Err(Fault::denied(&self.account, denial)),
        };
        self.log.used(Used::Connection(permit.scope.clone()));
        let dialled = timeout(PATIENCE, self.config.dialer.guarded(&host, port, &permit.private));
        let dialled = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Fault::cancelled()),
            dialled = dialled => dialled,
        };
        let stream = match dialled {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.undialled(&permit.scope, &host, &error)),
            Err(_) => return Err(Fault::failed(format_args!("{host}:{port}: nobody answers"))),
        };
        let stream = match permit.scope.mode {
            TcpMode::Connect => Stream::Idle,
            TcpMode::Always => self.encrypted(stream, (&permit, &host)).await?,
            TcpMode::Start | TcpMode::Never => Stream::Plain(stream),
        };
        self.handles.keep(Held::Connection(Box::new(Made::new(permit, host, stream))))
    }

    pub(crate) async fn start_tls(&mut self, connection: Handle) -> Result<(), Fault> {
        let made = self.handles.connection(connection)?;
        let (permit, host) = (made.permit.clone(), made.host.clone());
        if permit.scope.mode != TcpMode::Start {
            let denial = Denial {
                permission: format!("TLS on {}", permit.scope),
                side: Side::Grant,
                remedy: format!(
                    "grant:\n  tcp: [{{ host: {host}, port: {}, tls: start }}]",
                    permit.scope.port
                ),
            };
            return Err(Fault::denied(&self.account, denial));
        }
        let stream = match std::mem::replace(&mut made.stream, Stream::Broken) {
            Stream::Plain(stream) => stream,
            other => {
                made.stream = other;
                return Err(Fault::failed("the connection is encrypted already, or broken"));
            }
        };
        // What an eavesdropper has put in before is not to be taken for the host's word.
        if !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        {
            return Err(Fault::failed(
                "bytes came before the encryption that were not read, or the other side closed",
            ));
        }
        let encrypted = self.encrypted(stream, (&permit, &host)).await?;
        self.handles.connection(connection)?.stream = encrypted;
        Ok(())
    }

    /// Proves the rule's secret to the other side: once a connection, under TLS, and in answer to what it has said, so that a
    /// component gets nothing on which passwords could be tried at leisure.
    pub(crate) async fn scram(
        &mut self,
        connection: Handle,
        first: String,
        asked: String,
    ) -> Result<Proof, Fault> {
        let made = self.handles.connection(connection)?;
        let Some(secret) = made.permit.secret.clone() else {
            let scope = &made.permit.scope;
            let denial = Denial {
                permission: format!("a secret on {scope}"),
                side: Side::Grant,
                remedy: "secrets: { password: keys/… }\ngrant:   # in its rule of `tcp`:\n  secret: { name: password, use: scram-sha-256 }"
                    .to_owned(),
            };
            return Err(Fault::denied(&self.account, denial));
        };
        if !holds(&made.heard, &asked) || std::mem::replace(&mut made.proved, true) {
            return Err(Fault::failed(
                "a proof is given once a connection, under TLS, to what the other side has said",
            ));
        }
        let resolved = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Fault::cancelled()),
            resolved = self.secrets.resolve(&secret.path) => resolved,
        };
        let value = resolved.map_err(|error| {
            tracing::debug!(%error, "a secret could not be proved");
            Fault::failed(format_args!("the secret {} cannot be had at this runner", secret.name))
        })?;
        self.redactor.add([(&secret.path, &value)]);
        // Its rounds take as long as the other side says, up to a second.
        let proved = tokio::task::spawn_blocking(move || scram::prove(value.expose(), &first, &asked)).await;
        match proved {
            Ok(Ok(proof)) => Ok(proof),
            Ok(Err(why)) => {
                Err(Fault::failed(format_args!("the secret {} cannot be proved: {why}", secret.name)))
            }
            Err(_) => Err(Fault::failed("the runner is stopping")),
        }
    }

    pub(crate) async fn send(&mut self, connection: Handle, bytes: &[u8]) -> Result<(), Fault> {
        let made = self.handles.connection(connection)?;
        if bytes.len() > MAX_WRITE {
            return Err(Fault::failed("at most 1 MiB is written at once"));
        }
        if let Some(denial) = made.without_bytes() {
            return Err(Fault::denied(&self.account, denial));
        }
        self.account.charge(Limit::Egress, bytes.len() as u64)?;
        let written = async {
            match &mut made.stream {
                Stream::Plain(stream) => stream.write_all(bytes).await,
                Stream::Encrypted(stream) => {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                }
                Stream::Idle | Stream::Broken => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Fault::cancelled()),
            written = written => written.map_err(|error| broken(&made.host, &error)),
        }
    }

    /// The next bytes; none at the end.
    pub(crate) async fn receive(&mut self, connection: Handle, max: u32) -> Result<Vec<u8>, Fault> {
        let made = self.handles.connection(connection)?;
        if let Some(denial) = made.without_bytes() {
            return Err(Fault::denied(&self.account, denial));
        }
        let mut bytes = vec![0; usize::try_from(max.clamp(1, MAX_READ)).unwrap_or_default()];
        let read = async {
            match &mut made.stream {
                Stream::Plain(stream) => stream.read(&mut bytes).await,
                Stream::Encrypted(stream) => stream.read(&mut bytes).await,
                Stream::Idle | Stream::Broken => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        let length = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Fault::cancelled()),
            read = read => read.map_err(|error| broken(&made.host, &error))?,
        };
        self.account.charge(Limit::Ingress, length as u64)?;
        bytes.truncate(length);
        made.hear(&bytes);
        Ok(bytes)
    }
}

fn broken(host: &str, error: &std::io::Error) -> Fault {
    Fault::failed(format_args!("the connection to {host} broke: {}", error.kind()))
}

impl Host for State {}

impl HostConnection for State {
    async fn open(&mut self, host: String, port: u16) -> Result<Resource<Connection>, Fault> {
        let handle = self.ask(Call::Connect { host, port }).await?.opened()?;
        Ok(self.table.push(Connection(handle))?)
    }

    async fn start_tls(&mut self, connection: Resource<Connection>) -> Result<(), Fault> {
        let Connection(connection) = *self.table.get(&connection)?;
        self.ask(Call::StartTls(connection)).await?.done()
    }

    async fn scram_sha256(
        &mut self,
        connection: Resource<Connection>,
        first: String,
        asked: String,
    ) -> Result<connect::Proof, Fault> {
        let Connection(connection) = *self.table.get(&connection)?;
        match self.ask(Call::Scram { connection, first, asked }).await? {
            Answer::Texts(texts) => match <[String; 2]>::try_from(texts) {
                Ok([answer, expected]) => Ok(connect::Proof { answer, expected }),
                Err(texts) => Err(Answer::Texts(texts).unexpected()),
            },
            other => Err(other.unexpected()),
        }
    }

    async fn write(&mut self, connection: Resource<Connection>, bytes: Vec<u8>) -> Result<(), Fault> {
        let Connection(connection) = *self.table.get(&connection)?;
        self.ask(Call::Send { connection, bytes }).await?.done()
    }

    async fn read(&mut self, connection: Resource<Connection>, max: u32) -> Result<Option<Vec<u8>>, Fault> {
        let Connection(connection) = *self.table.get(&connection)?;
        match self.ask(Call::Receive { connection, max }).await? {
            Answer::Bytes(bytes) => Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
            other => Err(other.unexpected()),
        }
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        let Connection(handle) = self.table.delete(connection)?;
        self.broker.release(handle);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::{
        SecretPath,
        capability::{secrets::BoundSecret, tcp::TcpSecret},
    };

    use super::*;

    #[test]
    fn a_proof_is_given_to_what_was_said_and_to_nothing_else() {
        fn check(heard: &str, asked: &str, expect: bool) {
            assert_eq!(holds(heard.as_bytes(), asked), expect, "{heard} {asked}");
        }
        check("xr=a,s=b,i=4096\0", "r=a,s=b,i=4096", true);
        check("334 cj1hLHM9YixpPTQwOTY=\r\n", "r=a,s=b,i=4096", true);
        check("334 cj1hLHM9YixpPTQwOTY=\r\n", "r=a,s=c,i=4096", false);
        check("", "r=a,s=b,i=4096", false);
        check("anything", "", false);
    }

    #[test]
    fn the_exact_name_decides_and_rules_that_differ_decide_nothing() {
        fn check(rules: &[&str], host: &str, expect: Result<TcpMode, &str>) {
            let secret = |wanted: Option<TcpSecret>| {
                let path = SecretPath::new("keys/t").unwrap();
                wanted.map(|wanted| BoundSecret { name: wanted.name, path, placement: None })
            };
            let permit = |rule: &&str| {
                let grant: remit_protocol::capability::tcp::TcpGrant = serde_json::from_str(rule).unwrap();
                TcpPermit { scope: grant.scope, private: vec![], ca_file: None, secret: secret(grant.secret) }
            };
            let permits: Vec<_> = rules.iter().map(permit).collect();
            match (decide(&permits, host, 25), expect) {
                (Ok(permit), Ok(mode)) => assert_eq!(permit.scope.mode, mode),
                (Err(denial), Err(part)) => assert!(denial.permission.contains(part), "{denial}"),
                (found, _) => panic!("{rules:?} {host}: {found:?}"),
            }
        }
        let plain = r#"{"host":"mail.a.example","port":25,"tls":"never"}"#;
        let wild = r#"{"host":"*.a.example","port":25,"tls":"start"}"#;
        let all = r#"{"host":"**.a.example","port":25}"#;
        check(&[plain], "mail.a.example", Ok(TcpMode::Never));
        check(&[wild, plain], "mail.a.example", Ok(TcpMode::Never));
        check(&[wild, plain], "relay.a.example", Ok(TcpMode::Start));
        check(&[wild, all], "relay.a.example", Err("rules that differ"));
        let login = r#"{"host":"mail.a.example","port":25,"tls":"start","secret":{"name":"p","use":"scram-sha-256"}}"#;
        let without = r#"{"host":"mail.a.example","port":25,"tls":"start"}"#;
        check(&[login, without], "mail.a.example", Err("rules that differ"));
        check(&[login, wild], "mail.a.example", Ok(TcpMode::Start));
        check(&[plain], "relay.a.example", Err("tcp relay.a.example:25"));
        check(&[], "10.0.0.1", Err("tcp 10.0.0.1:25"));
    }
}
