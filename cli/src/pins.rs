//! The runners that this person believes: the fingerprint of each one's identity key, told by its owner, beside the profile.
//!
//! *Invariant:* nothing but a command that says so adds or changes a pin; what an orchestrator says is only ever compared.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use remit_protocol::{Digest, RunnerName};
use remit_signing::Vkey;
use serde::{Deserialize, Serialize};

use crate::{
    connection::Profile,
    failure::{Code, Failure, Result},
    files,
};

/// Most pins.
const MAX_PINS: usize = 10_000;

/// A runner whose key is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    /// At which orchestrator it has this name.
    pub(crate) orchestrator: String,
    /// Its name there.
    pub(crate) runner: RunnerName,
    /// The fingerprint of its identity key.
    pub(crate) key: Digest,
}

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pins {
    #[serde(default, rename = "pin")]
    pins: Vec<Pin>,
}

fn place() -> Result<PathBuf> {
    let profile = Profile::path().ok_or_else(|| Failure::input("neither HOME nor REMIT_PROFILE is set"))?;
    Ok(profile.with_file_name("pins.toml"))
}

/// A key as its owner told it: the fingerprint, or the whole key.
pub(crate) fn fingerprint(text: &str) -> Result<Digest> {
    let text = text.trim();
    text.parse::<Digest>().or_else(|_| text.parse::<Vkey>().map(|key| key.public().fingerprint())).map_err(
        |_| {
            Failure::input("this is neither a key nor the fingerprint of one")
                .with_remedy("the runner's owner has it: remit-runner identity --config runner.toml")
        },
    )
}

impl Pins {
    /// Reads the pins; none is an empty list.
    pub(crate) fn read() -> Result<Self> {
        let path = place()?;
        let found = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            found => found.map_err(|error| Failure::file(&path, &error))?,
        };
        if found.permissions().mode() & 0o022 != 0 {
            let message =
                format!("{} can be written by others, who could pin keys of their own", path.display());
            return Err(Failure::new(
                Code::Refused,
                message,
                format!("look at it, then: chmod 600 {}", path.display()),
            ));
        }
        toml::from_str(&files::read_text(&path)?)
            .map_err(|error| Failure::input(format_args!("{}: {}", path.display(), error.message())))
    }

    fn write(&self) -> Result<()> {
        let text = toml::to_string(self).map_err(Failure::input)?;
        files::write(&place()?, text.as_bytes(), true)
    }

    /// The pins of an orchestrator, by name.
    pub(crate) fn at(&self, orchestrator: &str) -> Vec<Pin> {
        let mut pins: Vec<Pin> =
            self.pins.iter().filter(|pin| pin.orchestrator == orchestrator).cloned().collect();
        pins.sort_by(|a, b| a.runner.cmp(&b.runner));
        pins
    }

    /// The fingerprint that is pinned for a runner.
    pub(crate) fn of(&self, orchestrator: &str, runner: &RunnerName) -> Option<Digest> {
        self.pins
            .iter()
            .find(|pin| pin.orchestrator == orchestrator && pin.runner == *runner)
            .map(|pin| pin.key)
    }

    /// Pins a key and keeps that; another one than before only where that is meant.
    pub(crate) fn pin(mut self, new: Pin, replace: bool) -> Result<()> {
        if let Some(old) = self.of(&new.orchestrator, &new.runner)
            && old != new.key
            && !replace
        {
            return Err(Failure::new(
                Code::Refused,
                format!("another key is pinned for {}: {old}", new.runner),
                "if the runner was enrolled anew, and its owner has told you so, pin the new one with --replace",
            ));
        }
        self.pins.retain(|pin| (&pin.orchestrator, &pin.runner) != (&new.orchestrator, &new.runner));
        if self.pins.len() >= MAX_PINS {
            return Err(Failure::input(format_args!("{MAX_PINS} runners are pinned, and there are no more")));
        }
        self.pins.push(new);
        self.write()
    }

    /// Takes a pin away.
    pub(crate) fn unpin(mut self, orchestrator: &str, runner: &RunnerName) -> Result<()> {
        let before = self.pins.len();
        self.pins.retain(|pin| pin.orchestrator != orchestrator || pin.runner != *runner);
        if self.pins.len() == before {
            return Err(Failure::new(
                Code::NotFound,
                format!("no key is pinned for {runner}"),
                "see what is: remit runner pins",
            ));
        }
        self.write()
    }
}
