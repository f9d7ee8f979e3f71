//! The effect: one connection, one login, one command. Everything ends when it is dropped.

use std::{
    collections::VecDeque,
    fs::File,
    io::Read as _,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use ipnet::IpNet;
use remit_protocol::capability::{secrets::SecretUse, ssh::SshPlace};
use russh::{
    ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig,
    client::{self, Handle, Msg},
    keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use zeroize::Zeroizing;

use super::{
    known_hosts::{self, Verdict},
    plan::Plan,
};
use crate::{
    dial::{BoxConnection, DialError, Dialer},
    secrets::SecretValue,
};

/// From the first byte to the start of the command.
const LOGIN: Duration = Duration::from_secs(30);
/// A connection is asked for life after so long a silence, so many times.
const KEEPALIVE: (Duration, usize) = (Duration::from_secs(15), 4);
/// Bytes that the node may send before the guest reads.
const WINDOW: u32 = 256 << 10;
/// Pieces of output that wait for the guest.
const WAITING: usize = 16;
/// Most bytes that a node may say while it is written to.
const MAX_EARLY: usize = 1 << 20;
/// Bytes that are read from the connection at once.
const READ: usize = 16 << 10;
/// Largest known-hosts file.
const MAX_KNOWN_HOSTS: u64 = 64 << 20;

/// Why no command was started. None of the texts holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// There is no connection, or not to such an address.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The known-hosts file cannot be read.
    #[error("the known-hosts file {}: {why}", path.display())]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The other side is not proven to be the node.
    #[error("the host key of {host}:{port} is not acceptable: {why}")]
    HostKey {
        /// The node's host.
        host: String,
        /// Its port.
        port: u16,
        /// What is the matter, with the place in the file.
        why: String,
        /// The file.
        file: PathBuf,
        /// The line that would make the key known.
        line: String,
    },
    /// The secret cannot log in.
    #[error("the secret cannot be used to log in: {0}")]
    Secret(String),
    /// The node does not let us in.
    #[error("{user}@{host} refuses the login")]
    Refused {
        /// The user.
        user: String,
        /// The node's host.
        host: String,
    },
    /// It takes too long.
    #[error("no login in time")]
    Timeout,
    /// The host in between.
    #[error("at the bastion {user}@{host}: {source}")]
    Bastion {
        /// Its user.
        user: String,
        /// The bastion.
        host: String,
        /// What happened there.
        source: Box<SshError>,
    },
    /// SSH itself failed.
    #[error("ssh: {0}")]
    Protocol(#[from] russh::Error),
}

/// What a command does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The channel is closed.
    End,
}

impl Event {
    fn len(&self) -> usize {
        match self {
            Self::Stdout(bytes) | Self::Stderr(bytes) => bytes.len(),
            Self::End => 0,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    Code(i32),
    Signal(String),
}

/// What is started on a node.
pub(super) enum Ask {
    /// A line for the node's shell; the input is sent and then closed.
    Command { line: String, stdin: Vec<u8> },
    /// The server's own SFTP; its input stays open.
    Sftp,
}

/// A command that runs on a node. Dropping it cuts the connection.
pub(super) struct Running {
    output: ChannelReadHalf,
    /// The standard input of a subsystem, until it is closed.
    input: Option<ChannelWriteHalf<Msg>>,
    ending: Option<Ending>,
    /// What came while something was written.
    early: VecDeque<Event>,
    /// Feeds the standard input of a command; ends with it.
    _feeding: JoinSet<()>,
    _entered: Entered,
    /// The connection that carries this one.
    _bastion: Option<Entered>,
}

/// A login. Dropping it cuts the connection.
struct Entered {
    handle: Handle<Host>,
    _cut: DropGuard,
}

impl Running {
    /// Waits for the next event.
    pub(super) async fn next(&mut self) -> Event {
        match self.early.pop_front() {
            Some(event) => event,
            None => event(&mut self.output, &mut self.ending).await,
        }
    }

    /// Writes to the standard input of a subsystem; waits until the node has room for it. What the node says meanwhile is kept:
    /// unread, it would stop the connection, and with it the writing.
    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let Self { input, output, early, ending, .. } = self;
        let input = input.as_ref().ok_or("its standard input is closed")?;
        let mut sending = std::pin::pin!(input.data_bytes(bytes));
        loop {
            let event = tokio::select! {
                biased;
                sent = &mut sending => return sent.map_err(|error| error.to_string()),
                event = event(output, ending) => event,
            };
            let over = event == Event::End;
            early.push_back(event);
            let held: usize = early.iter().map(Event::len).sum();
            if over || held > MAX_EARLY {
                return Err(if over { "the connection has ended" } else { "the node says too much unread" }
                    .to_owned());
            }
        }
    }

    /// Closes the standard input of a subsystem; one that is closed stays so.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        match self.input.take() {
            Some(input) => input.eof().await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// How it ended, once [`Event::End`] was seen; none if the connection broke first.
    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }
}

async fn event(output: &mut ChannelReadHalf, ending: &mut Option<Ending>) -> Event {
    loop {
        match output.wait().await {
            Some(ChannelMsg::Data { data }) => return Event::Stdout(data),
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => return Event::Stderr(data),
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                // The first one counts.
                ending.get_or_insert(Ending::Code(exit_status.cast_signed()));
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                ending.get_or_insert(Ending::Signal(signal(&signal_name)));
            }
            Some(ChannelMsg::Close | ChannelMsg::Failure) | None => return Event::End,
            Some(_) => {}
        }
    }
}

