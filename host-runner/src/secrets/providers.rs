//! Which provider holds which paths: `[[provider]]` of `runner.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use remit_protocol::{InvalidId, SecretPath, Span};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    InvalidSecret, Mount, Resolve, SecretError, SecretValue,
    cache::Cached,
    directory::Directory,
    environment::Environment,
    program::{Program, Starter},
    store::{self, KeySource, Store},
    typed,
    vault::{self, Vault},
};
use crate::{dial::Dialer, launcher::Launch};

/// How long a provider that has to be called may take, where the file does not say, and at most.
const TIMEOUT: (Span, Span) = (Span::from_secs(10), Span::from_secs(60));
/// How long its values are kept, where the file does not say, and at most.
const CACHE: (Span, Span) = (Span::from_secs(10), Span::from_secs(300));

/// One `[[provider]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ProviderConfig {
    /// The encrypted file in the state directory: `remit-runner secret set`.
    Store {
        /// Its paths.
        mount: Mount,
        /// The key file, mode 0600; absent: `store/secrets.key` in the state directory, made at the first `secret set`.
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
    /// HashiCorp Vault's key-value engine, version 2.
    Vault(vault::Settings),
    /// A program that prints a value.
    Program {
        /// Its paths.
        mount: Mount,
        /// The program.
        path: PathBuf,
        /// Its arguments. The secret's name is no part of them.
        #[serde(default)]
        args: Vec<String>,
        /// Its environment, beside the secret's name.
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// How long it may take; absent: 10 s.
        timeout: Option<Span>,
        /// How long a value is kept; absent: 10 s.
        cache: Option<Span>,
    },
    /// What somebody types for a run, sealed to this runner.
    Sealed {
        /// Its paths.
        mount: Mount,
    },
}

impl ProviderConfig {
    /// The paths that it answers for.
    pub fn mount(&self) -> &Mount {
        match self {
            Self::Store { mount, .. }
            | Self::Directory { mount, .. }
            | Self::Environment { mount, .. }
            | Self::Program { mount, .. }
            | Self::Sealed { mount } => mount,
            Self::Vault(settings) => &settings.mount,
        }
    }

    /// The kind, as the file names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Store { .. } => "store",
            Self::Directory { .. } => "directory",
            Self::Environment { .. } => "environment",
            Self::Vault(_) => "vault",
            Self::Program { .. } => "program",
            Self::Sealed { .. } => typed::KIND,
        }
    }

    /// Files that are read while the runner runs, beside those of the store and of a directory. A program is started by
    /// another process.
    pub fn reads(&self) -> Vec<&Path> {
        match self {
            Self::Store { key_file, .. } => key_file.as_deref().into_iter().collect(),
            Self::Directory { .. }
            | Self::Environment { .. }
            | Self::Program { .. }
            | Self::Sealed { .. } => Vec::new(),
            Self::Vault(settings) => settings.files().map(PathBuf::as_path).collect(),
        }
    }

    /// The variables that it takes out of the runner's environment.
    pub fn takes(&self) -> impl Iterator<Item = &String> {
        let variables = match self {
            Self::Environment { variables, .. } => Some(variables.values()),
            _ => None,
        };
        variables.into_iter().flatten()
    }

    /// Every relative path is one below `directory`.
    pub fn anchor(&mut self, directory: &Path) {
        let anchor = |path: &mut PathBuf| *path = directory.join(&path);
        match self {
            Self::Store { key_file, .. } => key_file.iter_mut().for_each(anchor),
            Self::Directory { path, .. } | Self::Program { path, .. } => anchor(path),
            Self::Environment { .. } | Self::Sealed { .. } => {}
            Self::Vault(settings) => settings.files_mut().for_each(anchor),
        }
    }

    /// The time that is longer than any may be, with its name and the most.
    pub fn too_long(&self) -> Option<(&'static str, Span)> {
        let (timeout, cache) = match self {
            Self::Program { timeout, cache, .. } => (*timeout, *cache),
            Self::Vault(settings) => (None, settings.cache),
            _ => (None, None),
        };
        let over =
            |name, found: Option<Span>, most| found.is_some_and(|found| found > most).then_some((name, most));
        over("timeout", timeout, TIMEOUT.1).or(over("cache", cache, CACHE.1))
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
    mounts: Vec<(Mount, &'static str, Arc<dyn Resolve>)>,
    starter: Starter,
}

/// What providers find on this host.
pub struct Surroundings<'a> {
    /// The runner's state directory.
    pub state: &'a Path,
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<&'a Path>,
    /// Makes connections on the runner's own behalf.
    pub dialer: Arc<Dialer>,
}

