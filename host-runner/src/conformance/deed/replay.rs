//! What was right for another runner or another component: answers to a poll, and what comes for a component that a job
//! has pinned.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use remit_protocol::{
    ComponentPin, Digest, Limits, RunnerId, Session, Size, Span,
    digest::Sized,
    endpoint::{ComponentBundle, Poll, PollAnswer},
    manifest::Kind,
};
use remit_signing::{
    KeyName, SigningKey,
    http::{Content, RequestParts, RequestSigner, SignedHeaders, UnverifiedRequest, sign_answer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use zeroize::Zeroizing;

use super::{Answered, Fetched, Seen, seen};
use crate::{
    clock,
    component::{Components, Source, cache::Cache, compile::Compiler},
    conformance::{
        bench::{Bench, Names, Setup, Suite, noon},
        service,
    },
    dial::{Dialer, address::Barred, tls::Trust as Roots},
    launcher::{Launch, Local},
    orchestrator::{CallError, Caller, Client, Road},
    sandbox::Metering,
    trust::{
        Trust,
        heads::{Heads, History},
    },
};

fn key(seed: u8) -> Result<SigningKey> {
    Ok(SigningKey::from_seed(KeyName::new("test/answers")?, &[seed; 32]))
}

fn signer(runner: u128) -> Result<RequestSigner> {
    Ok(RequestSigner::new(key(40)?, RunnerId::from_u128(runner), "a.example".parse()?))
}

/// A service that answers one signed poll, and the runner's own client that makes it.
#[expect(
    clippy::disallowed_methods,
    reason = "the suite's own listener on loopback; a runner that runs has none"
)]
pub(super) async fn answer(answered: Answered) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let ca_file = folder.path().join("ca.pem");
    let tls = tokio_rustls::TlsAcceptor::from(service::server_tls("a.example", &ca_file)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let names = HashMap::from([("a.example".to_owned(), vec![vec![[127, 0, 0, 1].into()]])]);
    let barred = Barred::new("a.example", port);
    let dialer = Arc::new(Dialer::new(Arc::new(Names::new(names)), None, Roots::untrusting(), barred));
    let road = Road::new(format!("https://a.example:{port}").parse()?, dialer, None, Some(&ca_file))?;
    let client = Client::new(Caller::new(road), signer(1)?, key(41)?.public(), noon, clock::random);
    let poll = Poll {
        session: Session(1),
        ack: 0,
        free: 1,
        draining: false,
        hold: Span::from_secs(1),
        attempts: None,
    };
    let serving = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = tls.accept(stream).await?;
        let mut bytes = Vec::new();
        while service::whole(&bytes).is_none() {
            if stream.read_buf(&mut bytes).await? == 0 {
                bail!("the client went away");
            }
        }
        stream.write_all(&reply(&bytes, answered)?).await?;
        stream.shutdown().await?;
        anyhow::Ok(())
    };
    let (answer, served) = tokio::join!(client.poll(&poll), serving);
    served?;
    Ok(match answer {
        Ok(_) => seen(true, "the answer was taken"),
        Err(error) => seen(false, error.to_string()),
    })
}

/// The bytes that answer a poll.
fn reply(request: &[u8], answered: Answered) -> Result<Vec<u8>> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n").context("no request")?;
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = SignedHeaders::collect(fields.map(|(name, value)| (name, value.as_bytes())))?;
    let own = UnverifiedRequest::read(headers)?.signature().to_owned();
    // Another runner says the very same, and its answer was kept.
    let parts = RequestParts {
        method: "POST",
        path: remit_protocol::endpoint::POLL,
        query: None,
        content: Content { content_type: "application/json", body: body.as_bytes() },
    };
    let other = signer(2)?.sign(&parts, Session(1), 1, noon(), [9; 16])?;
    let words = serde_json::to_vec(&PollAnswer { first: 1, commands: Vec::new(), now: noon() })?;
    let content = Content { content_type: "application/json", body: &words };
    let bound = if answered == Answered::Another { &other.signature } else { &own };
    let signed = sign_answer(&key(41)?, 200, &content, bound, noon())?;
    let mut head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n",
        words.len()
    );
    if answered != Answered::Unsigned {
        signed.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    }
    Ok([head.as_bytes(), b"\r\n", &words].concat())
}

/// An orchestrator that hands out one component.
struct Shop {
    bundle: ComponentBundle,
    bytes: Vec<u8>,
}

#[async_trait]
impl History for Shop {
    async fn consistency(&self, _: u64, _: u64) -> Result<Vec<Digest>, CallError> {
        Err(CallError::Cut("there is no log here".to_owned()))
    }

    async fn proof(&self, _: Digest) -> Result<String, CallError> {
        Err(CallError::Cut("there is no log here".to_owned()))
    }
}

#[async_trait]
impl Source for Shop {
    async fn bundle(&self, _: &ComponentPin) -> Result<ComponentBundle, CallError> {
        Ok(self.bundle.clone())
    }

    async fn bytes(&self, _: Sized) -> Result<Bytes, CallError> {
        Ok(self.bytes.clone().into())
    }
}

pub(super) async fn fetch(suite: &Suite, fetched: Fetched) -> Result<Seen> {
    let http = r#"{"http":[{"host":"granted"}]}"#;
    let wanted = suite.packed("pure", Kind::Step, None, "{}", Limits::default(), None)?;
    let name = if fetched == Fetched::Another { "http" } else { "pure" };
    let requests = if fetched == Fetched::Another { http } else { "{}" };
    let packed = suite.packed(name, Kind::Step, None, requests, Limits::default(), None)?;
    let pin = ComponentPin {
        name: "test/pure".parse()?,
        version: "1.0.0".parse()?,
        digest: Digest::of(&wanted.bytes),
    };
    let mut bytes = packed.bytes.clone();
    if let (Fetched::OtherBytes, Some(last)) = (fetched, bytes.last_mut()) {
        *last ^= 1;
    }
    let bundle = ComponentBundle {
        digest: pin.digest,
        length: bytes.len() as u64,
        manifest: String::from_utf8(packed.manifest)?,
        note: String::from_utf8(packed.note)?,
        proof: None,
        verdicts: Vec::new(),
    };
    let folder = tempfile::tempdir()?;
    let bench = Bench::load(suite, Setup::default())?;
    let cache = Cache::new(folder.path().to_owned(), Zeroizing::new([1; 32]), Size::from_mib(512));
    let launch: Arc<dyn Launch> = Arc::new(Local::new(folder.path().to_owned()));
    let trust = Arc::new(Trust::fixed(wanted.policy, noon));
    let compiler = Compiler::new(suite.program.clone(), launch);
    let components = Components::new(trust, Heads::nowhere(), bench.sandbox.clone(), cache, compiler);
    Ok(match components.get(&pin, Metering::Off, &Shop { bundle, bytes }).await {
        Ok(_) => seen(true, "it is loaded"),
        Err(error) => seen(false, error.to_string()),
    })
}
