//! `remit-runner secret`.

use std::{io::IsTerminal as _, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use remit_protocol::SecretPath;
use remit_runner::{
    launcher,
    secrets::{
        ProviderConfig, SecretValue,
        providers::open_store,
        store::{Store, settle},
        trial::{self, Trial},
    },
    start::{self, Environment},
    state,
};

use super::{Configured, Form, read_config, runtime};
use crate::terminal::{say, say_error, say_json, standard_input};

#[derive(Subcommand)]
pub(crate) enum Secret {
    /// Keep a value, read from standard input.
    Set(SecretPlace),
    /// The paths that have a value.
    List(Configured),
    /// Forget a value.
    Remove(SecretPlace),
    /// Say whether a secret can be had, from which provider, how fast, and where it may go. Never its value.
    Test {
        #[command(flatten)]
        place: SecretPlace,
        /// The form of the answer.
        #[arg(long, value_enum, default_value_t = Form::Text)]
        output: Form,
    },
}

#[derive(Args)]
pub(crate) struct SecretPlace {
    /// The secret, such as keys/local/token.
    path: SecretPath,
    #[command(flatten)]
    configured: Configured,
}

pub(crate) fn keep_secret(secret: Secret, environment: &Environment) -> anyhow::Result<ExitCode> {
    match secret {
        Secret::Set(SecretPlace { path, configured }) => {
            // A secret may be kept before the host is enrolled.
            let state = read_config(&configured.config)?.runner.state;
            state::make_private(&state)?;
            settle(&state)?;
            let stores = store(&configured.config, Some(&path), environment)?;
            if std::io::stdin().is_terminal() {
                say_error("type the value, then press Enter and Ctrl-D; it is shown as you type:");
            }
            let mut value = standard_input(128 << 10)?;
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            let value = SecretValue::from_zeroizing(value)?;
            stores[stores.len() - 1].set(&path, &value)?;
            say(&format!("kept {path}"));
        }
        Secret::List(configured) => {
            for store in store(&configured.config, None, environment)? {
                store.list()?.iter().for_each(|path| say(path.as_str()));
            }
        }
        Secret::Remove(SecretPlace { path, configured }) => {
            let stores = store(&configured.config, Some(&path), environment)?;
            if !stores[stores.len() - 1].remove(&path)? {
                bail!("{path} has no value here");
            }
            say(&format!("forgot {path}"));
        }
        Secret::Test { place, output } => return test_secret(place, output, environment),
    }
    Ok(ExitCode::SUCCESS)
}

fn test_secret(place: SecretPlace, output: Form, environment: &Environment) -> anyhow::Result<ExitCode> {
    let config = read_config(&place.configured.config)?;
    // Providers may take variables out of the environment: before there are threads.
    let providers = start::providers(&config, environment)?;
    let scratch = tempfile::tempdir().context("no temporary directory")?;
    providers.start_with(Arc::new(launcher::Local::new(scratch.path().to_owned())));
    let trial = runtime()?.block_on(trial::trial(&providers, &config.ceiling, place.path));
    let Trial { path, provider, millis, error, uses, found } = &trial;
    match output {
        Form::Json => say_json(&trial)?,
        Form::Text => {
            let from = provider.as_ref().map(|by| format!(" by the provider {} ({})", by.mount, by.kind));
            let from = from.unwrap_or_default();
            match error {
                None => say(&format!("{path} was given{from} in {millis} ms")),
                Some(error) => say(&format!("{path} was not given{from} in {millis} ms: {error}")),
            }
            match uses.as_slice() {
                [] => say("no [[ceiling.secrets]] names it: no step can use it"),
                uses => uses.iter().for_each(|place| say(&format!("it may be used as {place}"))),
            }
        }
    }
    Ok(if *found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn store(path: &Path, wanted: Option<&SecretPath>, environment: &Environment) -> anyhow::Result<Vec<Store>> {
    let config = read_config(path)?;
    let mut stores = Vec::new();
    for provider in &config.providers {
        let ProviderConfig::Store { mount, .. } = provider else { continue };
        let below = |path: &SecretPath| {
            path.as_str().strip_prefix(mount.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if wanted.is_none_or(below) {
            stores.push(open_store(provider, &config.runner.state, environment.credentials.as_deref())?);
        }
    }
    if stores.is_empty() {
        bail!(
            "{} has no [[provider]] of kind \"store\" for this; add one:\n[[provider]]\nmount = \"keys/local\"\nkind = \"store\"",
            path.display()
        );
    }
    Ok(stores)
}
