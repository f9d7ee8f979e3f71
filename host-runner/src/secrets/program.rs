//! The provider `program`: a program of the owner's that prints a value.
//!
//! The name of the secret reaches it in its environment, the value comes back on its standard output: neither ever stands
//! in an argument, which every user of the host could read. The launcher starts it, as it starts what steps run.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use remit_protocol::{SecretPath, limits::MAX_SECRET};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Resolve, SecretError, SecretValue, trim_newline};
use crate::launcher::{self, Exit, Launch, Source};

/// The variable with the whole path, such as `keys/pass/prod/token`.
const PATH_VARIABLE: &str = "REMIT_SECRET_PATH";
/// The variable with the part below the mount, such as `prod/token`.
const NAME_VARIABLE: &str = "REMIT_SECRET_NAME";

/// What is set anew for each secret.
pub(crate) const VARIABLES: [&str; 2] = [PATH_VARIABLE, NAME_VARIABLE];

/// Who starts programs; known once the runner has its launcher.
pub(super) type Starter = Arc<OnceLock<Arc<dyn Launch>>>;

/// A program that is asked for the secrets below a mount.
pub(super) struct Program {
    pub(super) mount: String,
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// How long it may take.
    pub(super) limit: Duration,
    pub(super) starter: Starter,
}

/// How a program did not give a value.
enum Failed {
    Launch(std::io::Error),
    Long,
    Slow,
    Ended(Exit),
}

impl Program {
    fn unreadable(&self, path: &SecretPath, why: String) -> SecretError {
        SecretError::Unreadable { path: path.clone(), place: self.place(), why }
    }

    fn place(&self) -> String {
        format!("the program {}", self.path.display())
    }

    fn order(&self, path: &SecretPath) -> launcher::Program {
        let name = path.as_str().strip_prefix(&self.mount).unwrap_or_default().trim_start_matches('/');
        let mut environment = self.environment.clone();
        environment.insert(PATH_VARIABLE.to_owned(), path.to_string());
        environment.insert(NAME_VARIABLE.to_owned(), name.to_owned());
        launcher::Program {
            path: self.path.clone(),
            arguments: self.arguments.clone(),
            environment,
            secret: None,
            directory: None,
            stdin: Vec::new(),
        }
    }

    /// Starts it and reads what it prints. When this is given up, the program is ended.
    async fn ask(&self, launch: &dyn Launch, path: &SecretPath) -> Result<Zeroizing<Vec<u8>>, Failed> {
        let mut running = launch.start(self.order(path)).await.map_err(Failed::Launch)?;
        // The whole capacity at once: a buffer that grows leaves copies behind.
        let most = MAX_SECRET + 2;
        let mut value = Zeroizing::new(Vec::with_capacity(most));
        while let Some((source, piece)) = running.read().await.map_err(Failed::Launch)? {
            let piece = Zeroizing::new(piece);
            if source == Source::Error {
                continue;
            }
            if value.len() + piece.len() > most {
                return Err(Failed::Long);
            }
            value.extend_from_slice(&piece);
        }
        match running.wait().await.map_err(Failed::Launch)? {
            Exit::Code(0) => Ok(value),
            other => Err(Failed::Ended(other)),
        }
    }
}

#[async_trait]
impl Resolve for Program {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        let launch = self
            .starter
            .get()
            .ok_or_else(|| self.unreadable(path, "this process starts no programs".to_owned()))?;
        let asked = timeout(self.limit, self.ask(&**launch, path)).await.unwrap_or(Err(Failed::Slow));
        let mut value = asked.map_err(|failed| {
            let by_hand = format!(
                "run it by hand with {PATH_VARIABLE}={path}; what it says on standard error is not shown here, since it could hold the value"
            );
            self.unreadable(path, match failed {
                Failed::Launch(error) => format!("it could not be started: {error}"),
                Failed::Long => format!("it printed more than the {MAX_SECRET} bytes of the largest secret"),
                Failed::Slow => format!(
                    "it took longer than {} s and was ended; correct it, or raise `timeout` of its [[provider]]",
                    self.limit.as_secs_f32()
                ),
                Failed::Ended(exit) => format!("it ended with {exit}; {by_hand}"),
            })
        })?;
        trim_newline(&mut value);
        SecretValue::from_zeroizing(value).map_err(|why| SecretError::Invalid {
            path: path.clone(),
            place: self.place(),
            why,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Script {
        program: Program,
        folder: tempfile::TempDir,
    }

    /// A shell script below a mount `keys/p`, with a second to answer.
    fn script(text: &str) -> Script {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("give");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let launch: Arc<dyn Launch> = Arc::new(launcher::Local::new(folder.path().to_owned()));
        let program = Program {
            mount: "keys/p".to_owned(),
            path,
            arguments: vec!["--profile".to_owned(), "prod".to_owned()],
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            limit: Duration::from_secs(20),
            starter: Arc::new(OnceLock::from(launch)),
        };
        Script { program, folder }
    }

    impl Script {
        async fn value(&self, path: &str) -> Result<String, String> {
            let found = self.program.resolve(&SecretPath::new(path).unwrap()).await;
            found
                .map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
                .map_err(|error| error.to_string())
        }
    }

    #[tokio::test]
    async fn the_value_is_what_it_prints() {
        let script = script("echo \"$REMIT_SECRET_PATH $REMIT_SECRET_NAME $*\"");
        let found = script.value("keys/p/prod/token").await.unwrap();
        assert_eq!(found, "keys/p/prod/token prod/token --profile prod");
    }

    #[tokio::test]
    async fn a_changed_value_is_used_at_once() {
        let script = script("cat \"${0%/*}/value\"");
        for value in ["the-first-value", "the-second-value"] {
            std::fs::write(script.folder.path().join("value"), value).unwrap();
            assert_eq!(script.value("keys/p/x").await.unwrap(), value);
        }
    }

    #[tokio::test]
    async fn what_it_does_wrong_is_told_without_what_it_said() {
        async fn check(text: &str, expect: &str) {
            let error = script(text).value("keys/p/x").await.unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        check("echo hunter2-hunter2; echo hunter2 >&2; exit 3", "exit code 3").await;
        check("echo hunter2-hunter2; kill -9 $$", "signal 9").await;
        check("echo hunter2", "7 bytes").await;
        check("exit 0", "it has 0 bytes").await;
        check("yes hunter2-hunter2", "more than the 65536 bytes").await;
        let mut absent = script("");
        absent.program.path = "/no/such/program".into();
        assert!(absent.value("keys/p/x").await.unwrap_err().contains("could not be started"));
        absent.program.starter = Arc::default();
        assert!(absent.value("keys/p/x").await.unwrap_err().contains("starts no programs"));
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_ended() {
        let mut script = script("echo $$ > \"${0%/*}/pid\"; exec sleep 600");
        script.program.limit = Duration::from_millis(300);
        let error = script.value("keys/p/x").await.unwrap_err();
        assert!(error.contains("was ended"), "{error}");
        // Waits for the end of the whole group.
        script.program.starter.get().unwrap().idle().await;
        if let Ok(pid) = std::fs::read_to_string(script.folder.path().join("pid")) {
            assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "{pid}");
        }
    }
}
