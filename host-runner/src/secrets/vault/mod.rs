//! The provider `vault`: the key-value engine, version 2, of HashiCorp Vault and of what speaks its protocol.
//!
//! `keys/prod/x` is `GET /v1/<engine>/data/prod/x`, of which one field is the value. Who the runner is to Vault is decided by
//! [`Auth`]; the token that comes of it is kept in memory, renewed while it can be and asked for anew when it ends. After
//! Vault's HTTP API: `developer.hashicorp.com/vault/api-docs`.

mod answer;
mod call;
mod session;

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use remit_protocol::{SecretPath, Span, capability::http::Via};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use self::{
    answer::Trouble,
    call::{Call, CallError},
    session::Session,
};
use super::{Mount, Resolve, SecretError, SecretValue};
use crate::dial::Dialer;

/// How long [`Resolve::keep`] waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// `https://host[:port]` of a Vault, without a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    host: String,
    port: u16,
}

/// A text that is no Vault's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a Vault: write https://host or https://host:port, without a path")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.chars().take(80).collect());
        let rest = text.strip_prefix("https://").ok_or_else(invalid)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority = rest.parse().map_err(|_| invalid())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let ported = authority.as_str() != authority.host();
        if host.is_empty() || rest.contains('@') || ported != authority.port_u16().is_some() {
            return Err(invalid());
        }
        Ok(Self { host, port: authority.port_u16().unwrap_or(443) })
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "https://{open}{}{close}:{}", self.host, self.port)
    }
}

/// A path inside Vault, such as `secret` or `team/kv`: of an engine or of a way to log in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Place(String);

/// A text that is no path inside Vault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a path inside Vault: segments of letters, digits, '.', '_', '-', with '/' between them"
)]
pub struct InvalidPlace(String);

impl TryFrom<String> for Place {
    type Error = InvalidPlace;
    fn try_from(text: String) -> Result<Self, InvalidPlace> {
        // The same segments as those of a secret's path.
        match SecretPath::new(format!("keys/{text}")) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(InvalidPlace(text.chars().take(80).collect())),
        }
    }
}

impl Place {
    fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What a path below the mount names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// A secret of Vault, whose field `field` is the value.
    #[default]
    Secrets,
    /// A field: the last segment is its name, what stands before it is Vault's secret.
    Fields,
}

/// How the runner shows Vault who it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum Auth {
    /// A token that the owner, or an agent of his, puts into a file. Read anew at each call, renewed while it can be.
    Token {
        /// The file.
        token_file: PathBuf,
    },
    /// A role and its secret id.
    Approle {
        /// The role's id.
        role_id: String,
        /// A file that holds the secret id.
        secret_id_file: PathBuf,
        /// Where the method is enabled.
        #[serde(default = "approle")]
        path: Place,
    },
    /// The service account of the pod that the runner runs in.
    Kubernetes {
        /// The role at Vault.
        role: String,
        /// The service account's token.
        #[serde(default = "service_account")]
        token_file: PathBuf,
        /// Where the method is enabled.
        #[serde(default = "kubernetes")]
        path: Place,
    },
}

fn approle() -> Place {
    Place::new("approle")
}

fn kubernetes() -> Place {
    Place::new("kubernetes")
}

fn service_account() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

/// What stands in `[[provider]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its paths.
    pub mount: Mount,
    /// How long a value is kept; absent: 10 s.
    pub cache: Option<Span>,
    /// Where Vault is.
    pub address: Address,
    /// The namespace, where Vault has them.
    pub namespace: Option<Place>,
    /// The path of the key-value engine.
    #[serde(default = "engine")]
    pub engine: Place,
    /// The field that holds a value.
    #[serde(default = "field")]
    pub field: String,
    /// What a path names.
    #[serde(default)]
    pub names: Names,
    /// The only certificates that are trusted, in PEM; absent: the runner's.
    pub ca_file: Option<PathBuf>,
    /// Whether it is called through the runner's proxy.
    #[serde(default)]
    pub via: Via,
    /// Who the runner is.
    pub auth: Auth,
}

