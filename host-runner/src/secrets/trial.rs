//! `remit-runner secret test`: whether a secret can be had, from where, how fast, and where it may go. Never its value.

use std::time::Instant;

use remit_protocol::{SecretPath, capability::Ceiling};
use serde::Serialize;

use super::{Providers, Resolve as _};

/// What came of asking for one secret.
#[derive(Debug, Serialize)]
pub struct Trial {
    /// The secret.
    pub path: SecretPath,
    /// Whether it can be had.
    pub found: bool,
    /// The mount of the provider that answers for it, and its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Holder>,
    /// How long that took.
    pub millis: u64,
    /// Why it cannot be had, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where the ceiling lets it go. Empty: no step can use it.
    pub uses: Vec<String>,
}

/// A provider by name.
#[derive(Debug, Serialize)]
pub struct Holder {
    /// Its mount.
    pub mount: String,
    /// Its kind.
    pub kind: &'static str,
}

/// Asks for `path` once, as the beginning of an attempt does.
#[expect(clippy::disallowed_methods, reason = "a person is told how long it took; nothing depends on it")]
pub async fn trial(providers: &Providers, ceiling: &Ceiling, path: SecretPath) -> Trial {
    let begun = Instant::now();
    let found = providers.fresh(&path).await;
    let holder = providers.holder(&path);
    Trial {
        found: found.is_ok(),
        provider: holder.map(|(mount, kind)| Holder { mount: mount.as_str().to_owned(), kind }),
        millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        error: found.err().map(|error| error.to_string()),
        uses: ceiling.secrets.iter().filter(|rule| rule.path == path).map(ToString::to_string).collect(),
        path,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::secrets::{Mount, SecretValue, environment::Environment};

    #[tokio::test]
    async fn a_trial_says_everything_but_the_value() {
        let path = |text: &str| SecretPath::new(text).unwrap();
        let value = SecretValue::new(b"never-to-be-shown".to_vec()).ok().unwrap();
        let held = Environment::new(BTreeMap::from([(path("keys/e/token"), value)]));
        let mut providers = Providers::default();
        let mount = Mount::try_from("keys/e".to_owned()).unwrap();
        providers.mount(mount, "environment", Arc::new(held)).unwrap();
        let rule = r#"{"path":"keys/e/token","use":"bearer","hosts":["a.example"],"components":["acme/x"]}"#;
        let ceiling = Ceiling { secrets: vec![serde_json::from_str(rule).unwrap()], ..Ceiling::default() };
        let check = async |text: &str, expect: serde_json::Value| {
            let mut found = serde_json::to_value(trial(&providers, &ceiling, path(text)).await).unwrap();
            found["millis"] = 0.into();
            if let Some(error) = found.get("error") {
                found["error"] = error.as_str().unwrap().split(':').next().unwrap().into();
            }
            assert_eq!(found, expect);
        };
        let provider = serde_json::json!({"mount": "keys/e", "kind": "environment"});
        check(
            "keys/e/token",
            serde_json::json!({
                "path": "keys/e/token", "found": true, "provider": provider, "millis": 0,
                "uses": ["bearer at a.example:443, by acme/x"],
            }),
        )
        .await;
        check(
            "keys/e/other",
            serde_json::json!({
                "path": "keys/e/other", "found": false, "provider": provider, "millis": 0, "uses": [],
                "error": "the secret keys/e/other is not in the runner's environment",
            }),
        )
        .await;
        check(
            "keys/x",
            serde_json::json!({
                "path": "keys/x", "found": false, "millis": 0, "uses": [],
                "error": "no secrets provider of this runner holds keys/x",
            }),
        )
        .await;
    }
}
