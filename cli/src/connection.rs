//! The way to the orchestrator: where it is, whom to believe, who asks; and the calls over it.
//!
//! Each of address, token and certificate comes from an argument, the environment, or the profile that `remit login`
//! and `remit up` write, in that order.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use remit_protocol::{
    endpoint::Problem,
    operator::{Page, path::fill},
};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{
    failure::{Code, Failure, Result},
    files,
};

/// Arguments of every command that talks to the orchestrator.
#[derive(Args, Clone, Default)]
pub(crate) struct Target {
    /// Address of the orchestrator.
    #[arg(long, env = "REMIT_URL", global = true, value_name = "URL", help_heading = "Connection")]
    pub(crate) url: Option<String>,
    /// API token.
    #[arg(
        long,
        env = "REMIT_TOKEN",
        global = true,
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Connection"
    )]
    pub(crate) token: Option<String>,
    /// Certificate authority of the orchestrator, in PEM.
    #[arg(long, env = "REMIT_CA", global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) ca: Option<PathBuf>,
    /// Project.
    #[arg(long, env = "REMIT_PROJECT", global = true, value_name = "NAME", help_heading = "Connection")]
    pub(crate) project: Option<String>,
}

/// What is kept between commands: `~/.config/remit/profile.toml`, for its owner only.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) url: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) project: Option<String>,
}

impl Profile {
    /// Where it is; what else is kept for the person lies beside it.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that looks for the person's own configuration"
    )]
    pub(crate) fn path() -> Option<PathBuf> {
        if let Some(path) = std::env::var_os("REMIT_PROFILE") {
            return Some(path.into());
        }
        let base = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))?;
        Some(base.join("remit/profile.toml"))
    }

    /// Reads the profile; none is an empty one.
    pub(crate) fn read() -> Result<Self> {
        let Some(path) = Self::path().filter(|path| path.is_file()) else { return Ok(Self::default()) };
        toml::from_str(&files::read_text(&path)?)
            .map_err(|error| Failure::input(format_args!("{}: {}", path.display(), error.message())))
    }

    /// Keeps the profile.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        let path = Self::path().ok_or_else(|| Failure::input("neither HOME nor REMIT_PROFILE is set"))?;
        let text = toml::to_string(self).map_err(Failure::input)?;
        files::write(&path, text.as_bytes(), true)?;
        Ok(path)
    }
}

/// An orchestrator, ready to be asked.
pub(crate) struct Connection {
    client: reqwest::Client,
    url: String,
    token: String,
    project: Option<String>,
}

impl Connection {
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let profile = Profile::read()?;
        let missing = |what: &str, how: &str| {
            Failure::new(
                Code::Input,
                format!("no {what} is known"),
                format!("give {how}, or keep it with: remit login"),
            )
        };
        let url = target
            .url
            .clone()
            .or(profile.url)
            .ok_or_else(|| missing("orchestrator", "--url or REMIT_URL"))?;
        let token = target.token.clone().or(profile.token).ok_or_else(|| missing("token", "REMIT_TOKEN"))?;
        let project = target.project.clone().or(profile.project);
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("remit/", env!("CARGO_PKG_VERSION")));
        if let Some(ca) = target.ca.clone().or(profile.ca) {
            let pem = files::read(&ca, 1 << 20)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| Failure::input(format_args!("{}: {error}", ca.display())))?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| unreachable(&url, &error))?;
        Ok(Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
            project,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The project that project commands are about.
    pub(crate) fn project(&self) -> Result<remit_protocol::ProjectName> {
        let Some(name) = &self.project else {
            return Err(
                Failure::input("no project is named").with_remedy("give --project NAME or set REMIT_PROJECT")
            );
        };
        name.parse().map_err(Failure::input)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, None::<&()>).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// Every page of a list.
    pub(crate) async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Page<T>> {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            let after = next.map(|after| fill(&format!("{mark}after={{}}"), &[&after])).unwrap_or_default();
            let page: Page<T> = self.get(&format!("{path}{after}")).await?;
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                return Ok(Page { items, next });
            }
        }
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::DELETE, path, None::<&()>).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn upload<T: DeserializeOwned>(&self, path: &str, bytes: Vec<u8>) -> Result<T> {
        let request =
            self.request(Method::PUT, path).header("content-type", "application/octet-stream").body(bytes);
        self.read(request).await
    }

    /// Sends bytes under these headers and without the token: a call that its signature opens.
    pub(crate) async fn call_signed<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: &[(&str, String)],
        bytes: Vec<u8>,
    ) -> Result<T> {
        let request =
            self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        self.read(request.timeout(Duration::from_secs(120)).body(bytes)).await
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn stream(&self, path: &str) -> Result<reqwest::Response> {
        let request = self.request(Method::GET, path).header("accept", "text/event-stream");
        let response = request.send().await.map_err(|error| unreachable(&self.url, &error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Fetches at most `limit` bytes into a file; gives their digest.
    pub(crate) async fn download(
        &self,
        path: &str,
        limit: u64,
        file: &mut files::Arriving,
    ) -> Result<remit_protocol::Digest> {
        let mut hasher = Sha256::new();
        self.pieces(path, limit, |piece| {
            hasher.update(piece);
            file.write(piece)
        })
        .await?;
        Ok(remit_protocol::Digest::from_hasher(hasher))
    }

    /// Fetches at most `limit` bytes as they are.
    pub(crate) async fn bytes(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.pieces(path, limit, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(bytes)
    }

    async fn pieces(&self, path: &str, limit: u64, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut response =
            self.request(Method::GET, path).send().await.map_err(|error| unreachable(&self.url, &error))?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let mut length = 0;
        while let Some(piece) = response.chunk().await.map_err(|error| unreachable(&self.url, &error))? {
            length += piece.len() as u64;
            if length > limit {
                return Err(Failure::new(
                    Code::Unreachable,
                    format!("{path} has more than {limit} bytes"),
                    "use the same version of remit and remit-orchestrator",
                ));
            }
            take(&piece)?;
        }
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let mut request = self.request(method, path).timeout(Duration::from_secs(120));
        if let Some(body) = body {
            request = request.json(body);
        }
        self.read(request).await
    }

    async fn read<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T> {
        let response = request.send().await.map_err(|error| unreachable(&self.url, &error))?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let bytes = response.bytes().await.map_err(|error| unreachable(&self.url, &error))?;
        let bytes = if bytes.is_empty() { &b"null"[..] } else { &bytes[..] };
        serde_json::from_slice(bytes).map_err(|error| {
            Failure::new(
                Code::Unreachable,
                format!("{} answered something that this program does not understand: {error}", self.url),
                "use the same version of remit and remit-orchestrator",
            )
        })
    }
}

fn unreachable(url: &str, error: &reqwest::Error) -> Failure {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        reason = inner.to_string();
        source = inner.source();
    }
    Failure::new(
        Code::Unreachable,
        format!("{url} cannot be reached: {reason}"),
        "is the orchestrator running, and is --ca its certificate authority?",
    )
}

async fn refusal(response: reqwest::Response) -> Failure {
    let status = response.status();
    let code = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::Forbidden,
        StatusCode::NOT_FOUND => Code::NotFound,
        status if status.is_client_error() => Code::Input,
        _ => Code::Unreachable,
    };
    let bytes = response.bytes().await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Failure::new(code, crate::output::harmless(&problem.message), problem.remedy)
            .with_faults(problem.faults),
        Err(_) => Failure::new(code, format!("the orchestrator answered {status}"), ""),
    }
}