impl Providers {
    /// Opens what `runner.toml` lists. Nothing is called yet.
    ///
    /// `take` reads one variable and removes it from the environment; it is called before other threads exist.
    pub fn open(
        configs: &[ProviderConfig],
        surroundings: &Surroundings<'_>,
        mut take: impl FnMut(&str) -> Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Self, ProvidersError> {
        let mut providers = Self::default();
        let cached = |cache: &Option<Span>| cache.unwrap_or(CACHE.0).min(CACHE.1).duration();
        let clock = Arc::new(tokio::time::Instant::now);
        for config in configs {
            let provider: Arc<dyn Resolve> = match config {
                ProviderConfig::Store { .. } => {
                    Arc::new(open_store(config, surroundings.state, surroundings.credentials)?)
                }
                ProviderConfig::Directory { mount, path } => {
                    Arc::new(Directory::new(mount.as_str(), &surroundings.state.join(path)))
                }
                ProviderConfig::Environment { mount, variables } => {
                    Arc::new(read_environment(mount, variables, &mut take)?)
                }
                ProviderConfig::Vault(settings) => {
                    let vault = Vault::new(settings.clone(), Arc::clone(&surroundings.dialer));
                    Arc::new(Cached::new(vault, cached(&settings.cache), clock.clone()))
                }
                ProviderConfig::Program { mount, path, args, env, timeout, cache } => {
                    let program = Program {
                        mount: mount.as_str().to_owned(),
                        path: path.clone(),
                        arguments: args.clone(),
                        environment: env.clone(),
                        limit: timeout.unwrap_or(TIMEOUT.0).min(TIMEOUT.1).duration(),
                        starter: Arc::clone(&providers.starter),
                    };
                    Arc::new(Cached::new(program, cached(cache), clock.clone()))
                }
                ProviderConfig::Sealed { .. } => Arc::new(typed::Untyped),
            };
            providers.mount(config.mount().clone(), config.kind(), provider)?;
        }
        Ok(providers)
    }

    /// From now on `launch` starts the programs of providers; the first one that is named does.
    pub fn start_with(&self, launch: Arc<dyn Launch>) {
        let _ = self.starter.set(launch);
    }

    /// The provider that answers for `path`: its mount and its kind.
    pub fn holder(&self, path: &SecretPath) -> Option<(&Mount, &'static str)> {
        self.mounts.iter().find(|(mount, ..)| mount.holds(path)).map(|(mount, kind, _)| (mount, *kind))
    }

    /// Adds one provider.
    pub fn mount(
        &mut self,
        mount: Mount,
        kind: &'static str,
        provider: Arc<dyn Resolve>,
    ) -> Result<(), ProvidersError> {
        if self.mounts.iter().any(|(other, ..)| *other == mount) {
            return Err(ProvidersError::Twice(mount.as_str().to_owned()));
        }
        self.mounts.push((mount, kind, provider));
        // Longest first: the first that holds a path is the one that answers.
        self.mounts.sort_by_key(|(mount, ..)| std::cmp::Reverse(mount.as_str().len()));
        Ok(())
    }

    fn provider(&self, path: &SecretPath) -> Result<&dyn Resolve, SecretError> {
        let found = self.mounts.iter().find(|(mount, ..)| mount.holds(path));
        found.map(|(.., provider)| &**provider).ok_or_else(|| SecretError::NoProvider { path: path.clone() })
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
            mount: config.mount().as_str().to_owned(),
            name: "of a provider of kind \"store\"".to_owned(),
        });
    };
    let key = match (key_file, credential) {
        (Some(_), Some(_)) => return Err(ProvidersError::TwoKeys(mount.as_str().to_owned())),
        (Some(file), None) => KeySource::File(state.join(file)),
        (None, None) => KeySource::File(store::place(state).join(store::KEY)),
        (None, Some(name)) => {
            let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
            match credentials.filter(|_| plain) {
                Some(directory) => KeySource::Credential(directory.join(name)),
                None => {
                    return Err(ProvidersError::Credential {
                        mount: mount.as_str().to_owned(),
                        name: name.clone(),
                    });
                }
            }
        }
    };
    Ok(Store::new(&store::place(state).join(store::VALUES), key))
}

fn read_environment(
    mount: &Mount,
    variables: &BTreeMap<String, String>,
    take: &mut impl FnMut(&str) -> Option<Zeroizing<Vec<u8>>>,
) -> Result<Environment, ProvidersError> {
    let mut values = BTreeMap::new();
    for (name, variable) in variables {
        let path = SecretPath::new(format!("{}/{name}", mount.as_str()))?;
        let bytes = take(variable).ok_or_else(|| ProvidersError::Variable {
            mount: mount.as_str().to_owned(),
            variable: variable.clone(),
        })?;
        let value = SecretValue::from_zeroizing(bytes)
            .map_err(|why| ProvidersError::Value { variable: variable.clone(), why })?;
        values.insert(path, value);
    }
    Ok(Environment::new(values))
}