fn signal(signal: &Sig) -> String {
    match signal {
        // The name is the node's to choose.
        Sig::Custom(name) => name.chars().filter(char::is_ascii_graphic).take(32).collect(),
        other => format!("{other:?}"),
    }
}

/// Judges the host's key by one known-hosts file.
struct Host {
    name: String,
    port: u16,
    file: Arc<str>,
    refused: Arc<OnceLock<(Verdict, String)>>,
}

impl client::Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        let verdict = known_hosts::verify(&self.file, &self.name, self.port, key);
        if verdict != Verdict::Known {
            self.refused.get_or_init(|| (verdict.clone(), known_hosts::line(&self.name, self.port, key)));
        }
        Ok(verdict == Verdict::Known)
    }
}

/// What logs in: at the node, and at the bastion before it if the plan has one.
pub(super) struct Secrets {
    pub(super) node: SecretValue,
    pub(super) bastion: Option<SecretValue>,
}

/// Logs in as planned and starts what is asked.
///
/// # Errors
/// Nothing runs on the node then.
pub(super) async fn start(
    dialer: &Dialer,
    plan: &Plan,
    secrets: &Secrets,
    ask: Ask,
) -> Result<Running, SshError> {
    match timeout(LOGIN, Box::pin(login(dialer, plan, secrets, ask))).await {
        Ok(started) => started,
        Err(_) => Err(SshError::Timeout),
    }
}

async fn login(dialer: &Dialer, plan: &Plan, secrets: &Secrets, ask: Ask) -> Result<Running, SshError> {
    // What cannot log in anyway is found before anybody is called.
    let credential = Credential::read(plan.usage, &secrets.node)?;
    let (entered, bastion) = match (&plan.bastion, &secrets.bastion) {
        (Some(hop), Some(secret)) => {
            let (stream, place, bastion) = pass(dialer, plan, hop, secret).await?;
            (enter(stream, plan, place, credential).await?, Some(bastion))
        }
        _ => {
            let (stream, place) = dialer.listed(&plan.host, plan.port, &lists(plan)).await?;
            (enter(Box::new(stream), plan, place, credential).await?, None)
        }
    };
    let channel = entered.handle.channel_open_session().await?;
    let (mut output, input) = channel.split();
    let stdin = match ask {
        Ask::Command { line, stdin } => {
            input.exec(true, line).await?;
            Some(stdin)
        }
        Ask::Sftp => {
            input.request_subsystem(true, "sftp").await?;
            None
        }
    };
    loop {
        match output.wait().await {
            Some(ChannelMsg::Success) => break,
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            _ => return Err(SshError::Refused { user: plan.user.clone(), host: plan.host.clone() }),
        }
    }
    let mut feeding = JoinSet::new();
    let input = match stdin {
        None => Some(input),
        Some(stdin) => {
            // Fed beside the reading: a command that writes before it reads would wait for us for ever.
            feeding.spawn(async move {
                if input.data_bytes(stdin).await.is_ok() {
                    // A command that is gone needs no end of its input.
                    let _ = input.eof().await;
                }
            });
            None
        }
    };
    Ok(Running {
        output,
        input,
        ending: None,
        early: VecDeque::new(),
        _feeding: feeding,
        _entered: entered,
        _bastion: bastion,
    })
}

fn lists(plan: &Plan) -> Vec<&[IpNet]> {
    plan.places.iter().map(|place| place.addresses.as_slice()).collect()
}

/// Logs in to the bastion and lets it connect to the node, whose address the owner has to have listed.
async fn pass(
    dialer: &Dialer,
    plan: &Plan,
    hop: &Plan,
    secret: &SecretValue,
) -> Result<(BoxConnection, usize, Entered), SshError> {
    let there = |source: SshError| SshError::Bastion {
        user: hop.user.clone(),
        host: hop.host.clone(),
        source: Box::new(source),
    };
    let address =
        plan.host.parse().map_err(|_| there(SshError::Secret("the node has no address".to_owned())))?;
    let place = dialer.place(address, &lists(plan))?;
    let entered = async {
        let credential = Credential::read(hop.usage, secret)?;
        let (stream, place) = dialer.listed(&hop.host, hop.port, &lists(hop)).await?;
        enter(Box::new(stream), hop, place, credential).await
    };
    let entered = entered.await.map_err(there)?;
    let opened = entered.handle.channel_open_direct_tcpip(&plan.host, plan.port.into(), "127.0.0.1", 0).await;
    let channel = opened.map_err(|error| there(error.into()))?;
    Ok((Box::new(channel.into_stream()), place, entered))
}

