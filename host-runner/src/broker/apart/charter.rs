//! What a broker is born with: the owner's file, and the secrets that came in the runner's environment.
//!
//! It goes from the program's beginning to the launcher, and from there to each broker, as `length u32 | JSON | values`; the
//! values of variables stand behind the JSON, so that none is copied by a parser.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::Config;

/// What a broker is born with.
pub struct Charter {
    paper: Paper,
    values: Vec<(String, Zeroizing<Vec<u8>>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paper {
    /// The text of `runner.toml` as the supervisor has read it, and where it lies.
    text: String,
    directory: PathBuf,
    credentials: Option<PathBuf>,
    program: PathBuf,
    /// The variables, each with the length of its value.
    variables: Vec<(String, usize)>,
}

fn broken() -> io::Error {
    io::Error::other("the broker's charter is none")
}

impl Charter {
    /// The charter of a runner whose `runner.toml` has this `text` and lies in `directory`.
    pub fn new(text: String, directory: &Path, program: &Path, credentials: Option<&Path>) -> Self {
        let paper = Paper {
            text,
            directory: directory.to_owned(),
            credentials: credentials.map(Path::to_owned),
            program: program.to_owned(),
            variables: Vec::new(),
        };
        Self { paper, values: Vec::new() }
    }

    /// Adds what `config` takes out of the environment. `take` reads one variable and removes it; what is not set is told by
    /// the broker.
    #[must_use]
    pub fn with_variables(
        mut self,
        config: &Config,
        take: impl Fn(&str) -> Option<Zeroizing<Vec<u8>>>,
    ) -> Self {
        for name in config.providers.iter().flat_map(|provider| provider.takes()) {
            if let Some(value) = take(name) {
                self.values.push((name.clone(), value));
            }
        }
        self
    }

    /// As it travels.
    ///
    /// # Errors
    /// It is too long.
    pub fn into_bytes(mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        self.paper.variables = self.values.iter().map(|(name, value)| (name.clone(), value.len())).collect();
        let paper = serde_json::to_vec(&self.paper)?;
        let length = u32::try_from(paper.len()).map_err(|_| broken())?;
        // The whole room at once: a buffer that grows leaves copies behind.
        let room = 4 + paper.len() + self.values.iter().map(|(_, value)| value.len()).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&paper);
        self.values.iter().for_each(|(_, value)| bytes.extend_from_slice(value));
        Ok(bytes)
    }

    /// What [`into_bytes`](Self::into_bytes) made.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let (length, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| broken())?;
        let (paper, mut rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        let paper: Paper = serde_json::from_slice(paper)?;
        let mut values = Vec::with_capacity(paper.variables.len());
        for (name, length) in &paper.variables {
            let (value, behind) = rest.split_at_checked(*length).ok_or_else(broken)?;
            values.push((name.clone(), Zeroizing::new(value.to_vec())));
            rest = behind;
        }
        if rest.is_empty() { Ok(Self { paper, values }) } else { Err(broken()) }
    }

    /// The owner's file.
    ///
    /// # Errors
    /// It has a mistake, which it had not when the supervisor read it.
    pub(super) fn config(&self) -> Result<Config, String> {
        Config::parse(&self.paper.text, &self.paper.directory)
            .map_err(|faults| faults.first().map(|fault| fault.message.clone()).unwrap_or_default())
    }

    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub(super) fn credentials(&self) -> Option<&Path> {
        self.paper.credentials.as_deref()
    }

    /// This program.
    pub(super) fn program(&self) -> &Path {
        &self.paper.program
    }

    /// The value of a variable, once.
    pub(super) fn take(&mut self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let place = self.values.iter().position(|(known, _)| known == name)?;
        Some(self.values.swap_remove(place).1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "[orchestrator]\nurl = \"https://a.example\"\n[runner]\nstate = \"state\"\ntrust = \"t\"\n\
         [[provider]]\nkind = \"environment\"\nmount = \"keys/e\"\nvariables = { a = \"A\", b = \"B\", c = \"C\" }\n";

    fn charter() -> Charter {
        let directory = Path::new("/etc/remit");
        let config = Config::parse(TEXT, directory).unwrap();
        let take =
            |name: &str| (name != "B").then(|| Zeroizing::new(format!("value of {name}").into_bytes()));
        Charter::new(TEXT.to_owned(), directory, Path::new("/usr/bin/remit-runner"), None)
            .with_variables(&config, take)
    }

    #[test]
    fn it_arrives_as_it_was_and_gives_each_variable_once() {
        let mut found = Charter::from_bytes(&charter().into_bytes().unwrap()).unwrap();
        assert_eq!(found.config().unwrap().runner.state, Path::new("/etc/remit/state"));
        assert_eq!(found.program(), Path::new("/usr/bin/remit-runner"));
        assert_eq!(found.take("C").unwrap().as_slice(), b"value of C");
        assert!(found.take("C").is_none() && found.take("B").is_none());
        assert_eq!(found.take("A").unwrap().as_slice(), b"value of A");
    }

    #[test]
    fn what_is_cut_is_no_charter() {
        let bytes = charter().into_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(Charter::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(Charter::from_bytes(&longer).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Charter::from_bytes(&bytes);
        }
    }
}
