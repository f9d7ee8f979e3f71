//! What Vault's answers mean, in words that say what to do.

use serde::Deserialize;

use super::{Auth, Settings};

/// An answer that is no success, by its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is sealed.
    Sealed,
    /// It has not been set up.
    Uninitialised,
    /// It does not allow this, or does not take the token.
    Denied {
        /// It says that it is the token. Older versions do not tell.
        token: bool,
    },
    /// It has too much to do.
    Busy,
    /// Something else, in its own words.
    Other(u16, String),
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

/// Its words on one line; terminals are not spoken to.
fn words(body: &[u8]) -> String {
    let errors = serde_json::from_slice::<Errors>(body).map(|found| found.errors).unwrap_or_default();
    let text = errors.join("; ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// True where the path of the engine leads nowhere.
pub(super) fn no_engine(body: &[u8]) -> bool {
    let words = words(body);
    words.contains("no handler for route") || words.contains("unsupported path")
}

impl Trouble {
    /// The trouble in an answer. None for a success, and for 404, which each caller reads for itself.
    pub(super) fn of(status: u16, body: &[u8]) -> Option<Self> {
        Some(match status {
            200..300 | 404 => return None,
            403 => Self::Denied { token: words(body).contains("invalid token") },
            429 => Self::Busy,
            501 => Self::Uninitialised,
            503 if words(body).contains("sealed") => Self::Sealed,
            status => Self::Other(status, words(body)),
        })
    }

    /// What happened and what to do; `secret` is what was read, none at login.
    pub(super) fn words(&self, settings: &Settings, secret: Option<&str>) -> String {
        match self {
            Self::Sealed => "Vault is sealed: unseal it (vault operator unseal)".to_owned(),
            Self::Uninitialised => "Vault has not been initialised (vault operator init)".to_owned(),
            Self::Busy => {
                "Vault has too many requests: raise its quota, or `cache` of the provider".to_owned()
            }
            Self::Other(status, words) => format!("Vault answered {status}: {words}"),
            Self::Denied { .. } => {
                let place = settings.namespace.as_ref();
                let place = place.map(|place| format!(" in the namespace {:?}", place.0)).unwrap_or_default();
                match secret {
                    Some(secret) => format!(
                        "Vault denies it (403){place}: {}; let a policy of it give path \"{}/data/{secret}\" {{ capabilities = [\"read\"] }}",
                        who(&settings.auth),
                        settings.engine.0
                    ),
                    None => format!("Vault denies the login (403){place} of {}", who(&settings.auth)),
                }
            }
        }
    }
}

/// Whom Vault knows the runner as.
fn who(auth: &Auth) -> String {
    match auth {
        Auth::Token { token_file } => {
            format!("the token in {} may have ended or been revoked, or lacks a right", token_file.display())
        }
        Auth::Approle { role_id, .. } => format!("the role with the id {role_id:?} lacks a right"),
        Auth::Kubernetes { role, .. } => format!("the Kubernetes role {role:?} lacks a right"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_one_meaning() {
        fn check(status: u16, body: &str, expect: Option<Trouble>) {
            assert_eq!(Trouble::of(status, body.as_bytes()), expect, "{status} {body}");
        }
        check(200, "{}", None);
        check(404, r#"{"errors":[]}"#, None);
        check(
            403,
            r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#,
            Some(Trouble::Denied { token: false }),
        );
        let ended = r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#;
        check(403, ended, Some(Trouble::Denied { token: true }));
        check(503, r#"{"errors":["Vault is sealed"]}"#, Some(Trouble::Sealed));
        check(503, "<html>", Some(Trouble::Other(503, String::new())));
        check(501, r#"{"errors":[]}"#, Some(Trouble::Uninitialised));
        check(429, "", Some(Trouble::Busy));
        let hostile = r#"{"errors":["one\n\ttwo\u001b[31m","three"]}"#;
        check(400, hostile, Some(Trouble::Other(400, "one two[31m; three".to_owned())));
    }

    #[test]
    fn a_path_without_an_engine_is_told_from_one_without_a_secret() {
        assert!(no_engine(br#"{"errors":["no handler for route \"kv/data/x\". route entry not found."]}"#));
        assert!(!no_engine(br#"{"errors":[]}"#));
    }
}