/// Proves the host at the other end of `stream` and logs in.
async fn enter(
    stream: BoxConnection,
    plan: &Plan,
    place: usize,
    credential: Credential,
) -> Result<Entered, SshError> {
    let place = &plan.places[place];
    let file: Arc<str> = read(place).await?.into();
    let mut config = client::Config {
        window_size: WINDOW,
        channel_buffer_size: WAITING,
        keepalive_interval: Some(KEEPALIVE.0),
        keepalive_max: KEEPALIVE.1,
        ..client::Config::default()
    };
    let known = known_hosts::algorithms(&file, &plan.host, plan.port);
    if !known.is_empty() {
        config.preferred.key = known.into();
    }
    let refused = Arc::new(OnceLock::new());
    let host = Host { name: plan.host.clone(), port: plan.port, file, refused: refused.clone() };
    let cut = CancellationToken::new();
    let guard = cut.clone().drop_guard();
    // The library reads a packet's length and its rest one by one.
    let stream = BufReader::with_capacity(READ, Cuttable { stream, cut: Box::pin(cut.cancelled_owned()) });
    let mut handle = client::connect_stream(Arc::new(config), stream, host)
        .await
        .map_err(|error| host_key_error(plan, place, refused.get(), error))?;
    if !credential.authenticate(&mut handle, &plan.user).await? {
        return Err(SshError::Refused { user: plan.user.clone(), host: plan.host.clone() });
    }
    Ok(Entered { handle, _cut: guard })
}

fn host_key_error(
    plan: &Plan,
    place: &SshPlace,
    refused: Option<&(Verdict, String)>,
    error: russh::Error,
) -> SshError {
    let Some((verdict, line)) = refused else { return error.into() };
    let file = place.known_hosts.clone();
    let why = match verdict {
        Verdict::Known | Verdict::Unknown => format!("it does not stand in {}", file.display()),
        Verdict::Changed(number) => format!(
            "line {number} of {} has another one; the host was set up anew, or somebody stands in between",
            file.display()
        ),
        Verdict::Revoked(number) => format!("line {number} of {} revokes it", file.display()),
    };
    SshError::HostKey { host: plan.host.clone(), port: plan.port, why, file, line: line.clone() }
}

async fn read(place: &SshPlace) -> Result<String, SshError> {
    let path = place.known_hosts.clone();
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        File::open(path)?.take(MAX_KNOWN_HOSTS + 1).read_to_string(&mut text).map(|_| text)
    });
    let why = match text.await.map_err(std::io::Error::other).flatten() {
        Ok(text) if text.len() as u64 <= MAX_KNOWN_HOSTS => return Ok(text),
        Ok(_) => format!("it is larger than {MAX_KNOWN_HOSTS} bytes"),
        Err(error) => error.to_string(),
    };
    Err(SshError::KnownHosts { path: place.known_hosts.clone(), why })
}

/// What logs in.
enum Credential {
    Key(Arc<russh::keys::PrivateKey>),
    Password(Zeroizing<String>),
}

impl Credential {
    fn read(usage: SecretUse, secret: &SecretValue) -> Result<Self, SshError> {
        let text = std::str::from_utf8(secret.expose())
            .map_err(|_| SshError::Secret("it is not text".to_owned()))?;
        if usage == SecretUse::SshPassword {
            return Ok(Self::Password(Zeroizing::new(text.to_owned())));
        }
        let key = decode_secret_key(text, None).map_err(|_| {
            SshError::Secret(
                "it is not a private key in OpenSSH's form or PEM, without a passphrase".to_owned(),
            )
        })?;
        if key.is_encrypted() {
            return Err(SshError::Secret("the key is encrypted; store it without its passphrase".to_owned()));
        }
        Ok(Self::Key(Arc::new(key)))
    }

    async fn authenticate(self, handle: &mut Handle<Host>, user: &str) -> Result<bool, SshError> {
        let result = match self {
            Self::Password(password) => handle.authenticate_password(user, password.as_str()).await?,
            Self::Key(key) => {
                // A server that does not say what it takes takes SHA-256 at least (RFC 8332).
                let hash = if key.algorithm().is_rsa() {
                    handle.best_supported_rsa_hash().await?.flatten().or(Some(HashAlg::Sha256))
                } else {
                    None
                };
                handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, hash)).await?
            }
        };
        Ok(result.success())
    }
}

/// A stream that breaks when its token is cancelled: the library's task holds it, and has no other way to be ended.
struct Cuttable {
    stream: BoxConnection,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
