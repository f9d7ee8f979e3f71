//! `remit-runner check`: every mistake in the owner's two files, and in what they name.

use std::{
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use remit_protocol::endpoint::Fault;
use remit_signing::TrustPolicy;

use crate::{config::Config, confine::Reach, secrets::ProviderConfig, start};

/// A mistake and the file in which it stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The mistake.
    #[serde(flatten)]
    pub fault: Fault,
    /// It is no mistake: it works, and there is something better.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fault { line, column, place, message, remedy } = &self.fault;
        write!(f, "{}", self.file.display())?;
        for number in [line, column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        let word = if self.warning { "warning: " } else { "" };
        write!(f, ": {word}{place}: {message}")?;
        if remedy.is_empty() { Ok(()) } else { write!(f, "\n    {remedy}") }
    }
}

/// Every mistake in the configuration at `path`, in the trust policy that it names, and in the files that it names.
pub fn check(path: &Path) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut add =
        |file: &Path, fault: Fault| mistakes.push(Mistake { file: file.to_owned(), fault, warning: false });
    let config = match read(path).and_then(|text| Config::parse(&text, directory(path))) {
        Ok(config) => config,
        Err(faults) => {
            faults.into_iter().for_each(|fault| add(path, fault));
            if let Some(trust) = trust_beside(path) {
                trust_mistakes(&trust).into_iter().for_each(|fault| add(&trust, fault));
            }
            return mistakes;
        }
    };
    let trust = &config.runner.trust;
    trust_mistakes(trust).into_iter().for_each(|fault| add(trust, fault));
    named_files(&config).into_iter().for_each(|fault| add(path, fault));
    let discouraged = discouraged(&config).into_iter().chain(shown(&config));
    mistakes.extend(discouraged.map(|fault| Mistake { file: path.to_owned(), fault, warning: true }));
    mistakes
}

/// What works and should not be needed.
fn discouraged(config: &Config) -> Vec<Fault> {
    let rules = config.ceiling.secrets.iter().enumerate();
    rules
        .filter_map(|(index, rule)| {
            let remedy = rule.usage.discouraged()?;
            let at = format!("ceiling.secrets[{index}]");
            Some(place(at, format!("{} may be used as {}", rule.path, rule.usage.as_str()), remedy))
        })
        .collect()
}

/// What the broker process sees that it had better not see, and what it will not see.
fn shown(config: &Config) -> Vec<Fault> {
    let (broker, state) = (Reach::of_broker(config, None), &config.runner.state);
    let whole = broker.shows(state).map(|path| {
        let message = format!(
            "the broker process reads {}, and the state directory with this runner's key is in it",
            path.display()
        );
        let remedy =
            "move the state directory, or what is read: whoever takes the broker over could be this runner";
        place("runner.state".to_owned(), message, remedy)
    });
    let fixed = broker.files().filter(|path| path.parent().is_some_and(|beside| state.starts_with(beside)));
    let fixed = fixed.map(|path| {
        let message = format!(
            "{} stands beside the state directory: when another file takes its place, the broker process does not see it",
            path.display()
        );
        let remedy = "put it into a directory of its own, or restart the runner when it has changed";
        place("runner.state".to_owned(), message, remedy)
    });
    whole.chain(fixed).collect()
}

fn trust_mistakes(trust: &Path) -> Vec<Fault> {
    let policy = read(trust).and_then(|text| {
        TrustPolicy::from_toml(&text).map_err(|faults| faults.iter().map(start::fault).collect())
    });
    policy.err().unwrap_or_default()
}

/// The trust policy that a configuration names which cannot be used as a whole.
fn trust_beside(path: &Path) -> Option<PathBuf> {
    let table: toml::Table = std::fs::read_to_string(path).ok()?.parse().ok()?;
    let named = table.get("runner")?.get("trust")?.as_str()?;
    Some(directory(path).join(named))
}

