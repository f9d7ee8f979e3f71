//! The runner's session with Vault: a token, how long it lives, and how another one is had.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Auth, Place, Settings, answer::Trouble, call::Call};

/// Largest file with a token or a secret id: a service account's token has about 1 KiB.
const MAX_FILE: u64 = 16 << 10;
/// Shortest and longest time until [`super::Vault`] looks after its token again.
const LOOK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));

/// From this age on, that something is denied may be the token's end and not the lack of a right.
const OLD: Duration = Duration::from_secs(60);

/// How long a token lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    begun: Instant,
    /// None: it does not end.
    length: Option<Duration>,
    renewable: bool,
}

/// What is to be done with a token now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Use,
    Renew,
    Replace,
}

impl Life {
    fn new(begun: Instant, seconds: u64, renewable: bool) -> Self {
        let length = (seconds > 0).then(|| Duration::from_secs(seconds));
        Self { begun, length, renewable }
    }

    /// After two thirds of its life a token is renewed; one that cannot be is used until shortly before its end.
    fn due(&self, now: Instant) -> Due {
        let Some(length) = self.length else { return Due::Use };
        let age = now.duration_since(self.begun);
        match (age >= length.mul_f32(0.95), age >= length.mul_f32(2.0 / 3.0), self.renewable) {
            (true, ..) => Due::Replace,
            (false, true, true) => Due::Renew,
            _ => Due::Use,
        }
    }
}

/// A token in use.
pub(super) struct Session {
    token: Zeroizing<String>,
    life: Life,
}

/// What a login and a renewal answer, as far as it matters.
#[derive(Deserialize)]
struct Login {
    auth: Option<Granted>,
}

#[derive(Deserialize)]
struct Granted {
    client_token: String,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// What a token says of itself.
#[derive(Deserialize)]
struct Looked {
    data: Own,
}

#[derive(Deserialize)]
struct Own {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    /// The session as it can be used now: the one that is `held`, renewed if it is time, or a new one.
    ///
    /// # Errors
    /// In words: Vault does not take what the runner shows.
    pub(super) async fn current(
        held: Option<Self>,
        settings: &Settings,
        call: &Call,
    ) -> Result<Self, String> {
        let held = match &settings.auth {
            // The owner, or his agent, may have put another one there.
            Auth::Token { token_file } => {
                let token = secret_file(token_file).await?;
                match held.filter(|session| session.token == token) {
                    Some(session) => session,
                    None => return Self::of_token(token, call).await,
                }
            }
            _ => match held {
                Some(session) => session,
                None => return Self::login(settings, call).await,
            },
        };
        match held.life.due(Instant::now()) {
            Due::Use => Ok(held),
            Due::Renew => Ok(held.renewed(call).await),
            Due::Replace => match &settings.auth {
                Auth::Token { .. } => Self::of_token(held.token, call).await,
                _ => Self::login(settings, call).await,
            },
        }
    }

    /// The token, for one call.
    pub(super) fn token(&self) -> Zeroizing<String> {
        self.token.clone()
    }

    /// True if it was had long enough ago that Vault may have ended it meanwhile.
    pub(super) fn is_old(&self) -> bool {
        self.life.begun.elapsed() > OLD
    }

    /// Makes it older than it is.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        self.life.begun -= by;
    }

    /// How long nothing has to be done for it.
    pub(super) fn rest(&self) -> Duration {
        let rest = self
            .life
            .length
            .map_or(LOOK.1, |length| (length.mul_f32(2.0 / 3.0)).saturating_sub(self.life.begun.elapsed()));
        rest.clamp(LOOK.0, LOOK.1)
    }

    /// A token that the owner gave. How long it lives is asked for; one that may not ask is used as it is.
    async fn of_token(token: Zeroizing<String>, call: &Call) -> Result<Self, String> {
        let begun = Instant::now();
        let (status, body) = call.get("/v1/auth/token/lookup-self", &token).await?;
        let looked = (status == 200).then(|| serde_json::from_slice::<Looked>(&body).ok()).flatten();
        let life = looked
            .map_or(Life::new(begun, 0, false), |Looked { data }| Life::new(begun, data.ttl, data.renewable));
        Ok(Self { token, life })
    }