#[async_trait]
impl Resolve for Providers {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        self.provider(path)?.resolve(path).await
    }

    async fn fresh(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        self.provider(path)?.fresh(path).await
    }

    async fn keep(&self) {
        futures_util::future::join_all(self.mounts.iter().map(|(.., provider)| provider.keep())).await;
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::dial::tls::Trust;

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
            .mount(
                mount("keys"),
                "environment",
                environment(&[("keys/a", "from-root"), ("keys/prod/x", "shadowed")]),
            )
            .unwrap();
        providers
            .mount(mount("keys/prod"), "environment", environment(&[("keys/prod/a", "from-prod")]))
            .unwrap();
        let found = async |path: &str| {
            let value = providers.resolve(&SecretPath::new(path).unwrap()).await;
            value.ok().map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
        };
        assert_eq!(found("keys/a").await.as_deref(), Some("from-root"));
        assert_eq!(found("keys/prod/a").await.as_deref(), Some("from-prod"));
        assert_eq!(found("keys/prod/x").await, None);
        assert_eq!(found("keys/production").await, None);
        assert!(matches!(
            providers.mount(mount("keys"), "environment", environment(&[])),
            Err(ProvidersError::Twice(_))
        ));
        let none = Providers::default().resolve(&SecretPath::new("keys/a").unwrap()).await.err().unwrap();
        assert!(none.to_string().contains("[[provider]]"), "{none}");
    }

    fn surroundings(state: &Path) -> Surroundings<'_> {
        let dialer = crate::dial::tests::dialer(Arc::new(crate::dial::resolve::System), Trust::untrusting());
        Surroundings { state, credentials: None, dialer: Arc::new(dialer) }
    }

    /// What is written in between is used by the next attempt, without a restart.
    #[tokio::test]
    async fn a_rotated_value_is_used_by_the_next_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let (values, give) = (folder.path().join("values"), folder.path().join("give"));
        std::fs::create_dir(&values).unwrap();
        std::fs::write(&give, "#!/bin/sh\nexec /bin/cat \"${0%/*}/printed\"\n").unwrap();
        std::fs::set_permissions(&give, std::fs::Permissions::from_mode(0o700)).unwrap();
        let text = format!(
            "[[provider]]\nkind = \"store\"\nmount = \"keys/store\"\n\
             [[provider]]\nkind = \"directory\"\nmount = \"keys/directory\"\npath = {values:?}\n\
             [[provider]]\nkind = \"program\"\nmount = \"keys/program\"\npath = {give:?}\ncache = \"5m\"\n"
        );
        #[derive(Deserialize)]
        struct File {
            provider: Vec<ProviderConfig>,
        }
        let configs = toml::from_str::<File>(&text).unwrap().provider;
        let providers = Providers::open(&configs, &surroundings(folder.path()), |_| None).unwrap();
        let local = crate::launcher::Local::new(folder.path().to_owned());
        providers.start_with(Arc::new(local));
        store::settle(folder.path()).unwrap();
        let store = open_store(&configs[0], folder.path(), None).unwrap();
        let path = |text: &str| SecretPath::new(text).unwrap();
        let paths = ["keys/store/token", "keys/directory/token", "keys/program/token"].map(path);
        for value in ["the-first-value", "the-second-value"] {
            store.set(&paths[0], &SecretValue::new(value.into()).ok().unwrap()).unwrap();
            std::fs::write(values.join("token"), value).unwrap();
            std::fs::write(folder.path().join("printed"), value).unwrap();
            for path in &paths {
                for found in [providers.fresh(path).await, providers.resolve(path).await] {
                    assert_eq!(found.ok().unwrap().expose(), value.as_bytes(), "{path}");
                }
            }
        }
    }

    #[test]
    fn configuration_is_read_strictly() {
        fn check(text: &str, expect: bool) {
            assert_eq!(toml::from_str::<ProviderConfig>(text).is_ok(), expect, "{text}");
        }
        check("mount = \"keys/local\"\nkind = \"store\"", true);
        check("mount = \"keys\"\nkind = \"directory\"\npath = \"/run/secrets\"", true);
        check("mount = \"keys/e\"\nkind = \"environment\"\nvariables = { token = \"TOKEN\" }", true);
        let vault = "mount = \"keys/v\"\nkind = \"vault\"\naddress = \"https://vault.example\"\n";
        check(&format!("{vault}auth = {{ method = \"token\", token_file = \"t\" }}"), true);
        check(&format!("{vault}auth = {{ method = \"kubernetes\", role = \"remit\" }}"), true);
        check(
            &format!("{vault}auth = {{ method = \"approle\", role_id = \"r\", secret_id_file = \"s\" }}"),
            true,
        );
        check(&format!("{vault}auth = {{ method = \"token\", token = \"hvs.x\" }}"), false);
        check(&format!("{vault}auth = {{ method = \"userpass\" }}"), false);
        check(&format!("{vault}tokn = 1\nauth = {{ method = \"token\", token_file = \"t\" }}"), false);
        check(vault, false);
        check("mount = \"keys/p\"\nkind = \"program\"\npath = \"/usr/bin/give\"\ncache = \"0s\"", true);
        check("mount = \"keys/p\"\nkind = \"program\"", false);
        check("mount = \"keys/typed\"\nkind = \"sealed\"", true);
        check("mount = \"keys/typed\"\nkind = \"sealed\"\npath = \"/x\"", false);
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
            let opened =
                Providers::open(std::slice::from_ref(&config), &surroundings(Path::new("/nowhere")), take);
            let found = opened.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(found.contains(expect), "{found}");
            assert_eq!(found.is_empty(), expect.is_empty(), "{found}");
        };
        check(Some("long enough"), "");
        check(Some("short"), "5 bytes");
        check(None, "TOKEN, which is not set");
    }
}
