//! Which provider holds which paths: `[[provider]]` of `runner.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use remit_protocol::{InvalidId, SecretPath};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    InvalidSecret, Resolve, SecretError, SecretValue,
    directory::Directory,
    environment::Environment,
    store::{KeySource, Store},
};

/// The paths that a provider answers for: `keys` or `keys/…`, by whole segments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Mount(String);

impl Mount {
    /// The prefix, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn holds(&self, path: &SecretPath) -> bool {
        path.as_str().strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl TryFrom<String> for Mount {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        if text != "keys" {
            SecretPath::new(text.as_str())?;
        }
        Ok(Self(text))
    }
}

/// One `[[provider]]`. Further kinds (a vault, a program) are further variants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ProviderConfig {
    /// The encrypted file in the state directory: `remit-runner secret set`.
    Store {
        /// Its paths.
        mount: Mount,
        /// The key file, mode 0600; absent: `secrets.key` in the state directory, made at the first `secret set`.
        key_file: Option<PathBuf>,
        /// The name of a systemd credential that holds the key, in place of a file.
        credential: Option<String>,
    },
    /// A directory with one file a secret.
    Directory {
        /// Its paths.
        mount: Mount,
        /// The directory.
        path: PathBuf,
    },
    /// Environment variables, read once and removed at start.
    Environment {
        /// Its paths.
        mount: Mount,
        /// The part of the path below the mount, and the variable.
        variables: BTreeMap<String, String>,
    },
}

impl ProviderConfig {
    /// The paths that it answers for.
    pub fn mount(&self) -> &Mount {
        match self {
            Self::Store { mount, .. } | Self::Directory { mount, .. } | Self::Environment { mount, .. } => {
                mount
            }
        }
    }
}

impl ProviderConfig {
    /// Files and directories that are read while the runner runs.
    pub fn reads(&self) -> impl Iterator<Item = PathBuf> {
        match self {
            // A key is replaced by renaming another one into its place.
            Self::Store { key_file, .. } => key_file.as_deref().and_then(Path::parent).map(Path::to_owned),
            Self::Directory { path, .. } => Some(path.clone()),
            Self::Environment { .. } => None,
        }
        .into_iter()
    }
}

/// Why the providers of `runner.toml` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvidersError {
    /// Two for the same mount.
    #[error("two providers have mount = {0:?}; each mount has one")]
    Twice(String),
    /// Both a file and a credential.
    #[error("the store at {0:?} names key_file and credential; name one of them")]
    TwoKeys(String),
    /// A credential where there are none, or with an unusable name.
    #[error(
        "the store at {mount:?} wants the systemd credential {name:?}, and there is none: set LoadCredential={name}:… in the unit"
    )]
    Credential {
        /// The store.
        mount: String,
        /// The credential.
        name: String,
    },
    /// A variable that is not set.
    #[error("the provider at {mount:?} wants the environment variable {variable}, which is not set")]
    Variable {
        /// The provider.
        mount: String,
        /// The variable.
        variable: String,
    },
    /// A variable whose value cannot be a secret.
    #[error("the environment variable {variable} cannot be used as a secret: {why}")]
    Value {
        /// The variable.
        variable: String,
        /// Why.
        why: InvalidSecret,
    },
    /// A name below the mount that makes no path.
    #[error(transparent)]
    Path(#[from] InvalidId),
}

/// The runner's providers. Of several mounts above a path, the longest answers, alone.
#[derive(Default, Clone)]
pub struct Providers {
    mounts: Vec<(Mount, Arc<dyn Resolve>)>,
}

impl Providers {
    /// Opens what `runner.toml` lists.
    ///
    /// `state` is the runner's state directory, `credentials` systemd's `$CREDENTIALS_DIRECTORY`. `take` reads one variable
    /// and removes it from the environment; it is called before other threads exist.
    pub fn open(
        configs: &[ProviderConfig],
        state: &Path,
        credentials: Option<&Path>,
        mut take: impl FnMut(&str) -> Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Self, ProvidersError> {
        let mut providers = Self::default();
        for config in configs {
            let provider: Arc<dyn Resolve> = match config {
                ProviderConfig::Store { .. } => Arc::new(open_store(config, state, credentials)?),
                ProviderConfig::Directory { mount, path } => {
                    Arc::new(Directory::new(mount.as_str(), &state.join(path)))
                }
                ProviderConfig::Environment { mount, variables } => {
                    Arc::new(read_environment(mount, variables, &mut take)?)
                }
            };
            providers.mount(config.mount().clone(), provider)?;
        }
        Ok(providers)
    }

    /// Adds one provider.
    pub fn mount(&mut self, mount: Mount, provider: Arc<dyn Resolve>) -> Result<(), ProvidersError> {
        if self.mounts.iter().any(|(other, _)| *other == mount) {
            return Err(ProvidersError::Twice(mount.0));
        }
        self.mounts.push((mount, provider));
        // Longest first: the first that holds a path is the one that answers.
        self.mounts.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.0.len()));
        Ok(())
    }
}

