//! `orchestrator.toml`: what people write, and what it means. Paths are relative to the file; mistakes have line and column.

mod notify;

use std::{
    fmt,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use remit_protocol::{endpoint::Fault, nearest::nearest, position::position};
use serde::Deserialize;
use toml::Spanned;

pub use notify::{Notify, Smtp, SmtpTls};

/// Most connections unless the file says otherwise: 10,000 parked runners and people beside them.
const CONNECTIONS: u32 = 20_000;
/// Most connections that a file may ask for.
const MOST_CONNECTIONS: u32 = 200_000;
/// Most executions of a job whose logs are kept however old they are.
const MAX_AT_LEAST: u32 = 1000;
/// Largest configuration file.
const MAX_FILE: usize = 256 << 10;

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// From an authority of its own, kept in the state directory; its digest goes into tickets.
    Own,
    /// From files, as people manage them.
    Files {
        /// PEM, leaf first.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
}

/// How long logs of ended executions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// At least so many days,
    pub days: u32,
    /// and at least so many executions of each job.
    pub at_least: u32,
}

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it listens; port 0 lets the operating system choose.
    pub listen: SocketAddr,
    /// How runners and people reach it, without a slash at the end; absent: as it listens.
    pub url: Option<String>,
    /// Where the certificate comes from.
    pub certificate: Certificate,
    /// Most connections at once.
    pub connections: u32,
    /// Keys of its own: authority, answers, the first token.
    pub state: PathBuf,
    /// The SQLite database.
    pub database: PathBuf,
    /// Blobs by digest.
    pub blobs: PathBuf,
    /// Log files.
    pub logs: PathBuf,
    /// How long logs are kept.
    pub keep: Keep,
    /// Whose components the registry accepts.
    pub trust: PathBuf,
    /// How executions are made known outside.
    pub notify: Notify,
}