fn engine() -> Place {
    Place::new("secret")
}

fn field() -> String {
    "value".to_owned()
}

impl Settings {
    /// Files that are read while the runner runs.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let auth = match &self.auth {
            Auth::Token { token_file } | Auth::Kubernetes { token_file, .. } => token_file,
            Auth::Approle { secret_id_file, .. } => secret_id_file,
        };
        self.ca_file.iter().chain([auth])
    }

    /// The same files, to be made absolute.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let auth = match &mut self.auth {
            Auth::Token { token_file } | Auth::Kubernetes { token_file, .. } => token_file,
            Auth::Approle { secret_id_file, .. } => secret_id_file,
        };
        self.ca_file.iter_mut().chain([auth])
    }
}

/// One Vault, and the runner's session with it.
pub(super) struct Vault {
    settings: Settings,
    call: Call,
    session: Mutex<Option<Session>>,
}

/// A secret of Vault and the field of it that is meant.
struct Wanted<'a> {
    path: &'a SecretPath,
    secret: &'a str,
    field: &'a str,
}

impl Vault {
    pub(super) fn new(settings: Settings, dialer: Arc<Dialer>) -> Self {
        let call = Call::new(dialer, &settings);
        Self { settings, call, session: Mutex::new(None) }
    }

    fn wanted<'a>(&'a self, path: &'a SecretPath) -> Result<Wanted<'a>, SecretError> {
        let below = path.as_str().strip_prefix("keys/").unwrap_or_default();
        let (secret, field) = match self.settings.names {
            Names::Secrets => (below, self.settings.field.as_str()),
            Names::Fields => below.rsplit_once('/').ok_or_else(|| SecretError::Missing {
                path: path.clone(),
                place: format!("Vault at {}", self.settings.address),
                remedy: "its provider says names = \"fields\": write keys/SECRET/FIELD".to_owned(),
            })?,
        };
        Ok(Wanted { path, secret, field })
    }

    fn place(&self, wanted: &Wanted<'_>) -> String {
        format!(
            "Vault at {} ({}/data/{}, field {:?})",
            self.settings.address, self.settings.engine.0, wanted.secret, wanted.field
        )
    }

    /// One read; where the token is not taken any more, one more with a new one.
    async fn read(&self, wanted: &Wanted<'_>) -> Result<SecretValue, SecretError> {
        let unreadable = |why: String| SecretError::Unreadable {
            path: wanted.path.clone(),
            place: self.place(wanted),
            why,
        };
        let request = format!("/v1/{}/data/{}", self.settings.engine.0, wanted.secret);
        let mut again = false;
        loop {
            let token = self.token().await.map_err(&unreadable)?;
            let (status, body) =
                self.call.get(&request, &token).await.map_err(|error| unreadable(error.to_string()))?;
            match (status, Trouble::of(status, &body)) {
                (200, _) => return self.value(wanted, &body),
                (404, None) => return Err(self.absent(wanted, &body)),
                // A token may have been revoked long before its time.
                (_, Some(Trouble::Denied { token })) if !again && self.give_up(token).await => again = true,
                (_, Some(trouble)) => {
                    return Err(unreadable(trouble.words(&self.settings, Some(wanted.secret))));
                }
                (status, None) => {
                    return Err(unreadable(format!("it answered {status}, which means nothing here")));
                }
            }
        }
    }

    /// Gives the session up, if it is not taken any more or may be too old; false if another one would not help.
    async fn give_up(&self, refused: bool) -> bool {
        let mut held = self.session.lock().await;
        let ends = held.as_ref().is_none_or(|session| refused || session.is_old());
        if ends {
            *held = None;
        }
        ends
    }

