//! The fleet simulator: a process of its own that enrols runners and parks their polls, over real TLS.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use harness::{Stack, builder_trust, programs};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use remit_protocol::{
    PROTOCOL, Session, Timestamp,
    endpoint::{self, Enrol, Enrolled, OpenSession, Poll, SessionOpened},
};
use remit_signing::{
    KeyName, SigningKey,
    enrol::EnrolRequest,
    http::{Content, RequestParts, RequestSigner, header},
    ticket::Ticket,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Row, process};
use crate::shell::{program, say};

/// Runners that parks the hidden command `xtask fleet`.
#[derive(Debug, Args)]
pub(crate) struct Fleet {
    /// Address of the orchestrator.
    #[arg(long)]
    url: String,
    /// Admin token.
    #[arg(long)]
    token: String,
    /// The orchestrator's authority, PEM.
    #[arg(long)]
    ca: PathBuf,
    /// How many runners.
    #[arg(long)]
    count: u32,
}

/// Memory of the orchestrator for each parked runner.
pub(crate) fn idle(count: u32) -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let stack = Stack::start(&folder.path().join("site"), &builder_trust()?)?;
    stack.json(&["project", "create", "demo"])?;
    let pid = stack.orchestrator_pid().context("the orchestrator is not running")?;
    let before = process::rss(pid)?;
    let mut own = program(programs().join("xtask"));
    own.args([
        "fleet",
        "--url",
        stack.url(),
        "--token",
        stack.token(),
        "--count",
        &count.to_string(),
        "--ca",
    ]);
    let mut simulator = own.arg(stack.ca()).stdout(std::process::Stdio::piped()).spawn()?;
    let parked = wait_parked(&mut simulator, count);
    let after = process::rss(pid)?;
    // It has done what it was started for.
    let _ = simulator.kill();
    simulator.wait()?;
    parked?;
    let value = (after - before) / f64::from(count);
    Ok(Row {
        id: "idle-runner-memory",
        value,
        unit: "KiB",
        baseline: 40.0,
        ratio: value / 40.0,
        note: format!(
            "{count} parked polls over TLS; resident memory grew {before:.0} → {after:.0} KiB; goal ≤ 40 KiB"
        ),
    })
}

/// Waits until the simulator says that all polls are parked.
fn wait_parked(simulator: &mut std::process::Child, count: u32) -> Result<()> {
    use std::io::BufRead as _;
    let out = simulator.stdout.take().context("no output of the simulator")?;
    for line in std::io::BufReader::new(out).lines() {
        let line = line?;
        if line == format!("parked {count}") {
            return Ok(());
        }
        say(&line);
    }
    anyhow::bail!("the fleet simulator ended before all runners were parked")
}

/// Raises the number of files that this process may have open to what the system allows.
fn more_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // With the old limit fewer runners can be parked; that shows by itself.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// The process: enrols, opens a session for each, parks a poll for each, says so, and stays.
#[expect(clippy::print_stdout, reason = "its parent reads what it prints")]
pub(crate) fn simulate(fleet: &Fleet) -> Result<()> {
    more_files();
    // The second caller would find it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let site = Arc::new(Site::new(fleet)?);
        let slots = Arc::new(tokio::sync::Semaphore::new(32));
        let mut tasks = tokio::task::JoinSet::new();
        let (parked, mut count) = tokio::sync::mpsc::channel::<()>(1024);
        for number in 0..fleet.count {
            let (site, slots, parked) = (site.clone(), slots.clone(), parked.clone());
            tasks.spawn(async move {
                let permit = slots.acquire_owned().await?;
                let mut runner = site.enrol(number).await?;
                drop(permit);
                runner.park(parked).await
            });
        }
        for done in 1..=fleet.count {
            tokio::select! {
                _ = count.recv() => {}
                Some(ended) = tasks.join_next() => { ended??; }
            }
            if done % 1000 == 0 {
                println!("{done} of {}", fleet.count);
            }
        }
        println!("parked {}", fleet.count);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    })
}