/// Where relative paths of a file begin.
pub fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn read(path: &Path) -> Result<String, Vec<Fault>> {
    std::fs::read_to_string(path).map_err(|error| {
        vec![place(path.display().to_string(), error.to_string(), "name a file that this user can read")]
    })
}

fn place(place: String, message: String, remedy: &str) -> Fault {
    Fault { line: None, column: None, place, message, remedy: remedy.to_owned() }
}

fn named_files(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut look = |at: String, path: &Path, kind: Kind| {
        if let Some((message, remedy)) = kind.lacks(path) {
            faults.push(place(at, format!("{}: {message}", path.display()), remedy));
        }
    };
    if let Some(path) = &config.orchestrator.ca_file {
        look("orchestrator.ca_file".to_owned(), path, Kind::File);
    }
    for (index, rule) in config.ceiling.http.iter().enumerate() {
        if let Some(path) = &rule.ca_file {
            look(format!("ceiling.http[{index}].ca_file"), path, Kind::File);
        }
        if let Some(endpoint) = &rule.endpoint {
            look(format!("ceiling.http[{index}].unix"), &endpoint.unix, Kind::Socket);
        }
    }
    for (index, rule) in config.ceiling.tcp.iter().enumerate() {
        if let Some(path) = &rule.ca_file {
            look(format!("ceiling.tcp[{index}].ca_file"), path, Kind::File);
        }
    }
    for (index, rule) in config.ceiling.ssh.iter().enumerate() {
        look(format!("ceiling.ssh[{index}].known_hosts"), &rule.known_hosts, Kind::File);
    }
    for (index, rule) in config.ceiling.exec.iter().enumerate() {
        look(format!("ceiling.exec[{index}].path"), &rule.path, Kind::Program);
        if let Some(path) = &rule.cwd {
            look(format!("ceiling.exec[{index}].cwd"), path, Kind::Directory);
        }
    }
    for (index, rule) in config.ceiling.files.iter().enumerate() {
        look(format!("ceiling.files[{index}].path"), &rule.path, Kind::Any);
    }
    for (index, provider) in config.providers.iter().enumerate() {
        match provider {
            ProviderConfig::Program { path, .. } => {
                look(format!("provider[{index}].path"), path, Kind::Program);
            }
            ProviderConfig::Vault(settings) => {
                for path in settings.files() {
                    look(format!("provider[{index}]"), path, Kind::File);
                }
            }
            _ => {}
        }
    }
    faults
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Program,
    Directory,
    Socket,
    Any,
}