    async fn login(settings: &Settings, call: &Call) -> Result<Self, String> {
        let (path, body): (&Place, Zeroizing<Vec<u8>>) = match &settings.auth {
            Auth::Token { token_file } => {
                return Err(format!("{} is a token, which does not log in", token_file.display()));
            }
            Auth::Approle { role_id, secret_id_file, path } => {
                let secret_id = secret_file(secret_id_file).await?;
                (path, json_body(&json!({ "role_id": role_id }), "secret_id", &secret_id))
            }
            Auth::Kubernetes { role, token_file, path } => {
                let token = secret_file(token_file).await?;
                (path, json_body(&json!({ "role": role }), "jwt", &token))
            }
        };
        let begun = Instant::now();
        let path = &path.0;
        let (status, body) = call.post(&format!("/v1/auth/{path}/login"), None, body).await?;
        if let Some(trouble) = Trouble::of(status, &body) {
            return Err(match trouble {
                Trouble::Other(400, words) => format!(
                    "Vault does not take the login at auth/{path}: {words}; correct `auth` of the provider, or make a new secret id"
                ),
                other => other.words(settings, None),
            });
        }
        if status == 404 {
            return Err(format!("Vault has no login at auth/{path}; correct `path` of `auth`, or enable it"));
        }
        let granted = serde_json::from_slice::<Login>(&body).ok().and_then(|login| login.auth);
        let Granted { client_token, lease_duration, renewable } =
            granted.ok_or_else(|| format!("the answer of auth/{path} is not that of a login"))?;
        Ok(Self { token: Zeroizing::new(client_token), life: Life::new(begun, lease_duration, renewable) })
    }

    /// Lives longer, if Vault says so; otherwise goes on as it is, until it has to be replaced.
    async fn renewed(mut self, call: &Call) -> Self {
        let begun = Instant::now();
        let body = Zeroizing::new(b"{}".to_vec());
        let renewed = match call.post("/v1/auth/token/renew-self", Some(&self.token), body).await {
            Ok((200, body)) => serde_json::from_slice::<Login>(&body).ok().and_then(|login| login.auth),
            Ok((status, body)) => {
                let trouble = Trouble::of(status, &body);
                tracing::debug!(status, ?trouble, "the token for Vault was not renewed");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "the token for Vault was not renewed");
                None
            }
        };
        match renewed {
            Some(granted) => self.life = Life::new(begun, granted.lease_duration, granted.renewable),
            // It is not tried again at each use.
            None => self.life.renewable = false,
        }
        self
    }
}

/// `open` with one more member, in bytes that are overwritten.
fn json_body(open: &serde_json::Value, name: &str, secret: &str) -> Zeroizing<Vec<u8>> {
    let secret = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
    let open = open.to_string();
    let rest = open.strip_suffix('}').unwrap_or_default();
    let mut body = Zeroizing::new(Vec::with_capacity(rest.len() + name.len() + secret.len() + 8));
    for part in [rest, ",\"", name, "\":", &secret, "}"] {
        body.extend_from_slice(part.as_bytes());
    }
    body
}

/// The text of a small file, without the newline at its end.
async fn secret_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
    read.unwrap_or_else(|_| Err("the runner is stopping".to_owned()))
}

fn read_file(path: &PathBuf) -> Result<Zeroizing<String>, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize + 2));
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(failed("it is not a file".to_owned()));
    }
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    let length = text.trim_ascii().len();
    match u64::try_from(length) {
        Ok(1..=MAX_FILE) => Ok(Zeroizing::new(text.trim_ascii().to_owned())),
        _ => Err(failed(format!("it has to hold 1 to {MAX_FILE} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_late_and_replaced_before_its_end() {
        fn check(seconds: u64, renewable: bool, age: u64, expect: Due) {
            let begun = Instant::now();
            let life = Life::new(begun, seconds, renewable);
            assert_eq!(life.due(begun + Duration::from_secs(age)), expect, "{seconds} {renewable} {age}");
        }
        check(0, false, 1_000_000, Due::Use);
        check(90, true, 59, Due::Use);
        check(90, true, 60, Due::Renew);
        check(90, true, 86, Due::Replace);
        check(90, false, 80, Due::Use);
        check(90, false, 86, Due::Replace);
    }

    #[test]
    fn a_secret_in_json_is_escaped() {
        let body = json_body(&json!({ "role_id": "a\"b" }), "secret_id", "c\"d\\");
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read, json!({ "role_id": "a\"b", "secret_id": "c\"d\\" }));
    }
}