    fn value(&self, wanted: &Wanted<'_>, body: &[u8]) -> Result<SecretValue, SecretError> {
        let unreadable = |why: &str| SecretError::Unreadable {
            path: wanted.path.clone(),
            place: self.place(wanted),
            why: why.to_owned(),
        };
        let missing = |remedy: String| SecretError::Missing {
            path: wanted.path.clone(),
            place: self.place(wanted),
            remedy,
        };
        let read: Read<'_> = serde_json::from_slice(body).map_err(|_| {
            unreadable("the answer is not that of a key-value engine of version 2; is `engine` right?")
        })?;
        let Some(fields) = read.data.data else { return Err(missing(deleted(read.data.metadata.as_ref()))) };
        let Some(raw) = fields.get(wanted.field) else {
            let names = fields.keys().take(20).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            return Err(missing(format!(
                "the secret has the fields {names}; name one of them as `field` of the provider"
            )));
        };
        let text: Zeroizing<String> = serde_json::from_str(raw.get())
            .map(Zeroizing::new)
            .map_err(|_| unreadable("the field is not a text; store the value as a JSON string"))?;
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        SecretValue::from_zeroizing(bytes).map_err(|why| SecretError::Invalid {
            path: wanted.path.clone(),
            place: self.place(wanted),
            why,
        })
    }

    /// 404 says four different things.
    fn absent(&self, wanted: &Wanted<'_>, body: &[u8]) -> SecretError {
        let remedy = match serde_json::from_slice::<Read<'_>>(body) {
            Ok(read) => deleted(read.data.metadata.as_ref()),
            Err(_) => match answer::no_engine(body) {
                true => format!(
                    "there is no key-value engine at {:?}; correct `engine` of the provider, or enable it",
                    self.settings.engine.0
                ),
                false => format!(
                    "put it there: vault kv put -mount={} {} {}=-",
                    self.settings.engine.0, wanted.secret, wanted.field
                ),
            },
        };
        SecretError::Missing { path: wanted.path.clone(), place: self.place(wanted), remedy }
    }

    async fn token(&self) -> Result<Zeroizing<String>, String> {
        let mut held = self.session.lock().await;
        let session = Session::current(held.take(), &self.settings, &self.call).await?;
        let token = session.token();
        *held = Some(session);
        Ok(token)
    }
}

/// The answer to a read, as far as it matters. Values stay where the answer is, which is overwritten.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: ReadData<'a>,
}

#[derive(Deserialize)]
struct ReadData<'a> {
    #[serde(borrow)]
    data: Option<BTreeMap<Cow<'a, str>, &'a RawValue>>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    deletion_time: Cow<'a, str>,
    #[serde(default)]
    destroyed: bool,
    #[serde(default)]
    version: u64,
}

fn deleted(metadata: Option<&Metadata<'_>>) -> String {
    let Some(Metadata { deletion_time, destroyed, version }) = metadata else {
        return "the secret holds nothing; write a new version".to_owned();
    };
    if *destroyed {
        return format!("version {version} was destroyed; write a new version");
    }
    let when: String = deletion_time.chars().filter(char::is_ascii_graphic).take(40).collect();
    format!(
        "version {version} was deleted at {when}; undelete it (vault kv undelete), or write a new version"
    )
}

#[async_trait]
impl Resolve for Vault {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        self.read(&self.wanted(path)?).await
    }

    /// Renews a token of the owner's while no step needs it: nobody could get another one. Logins are made anew instead.
    async fn keep(&self) {
        if !matches!(self.settings.auth, Auth::Token { .. }) {
            return std::future::pending().await;
        }
        loop {
            let pause = match self.token().await {
                Ok(_) => self.session.lock().await.as_ref().map_or(AFTER_FAILURE, Session::rest),
                Err(error) => {
                    tracing::warn!(vault = %self.settings.address, %error, "the token for Vault could not be kept alive");
                    AFTER_FAILURE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

impl From<CallError> for String {
    fn from(error: CallError) -> Self {
        error.to_string()
    }
}

#[cfg(test)]
mod tests;