/// The file cannot be used; every mistake that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidConfig {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.file.display())?;
            if let (Some(line), Some(column)) = (fault.line, fault.column) {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}: {}", fault.place, fault.message)?;
            if !fault.remedy.is_empty() {
                write!(f, " {}", fault.remedy)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for InvalidConfig {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: RawServer,
    store: RawStore,
    blobs: RawBlobs,
    logs: RawLogs,
    registry: RawRegistry,
    notify: Option<notify::RawNotify>,
    smtp: Option<notify::RawSmtp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    listen: Spanned<String>,
    url: Option<Spanned<String>>,
    tls: Option<RawTls>,
    connections: Option<Spanned<u32>>,
    state: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    kind: Spanned<String>,
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBlobs {
    kind: Spanned<String>,
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLogs {
    path: PathBuf,
    keep: Option<Spanned<RawKeep>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeep {
    days: u32,
    at_least: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    trust: PathBuf,
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: 60, at_least: 50 }
    }
}

impl Config {
    /// Reads `file`.
    ///
    /// # Errors
    /// Every mistake with its place, or that the file cannot be read.
    pub fn load(file: &Path) -> Result<Self, InvalidConfig> {
        let whole = |message: String, remedy: &str| InvalidConfig {
            file: file.to_owned(),
            faults: vec![Fault {
                line: None,
                column: None,
                place: "file".to_owned(),
                message,
                remedy: remedy.to_owned(),
            }],
        };
        let bytes = std::fs::read(file)
            .map_err(|e| whole(format!("cannot be read: {e}."), "Name another file with --config."))?;
        if bytes.len() > MAX_FILE {
            return Err(whole(format!("has more than {MAX_FILE} bytes."), ""));
        }
        let text = String::from_utf8(bytes).map_err(|_| whole("is not UTF-8 text.".to_owned(), ""))?;
        let base = file.parent().unwrap_or(Path::new("."));
        Self::parse(&text, base).map_err(|faults| InvalidConfig { file: file.to_owned(), faults })
    }

    /// Everything below one directory, which is how `remit up` and tests start it.
    pub fn in_directory(data: &Path, listen: SocketAddr) -> Self {
        Self {
            listen,
            url: None,
            certificate: Certificate::Own,
            connections: CONNECTIONS,
            state: data.to_owned(),
            database: data.join("remit.db"),
            blobs: data.join("blobs"),
            logs: data.join("logs"),
            keep: Keep::default(),
            trust: data.join("trust.toml"),
            notify: Notify::default(),
        }
    }

    /// Parses the text of a file whose relative paths begin at `base`.
    ///
    /// # Errors
    /// Every mistake with its place.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Vec<Fault>> {
        let raw: Raw = toml::from_str(text).map_err(|error| vec![syntax(text, &error)])?;
        let mut faults = Faults { text, found: Vec::new() };
        let at = |path: PathBuf| base.join(path);
        let listen = faults.listen(&raw.server.listen);
        let url = raw.server.url.and_then(|url| faults.url(&url));
        let connections = raw.server.connections.map_or(CONNECTIONS, |wanted| faults.connections(&wanted));
        faults.kind("store.kind", &raw.store.kind, "sqlite");
        faults.kind("blobs.kind", &raw.blobs.kind, "directory");
        let keep = raw.logs.keep.map_or_else(Keep::default, |keep| faults.keep(&keep));
        let notify = notify::read(&mut faults, base, raw.notify, raw.smtp);
        let database = at(raw.store.path);
        let state = match raw.server.state {
            Some(path) => at(path),
            None => database.parent().unwrap_or(base).to_owned(),
        };
        let Some(listen) = listen.filter(|_| faults.found.is_empty()) else { return Err(faults.found) };
        Ok(Self {
            listen,
            url,
            certificate: raw.server.tls.map_or(Certificate::Own, |tls| Certificate::Files {
                certificate: at(tls.certificate),
                key: at(tls.key),
            }),
            connections,
            state,
            database,
            blobs: at(raw.blobs.path),
            logs: at(raw.logs.path),
            keep,
            trust: at(raw.registry.trust),
            notify,
        })
    }
}

struct Faults<'t> {
    text: &'t str,
    found: Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, span: Range<usize>, place: &str, message: String, remedy: &str) {
        let (line, column) = position(self.text, span.start);
        self.found.push(Fault {
            line: Some(line),
            column: Some(column),
            place: place.to_owned(),
            message,
            remedy: remedy.to_owned(),
        });
    }

    fn listen(&mut self, text: &Spanned<String>) -> Option<SocketAddr> {
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            self.add(
                text.span(),
                "server.listen",
                format!("{:?} is not an address and a port.", text.get_ref()),
                "Write for example \"0.0.0.0:8443\" or \"[::1]:8443\".",
            );
        }
        address
    }

    fn url(&mut self, text: &Spanned<String>) -> Option<String> {
        let url = text.get_ref().trim_end_matches('/');
        let host = url.strip_prefix("https://").filter(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\".contains(&b))
        });
        if host.is_none() {
            self.add(
                text.span(),
                "server.url",
                format!("{:?} is not an https address without path.", text.get_ref()),
                "Write for example \"https://remit.example.com\" or \"https://remit.example.com:8443\".",
            );
        }
        host.map(|_| url.to_owned())
    }

    fn connections(&mut self, wanted: &Spanned<u32>) -> u32 {
        let number = *wanted.get_ref();
        if !(1..=MOST_CONNECTIONS).contains(&number) {
            self.add(
                wanted.span(),
                "server.connections",
                format!("{number} is not between 1 and {MOST_CONNECTIONS}."),
                "",
            );
        }
        number
    }

    fn kind(&mut self, place: &str, found: &Spanned<String>, known: &str) {
        if found.get_ref() != known {
            let message = format!("{:?} is not a kind that this version has.", found.get_ref());
            self.add(found.span(), place, message, &format!("Write \"{known}\"."));
        }
    }

    fn keep(&mut self, keep: &Spanned<RawKeep>) -> Keep {
        let RawKeep { days, at_least } = *keep.get_ref();
        if at_least > MAX_AT_LEAST {
            let message = format!("{at_least} is more than {MAX_AT_LEAST}.");
            self.add(keep.span(), "logs.keep.at_least", message, "");
        }
        if !(1..=3650).contains(&days) {
            self.add(keep.span(), "logs.keep.days", format!("{days} is not between 1 and 3650."), "");
        }
        Keep { days, at_least }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Fault {
    let place = error.span().map(|span| position(text, span.start));
    let message = error.message().trim().trim_end_matches('.').replace('\n', "; ");
    Fault {
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        place: "file".to_owned(),
        remedy: meant(&message).map(|key| format!("Did you mean `{key}`?")).unwrap_or_default(),
        message: format!("{message}."),
    }
}

/// The valid key nearest to the unknown one that `message` complains of: both stand in it in backquotes.
fn meant(message: &str) -> Option<&str> {
    if !message.starts_with("unknown field") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[server]
listen = "0.0.0.0:8443"
url = "https://remit.corp.example/"
tls = { certificate = "tls.crt", key = "/etc/tls.key" }

[store]
kind = "sqlite"
path = "/var/lib/remit/remit.db"

[blobs]
kind = "directory"
path = "/var/lib/remit/blobs"

[logs]
path = "logs"
keep = { days = 30, at_least = 5 }

[registry]
trust = "trust.toml"
"#;

    #[test]
    fn paths_begin_at_the_file() {
        let config = Config::parse(GOOD, Path::new("/etc/remit")).unwrap();
        assert_eq!(config.url.as_deref(), Some("https://remit.corp.example"));
        assert_eq!(config.trust, Path::new("/etc/remit/trust.toml"));
        assert_eq!(config.logs, Path::new("/etc/remit/logs"));
        assert_eq!(config.state, Path::new("/var/lib/remit"));
        assert_eq!(config.keep, Keep { days: 30, at_least: 5 });
        assert_eq!(
            config.certificate,
            Certificate::Files { certificate: "/etc/remit/tls.crt".into(), key: "/etc/tls.key".into() }
        );
    }

    #[test]
    fn mistakes_have_a_place_and_a_remedy() {
        fn check(from: &str, to: &str, line: u32, column: u32, words: &str) {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD);
            let faults = Config::parse(&text, Path::new("/")).unwrap_err();
            let fault = &faults[0];
            assert_eq!((fault.line, fault.column), (Some(line), Some(column)), "{fault:?}");
            assert!(format!("{} {}", fault.message, fault.remedy).contains(words), "{fault:?}");
        }
        check("0.0.0.0:8443", "0.0.0.0", 2, 10, "not an address and a port");
        check("https://remit.corp.example/", "http://x", 3, 7, "not an https address");
        check("https://remit.corp.example/", "https://a/b", 3, 7, "not an https address");
        check("\"sqlite\"", "\"oracle\"", 7, 8, "Write \"sqlite\"");
        check("kind = \"directory\"", "kind = \"s3\"", 11, 8, "Write \"directory\"");
        check("listen =", "listten =", 2, 1, "Did you mean `listen`?");
        check("days = 30", "days = 0", 16, 8, "not between 1 and 3650");
        check("days = 30", "days = \"x\"", 16, 17, "expected u32");
        check("[registry]", "[registry", 18, 10, "");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = GOOD.replace("0.0.0.0:8443", "x").replace("\"sqlite\"", "\"x\"");
        assert_eq!(Config::parse(&text, Path::new("/")).unwrap_err().len(), 2);
    }

    #[test]
    fn a_missing_file_says_so() {
        let error = Config::load(Path::new("/nowhere/orchestrator.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/orchestrator.toml: file: cannot be read"), "{error}");
    }
}