struct Site {
    url: String,
    token: String,
    address: String,
    operator: reqwest::Client,
    connector: tokio_rustls::TlsConnector,
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// One simulated runner.
struct Parked {
    sender: Sender,
    signer: RequestSigner,
    address: String,
    session: Session,
    sequence: u64,
}

#[expect(clippy::disallowed_methods, reason = "the simulator's clock")]
fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(bytes)
}

impl Site {
    fn new(fleet: &Fleet) -> Result<Self> {
        let pem = std::fs::read(&fleet.ca)?;
        let operator = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?)
            .build()?;
        let mut roots = rustls::RootCertStore::empty();
        use rustls::pki_types::pem::PemObject as _;
        for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|error| anyhow::anyhow!("{error:?}"))?)?;
        }
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self {
            url: fleet.url.clone(),
            token: fleet.token.clone(),
            address: fleet.url.trim_start_matches("https://").to_owned(),
            operator,
            connector: tokio_rustls::TlsConnector::from(Arc::new(config)),
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the connection ends with its sender")]
    async fn connect(&self) -> Result<Sender> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())?;
        let stream = self.connector.connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn(connection);
        Ok(sender)
    }

    /// Creates a runner with the operator API, enrols it, opens its session.
    async fn enrol(&self, number: u32) -> Result<Parked> {
        let answer = self
            .operator
            .post(format!("{}/api/v1/runners", self.url))
            .bearer_auth(&self.token)
            .json(&json!({ "name": format!("fleet-{number}"), "projects": "all" }))
            .send()
            .await?;
        let status = answer.status();
        let issued: Value = answer.json().await?;
        let ticket = issued["ticket"].as_str().with_context(|| format!("no ticket: {status} {issued}"))?;
        let ticket = Ticket::parse(ticket)?;
        let key = SigningKey::from_seed(KeyName::new("fleet/runner")?, &random::<32>()?);
        let request = EnrolRequest::new(&ticket, &key, "fleet", random()?, now())?;
        let mut sender = self.connect().await?;
        let body = serde_json::to_vec(&Enrol { note: String::from_utf8(request.note().to_vec())? })?;
        let plain = Request::post(endpoint::ENROL)
            .header("host", &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let enrolled: Enrolled = read(sender.send_request(plain).await?).await?;
        let enrolled = request.read_answer(enrolled.note.as_bytes())?;
        let signer = RequestSigner::new(key, enrolled.runner, enrolled.audience);
        let mut parked =
            Parked { sender, signer, address: self.address.clone(), session: enrolled.session, sequence: 0 };
        let open = OpenSession {
            runner: enrolled.runner,
            last: enrolled.session,
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: "fleet".to_owned(),
            features: std::collections::BTreeSet::new(),
            slots: 1,
            sealing: None,
            attempts: Vec::new(),
        };
        let opened: SessionOpened = parked.call(endpoint::SESSION, &open).await?;
        (parked.session, parked.sequence) = (opened.session, 0);
        Ok(parked)
    }
}

async fn read<T: serde::de::DeserializeOwned>(answer: hyper::Response<hyper::body::Incoming>) -> Result<T> {
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok(serde_json::from_slice(&body)?)
}

impl Parked {
    async fn call<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body)?;
        self.sequence += 1;
        let content = Content { content_type: "application/json", body: &body };
        let parts = RequestParts { method: "POST", path, query: None, content };
        let signed = self.signer.sign(&parts, self.session, self.sequence, now(), random()?)?;
        let mut request = Request::post(path)
            .header("host", &self.address)
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in signed.headers {
            request = request.header(name, value);
        }
        let answer = self.sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        read(answer).await
    }

    /// Polls for ever; says so once the first poll has been on its way for a moment.
    async fn park(&mut self, parked: tokio::sync::mpsc::Sender<()>) -> Result<()> {
        let mut said = false;
        loop {
            let poll = Poll {
                session: self.session,
                ack: 0,
                free: 1,
                draining: false,
                hold: endpoint::HOLD,
                attempts: None,
            };
            let call = self.call::<Value>(endpoint::POLL, &poll);
            let told = async {
                if !said {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    parked.send(()).await.ok();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                answer = call => { answer?; }
                () = told => {}
            }
            said = true;
        }
    }
}