/// The store that `config` names, for the runner and for `remit-runner secret …` alike.
///
/// # Errors
/// For a configuration of another kind than `store` as for a mount without a usable key.
pub fn open_store(
    config: &ProviderConfig,
    state: &Path,
    credentials: Option<&Path>,
) -> Result<Store, ProvidersError> {
    let ProviderConfig::Store { mount, key_file, credential } = config else {
        return Err(ProvidersError::Credential {
            mount: config.mount().0.clone(),
            name: "of a provider of kind \"store\"".to_owned(),
        });
    };
    let key = match (key_file, credential) {
        (Some(_), Some(_)) => return Err(ProvidersError::TwoKeys(mount.0.clone())),
        (Some(file), None) => KeySource::File(state.join(file)),
        (None, None) => KeySource::File(state.join("secrets.key")),
        (None, Some(name)) => {
            let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
            match credentials.filter(|_| plain) {
                Some(directory) => KeySource::Credential(directory.join(name)),
                None => {
                    return Err(ProvidersError::Credential { mount: mount.0.clone(), name: name.clone() });
                }
            }
        }
    };
    Ok(Store::new(&state.join("secrets"), key))
}

fn read_environment(
    mount: &Mount,
    variables: &BTreeMap<String, String>,
    take: &mut impl FnMut(&str) -> Option<Zeroizing<Vec<u8>>>,
) -> Result<Environment, ProvidersError> {
    let mut values = BTreeMap::new();
    for (name, variable) in variables {
        let path = SecretPath::new(format!("{}/{name}", mount.0))?;
        let bytes = take(variable)
            .ok_or_else(|| ProvidersError::Variable { mount: mount.0.clone(), variable: variable.clone() })?;
        let value = SecretValue::from_zeroizing(bytes)
            .map_err(|why| ProvidersError::Value { variable: variable.clone(), why })?;
        values.insert(path, value);
    }
    Ok(Environment::new(values))
}

#[async_trait]
impl Resolve for Providers {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        match self.mounts.iter().find(|(mount, _)| mount.holds(path)) {
            Some((_, provider)) => provider.resolve(path).await,
            None => Err(SecretError::NoProvider { path: path.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(values: &[(&str, &str)]) -> Arc<dyn Resolve> {
        let value = |(path, value): &(&str, &str)| {
            (SecretPath::new(*path).unwrap(), SecretValue::new(value.as_bytes().to_vec()).ok().unwrap())
        };
        Arc::new(Environment::new(values.iter().map(value).collect()))
    }

    fn mount(text: &str) -> Mount {
        Mount::try_from(text.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn the_longest_mount_answers_alone() {
        let mut providers = Providers::default();
        providers
            .mount(mount("keys"), environment(&[("keys/a", "from-root"), ("keys/prod/x", "shadowed")]))
            .unwrap();
        providers.mount(mount("keys/prod"), environment(&[("keys/prod/a", "from-prod")])).unwrap();
        let found = async |path: &str| {
            let value = providers.resolve(&SecretPath::new(path).unwrap()).await;
            value.ok().map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
        };
        assert_eq!(found("keys/a").await.as_deref(), Some("from-root"));
        assert_eq!(found("keys/prod/a").await.as_deref(), Some("from-prod"));
        assert_eq!(found("keys/prod/x").await, None);
        assert_eq!(found("keys/production").await, None);
        assert!(matches!(providers.mount(mount("keys"), environment(&[])), Err(ProvidersError::Twice(_))));
        let none = Providers::default().resolve(&SecretPath::new("keys/a").unwrap()).await.err().unwrap();
        assert!(none.to_string().contains("[[provider]]"), "{none}");
    }

    #[test]
    fn configuration_is_read_strictly() {
        fn check(text: &str, expect: bool) {
            assert_eq!(toml::from_str::<ProviderConfig>(text).is_ok(), expect, "{text}");
        }
        check("mount = \"keys/local\"\nkind = \"store\"", true);
        check("mount = \"keys\"\nkind = \"directory\"\npath = \"/run/secrets\"", true);
        check("mount = \"keys/e\"\nkind = \"environment\"\nvariables = { token = \"TOKEN\" }", true);
        check("mount = \"local\"\nkind = \"store\"", false);
        check("mount = \"keys/\"\nkind = \"store\"", false);
        check("mount = \"keys/local\"\nkind = \"store\"\npath = \"/x\"", false);
        check("mount = \"keys/local\"\nkind = \"unknown\"", false);
    }

    #[test]
    fn variables_are_taken_and_checked() {
        let config: ProviderConfig =
            toml::from_str("mount = \"keys/e\"\nkind = \"environment\"\nvariables = { token = \"TOKEN\" }")
                .unwrap();
        let check = |value: Option<&str>, expect: &str| {
            let take = |_: &str| value.map(|value| Zeroizing::new(value.as_bytes().to_vec()));
            let opened = Providers::open(std::slice::from_ref(&config), Path::new("/nowhere"), None, take);
            let found = opened.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(found.contains(expect), "{found}");
            assert_eq!(found.is_empty(), expect.is_empty(), "{found}");
        };
        check(Some("long enough"), "");
        check(Some("short"), "5 bytes");
        check(None, "TOKEN, which is not set");
    }
}