impl Kind {
    fn lacks(self, path: &Path) -> Option<(String, &'static str)> {
        let found = match std::fs::metadata(path) {
            Ok(found) => found,
            Err(error) => return Some((error.to_string(), "correct the path, or install what is missing")),
        };
        let said = |message: &str, remedy| Some((message.to_owned(), remedy));
        match self {
            Self::File if !found.is_file() => said("it is not a file", "name a file"),
            Self::Program if !found.is_file() => said("it is not a file", "name the program itself"),
            Self::Program if found.permissions().mode() & 0o111 == 0 => {
                said("it cannot be executed", "name a program, or chmod +x it")
            }
            Self::Socket if std::fs::canonicalize(path).is_ok_and(|real| real != path) => {
                said("a link is on the way", "write the socket's own path, such as `realpath` prints it")
            }
            Self::Socket if !found.file_type().is_socket() => {
                said("it is not a socket", "name the daemon's socket")
            }
            Self::Directory if !found.is_dir() => said("it is not a directory", "name a directory"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(config: &str, trust: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("runner.toml"), config).unwrap();
        std::fs::write(folder.path().join("trust.toml"), trust).unwrap();
        let root = folder.path().display().to_string();
        let mistakes = check(&folder.path().join("runner.toml"));
        mistakes.iter().map(|mistake| mistake.to_string().replace(&root, "")).collect()
    }

    const SOUND: &str =
        "[orchestrator]\nurl = \"https://a.example\"\n[runner]\nstate = \"state\"\ntrust = \"trust.toml\"\n";

    #[test]
    fn sound_files_have_no_mistake() {
        assert_eq!(checked(SOUND, "version = 1\n"), Vec::<String>::new());
    }

    #[test]
    fn a_discouraged_use_is_a_warning() {
        let rule = "[[ceiling.secrets]]\npath = \"keys/t\"\nuse = \"query\"\nhosts = [\"a.example\"]\n";
        let found = checked(&format!("{SOUND}{rule}"), "version = 1\n");
        let expect = "/runner.toml: warning: ceiling.secrets[0]: keys/t may be used as query\n    a secret in a query stands";
        assert!(found.len() == 1 && found[0].starts_with(expect), "{found:#?}");
    }

    #[test]
    fn what_the_broker_sees_too_much_or_too_little_of_is_a_warning() {
        let file = "[[ceiling.files]]\nname = \"all\"\npath = \".\"\n";
        let found = checked(&format!("{SOUND}{file}"), "version = 1\n");
        let expect =
            "/runner.toml: warning: runner.state: the broker process reads /., and the state directory";
        assert!(found.len() == 1 && found[0].starts_with(expect), "{found:#?}");
        // The file that is there: beside it stands the state.
        let hosts =
            "[[ceiling.ssh]]\naddresses = [\"10.0.0.0/8\"]\nusers = [\"a\"]\nknown_hosts = \"trust.toml\"\n";
        let found = checked(&format!("{SOUND}{hosts}"), "version = 1\n");
        let expect = "/runner.toml: warning: runner.state: /trust.toml stands beside the state directory";
        assert!(found.len() == 1 && found[0].starts_with(expect), "{found:#?}");
    }

    #[test]
    fn an_endpoint_is_a_socket_by_its_own_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(root.join("a.sock")).unwrap();
        std::os::unix::fs::symlink("a.sock", root.join("linked.sock")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        let check = |name: &str, expect: &str| {
            let rule = format!(
                "[[ceiling.http]]\nendpoint = \"docker\"\nunix = {:?}\nmethods = [\"GET\"]\npaths = [\"/\"]\ncomponents = [\"acme/x\"]\n",
                root.join(name)
            );
            let found = checked(&format!("{SOUND}{rule}"), "version = 1\n").join("\n");
            assert_eq!(found.is_empty(), expect.is_empty(), "{name}: {found}");
            assert!(found.contains(expect), "{name}: {found}");
        };
        check("a.sock", "");
        check("linked.sock", "a link is on the way");
        check("file", "it is not a socket");
        check("none.sock", "ceiling.http[0].unix");
    }

    #[test]
    fn mistakes_of_both_files_are_found() {
        let config = format!(
            "{SOUND}[[ceiling.exec]]\nprogram = \"x\"\npath = \"/no/such/program\"\n[[ceiling.files]]\nname = \"n\"\npath = \"nodes.yaml\"\n"
        );
        let found = checked(&config, "version = 1\n[[publisher]]\nnamespace = \"acme\"\n");
        assert!(found[0].starts_with("/trust.toml:2:"), "{found:#?}");
        let rest = &found[found.len() - 2..];
        assert!(
            rest[0].starts_with("/runner.toml: ceiling.exec[0].path: /no/such/program: No such file"),
            "{rest:#?}"
        );
        assert!(
            rest[1].starts_with("/runner.toml: ceiling.files[0].path: /nodes.yaml: No such file"),
            "{rest:#?}"
        );
    }

    #[test]
    fn a_mistake_names_its_line_and_its_remedy() {
        let found = checked(&SOUND.replace("trust = ", "trus = "), "");
        assert_eq!(
            found,
            [
                "/runner.toml:3:1: runner: `trust` is missing\n    add trust = \"trust.toml\"",
                "/runner.toml:5:1: runner: unknown key \"trus\"\n    did you mean `trust`?",
            ]
        );
    }
}
