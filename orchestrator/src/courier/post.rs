//! Webhooks that go out: signed, one try, never redirected.

use std::time::Duration;

use anyhow::Context as _;
use remit_protocol::{Timestamp, notice::Announcement};
use remit_signing::webhook::{self, WebhookSecret};

use super::Undelivered;
use crate::config::Notify;

/// Most bytes of an answer that are read, for the record of what went wrong.
const MAX_ANSWER: usize = 300;

/// Posts announcements.
pub(super) struct Poster(reqwest::Client);

impl Poster {
    pub(super) fn new(config: &Notify, patience: Duration) -> anyhow::Result<Self> {
        // The one provider of cryptography; a second call would only find it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(patience / 2)
            .timeout(patience)
            .no_proxy()
            .user_agent(concat!("remit-orchestrator/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &config.ca {
            let pem = std::fs::read(file).with_context(|| file.display().to_string())?;
            let found =
                reqwest::Certificate::from_pem_bundle(&pem).with_context(|| file.display().to_string())?;
            builder = builder.tls_certs_merge(found);
        }
        if let Some(proxy) = &config.proxy {
            builder =
                builder.proxy(reqwest::Proxy::all(proxy).with_context(|| format!("notify.proxy {proxy}"))?);
        }
        Ok(Self(builder.build()?))
    }

    pub(super) async fn post(
        &self,
        url: &str,
        id: &str,
        secret: &[u8],
        message: &Announcement,
        now: Timestamp,
    ) -> Result<(), Undelivered> {
        let never = |why: &str| Undelivered::Never(why.to_owned());
        let text = std::str::from_utf8(secret).map_err(|_| never("its secret is damaged"))?;
        let secret = WebhookSecret::parse(text).map_err(|_| never("its secret is damaged"))?;
        let body = serde_json::to_vec(message).map_err(|error| Undelivered::Never(error.to_string()))?;
        let id = id.parse().map_err(|_| never("its id is none"))?;
        let signature = secret.sign(&id, now.as_secs(), &body);
        let request = self
            .0
            .post(url)
            .header("content-type", "application/json")
            .header(webhook::ID, id.as_str())
            .header(webhook::TIMESTAMP, now.as_secs().to_string())
            .header(webhook::SIGNATURE, signature)
            .body(body);
        let mut response = request.send().await.map_err(|error| Undelivered::Later(reason(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let mut said = Vec::new();
        while said.len() < MAX_ANSWER
            && let Ok(Some(piece)) = response.chunk().await
        {
            said.extend_from_slice(&piece);
        }
        said.truncate(MAX_ANSWER);
        let said: String = String::from_utf8_lossy(&said).chars().filter(|c| !c.is_control()).collect();
        Err(Undelivered::Later(format!("the receiver answered {status}: {said}")))
    }
}

/// The innermost reason: the outer ones repeat the address.
fn reason(error: &reqwest::Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    reason
}
